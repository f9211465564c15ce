"""Versions: listed with their verdicts, promoted whole, rolled back by one step, safetensors only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from rcmed.errors import CheckpointError, ConfigurationError
from rcmed.model.packaged import file_sha256
from rcmed.site_learning.verdict import Figures, Kind, Verdict
from rcmed.site_learning.versions import VersionStatus, VersionStore

ACCEPTED = Verdict(
    accepted=True,
    reasons=("rises",),
    figures=(Figures(target="liver", kind=Kind.CORRECTED, pairs=3, before=0.5, after=0.75),),
)
REFUSED = Verdict(accepted=False, reasons=("falls",))


def model(folder: Path, value: float) -> Path:
    folder.mkdir()
    save_file({"weight": np.full(4, value, dtype=np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def versions(tmp_path: Path) -> VersionStore:
    return VersionStore(tmp_path / "state", model(tmp_path / "site-model", 0.0))


def test_versions_are_listed_promoted_and_rolled_back_one_step_at_a_time(
    versions: VersionStore, tmp_path: Path
) -> None:
    for number in (1, 2):
        promoted = versions.promote(
            model(tmp_path / f"candidate-{number}", number),
            ACCEPTED,
            parent=number - 1,
            by="anna",
            corrections=[f"c{number}"],
        )
        assert promoted.number == versions.served_number() == number
        assert file_sha256(versions.folder(number) / "model.safetensors") == promoted.weights_sha256
    versions.refuse(REFUSED, parent=2, by="ben", sha256="ab", corrections=["c3"], quarantined=["c3"])
    assert versions.served_number() == 2
    # Another process sees the same.
    again = VersionStore(versions.state, tmp_path / "site-model")
    listed = [(each.number, each.parent, each.by, each.status.value) for each in again.list()]
    assert listed == [
        (0, None, "", "base"),
        (1, 0, "anna", "accepted"),
        (2, 1, "anna", "accepted"),
        (3, 2, "ben", "refused"),
    ]
    assert again.learned() == {"c1", "c2"} and again.quarantined() == {"c3"}
    assert again.folder(1).name == "site-model-0001"
    assert again.roll_back("carl").number == 1 and versions.served_number() == 1
    assert versions.get(2).status is VersionStatus.ROLLED_BACK
    assert versions.learned() == {"c1"} and versions.quarantined() == {"c2", "c3"}
    assert versions.roll_back("carl").number == 0
    assert versions.folder(0) == (tmp_path / "site-model").resolve()
    with pytest.raises(ConfigurationError, match="none before"):
        versions.roll_back("carl")
    with pytest.raises(ConfigurationError, match="not kept"):
        versions.folder(3)


def test_nothing_is_served_that_was_refused_or_trained_from_an_older_version(
    versions: VersionStore, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="falls"):
        versions.promote(model(tmp_path / "bad", 1), REFUSED, parent=0, by="")
    versions.promote(model(tmp_path / "good", 2), ACCEPTED, parent=0, by="")
    with pytest.raises(ConfigurationError, match="train again"):
        versions.promote(model(tmp_path / "late", 3), ACCEPTED, parent=0, by="")
    pickled = model(tmp_path / "pickled", 4)
    (pickled / "optimiser.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"optimiser\.pt"):
        versions.promote(pickled, ACCEPTED, parent=1, by="")
    assert versions.served_number() == 1 and len(versions.list()) == 2


def test_a_promotion_that_is_cut_off_changes_nothing(
    versions: VersionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(self: VersionStore, number: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(VersionStore, "_serve", cut_off)
    with pytest.raises(KeyboardInterrupt):
        versions.promote(model(tmp_path / "candidate", 1), ACCEPTED, parent=0, by="")
    monkeypatch.undo()
    again = VersionStore(versions.state, tmp_path / "site-model")
    assert again.served_number() == 0
    assert again.promote(model(tmp_path / "next", 2), ACCEPTED, parent=0, by="").number == 2
    assert json.loads((versions.state / "served.json").read_text()) == {"number": 2}


def test_other_base_weights_are_not_taken_for_the_old_ones(versions: VersionStore, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="old weights"):
        VersionStore(versions.state, model(tmp_path / "other", 9.0))


def test_a_verdict_can_be_read() -> None:
    assert "| liver | corrected | 3 | 0.500 | 0.750 | +0.250 |" in ACCEPTED.as_markdown()
    assert REFUSED.as_markdown() == "Refused: falls"
