"""Choose the constants with which slices become one mask in three dimensions, and presence of slices that of a volume.

python benchmarks/volume_constants.py VOLUMES CACHE [MODEL]

VOLUMES holds volumes with label maps (`rcmed.data.labelled_volumes`), of which those of `CHOOSING` are read. What the
weights say of each slice is read once and kept in CACHE as float16, in a folder of these weights, with that of MNI152,
a healthy brain, of which tumors and lesions are asked. Then the tables over the grids below are printed, and what is
taken from each; nothing is read twice. Constants stand in `rcmed/inference/volume.py` and `volume_masks.py`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rcmed.image import Image
from rcmed.modality import Modality

if TYPE_CHECKING:
    from rcmed.inference.decision import PresenceRule
    from rcmed.inference.volume_masks import Joining

SMOOTHING_MM = (0.0, 0.75, 1.5, 3.0)
PRESENCE_WEIGHTS = (0.0, 1.0, 2.0)
SUREST_QUANTILES = (1.0, 0.9, 0.75)
GROWTH = (-0.5, 0.0, 0.5)
SEEDS = (2.0, 4.0, 6.0)
# Of those whose Dice is within this of the best, the one is taken whose neighbouring slices agree most.
AS_GOOD = 0.01
ACCUMULATIONS = (0.25, 0.5, 0.75, 1.0)

HEALTHY = "mni152"
# What surely is not there, asked as well, so that a rule of presence is held against it.
ABSENT = {
    HEALTHY: ("brain tumor", "brain tumor with edema", "multiple sclerosis lesion", "white matter lesion", "kidney"),
    "hippocampus_": ("liver", "kidney", "pancreas", "soft tissue sarcoma", "spinal cord"),
    "spleen_2": ("mandible", "brainstem", "left parotid gland", "intracranial hemorrhage", "left atrium"),
    "example_ct_sm": ("mandible", "brainstem", "left parotid gland", "intracranial hemorrhage", "larynx"),
    "example_mr_sm": ("hippocampus", "brain tumor", "multiple sclerosis lesion", "brain ventricle", "cerebellum"),
}
# The volumes that choose: none of a test patient, and none that the tables of docs/volumes.md are about.
CHOOSING = (HEALTHY, "hippocampus_", "spleen_2", "example_ct_sm", "example_mr_sm")


def healthy_brain() -> Image:
    """nilearn's MNI152 T1 volume (1 mm)."""
    import nilearn

    from rcmed.readers import read_images

    path = Path(nilearn.__file__).parent / "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    return read_images(path, Modality.MR)[0]


def read_slices(
    assistant: Any, image: Image, names: list[str], truths: dict[str, NDArray[np.bool_]], file: Path
) -> None:
    """Ask for targets in a volume and keep what is said of each slice, all as the slices are shown."""
    from rcmed.inference.viewing import ReaderView
    from rcmed.model.processor import to_eight_bit

    view = ReaderView.of(image.grid)
    pixels = view.to_view(to_eight_bit(image))
    shape = (len(names), len(pixels))
    presence, sureness = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    logits: NDArray[np.float16] | None = None
    for answers in assistant._reader.read(pixels, names, image.modality):
        found = answers.logits.half().cpu().numpy()
        if logits is None:
            logits = np.zeros((*shape, *found.shape[2:]), np.float16)
        logits[answers.place] = found
        presence[answers.place], sureness[answers.place] = answers.presence, answers.sureness
    assert logits is not None
    shown: list[Any] = [
        np.packbits(np.ascontiguousarray(view.to_view(truths[name]))) if name in truths else [] for name in names
    ]
    np.savez(
        file,
        names=names,
        logits=logits,
        presence=presence,
        sureness=sureness,
        shape=pixels.shape[:3],
        spacing=image.grid.spacing,
        voxel_ml=image.grid.voxel_volume / 1000,
        transposed=view.transposed,
        image_size=assistant.processor.image_size,
        **{f"truth{number}": bits for number, bits in enumerate(shown)},
    )


def fill_cache(volumes: Path, cache: Path, model: str) -> Path:
    """Read what is not yet there; returns the folder of these weights."""
    from rcmed.assistant import Assistant
    from rcmed.data.labelled_volumes import find_labelled_volumes
    from rcmed.model.packaged import model_identity, require_complete
    from rcmed.vocabulary.table import load_targets, target_named

    folder = cache / model_identity(require_complete(model)).weights_sha256[:12]
    folder.mkdir(parents=True, exist_ok=True)
    known = {target.name for target in load_targets()}
    assistant: Assistant | None = None
    cases: list[Any] = [*find_labelled_volumes(volumes), None]
    for case in cases:
        name = HEALTHY if case is None else f"{case.dataset}--{case.name}"
        if (folder / f"{name}.npz").exists() or not any(part in name for part in CHOOSING):
            continue
        assistant = assistant or Assistant.from_pretrained(model, "cpu")
        image, truths = (healthy_brain(), {}) if case is None else case.read()
        absent = [target for part, targets in ABSENT.items() if part in name for target in targets]
        asked = [
            target
            for target in (*truths, *absent)
            if target in known and assistant.unknown_because(target_named(target), image.modality) is None
        ]
        print(name, image.grid.shape, asked, flush=True)
        if asked:
            read_slices(assistant, image, asked, truths, folder / f"{name}.part.npz")
            (folder / f"{name}.part.npz").rename(folder / f"{name}.npz")
    return folder


