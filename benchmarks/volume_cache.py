"""What weights say of the slices of the volumes that choose constants: read once, kept in files, loaded again.

`benchmarks/volume_constants.py` fills and reads it. A file a volume, and one more where CT slices may be cut to the
body; what is already there is not read again.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rcmed.image import Image
from rcmed.modality import Modality

if TYPE_CHECKING:
    from rcmed.assistant import Assistant
    from rcmed.inference.body_crop import Box

HEALTHY = "mni152"
_ABDOMINAL = ("liver", "kidney", "pancreas")
_OF_HEADS = ("mandible", "brainstem", "left parotid gland", "right parotid gland", "larynx", "intracranial hemorrhage")
# The volumes that choose, none of a test patient or of one that the tables of docs/volumes.md count, and what surely is
# not there, asked as well, so that a rule of presence is held against it.
CHOOSING = {
    HEALTHY: (
        *("brain tumor", "brain tumor with edema", "multiple sclerosis lesion", "white matter lesion"),
        *("kidney", "liver", "pancreas", "soft tissue sarcoma"),
    ),
    "hippocampus_104": (*_ABDOMINAL, "soft tissue sarcoma", "spinal cord", "vertebra", "left ventricle", "aorta"),
    "hippocampus_195": (*_ABDOMINAL, "soft tissue sarcoma", "spinal cord", "vertebra", "left ventricle", "aorta"),
    "spleen_2": (*_OF_HEADS, "left atrium", "soft tissue sarcoma"),
    "example_ct_sm": (*_OF_HEADS, "ischemic stroke lesion", "soft tissue sarcoma"),
    "example_mr_sm": (
        *("hippocampus", "brain tumor", "multiple sclerosis lesion", "brain ventricle", "cerebellum"),
        *("soft tissue sarcoma", "white matter lesion", "peritumoral edema"),
    ),
    "pt_247": ("kidney", "pancreas", "colon", "duodenum", "urinary bladder", "soft tissue sarcoma"),
    "pt_269": ("kidney", "pancreas", "colon", "duodenum", "urinary bladder", "soft tissue sarcoma"),
    "pt_295": ("kidney", "pancreas", "colon", "duodenum", "urinary bladder", "soft tissue sarcoma"),
    "STS_008_ct": _OF_HEADS,
    "STS_008_mr": ("hippocampus", "brain tumor", "brain ventricle", "cerebellum"),
    "STS_008_pet": (),
}
CUT = ".cut"
"""Before the suffix of files of slices that were cut to the body."""


def healthy_brain() -> Image:
    """nilearn's MNI152 T1 volume (1 mm)."""
    import nilearn

    from rcmed.readers import read_images

    path = Path(nilearn.__file__).parent / "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    return read_images(path, Modality.MR)[0]


def fill_cache(volumes: Path, cache: Path, model: str, ways: Collection[bool], only: Collection[str] = ()) -> Path:
    """Read what is not yet there; returns the folder of these weights.

    Args:
        volumes: with label maps.
        cache: of any weights.
        model: "small" or a folder.
        ways: whether slices are cut to the body; both ways, one after the other.
        only: those of `CHOOSING` that are read; none: all.
    """
    from rcmed.assistant import Assistant
    from rcmed.data.labelled_volumes import find_labelled_volumes
    from rcmed.inference.body_crop import LARGEST_SHARE, body_boxes
    from rcmed.model.packaged import model_identity, require_complete

    folder = cache / model_identity(require_complete(model)).weights_sha256[:12]
    folder.mkdir(parents=True, exist_ok=True)
    assistant: Assistant | None = None
    cases: list[Any] = [*find_labelled_volumes(volumes), None]
    for case in cases:
        name = HEALTHY if case is None else f"{case.dataset}--{case.name}"
        part = next((part for part in only or CHOOSING if name.endswith(part)), None)
        missing = [is_cut for is_cut in sorted(ways) if not _file(folder, name, is_cut).exists()]
        if part is None or not missing:
            continue
        assistant = assistant or Assistant.from_pretrained(model, "cpu")
        image, truths = (healthy_brain(), {}) if case is None else case.read()
        for is_cut in missing:
            boxes = body_boxes(image, LARGEST_SHARE if is_cut else 0.0)
            file = _file(folder, name, is_cut)
            if is_cut and not any(boxes):
                file.touch()
                continue
            started = time.perf_counter()
            asked = _asked(assistant, image, (*truths, *CHOOSING[part]))
            kept = read_slices(assistant, image, asked, truths, boxes)
            np.savez(file.with_suffix(".part.npz"), **kept)
            file.with_suffix(".part.npz").rename(file)
            how = f"{sum(box is not None for box in boxes)} cut" if is_cut else "whole"
            seconds = time.perf_counter() - started
            print(f"{name}: {len(boxes)} slices, {how}, {len(asked)} targets, {seconds:.0f} s", flush=True)
    return folder


def _file(folder: Path, name: str, is_cut: bool) -> Path:
    return folder / f"{name}{CUT if is_cut else ''}.npz"


def _asked(assistant: Assistant, image: Image, names: Collection[str]) -> list[str]:
    from rcmed.vocabulary.table import load_targets, target_named

    known = {target.name for target in load_targets()}
    return [
        name
        for name in dict.fromkeys(names)
        if name in known and assistant.unknown_because(target_named(name), image.modality) is None
    ]


