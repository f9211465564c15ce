"""From collected corrections to a version that is served, or to a refusal that says why."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rcmed.data.collected import CollectedSlice, list_corrections, patient_bucket, read_slices
from rcmed.errors import InputError
from rcmed.model.modeling import RCMedModel
from rcmed.model.packaged import weight_files, weights_sha256
from rcmed.model.processor import RCMedProcessor
from rcmed.site_learning.corrections import CorrectionSettings, LearningProgress, fine_tune
from rcmed.site_learning.gate import FEWEST_PAIRS, LARGEST_FALL, judge, suspicions
from rcmed.site_learning.verdict import Kind, Verdict
from rcmed.site_learning.versions import Version, VersionStore
from rcmed.training.batches.packed import PackedTriplet, pack_collected

# Of a hundred patients, by `patient_bucket`: never trained on, and choosing the step that is kept.
HELD_OUT_SHARE = 30
STOPPING_SHARE = 10


@dataclass(frozen=True)
class Learned:
    """What a run gave.

    Attributes:
        version: as it was recorded, with its verdict.
        refused: a line for each correction, or part of one, that could not be used.
    """

    version: Version
    refused: tuple[str, ...]


@dataclass(frozen=True)
class _Parts:
    """Slices by the part that their patients take."""

    training: list[CollectedSlice]
    stopping: list[CollectedSlice]
    held_out: list[CollectedSlice]

    @classmethod
    def of(cls, slices: Sequence[CollectedSlice]) -> _Parts:
        parts = cls([], [], [])
        for each in slices:
            bucket = patient_bucket(each.patient)
            if bucket < HELD_OUT_SHARE:
                parts.held_out.append(each)
            elif bucket < HELD_OUT_SHARE + STOPPING_SHARE:
                parts.stopping.append(each)
            else:
                parts.training.append(each)
        return parts


def learn(
    collected: Path,
    versions: VersionStore,
    settings: CorrectionSettings,
    *,
    by: str = "",
    device: str = "cpu",
    references: Path | None = None,
    confirmed: bool = False,
    report: Callable[[LearningProgress], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
) -> Learned:
    """Learn from the corrections that the served version has not seen, and serve the result if the gate accepts it.

    Earlier accepted corrections are learned again beside the new ones; their held-out part is the guard. Corrections of
    a refused batch wait and are tried again with the next one, unless they are suspicious or made the guard fall: then
    they are quarantined, and have to be submitted anew.

    Args:
        collected: the folder of corrections (`rcmed.data.collected`).
        versions: of the model; the served one is the start.
        by: who asked for it.
        references: a folder of corrections that the site vouches for; only the guard uses them.
        confirmed: a person vouches for the batch: suspicions are told, but do not refuse it.
        report: told at every step.
        tell: told a line at every stage.
    Raises:
        InputError: nothing new has been collected.
    """
    served = versions.served()
    corrections, refused = list_corrections(collected)
    learned, quarantined = versions.learned(), versions.quarantined()
    new = [each for each in corrections if each.identifier not in learned | quarantined]
    if not new:
        raise InputError(f"{collected}: holds no new corrections; submit some")
    new_slices, new_lines = read_slices(new)
    old_slices, _ = read_slices([each for each in corrections if each.identifier in learned])
    vouched, vouched_lines = read_slices(list_corrections(references)[0]) if references else ([], [])
    refused += [*new_lines, *vouched_lines]
    for line in refused:
        tell(line)
    identifiers = tuple(each.identifier for each in new)
    batch = _judgeable(new_slices)
    if not batch:
        reason = (
            f"each target needs {FEWEST_PAIRS} held-out corrections and one to train on: submit more, of other patients"
        )
        return Learned(
            versions.refuse(Verdict(accepted=False, reasons=(reason,)), parent=served.number, by=by), tuple(refused)
        )

    folder = versions.folder(served.number)
    model = RCMedModel.from_pretrained(str(folder)).to(device)  # type: ignore[arg-type]
    model.eval()
    processor = RCMedProcessor.from_pretrained(folder)

    def packed(slices: Sequence[CollectedSlice]) -> list[PackedTriplet]:
        return [pack_collected(each, processor.image_size) for each in slices]

    new_parts, old_parts = _Parts.of(batch), _Parts.of(old_slices)
    guard = packed([*old_parts.held_out, *vouched])
    tell(f"comparing {len(batch)} slices with the served model and {len(guard)} guarding ones")
    suspicious = suspicions(model, processor, batch, guard)
    for each in suspicious:
        tell(f"suspicious: {each.reason}")
    if suspicious and not confirmed:
        verdict = Verdict(accepted=False, reasons=tuple(each.reason for each in suspicious))
        doubted = sorted({identifier for each in suspicious for identifier in each.corrections})
        version = versions.refuse(verdict, parent=served.number, by=by, corrections=identifiers, quarantined=doubted)
        return Learned(version, tuple(refused))

    training = packed([*new_parts.training, *old_parts.training])
    stopping = packed([*new_parts.stopping, *old_parts.stopping])
    tell(f"learning from {len(training)} slices, {len(stopping)} more choose the step")
    tuned = fine_tune(model, processor, training, stopping, settings, report)
    tell(f"step {tuned.kept_step} is kept at {tuned.strength:.0%}; {len(new_parts.held_out)} held-out slices judge it")
    verdict = judge(model, tuned.model, processor, packed(new_parts.held_out), guard)
    with tempfile.TemporaryDirectory(dir=versions.state) as kept:
        candidate = Path(kept) / "model"
        tuned.model.save_pretrained(str(candidate))
        processor.save_pretrained(candidate)
        if verdict.accepted:
            version = versions.promote(candidate, verdict, parent=served.number, by=by, corrections=identifiers)
        else:
            fell = any(each.kind is Kind.GUARD and each.change < -LARGEST_FALL for each in verdict.figures)
            version = versions.refuse(
                verdict,
                parent=served.number,
                by=by,
                sha256=weights_sha256(weight_files(candidate)),
                corrections=identifiers,
                quarantined=identifiers if fell else (),
            )
    for line in verdict.as_markdown().splitlines():
        tell(line)
    return Learned(version, tuple(refused))


def _judgeable(slices: Sequence[CollectedSlice]) -> list[CollectedSlice]:
    """The slices with those targets alone that can be trained on and judged; nothing is taught that can't be judged."""
    parts = _Parts.of(slices)
    trained = {name for each in parts.training for name in each.masks}
    held_out = Counter(name for each in parts.held_out for name in (*each.masks, *each.absent))
    names = {name for name in trained if held_out[name] >= FEWEST_PAIRS}
    kept = [
        replace(
            each,
            masks={name: mask for name, mask in each.masks.items() if name in names},
            absent=tuple(name for name in each.absent if name in names),
        )
        for each in slices
    ]
    return [each for each in kept if each.masks or each.absent]
