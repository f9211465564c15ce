"""What a job found, as it lies in the job's folder: one answer for each image of its series."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_bridge.jobs.answer_writer import FINDINGS_FILE, job_folder

_PLACE = re.compile(r"image-(\d+)")


@dataclass(frozen=True)
class Answer:
    """The findings of one image.

    Attributes:
        image: its number in the job, from 1.
        place: its folder, relative to the job's; "" where there is one image only.
        content: of findings.json.
    """

    image: int
    place: str
    content: Mapping[str, Any]

    def file(self, name: str) -> str:
        """Where a file of this image lies, relative to the job's folder."""
        return f"{self.place}/{name}" if self.place else name

    def picture(self, finding: int) -> str:
        """Where the picture of a finding, counted from 1, lies; relative to the job's folder."""
        return self.file(f"overlay-{finding}.png")


def answers_of(root: Path, job_id: str) -> list[Answer]:
    """The answers of a job that are there and can be read, in the order of the images.

    Args:
        root: the state folder.
        job_id: of the job.
    Raises:
        ValueError: it is the id of no job.
    """
    folder = job_folder(root, job_id)
    answers = []
    for path in folder.glob(f"**/{FINDINGS_FILE}"):
        place = path.parent.relative_to(folder).as_posix()
        number = _PLACE.fullmatch(place)
        if place != "." and number is None:
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        answers.append(Answer(1 if number is None else int(number[1]), "" if place == "." else place, content))
    return sorted(answers, key=lambda answer: answer.image)