def read_slices(
    assistant: Assistant,
    image: Image,
    names: list[str],
    truths: dict[str, NDArray[np.bool_]],
    boxes: list[Box | None],
) -> dict[str, Any]:
    """What is said of each slice of a volume, all as the slices are shown; logits of what is there alone."""
    from rcmed.inference.plausibility import misplaced_because
    from rcmed.inference.viewing import ReaderView
    from rcmed.model.heads.regions import likely_regions
    from rcmed.model.processor import to_eight_bit
    from rcmed.vocabulary.table import regions_imaged_by, target_named

    view = ReaderView.of(image.grid)
    pixels = view.to_view(to_eight_bit(image))
    there = [number for number, name in enumerate(names) if name in truths]
    presence, sureness = (np.zeros((len(names), len(pixels)), np.float32) for _ in range(2))
    logits: NDArray[np.float16] = np.zeros((0, len(pixels), 1, 1), np.float16)
    seen = []
    for answers in assistant._reader.read(pixels, names, image.modality, boxes=boxes):
        targets, slices = answers.place
        presence[targets, slices], sureness[targets, slices] = answers.presence, answers.sureness
        found = answers.logits.half().cpu().numpy()
        if not len(logits):
            logits = np.zeros((len(there), len(pixels), *found.shape[2:]), np.float16)
        for place, number in enumerate(there):
            if targets.start <= number < targets.stop:
                logits[place, slices] = found[number - targets.start]
        if answers.regions is not None and not answers.first_target:
            seen.append(answers.regions)
    config, regions = assistant._config, None
    if seen:
        imaged = regions_imaged_by(image.modality)
        regions = likely_regions(np.concatenate(seen), config.body_regions, config.region_least, imaged)
    shown = {f"truth{place}": np.packbits(view.to_view(truths[names[number]])) for place, number in enumerate(there)}
    return {
        "names": names,
        "there": there,
        "refused": [misplaced_because(target_named(name), regions, True) is not None for name in names],
        "logits": logits,
        "presence": presence,
        "sureness": sureness,
        "shape": pixels.shape[:3],
        "spacing": image.grid.spacing,
        "voxel_ml": image.grid.voxel_volume / 1000,
        "image_size": assistant.processor.image_size,
        **shown,
    }


@dataclass(frozen=True, eq=False)
class Asked:
    """A target of a volume, as its slices are shown.

    Attributes:
        volume, name: of what.
        presence, sureness: float32 (slice,).
        logits: float16 (slice, r, c), the part of the model grid that the image covers; none of what is not there.
        truth: bool (slice, r, c) on the same cells.
        is_refused: anatomy, as the weights see it, does not let the target be there.
        distance_mm: between slices.
        cell_ml: volume of a cell.
    """

    volume: str
    name: str
    presence: NDArray[np.float32]
    sureness: NDArray[np.float32]
    logits: NDArray[np.float16]
    truth: NDArray[np.bool_]
    is_refused: bool
    distance_mm: float
    cell_ml: float

    @property
    def is_there(self) -> bool:
        """Whether the truth shows the target."""
        return bool(self.truth.any())


def load_cache(folder: Path, is_cut: bool, only: Collection[str] = ()) -> list[Asked]:
    """What was kept of the volumes; `is_cut`: with slices cut to the body, where that cuts any."""
    asked: list[Asked] = []
    for file in sorted(folder.glob("*.npz")):
        if file.stem.endswith((CUT, ".part")) or not file.stem.endswith(tuple(only or CHOOSING)):
            continue
        cut = _file(folder, file.stem, True)
        asked += _load(cut if is_cut and cut.exists() and cut.stat().st_size else file, file.stem)
    return asked


def was_cut(folder: Path, volume: str) -> bool:
    """Whether cutting to the body changes anything in a volume."""
    cut = _file(folder, volume, True)
    return cut.exists() and cut.stat().st_size > 0


def _load(file: Path, volume: str) -> Iterator[Asked]:
    from rcmed.model.processor import resized_shape

    with np.load(file) as opened:
        kept = dict(opened)
    slices, rows, columns = (int(length) for length in kept["shape"])
    size = int(kept["image_size"])
    height, width = resized_shape(rows, columns, size)
    stride = size / kept["logits"].shape[-1]
    r, c = (
        np.clip(((np.arange(int(used / stride)) + 0.5) * stride * real / used - 0.5).round().astype(int), 0, real - 1)
        for used, real in ((height, rows), (width, columns))
    )
    cell_ml = float(kept["voxel_ml"]) * (rows / height) * (columns / width) * stride**2
    places = {int(number): place for place, number in enumerate(kept["there"])}
    for number, name in enumerate(kept["names"]):
        truth = np.zeros((slices, 1, 1), dtype=bool)
        logits = np.zeros((slices, 1, 1), dtype=np.float16)
        if number in places:
            bits = kept[f"truth{places[number]}"]
            truth = np.unpackbits(bits, count=slices * rows * columns).reshape(slices, rows, columns)
            truth = truth[:, r][:, :, c].astype(bool)
            logits = np.ascontiguousarray(kept["logits"][places[number]][:, : len(r), : len(c)])
        said = kept["presence"][number], kept["sureness"][number], logits, truth
        refused = bool(kept["refused"][number])
        yield Asked(volume, str(name), *said, refused, float(kept["spacing"][0]), cell_ml)
