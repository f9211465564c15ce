"""An answer to take away: the files that `rcmed find` writes, made by the same writers when they are asked for."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from dicom_bridge.asking.uploads import Answer, AskedImage
from dicom_bridge.results.kinds import ResultKind
from rcmed.answers.writing import mask_name, write_answer
from rcmed.readers import write_mask

_KINDS = (ResultKind.SEG, ResultKind.SR, ResultKind.PDF)
LINES_FILE = "not-written.txt"
"""In the archive of an answer: a line for each thing that could not be written, with the reason."""


def zipped_answer(asked: AskedImage, answer: Answer) -> bytes:
    """A ZIP archive of findings.json, masks and overlays, and of a DICOM source SEG, SR and the PDF, too.

    Raises:
        InputError: what was dropped can't be answered in these forms.
    """
    with tempfile.TemporaryDirectory(prefix="rcmed-answer-") as root:
        place = Path(root) / "answer"
        lines = write_answer(asked.image, answer.findings, place, list(_KINDS) if asked.image.sources else ())
        if lines:
            (place / LINES_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return Path(shutil.make_archive(str(place), "zip", place)).read_bytes()


def mask_file(asked: AskedImage, answer: Answer, number: int) -> tuple[str, bytes] | None:
    """Name and content of the file of a finding's mask, on the grid of what was dropped; None where it has none.

    Args:
        number: of the finding, from 0.
    """
    finding = answer.finding(number)
    mask = finding.mask
    if mask is None or finding.target is None:
        return None
    with tempfile.TemporaryDirectory(prefix="rcmed-answer-") as root:
        path = Path(root) / mask_name(asked.image, finding.target, number)
        write_mask(mask, asked.image, path)
        return path.name, path.read_bytes()
