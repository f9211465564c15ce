"""Labelled cases to the published index: 8-bit slices as a radiologist sees them, 1-bit masks, and where all is from.

    OUTPUT/
        image2label_2d_train.json, image2label_2d_test.json   image -> [{mask: target}, ...]
        provenance.jsonl                                       a line an image: split, patient, what was labelled, ...
        images/, masks/

One case is in memory at a time. A conversion that was stopped goes on after the last case that was written whole.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from rcmed.data.conversion.labelled import LabelledCase
from rcmed.durable_files import write_durably
from rcmed.errors import RCMedError
from rcmed.image import Image
from rcmed.inference.viewing import ReaderView
from rcmed.model.processor import to_eight_bit

PROVENANCE = "provenance.jsonl"
# Neighbouring slices say nearly the same.
MOST_SLICES = 24
# Of these so many may show no target at all: they teach absence.
EMPTY_SHARE = 0.25


@dataclass(frozen=True)
class Conversion:
    """What became of one case.

    Attributes:
        case: its name.
        images: how many slices were written.
        refusal: why none was, in one line; None where all went well.
    """

    case: str
    images: int
    refusal: str | None = None


def index_file(split: str) -> str:
    """The published name of the index of a split."""
    return f"image2label_2d_{split}.json"


def convert(cases: Iterable[LabelledCase], output: Path, most_slices: int = MOST_SLICES) -> Iterator[Conversion]:
    """Write the cases, one after the other; the index is written when the last one was taken.

    A case that can't be read is left out with a line, and the rest goes on.

    Args:
        cases: of one data set or several.
        output: folder of the index.
        most_slices: that are taken of one volume, evenly spaced.
    """
    for name in ("images", "masks"):
        (output / name).mkdir(parents=True, exist_ok=True)
    written = _written(output / PROVENANCE)
    with (output / PROVENANCE).open("a", encoding="utf-8") as provenance:
        for case in cases:
            key = f"{case.dataset}/{case.name}"
            if key in written:
                yield Conversion(case.name, written[key])
                continue
            try:
                lines = list(_write_case(case, output, most_slices))
            except RCMedError as error:
                yield Conversion(case.name, 0, " ".join(str(error).split()))
                continue
            provenance.writelines(json.dumps(line) + "\n" for line in lines)
            provenance.flush()
            yield Conversion(case.name, len(lines))
    _write_index(output)


def _write_case(case: LabelledCase, output: Path, most_slices: int) -> Iterator[dict[str, object]]:
    image, masks = case.read()
    view = ReaderView.of(image.grid)
    pixels = view.to_view(to_eight_bit(image))
    shown = {name: view.to_view(mask) for name, mask in sorted(masks.items())}
    taken = _telling_slices(shown, len(pixels), most_slices)
    for index in taken:
        number = "" if len(pixels) == 1 else f"_{index:04d}"
        stem = f"{image.modality.value}--{case.dataset}--{case.name}{number}"
        picture = f"images/{stem}.png"
        _save(output / picture, pixels[index] if image.is_colour else pixels[index][..., 0])
        files = {}
        for name, mask in shown.items():
            if mask[index].any():
                path = f"masks/{stem}--{name.replace(' ', '_')}.png"
                _save(output / path, mask[index])
                files[path] = name
        yield {
            "image": picture,
            "masks": files,
            "split": case.split,
            "modality": image.modality.value,
            "dataset": case.dataset,
            "case": case.name,
            "slices": len(taken),
            "patient": f"{case.dataset}_{case.patient}",
            "labelled": sorted(masks),
            "source": case.image.name,
            "licence": case.licence,
            **_spacing(image),
        }


def _telling_slices(masks: dict[str, NDArray[np.bool_]], slices: int, most: int) -> list[int]:
    """Slices with a target, evenly spaced, and some without any; none where nothing was annotated."""
    if not masks:
        return []
    has_any = np.any([mask.any((1, 2)) for mask in masks.values()], axis=0)
    empty = np.flatnonzero(~has_any)
    most_empty = round(most * EMPTY_SHARE) if has_any.any() else most
    spread = [_evenly(np.flatnonzero(has_any), most - min(len(empty), most_empty)), _evenly(empty, most_empty)]
    return sorted(int(index) for indices in spread for index in indices)


def _evenly(indices: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    if len(indices) <= most:
        return indices
    return indices[np.linspace(0, len(indices) - 1, most).round().astype(int)]


def _spacing(image: Image) -> dict[str, object]:
    if not image.grid.in_millimetres:
        return {}
    return {"pixel_spacing_mm": [round(float(each), 4) for each in image.grid.spacing[1:]]}


def _save(path: Path, pixels: NDArray[np.uint8] | NDArray[np.bool_]) -> None:
    PillowImage.fromarray(np.ascontiguousarray(pixels)).save(path, format="PNG")


def _written(path: Path) -> dict[str, int]:
    """Data set and case -> number of images; the lines of a case that was not written whole are taken away."""
    if not path.exists():
        return {}
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    counts = Counter(f"{line['dataset']}/{line['case']}" for line in lines)
    whole = [line for line in lines if counts[f"{line['dataset']}/{line['case']}"] == line["slices"]]
    write_durably(path, "".join(json.dumps(line) + "\n" for line in whole).encode())
    return Counter(f"{line['dataset']}/{line['case']}" for line in whole)


def _write_index(output: Path) -> None:
    with (output / PROVENANCE).open(encoding="utf-8") as opened:
        lines = [json.loads(line) for line in opened]
    for split in ("train", "test"):
        entries = {
            line["image"]: [{path: name} for path, name in line["masks"].items()]
            for line in lines
            if line["split"] == split
        }
        (output / index_file(split)).write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
