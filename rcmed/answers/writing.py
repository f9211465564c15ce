"""One image answered on disk: findings.json, masks on the input's own grid, overlays, and other forms by plug-in."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from PIL import Image as PillowImage

from rcmed.answers.folders import FINDINGS_FILE
from rcmed.errors import InputError
from rcmed.findings import Findings
from rcmed.findings.json_file import findings_to_json, write_findings_json
from rcmed.image import Image
from rcmed.readers import mask_suffix, write_mask
from rcmed.vocabulary import Target

WRITERS = "rcmed.writers"
"""The entry points of this group are `AnswerWriter`s."""
_OWN_FILES = (FINDINGS_FILE, "mask-[0-9]*-*.nii.gz", "mask-[0-9]*-*.png", "mask-[0-9]*-*.tif", "overlay-[0-9]*-*.png")


class AnswerWriter(Protocol):
    """Adds other forms to the answers to images of its kind.

    Attributes:
        file_names: patterns of the names of all files that it ever writes.
    """

    file_names: Sequence[str]

    def require_kinds(self, kinds: Sequence[str]) -> None:
        """Whether it knows these kinds of objects; raises InputError where it does not."""
        ...

    def __call__(self, image: Image, findings: Findings, folder: Path, kinds: Sequence[str] = ()) -> list[str]:
        """Write objects of these kinds (none: as usual), unless the image is not of its kind.

        Returns:
            a line for each thing that is not written, or not as it was in the source.
        """
        ...


def require_kinds(kinds: Sequence[str]) -> None:
    """Whether the plugged-in writers know these kinds of objects.

    Raises:
        InputError: they do not.
    """
    for writer in _writers():
        writer.require_kinds(kinds)


def write_answer(image: Image, findings: Findings, folder: Path, kinds: Sequence[str] = ()) -> list[str]:
    """Write findings.json, a mask and an overlay per finding, and what the plugged-in writers add.

    All of it is there in the end, or nothing: whatever fails on the way, the folder is as it was before. What an
    earlier answer left in it is removed by name; files of others stay.

    Args:
        image, findings: what is written.
        folder: where; made where missing.
        kinds: which objects plugged-in writers add; none: their usual ones.
    Returns:
        a line for each thing that could not be written, with the reason, and for an answer to another input that was
        in the folder.
    Raises:
        InputError: a writer does not know a kind, or a file of the input itself would be replaced.
    """
    from rcmed.evaluation.overlays import best_slice, paint_overlay

    require_no_input(image, folder)
    lines = []
    with _written_apart(folder) as apart:
        masks: dict[int, str] = {}
        for number, finding in enumerate(findings.findings):
            mask = finding.mask
            if mask is None or finding.target is None:
                continue
            masks[number] = mask_name(image, finding.target, number)
            write_mask(mask, image, apart / masks[number])
            picture = paint_overlay(image, [finding], best_slice(image, finding))
            PillowImage.fromarray(picture).save(apart / f"overlay-{number + 1}-{_in_file_names(finding.target)}.png")
        write_findings_json(image, findings, masks, apart / FINDINGS_FILE)
        for writer in _writers():
            lines += writer(image, findings, apart, kinds)
        other = _input_of(folder)
        if other is not None and other != findings_to_json(image, findings)["input"]:
            lines.append(f"{folder}: held the answer to another input, which is replaced")
    return lines


def mask_name(image: Image, target: Target, number: int) -> str:
    """The name of the file of a finding's mask; the finding's number counts from 0."""
    suffix = ".nii.gz" if image.grid.shape[0] > 1 else mask_suffix(image)
    return f"mask-{number + 1}-{_in_file_names(target)}{suffix}"


def _in_file_names(target: Target) -> str:
    return re.sub(r"[^\w-]", "_", target.name)


def remove_answer(folder: Path) -> None:
    """Remove by name what an answer put into a folder, findings.json first; files of others stay.

    The folder goes where nothing is left in it.
    """
    for path in _answer_files(folder):
        path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _writers() -> Iterable[AnswerWriter]:
    return [entry.load() for entry in entry_points(group=WRITERS)]


def _answer_files(folder: Path) -> list[Path]:
    """What answers put into a folder, findings.json first."""
    patterns = [*_OWN_FILES, *(pattern for writer in _writers() for pattern in writer.file_names)]
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if any(fnmatchcase(path.name, pattern) for pattern in patterns)]
    return sorted(found, key=lambda path: (path.name != FINDINGS_FILE, path.name))


def require_no_input(image: Image, folder: Path) -> None:
    """Whether an answer in this folder would replace files of the image itself.

    Raises:
        InputError: it would.
    """
    inputs = {path.resolve() for path in (*image.files, *(source.path for source in image.sources))}
    for path in _answer_files(folder):
        if path.resolve() in inputs:
            raise InputError(f"{path}: is the input itself, which the answer would replace; give another --output")


def _input_of(folder: Path) -> Any:
    """What the answer in a folder was the answer to, as findings.json says; None where there is none."""
    try:
        return json.loads((folder / FINDINGS_FILE).read_text(encoding="utf-8"))["input"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def _written_apart(folder: Path) -> Iterator[Path]:
    """A folder in `folder` whose files take the place of the answer there, once all of them are written."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    apart = folder / f".answer-{uuid.uuid4().hex}.part"
    try:
        apart.mkdir()
        yield apart
        # Without findings.json, which goes first and comes last, there is no answer that could be taken for whole.
        for path in _answer_files(folder):
            path.unlink()
        for path in sorted(apart.iterdir(), key=lambda path: path.name == FINDINGS_FILE):
            os.replace(path, folder / path.name)
    except BaseException:
        shutil.rmtree(apart, ignore_errors=True)
        for place in made:
            with suppress(OSError):
                place.rmdir()
        raise
    for path in folder.glob(".answer-*.part"):  # this one, and what a run left that was killed
        shutil.rmtree(path, ignore_errors=True)
