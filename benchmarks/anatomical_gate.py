"""What the anatomical gate takes away: true findings and false ones, and how high presence must be where all is asked.

python benchmarks/anatomical_gate.py INDEX.json ROOT [VOLUMES [MODEL]]

Every target that the weights know in an image's modality is asked in up to 40 images of each data set, without and with
the data set's natural region (`NATURAL_REGIONS`) in the place of what a DICOM header tells. A finding is true where
the target was annotated, false where it was looked for and not found or lies in another body region; others count
nothing. VOLUMES is a folder of image.nii.gz, label.nii.gz and labels.json: every label's mean, whole and by slice,
is held against the vocabulary's limits.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from rcmed.assistant import Assistant
from rcmed.data.triplets import Triplet, read_index
from rcmed.evaluation.scoring import image_of
from rcmed.findings import FindingStatus
from rcmed.inference.plausibility import misplaced_because
from rcmed.vocabulary import BodyRegion as Region
from rcmed.vocabulary import load_targets
from rcmed.vocabulary.table import canonical_name

TRUNK = frozenset({Region.CHEST, Region.ABDOMEN, Region.PELVIS})
SLIDE = frozenset({Region.TISSUE, Region.CELL})
NATURAL_REGIONS: dict[str, frozenset[Region]] = {
    **dict.fromkeys(("chd68", "hocm", "hvsmr2", "lctsc_lung", "msd_lung", "pulm_av"), frozenset({Region.CHEST})),
    **dict.fromkeys(("covid_gbseg", "covid_v7", "kermany_v7"), frozenset({Region.CHEST})),
    **dict.fromkeys(
        ("dcmqi_ct_liver", "kaggle_abdominal_aorta", "kits19", "msd_hepaticvessel"), frozenset({Region.ABDOMEN})
    ),
    **dict.fromkeys(("msd_liver", "msd_spleen", "pancreas_ct", "pansegdata_t2"), frozenset({Region.ABDOMEN})),
    **dict.fromkeys(("ukrin_kidney", "us_liver_lesion"), frozenset({Region.ABDOMEN})),
    **dict.fromkeys(("sam_med2d_demo", "totalsegmentator_example"), TRUNK),
    **dict.fromkeys(("cpaisd", "ct_ich", "cerebrum7t", "brats2021", "brisc2025"), frozenset({Region.HEAD})),
    **dict.fromkeys(
        ("figshare_brain_tumor", "ms_muslim", "ms_muslim_flair", "msd_hippocampus"), frozenset({Region.HEAD})
    ),
    **dict.fromkeys(("open_ms",), frozenset({Region.HEAD})),
    **dict.fromkeys(("openkbp", "npc_t2"), frozenset({Region.HEAD, Region.NECK})),
    **dict.fromkeys(("sct_testing_data", "sct_tutorial_data", "spider", "spine_generic"), frozenset({Region.SPINE})),
    "tptbox_sample": frozenset({Region.SPINE}),
    "sts_ibsi": frozenset({Region.LIMB}),
    "isic2017": frozenset({Region.SKIN}),
    "hyperkvasir_seg": frozenset({Region.DIGESTIVE_TRACT}),
    "vocalfolds": frozenset({Region.AIRWAY}),
    **dict.fromkeys(("chase_db1", "fives", "hrf", "hvdropdb_ridge", "idrid", "idrid_tiles"), frozenset({Region.EYE})),
    **dict.fromkeys(
        ("aidpath_glomeruli", "camelyon", "ocdc", "rings", "tnbc"), frozenset({Region.TISSUE, Region.CELL})
    ),
    **dict.fromkeys(("dsb2018", "krd_wbc", "wbc_zheng2018"), SLIDE),
    **dict.fromkeys(
        ("breast_lesions_usg", "bus_uc", "busi", "cdd_cesm", "mammogram_density"), frozenset({Region.BREAST})
    ),
    "ccaus": frozenset({Region.NECK}),
    "dl_track": frozenset({Region.LIMB}),
    "usgra": frozenset({Region.LIMB}),
    "hc18": frozenset({Region.FETUS}),
}
"""One region each where a header would name one; of spines only "spine", though their headers often say more."""

MOST_IMAGES = 40
MOST_FALSE_IMAGES = 0.05


@dataclass(frozen=True)
class Answered:
    """One target in one image.

    Attributes:
        modality, dataset, image, target: which.
        is_true: whether it is there; None where nobody knows.
        is_misplaced: whether the gate takes it away where a header tells the region.
        is_unseen: whether the gate takes it away where only the weights tell the region.
        status, presence: without the gate.
    """

    modality: str
    dataset: str
    image: str
    target: str
    is_true: bool | None
    is_misplaced: bool
    is_unseen: bool
    status: FindingStatus
    presence: float


def answers(assistant: Assistant, triplets: list[Triplet]) -> Iterator[Answered]:
    """Ask every image for everything that the weights know in its modality; no header tells its region."""
    found_from = assistant.model.config.presence_thresholds[1]
    asked: Counter[str] = Counter()
    for triplet in triplets:
        asked[triplet.dataset] += 1
        if asked[triplet.dataset] > MOST_IMAGES:
            continue
        image = image_of(triplet)
        for finding in assistant.find_targets(image, assistant.known_targets(image)):
            assert finding.target is not None
            name = finding.target.name
            misplaced = misplaced_because(finding.target, NATURAL_REGIONS.get(triplet.dataset)) is not None
            is_true = True if name in triplet.masks else False if name in triplet.labelled or misplaced else None
            status, presence = finding.status, finding.presence or 0.0
            unseen = status is FindingStatus.IMPLAUSIBLE
            if unseen:
                status = FindingStatus.FOUND if presence >= found_from else FindingStatus.UNCERTAIN
            yield Answered(
                *(triplet.modality.value, triplet.dataset, triplet.image.name, name),
                *(is_true, misplaced, unseen, status, presence),
            )


def print_table(rows: list[Answered]) -> None:
    """Findings (found or uncertain with a region is what `find` draws) before and after the gate.

    "told": a header tells the region; "seen": the weights do.
    """
    print(
        "| modality | images | true | lost, told | seen | false found | told | seen | false uncertain | told | seen |"
    )
    print(f"| --- |{' ---: |' * 10}")
    by_modality: dict[str, list[Answered]] = defaultdict(list)
    for row in rows:
        by_modality[row.modality].append(row)
    for name, members in [*sorted(by_modality.items()), ("all", rows)]:
        true = [r for r in members if r.is_true and r.status is not FindingStatus.ABSENT]
        false = [r for r in members if r.is_true is False]
        cells: list[int] = [len({r.image for r in members}), len(true)]
        cells += [sum(r.is_misplaced for r in true), sum(r.is_unseen for r in true)]
        for status in (FindingStatus.FOUND, FindingStatus.UNCERTAIN):
            there = [r for r in false if r.status is status]
            cells += [len(there), sum(not r.is_misplaced for r in there), sum(not r.is_unseen for r in there)]
        print(f"| {name} | {' | '.join(map(str, cells))} |")


def print_threshold(rows: list[Answered], found_from: float) -> dict[str, float]:
    """The lowest presence at which in no modality more than one image in twenty gets a false finding, by gate."""
    by_gate = {}
    for gate, takes_away in (
        ("region told", lambda row: row.is_misplaced),
        ("region seen", lambda row: row.is_unseen),
        ("no region", lambda row: False),
    ):
        print(f"| modality | images | false finding, {gate} | threshold needed |")
        print("| --- | ---: | ---: | ---: |")
        needed = {}
        for name in sorted({row.modality for row in rows}):
            members = [row for row in rows if row.modality == name]
            worst: dict[str, float] = defaultdict(float)
            for row in members:
                counts = row.is_true is False and row.status is FindingStatus.FOUND
                if counts and not takes_away(row):
                    worst[row.image] = max(worst[row.image], row.presence)
            images = len({row.image for row in members})
            highest, allowed = sorted(worst.values(), reverse=True), int(images * MOST_FALSE_IMAGES)
            beyond = highest[allowed] if len(highest) > allowed else 0.0
            needed[name] = max(found_from, float(np.floor(beyond * 100 + 1) / 100))
            print(f"| {name} | {images} | {len(worst)} | {needed[name]:.2f} |")
        chosen = min(max(needed.values()), 0.99)
        true = [row for row in rows if row.is_true and row.status is FindingStatus.FOUND and not takes_away(row)]
        print(f"\nrecognise_from: {chosen:.2f}, keeps {sum(r.presence >= chosen for r in true)} of {len(true)} true\n")
        by_gate[gate] = chosen
    return by_gate


def print_values(volumes: Path) -> None:
    """Labels of CT volumes against the limits of the vocabulary."""
    known = {target.name: target for target in load_targets()}
    print("| target | label masks | slices | mean HU | limits | masks outside | slices outside |")
    print("| --- | ---: | ---: | --- | --- | ---: | ---: |")
    means: dict[str, list[float]] = defaultdict(list)
    slices: dict[str, list[float]] = defaultdict(list)
    for listed in sorted(volumes.rglob("labels.json")):
        told = json.loads(listed.read_text())
        if told["modality"] != "ct":
            continue
        voxels = np.asarray(nib.load(listed.parent / "image.nii.gz").dataobj)
        labels = np.asarray(nib.load(listed.parent / "label.nii.gz").dataobj)
        for value, words in told["labels"].items():
            name = "vertebra" if words.startswith("vertebra") else canonical_name(words)
            inside = labels == int(value)
            if name in known and inside.any():
                means[name].append(float(voxels[inside].mean()))
                slices[name] += [
                    float(voxels[..., k][inside[..., k]].mean())
                    for k in range(inside.shape[2])
                    if inside[..., k].sum() >= 20
                ]
    for name, values in sorted(means.items()):
        bounds = known[name].hounsfield
        if bounds is None:
            continue
        outside = [sum(not bounds[0] <= v <= bounds[1] for v in each) for each in (values, slices[name])]
        spread = f"{min(values):.0f} to {max(values):.0f}"
        limits = f"{bounds[0]:.0f} to {bounds[1]:.0f}"
        print(f"| {name} | {len(values)} | {len(slices[name])} | {spread} | {limits} | {outside[0]} | {outside[1]} |")


def main(index: Path, root: Path, volumes: Path | None = None, model: str = "small") -> None:
    """Print the tables."""
    assistant = Assistant.from_pretrained(model, "cpu")
    rows = list(answers(assistant, read_index(index, root)))
    print_table(rows)
    print()
    print_threshold(rows, assistant.model.config.presence_thresholds[1])
    if volumes is not None:
        print()
        print_values(volumes)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4, 5):
        raise SystemExit(__doc__)
    main(*map(Path, sys.argv[1:4]), *sys.argv[4:])
