"""The authors' own index (`Datasets2D`), or another in that format: names become the vocabulary's, files stay."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from rcmed.data.conversion.converter import PROVENANCE, index_file
from rcmed.data.triplets import modality_from_name
from rcmed.errors import InputError
from rcmed.vocabulary.named import sole_target

DATA = "data"
"""Name of the link to the data set's folder: an index's paths are relative to its own."""


def link_published(source: Path, output: Path) -> list[str]:
    """Write indices whose paths lead through a link to the source, with the vocabulary's names.

    A name that means no single target is kept as it is. Of an image nothing is known but what has a mask.

    Args:
        source: folder with `image2label*_train.json` or `image2label*_test.json`, or both.
        output: folder of the new indices.
    Returns:
        a line for each name that the vocabulary does not know.
    Raises:
        InputError: there is no index, or one can't be read.
    """
    found = {split: sorted(source.glob(f"image2label*_{split}.json")) for split in ("train", "test")}
    if not any(found.values()):
        raise InputError(f"{source}: holds no image2label_train.json or image2label_test.json; name their folder")
    output.mkdir(parents=True, exist_ok=True)
    link = output / DATA
    if link.is_symlink():
        link.unlink()
    link.symlink_to(source.resolve(), target_is_directory=True)
    unknown: Counter[str] = Counter()
    with (output / PROVENANCE).open("w", encoding="utf-8") as provenance:
        for split, indices in found.items():
            entries: dict[str, list[dict[str, str]]] = {}
            for index in indices:
                for image, masks in _read(index).items():
                    named = [
                        {f"{DATA}/{path}": _canonical(name, Path(image), unknown)}
                        for mask in masks
                        for path, name in mask.items()
                    ]
                    entries[f"{DATA}/{image}"] = named
                    names = sorted({name for mask in named for name in mask.values()})
                    provenance.write(json.dumps(_facts(image, split, names)) + "\n")
            if entries:
                (output / index_file(split)).write_text(json.dumps(entries) + "\n", encoding="utf-8")
    return [
        f"`{name}` ({count} masks) is no name of the vocabulary; kept as it is"
        for name, count in sorted(unknown.items())
    ]


def _facts(image: str, split: str, names: list[str]) -> dict[str, object]:
    parts = Path(image).stem.split("--")
    return {
        "image": f"{DATA}/{image}",
        "split": split,
        "dataset": parts[1] if len(parts) > 2 else "datasets2d",
        "patient": Path(image).stem,
        "labelled": names,
    }


def _read(index: Path) -> dict[str, list[dict[str, str]]]:
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{index}: can't be read as an index ({error}); download it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{index}: must map images to lists of masks")
    return content


def _canonical(name: str, image: Path, unknown: Counter[str]) -> str:
    target = sole_target(name.replace("_", " "), modality_from_name(image))
    if target is not None:
        return target.name
    unknown[name] += 1
    return name
