"""Next Sample, submit, train, gate, serve, roll back: with a stock datastore and MONAI Label's own child process."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import numpy as np
import pytest
from monailabel.datastore.local import LocalDatastore
from monailabel.utils.async_tasks.utils import run_background_task
from PIL import Image as PillowImage

from monailabel_app.tasks.scoring import DISAGREEMENT, ENTROPY, known_score, scoring_methods
from monailabel_app.tasks.served_version import ServedAssistant
from monailabel_app.tasks.strategy import Leases, strategies
from monailabel_app.tasks.train import trainers
from rcmed.errors import ConfigurationError
from rcmed.model.packaged import file_sha256
from rcmed.site_learning.corrections import CorrectionSettings

pytestmark = pytest.mark.slow

# What a server's app folder holds; the names are what the viewer shows.
MAIN = """
import sys

import pydicom.uid

sys.modules["pydicom._storage_sopclass_uids"] = pydicom.uid
from pathlib import Path

from monailabel.interfaces.app import MONAILabelApp

from monailabel_app.tasks.served_version import ServedAssistant
from monailabel_app.tasks.train import trainers
from rcmed.site_learning.corrections import CorrectionSettings


class LearningApp(MONAILabelApp):
    def __init__(self, app_dir, studies, conf):
        self.served = ServedAssistant(Path(conf["state"]), conf["base"], "cpu")
        super().__init__(app_dir, studies, conf, labels=["liver"])

    def init_trainers(self):
        return trainers(self.served, CorrectionSettings(steps=45, learning_rate=3e-3, check_every=15, threads=1))
"""


def store_of(folder: Path, shapes: Any, seeds: range) -> LocalDatastore:
    folder.mkdir()
    for seed in seeds:
        PillowImage.fromarray(shapes.draw(seed)[0]).save(folder / f"ct--{seed}.png")
    return LocalDatastore(str(folder), extensions=("*.png",), auto_reload=False)


def submit(store: LocalDatastore, image: str, shapes: Any, user: str, drawn: str = "liver") -> None:
    """As 3D Slicer does: a label map, and the segments' names."""
    path = Path(store.get_image_uri(image)).parent.parent / "submitted.png"
    PillowImage.fromarray(shapes.draw(int(image.split("--")[1]))[1][drawn].astype(np.uint8)).save(path)
    store.save_label(image, str(path), "final", {"label_info": [{"name": "Liver", "idx": 1}], "client_id": user})