@dataclass(frozen=True, eq=False)
class Asked:
    """A target of a volume, as its slices are shown.

    Attributes:
        volume, name: of what.
        logits: float32 (slice, r, c), the part of the model grid that the image covers.
        presence, sureness: float32 (slice,).
        truth: bool (slice, r, c) on the same cells; empty where the target is not there.
        distance_mm: between slices.
        cell_ml: volume of a cell.
    """

    volume: str
    name: str
    logits: NDArray[np.float32]
    presence: NDArray[np.float32]
    sureness: NDArray[np.float32]
    truth: NDArray[np.bool_]
    distance_mm: float
    cell_ml: float


def load(file: Path) -> Iterator[Asked]:
    """What was kept of a volume."""
    from rcmed.model.processor import resized_shape

    kept = np.load(file)
    slices, rows, columns = (int(length) for length in kept["shape"])
    size = int(kept["image_size"])
    height, width = resized_shape(rows, columns, size)
    stride = size / kept["logits"].shape[-1]
    r, c = (
        np.clip(((np.arange(int(used / stride)) + 0.5) * stride * real / used - 0.5).round().astype(int), 0, real - 1)
        for used, real in ((height, rows), (width, columns))
    )
    cell_ml = float(kept["voxel_ml"]) * (rows / height) * (columns / width) * stride**2
    for number, name in enumerate(kept["names"]):
        truth = np.zeros((slices, len(r), len(c)), dtype=bool)
        bits = kept[f"truth{number}"].astype(np.uint8)
        if len(bits):
            whole = np.unpackbits(bits, count=slices * rows * columns).reshape(slices, rows, columns)
            truth = whole[:, r][:, :, c].astype(bool)
        logits = kept["logits"][number][:, : len(r), : len(c)].astype(np.float32)
        said = kept["presence"][number], kept["sureness"][number]
        yield Asked(file.stem, str(name), logits, *said, truth, float(kept["spacing"][0]), cell_ml)


def joined(asked: Asked, joining: Joining, rule: PresenceRule) -> NDArray[np.bool_]:
    """The mask that a volume gets; where it is absent, too."""
    from rcmed.inference.packed_logits import HIGHEST
    from rcmed.inference.volume_masks import join_slices, keep_parts
    from rcmed.vocabulary.table import target_named

    target = target_named(asked.name)
    is_kept = kept_slices(asked, rule)
    logits = np.clip(asked.logits, -HIGHEST, HIGHEST)
    logits[~is_kept] = -HIGHEST
    logits = join_slices(logits, asked.presence, asked.distance_mm, joining)
    logits[~is_kept] = joining.growth - 1
    return keep_parts(logits, target.parts, (target.least_ml or 0) / asked.cell_ml, joining) > joining.growth


def kept_slices(asked: Asked, rule: PresenceRule) -> NDArray[np.bool_]:
    """Slices that may show the target."""
    from rcmed.inference.volume import presence_window, smooth

    window = min(presence_window(asked.distance_mm), len(asked.presence))
    is_kept = smooth(asked.presence, window) >= rule.absent_below
    if rule.sure_mask_logit is not None:
        is_kept |= smooth(asked.sureness, window) >= rule.sure_mask_logit
    return is_kept


def slice_by_slice(asked: Asked, rule: PresenceRule) -> NDArray[np.bool_]:
    """The mask of slices each on its own, without those that presence refuses and without islands: as it was before."""
    from rcmed.inference.volume import drop_islands

    return drop_islands((asked.logits > 0) & kept_slices(asked, rule)[:, None, None])


def scores(asked: Sequence[Asked], masks: Sequence[NDArray[np.bool_]]) -> list[float]:
    """Dice, the mean over volumes of means over their targets; medians of parts, of volume ratio, and of agreement."""
    from rcmed.evaluation.volumes.metrics import count_parts, neighbour_agreement

    dice: dict[str, list[float]] = defaultdict(list)
    parts, ratios, agreements = [], [], []
    for each, mask in zip(asked, masks, strict=True):
        dice[each.volume].append(2 * float((mask & each.truth).sum()) / float(mask.sum() + each.truth.sum()))
        if mask.any():
            parts.append(count_parts(mask))
            ratios.append(float(mask.sum() / each.truth.sum()))
            agreements.append(neighbour_agreement(mask))
    by_volume = [float(np.mean(values)) for values in dice.values()]
    return [
        float(np.mean(by_volume)),
        float(np.median(parts)),
        float(np.median(ratios)),
        float(np.nanmedian(agreements)),
    ]


