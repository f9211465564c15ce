"""The model is loaded beside receiving: ports listen first, jobs wait; failing to load is seen and loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest

from dicom_bridge.delivery.dimse.c_store import store_files
from dicom_bridge.delivery.dimse.outgoing import read_outgoing
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.jobs.loading import LoadingAssistant
from dicom_bridge.jobs.worker import GatewayStoppingError
from dicom_bridge.settings import GatewaySettings, ModelSettings
from dicom_bridge.store.states import JobState
from rcmed.errors import CheckpointError
from rcmed.model.packaged import file_sha256, model_folder, model_identity

PATIENCE = 60.0


def settings(root: Path) -> GatewaySettings:
    return GatewaySettings.model_validate(
        {
            "state_folder": str(root),
            "receive": {"port": 0, "minimum_free_megabytes": 0},
            "completion": {"quiet_seconds": 5, "released_seconds": 0.1},
            "jobs": {"polling_seconds": 0.05},
            "web": {"port": 0},
        }
    )


def send(gateway: Gateway, files: list[Path]) -> str:
    outcomes = store_files(
        [read_outgoing(file) for file in files],
        host="127.0.0.1",
        port=gateway.ports.dicom,
        called_ae="RCMED",
        calling_ae="CT01",
        timeout_seconds=30,
    )
    assert [outcome.status for outcome in outcomes] == [0] * len(files)
    return str(pydicom.dcmread(files[0]).StudyInstanceUID)


def wait_for(gateway: Gateway, condition: Callable[[], bool]) -> None:
    assert gateway._wait(condition, PATIENCE)


@pytest.mark.slow
def test_a_model_that_can_not_be_loaded_is_seen_and_its_jobs_are_done_after_the_restart(
    tmp_path: Path, make_ct_series: Any, threshold_assistant: Any
) -> None:
    asked = threading.Event()

    def fail() -> Any:
        asked.set()
        raise RuntimeError("the driver is too old\nfor this card")

    broken = LoadingAssistant(fail, lambda: threshold_assistant.identity, first_wait_seconds=600)
    with Gateway(settings(tmp_path / "state"), broken) as gateway:
        healthz = f"http://127.0.0.1:{gateway.ports.web}/healthz"
        assert httpx.get(healthz).json()["parts"]["model"] == "ok"  # nobody asked for it yet
        assert "not in memory" in httpx.get(healthz).json()["attention"]["model"]
        study = send(gateway, make_ct_series(3))
        assert asked.wait(PATIENCE)
        wait_for(gateway, lambda: gateway.health()["model"] != "ok")
        answer = httpx.get(healthz)
        assert answer.status_code == 503
        assert answer.json()["parts"]["model"] == "can't be loaded, tried again: the driver is too old for this card"
        assert send(gateway, make_ct_series(2)) != study  # receiving goes on
        assert [job.state for job in gateway.ledger.jobs(study)] == [JobState.RUNNING]
    sound = LoadingAssistant(lambda: threshold_assistant, lambda: threshold_assistant.identity)
    with Gateway(settings(tmp_path / "state"), sound) as gateway:
        assert [job.state for job in gateway.wait_for_study(study, PATIENCE)] == [JobState.DONE]
        assert gateway.wait_until_idle(PATIENCE)
        assert gateway.health()["model"] == "ok"
    assert len(threshold_assistant.calls) == 2


def test_loading_is_tried_again(threshold_assistant: Any) -> None:
    attempts: list[int] = []

    def load() -> Any:
        attempts.append(len(attempts))
        if len(attempts) < 3:
            raise OSError("not yet")
        return threshold_assistant

    assistant = LoadingAssistant(load, lambda: threshold_assistant.identity, first_wait_seconds=0.01)
    assert not assistant.is_loaded
    image = object()
    with pytest.raises(AttributeError):  # of the assistant itself, which was asked
        assistant.find(image, "liver")  # type: ignore[arg-type]
    assert assistant.is_loaded and attempts == [0, 1, 2] and assistant.health() == "ok"


def test_whoever_waits_is_let_go_when_the_gateway_stops(threshold_assistant: Any) -> None:
    loading, ended = threading.Event(), threading.Event()

    def load() -> Any:
        loading.set()
        assert ended.wait(PATIENCE)
        return threshold_assistant

    assistant = LoadingAssistant(load, lambda: threshold_assistant.identity)
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            assistant.find(None, "")  # type: ignore[arg-type]
        except GatewayStoppingError as error:
            raised.append(error)
            ended.set()

    asking = threading.Thread(target=ask)
    asking.start()
    assert loading.wait(PATIENCE)
    assistant.stop()
    asking.join(PATIENCE)
    assert len(raised) == 1


def test_weights_that_were_replaced_do_not_speak_under_the_old_name(threshold_assistant: Any) -> None:
    again = threading.Event()
    attempts: list[int] = []

    def load() -> Any:
        attempts.append(len(attempts))
        if len(attempts) > 1:
            again.set()
        return threshold_assistant

    assistant = LoadingAssistant(load, lambda: model_identity("small"), first_wait_seconds=0.01)
    assistant.begin()
    assert again.wait(PATIENCE)
    assert "the weights were replaced" in assistant.health()
    assert not assistant.is_loaded
    assistant.stop()


def test_the_identity_is_that_of_the_files() -> None:
    assistant = LoadingAssistant.from_settings(ModelSettings())
    assert assistant.identity.weights_sha256 == file_sha256(model_folder("small") / "model.safetensors")
    assert assistant.identity.name == "RCMed small"


def test_a_model_that_is_not_there_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        LoadingAssistant.from_settings(ModelSettings(name=str(tmp_path)))


RECEIVES = """
import sys, threading
from pathlib import Path
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.jobs.loading import LoadingAssistant
from dicom_bridge.delivery.dimse.sending import send_files
from dicom_bridge.settings import GatewaySettings