@pytest.mark.integration
def test_next_sample_submit_train_in_its_own_process_and_serve(
    weak_weights: Path, shapes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    served = ServedAssistant(state, weak_weights, "cpu")
    first_hash = served.current().identity.weights_sha256
    store = store_of(tmp_path / "studies", shapes, range(100, 120))
    tasks = strategies(served)
    assert [quote_plus(name) for name in tasks] == list(tasks), "Slicer asks for quote_plus(name)"
    given = []
    for turn in range(20):
        user = ("anna", "ben")[turn % 2]
        chosen = tasks["most_disagreement" if turn % 4 < 2 else "most_uncertain"](
            {"client_id": user, "prompt": "liver"}, store
        )
        given.append(chosen["id"])
        submit(store, chosen["id"], shapes, user)
    assert len(set(given)) == 20 and tasks["first"]({"client_id": "anna"}, store) is None

    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text(MAIN)
    environment = {
        "PYTHONPATH": "",
        "MONAI_LABEL_APP_DIR": str(tmp_path / "app"),
        "MONAI_LABEL_STUDIES": str(tmp_path / "studies"),
        "MONAI_LABEL_APP_CONF": json.dumps({"state": str(state), "base": str(weak_weights)}),
        "MONAI_LABEL_SESSIONS": "false",
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps(["*.png"]),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ended = threading.Event()
    task = run_background_task({"model": "rcmed", "client_id": "anna"}, "train", lambda _: ended.set())
    assert ended.wait(280)
    lines = list(task["details"])
    assert task["status"] == "DONE", lines
    # What 3D Slicer's progress and accuracy bars read.
    stats = trainers(served)["rcmed"].stats()
    assert 0 < stats["epoch"] <= stats["total_epochs"] == 45 and stats["total_time"] > 0

    number, assistant = served.numbered()
    assert number == 1 and assistant.identity.weights_sha256 != first_hash
    assert assistant.identity.name.endswith("-0001"), "findings say which version found them"
    version = served.versions.get(1)
    # Not from the task's lines: MONAI Label loses those that a process says right before its end.
    assert version.verdict is not None and version.verdict.accepted
    assert "held-out Dice" in version.verdict.reasons[0]
    (liver,) = (each for each in version.verdict.figures if each.kind == "corrected")
    # Some 0.2 is usual for so few steps; how much, depends on the order in which the processor sums.
    assert stats["best_metric"] == liver.after > liver.before + 0.05
    assert version.by == "anna" and version.parent == 0 and len(version.corrections) == 20

    # Masks of the wrong target, submitted for new images.
    poisoned = store_of(tmp_path / "poisoned", shapes, range(200, 220))
    for image in sorted(poisoned.list_images()):
        submit(poisoned, image, shapes, "ben", drawn="spleen")
    told = trainers(served, CorrectionSettings(steps=45, threads=1))["rcmed"]({"client_id": "ben"}, poisoned)
    assert told["status"] == "refused" and told["served"] == 1 and "`liver`" in told["reasons"][0]
    assert served.current() is assistant
    assert file_sha256(served.versions.folder(1) / "model.safetensors") == assistant.identity.weights_sha256

    served.versions.roll_back("anna")
    assert served.current().identity.weights_sha256 == first_hash


def test_a_request_can_set_no_nonsense(weak_weights: Path, shapes: Any, tmp_path: Path) -> None:
    task = trainers(ServedAssistant(tmp_path / "state", weak_weights, "cpu"))["rcmed"]
    store = store_of(tmp_path / "studies", shapes, range(2))
    for request in ({"steps": 10**9}, {"learning_rate": "much"}, {"part": "../../everything"}):
        with pytest.raises(ConfigurationError, match=next(iter(request))):
            task(request, store)


def test_two_users_never_get_the_same_image_until_a_lease_runs_out(tmp_path: Path) -> None:
    now = [0.0]
    leases = Leases(tmp_path / "leases.json", seconds=60, clock=lambda: now[0])
    assert leases.take(["a", "b"], "anna") == "a"
    # A restart forgets nothing.
    again = Leases(tmp_path / "leases.json", seconds=60, clock=lambda: now[0])
    assert again.take(["a", "b"], "ben") == "b"
    assert again.take(["a", "b"], "carl") is None and again.take(["a", "b"], "") is None
    assert again.take(["a", "b"], "anna") == "a", "nothing is free: one's own again"
    now[0] = 61.0
    assert again.take(["a", "b"], "carl") == "a"


def test_scores_belong_to_the_weights_that_they_were_measured_with(
    weak_weights: Path, shapes: Any, tmp_path: Path
) -> None:
    served = ServedAssistant(tmp_path / "state", weak_weights, "cpu")
    store = store_of(tmp_path / "studies", shapes, range(100, 104))
    submit(store, "ct--100", shapes, "anna")
    methods = scoring_methods(served)
    unsure = methods["uncertainty"]({"prompt": "liver"}, store)
    assert set(unsure) == {"ct--101", "ct--102", "ct--103"}
    assert all(0 <= scores[name] <= 1 for scores in unsure.values() for name in (ENTROPY, DISAGREEMENT))
    assert len({scores[DISAGREEMENT] for scores in unsure.values()}) > 1
    dice = methods["dice"]({}, store)
    assert 0.3 < dice["ct--100"]["liver"] < 0.9, "by half"
    digest = served.current().identity.weights_sha256
    info = store.get_image_info("ct--101")
    assert known_score(info, ENTROPY, digest) == unsure["ct--101"][ENTROPY]
    assert known_score(info, ENTROPY, "others") is None
