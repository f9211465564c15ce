"""Corrections are learned, judged on what was held out, and served or refused; wrong ones change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from rcmed.data.collected import patient_bucket, write_correction
from rcmed.errors import InputError
from rcmed.modality import Modality
from rcmed.model.modeling import RCMedModel
from rcmed.model.packaged import file_sha256
from rcmed.model.processor import RCMedProcessor
from rcmed.site_learning.corrections import CorrectionSettings, Part, fine_tune
from rcmed.site_learning.judging import mean_by_target, score_pairs
from rcmed.site_learning.learning import HELD_OUT_SHARE, learn
from rcmed.site_learning.versions import VersionStatus, VersionStore
from rcmed.training.batches.packed import PackedTriplet, pack_collected

pytestmark = pytest.mark.slow

SETTINGS = CorrectionSettings(steps=60, learning_rate=3e-3, check_every=15, threads=1)


def submit(folder: Path, collected: Path, shapes: Any, seeds: Sequence[int], named: str, drawn: str = "") -> None:
    """An annotator draws `drawn` (by default what he names) in pictures of these seeds and names it `named`."""
    folder.mkdir(exist_ok=True)
    for seed in seeds:
        pixels, masks = shapes.draw(seed)
        path = folder / f"ct--{seed}.png"
        PillowImage.fromarray(pixels).save(path)
        write_correction(
            collected,
            path,
            {named: masks[drawn or named][None]},
            modality=Modality.CT,
            image_id=str(seed),
            patient=f"patient {seed}",
            user="annotator",
            time=datetime(2025, 1, 1, tzinfo=UTC),
        )


def packed(shapes: Any, seeds: Sequence[int], names: Sequence[str]) -> list[PackedTriplet]:
    from rcmed.data.collected import CollectedSlice

    slices = []
    for seed in seeds:
        pixels, masks = shapes.draw(seed)
        colour = np.repeat(pixels[..., None], 3, axis=-1)
        chosen = {name: masks[name] for name in names}
        slices.append(CollectedSlice(str(seed), str(seed), "", colour, chosen, (), Modality.CT))
    return [pack_collected(each, shapes.size) for each in slices]


def scores(folder: Path, shapes: Any) -> dict[str, float]:
    """Mean Dice of both targets on pictures that nobody has submitted."""
    model, processor = RCMedModel.from_pretrained(folder), RCMedProcessor.from_pretrained(folder)
    test = packed(shapes, range(1000, 1012), ("liver", "spleen"))
    return {name: score for name, (score, _) in mean_by_target(score_pairs(model, processor, test)).items()}


def test_corrections_are_learned_and_served_a_poisoned_batch_is_not_and_all_can_be_rolled_back(
    weak_weights: Path, shapes: Any, tmp_path: Path
) -> None:
    versions = VersionStore(tmp_path / "state", weak_weights)
    collected = tmp_path / "collected"
    before = scores(weak_weights, shapes)
    assert before["spleen"] > 0.8 > before["liver"] > 0.4, "the start is weak at one target"

    submit(tmp_path / "images", collected, shapes, range(100, 120), "liver")
    learned = learn(collected, versions, SETTINGS, by="annotator")
    verdict = learned.version.verdict
    assert verdict is not None and verdict.accepted, verdict
    assert versions.served_number() == 1 and versions.served().parent == 0
    served = versions.folder(1)
    assert file_sha256(served / "model.safetensors") == versions.served().weights_sha256
    after = scores(served, shapes)
    assert after["liver"] > before["liver"] + 0.05
    assert after["spleen"] > before["spleen"] - 0.02, "nobody corrected it"
    assert "| liver | corrected |" in verdict.as_markdown() and "| spleen | other |" in verdict.as_markdown()
    with pytest.raises(InputError, match="no new corrections"):
        learn(collected, versions, SETTINGS)

    # Squares that are called liver: wrong in its held-out part as well.
    submit(tmp_path / "images", collected, shapes, range(200, 220), "liver", drawn="spleen")
    digest = file_sha256(served / "model.safetensors")
    refused = learn(collected, versions, SETTINGS, by="annotator").version
    assert refused.status is VersionStatus.REFUSED and refused.verdict is not None
    assert "liver" in refused.verdict.reasons[0] and "accepted" in refused.verdict.reasons[0]
    assert versions.served_number() == 1 and file_sha256(served / "model.safetensors") == digest
    assert len(versions.quarantined()) == 20

    # A person insists: the guard, earlier accepted corrections, still refuses what would harm them.
    submit(tmp_path / "images", collected, shapes, range(300, 320), "liver", drawn="spleen")
    insisted = learn(collected, versions, SETTINGS, by="annotator", confirmed=True).version
    assert insisted.status is VersionStatus.REFUSED and insisted.verdict is not None
    assert any("guard" in reason for reason in insisted.verdict.reasons), insisted.verdict
    assert versions.served_number() == 1 and file_sha256(served / "model.safetensors") == digest

    assert versions.roll_back("annotator").number == 0
    assert scores(versions.folder(versions.served_number()), shapes) == before
    assert [each.status.value for each in versions.list()] == ["base", "rolled back", "refused", "refused"]


def test_the_first_batch_with_another_targets_masks_is_refused_without_any_guard(
    weak_weights: Path, shapes: Any, tmp_path: Path
) -> None:
    versions = VersionStore(tmp_path / "state", weak_weights)
    submit(tmp_path / "images", tmp_path / "collected", shapes, range(100, 120), "liver", drawn="spleen")
    version = learn(tmp_path / "collected", versions, SETTINGS).version
    assert version.status is VersionStatus.REFUSED and version.verdict is not None
    assert "like its `spleen`" in version.verdict.reasons[0]
    assert versions.served_number() == 0 and version.weights_sha256 == ""


def test_too_few_corrections_wait(weak_weights: Path, shapes: Any, tmp_path: Path) -> None:
    versions = VersionStore(tmp_path / "state", weak_weights)
    seeds = [seed for seed in range(100, 140) if patient_bucket(f"patient {seed}") >= HELD_OUT_SHARE][:5]
    submit(tmp_path / "images", tmp_path / "collected", shapes, seeds, "liver")
    version = learn(tmp_path / "collected", versions, SETTINGS).version
    assert version.status is VersionStatus.REFUSED and version.verdict is not None
    assert "submit more" in version.verdict.reasons[0]
    assert not versions.quarantined(), "they are tried again with the next batch"


@pytest.mark.parametrize("part", list(Part))
def test_either_part_learns_and_the_same_seed_gives_the_same_weights(
    part: Part, weak_weights: Path, shapes: Any
) -> None:
    model, processor = RCMedModel.from_pretrained(weak_weights), RCMedProcessor.from_pretrained(weak_weights)
    original = {name: value.clone() for name, value in model.state_dict().items()}
    training, stopping = packed(shapes, range(400, 410), ["liver"]), packed(shapes, range(410, 414), ["liver"])
    settings = SETTINGS.model_copy(update={"part": part, "steps": 12, "check_every": 6})
    first = fine_tune(model, processor, training, stopping, settings)
    least = 0.02 if part is Part.HEAD else 0.0  # adapters start without effect and need more steps
    assert first.kept_step and max(score for _, score in first.looks[1:]) > first.looks[0][1] + least, first.looks
    assert all(bool((value == original[name]).all()) for name, value in model.state_dict().items())
    names = set(first.model.state_dict())
    assert names == set(original), "adapters are merged"
    moved = {name for name, value in first.model.state_dict().items() if not bool((value == original[name]).all())}
    assert not any(name.startswith("vision.") for name in moved)
    assert any("q_proj" in name for name in moved if "language" in name) == (part is Part.LANGUAGE)
    again = fine_tune(model, processor, training, stopping, settings)
    assert all(
        bool((value == again.model.state_dict()[name]).all()) for name, value in first.model.state_dict().items()
    )