settings = GatewaySettings.model_validate(
    {
        "state_folder": sys.argv[1],
        "receive": {"port": 0, "minimum_free_megabytes": 0},
        "completion": {"quiet_seconds": 60, "released_seconds": 0},
        "web": {"port": 0},
        "routing": {"routes": [], "destinations": {}},
    }
)
with Gateway(settings, LoadingAssistant.from_settings(settings.model)) as gateway:
    send_files([Path(sys.argv[2])], "127.0.0.1", gateway.ports.dicom, "RCMED")
    assert gateway.wait_until_idle(60)
    assert len(gateway.index.studies()) == 1 and not gateway.index.studies()[0].is_open
    of_jobs = ("torch", "transformers", "monai", "highdicom", "scipy", "reportlab", "hl7", "fhir")
    heavy = [name for name in of_jobs if name in sys.modules]
print("loaded:", heavy)
"""


@pytest.mark.slow
def test_receiving_and_completion_import_no_torch(tmp_path: Path, make_ct_series: Any) -> None:
    command = [sys.executable, "-c", RECEIVES, str(tmp_path / "state"), str(make_ct_series(1)[0])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "loaded: []"


READS_AND_WRITES = """
import sys
from pathlib import Path
from dicom_bridge.jobs.loading import load_libraries
from dicom_bridge.jobs.worker import JobWorker

load_libraries()
loaded = set(sys.modules)
from dicom_bridge.results.filing import file_results
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.series.images import read_series
from rcmed.evaluation.overlays import best_slice, paint_overlay
from synthetic_study import ThresholdAssistant

(image,) = read_series(sorted(Path(sys.argv[1]).iterdir())).images
findings = ThresholdAssistant().find(image, "liver")
assert findings.findings[0].is_present
paint_overlay(image, findings.findings, best_slice(image, findings.findings[0]))
assert len(file_results(image, findings, ResultIdentifiers.derive("job"), Path(sys.argv[2])).files) == 2
ours = ("highdicom", "pydicom", "dicom_bridge", "scipy")
late = [name for name in set(sys.modules) - loaded if name.startswith(ours)]
print("late:", late)
"""


@pytest.mark.slow
def test_what_a_job_imports_is_loaded_with_the_model(tmp_path: Path, make_ct_series: Any) -> None:
    series = make_ct_series(3)[0].parent
    command = [sys.executable, "-c", READS_AND_WRITES, str(series), str(tmp_path / "results")]
    support = str(Path(__file__).parent / "support")
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": support}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "late: []"