def print_masks(asked: Sequence[Asked], rule: PresenceRule) -> None:
    """Two grids of masks, the best first: how slices are joined, then from where on a mask grows in the best one."""
    from rcmed.inference.volume_masks import JOINING

    there = [each for each in asked if each.truth.any()]
    print(f"\n{len(there)} targets of {len({each.volume for each in there})} volumes\n")
    print("| smoothing, mm | presence weight | surest | growth | seed | Dice | parts | volume ratio | neighbours |")
    print("| --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: |")
    before = scores(there, [slice_by_slice(each, rule) for each in there])
    print(f"| slice by slice | | | | | {' | '.join(f'{value:.3f}' for value in before)} |", flush=True)
    known: dict[Joining, list[float]] = {}

    def best_of(grid: Sequence[Joining]) -> Joining:
        for joining in grid:
            if joining not in known:
                known[joining] = scores(there, [joined(each, joining, rule) for each in there])
        ordered = sorted(grid, key=lambda joining: (-known[joining][0], str(joining)))
        for joining in ordered:
            how = joining.smoothing_mm, joining.presence_weight, joining.surest_quantile
            point = *how, joining.growth, joining.seed
            note = " (in use)" if joining == JOINING else ""
            cells = " | ".join(f"{value:.3f}" for value in known[joining])
            print(f"| {' | '.join(f'{x:g}' for x in point)}{note} | {cells} |", flush=True)
        good = [joining for joining in grid if known[joining][0] >= known[ordered[0]][0] - AS_GOOD]
        return max(good, key=lambda joining: (round(known[joining][3], 2), known[joining][0]))

    ways = product(SMOOTHING_MM, PRESENCE_WEIGHTS, SUREST_QUANTILES)
    joins = best_of(
        [
            replace(JOINING, smoothing_mm=mm, presence_weight=weight, surest_quantile=quantile)
            for mm, weight, quantile in ways
            if weight or quantile == SUREST_QUANTILES[0]
        ]
    )
    print("| | | | | | | | | |")
    grown = [replace(joins, growth=growth, seed=seed) for growth, seed in product(GROWTH, SEEDS)]
    print(f"\nTaken: {best_of(grown)}")


def print_presence(asked: Sequence[Asked], rule: PresenceRule) -> None:
    """The grid of what volumes are said to show, with what is not there."""
    from rcmed.inference.volume import (
        ACCUMULATION,
        presence_of_best,
        presence_of_volume,
        presence_window,
        runs_through,
        smooth,
    )

    print("\n| accumulation | AUC | there: absent | uncertain | found | over 0.5 in a fifth: absent", end=" ")
    print("| not there: absent | uncertain | found | |\n|" + " --- |" * 10)
    aucs: dict[float | None, float] = {}
    for accumulation in (None, *sorted({*ACCUMULATIONS, ACCUMULATION})):
        counts = {True: [0, 0, 0], False: [0, 0, 0]}
        sayings: dict[bool, list[float]] = {True: [], False: []}
        wrong = []
        for each in asked:
            window = min(presence_window(each.distance_mm), len(each.presence))
            smoothed = smooth(each.presence, window)
            if accumulation is None:
                said = presence_of_best(float(smoothed.max()), len(smoothed) / window)
            else:
                said = presence_of_volume(smoothed, window, accumulation)
            place = int(said >= rule.absent_below) + int(said >= rule.found_from)
            if place == 0 and accumulation is not None:
                place = int(runs_through(each.presence, window))
            shown = each.truth.any(axis=(1, 2))
            sayings[bool(shown.any())].append(said)
            counts[bool(shown.any())][place] += 1
            if place == 0 and shown.mean() >= 0.2 and each.presence[shown].mean() > 0.5:
                wrong.append(f"{each.name} ({each.volume})")
            if place == 2 and not shown.any():
                wrong.append(f"not there: {each.name} ({each.volume}) {said:.2f}")
        cells = [*counts[True], sum("not there" not in line for line in wrong), *counts[False]]
        name = "the best window alone" if accumulation is None else f"{accumulation:g}"
        name += " (in use)" if accumulation == ACCUMULATION else ""
        aucs[accumulation] = area_under_curve(sayings[True], sayings[False])
        print(f"| {name} | {aucs[accumulation]:.3f} | {' | '.join(map(str, cells))} | {'; '.join(wrong)} |", flush=True)
    best = max((each for each in aucs if each is not None), key=lambda each: (round(aucs[each], 2), each))
    print(f"\nTaken: ACCUMULATION = {best:g}")


def area_under_curve(there: Sequence[float], not_there: Sequence[float]) -> float:
    """How often presence of what is there is higher than of what is not; nan where either is empty."""
    if not there or not not_there:
        return float("nan")
    one, other = np.array(there)[:, None], np.array(not_there)[None]
    return float(((one > other) + 0.5 * (one == other)).mean())


def main(volumes: Path, cache: Path, model: str = "small") -> None:
    from rcmed.inference.decision import PresenceRule
    from rcmed.model.config import RCMedConfig
    from rcmed.model.packaged import require_complete

    folder = fill_cache(volumes, cache, model)
    rule = PresenceRule.of(RCMedConfig.from_pretrained(str(require_complete(model))))
    files = [file for file in sorted(folder.glob("*.npz")) if any(part in file.stem for part in CHOOSING)]
    asked = [each for file in files for each in load(file)]
    print_presence(asked, rule)
    print_masks(asked, rule)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
