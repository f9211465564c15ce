"""How data sets lie on disk, as entries of `layouts.yaml`: a new one is an entry, no code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from rcmed.modality import Modality

Split = Literal["train", "test"]
CASE, TARGET = "{case}", "{target}"


class ModalityRule(BaseModel):
    """The modality of the cases whose name matches.

    Attributes:
        case: regular expression that the whole name of a case matches.
        modality: of those cases.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    modality: Modality


class Part(BaseModel):
    """Files that belong together.

    Attributes:
        images: path of an image under the data set's folder; `{case}` stands for the case's name, also of a folder.
        labels: of its label map, or with `{target}` of one binary mask for each target.
        split: of these cases; none: by the patient's name (`test_share`), or as `split_table` says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: str
    labels: str
    split: Split | None = None

    @model_validator(mode="after")
    def _names_the_case(self) -> Part:
        if self.images.count(CASE) != 1 or CASE not in self.labels:
            raise ValueError(f"images has {CASE} once, and labels has it")
        return self


class SplitTable(BaseModel):
    """A table of the data set that tells which case is held out.

    Attributes:
        file: under the data set's folder.
        delimiter: between its columns.
        case: column with the name of a case.
        split: column with the split.
        test: what that column says of cases that are held out for testing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    delimiter: str = ","
    case: str
    split: str
    test: tuple[str, ...]


class Layout(BaseModel):
    """A data set's layout.

    Attributes:
        name: by which `rcmed convert` knows it; also the name of the data set in the index.
        about: what it is and where it is to be had.
        licence: of the data set; goes into `provenance.jsonl`.
        parts: its files.
        modality: of all cases, or by rules, the first that matches.
        targets: canonical name -> what is united for it: values of the label map, or `{target}` names.
        channel: of images with several (MR sequences in one file), counted from 0.
        split_table: where one comes with the data set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    about: str
    licence: str
    parts: Annotated[tuple[Part, ...], Field(min_length=1)]
    modality: Modality | tuple[ModalityRule, ...]
    targets: Annotated[dict[str, tuple[int | str, ...]], Field(min_length=1)]
    channel: int | None = Field(default=None, ge=0)
    split_table: SplitTable | None = None

    @model_validator(mode="after")
    def _values_fit_files(self) -> Layout:
        binary = {TARGET in part.labels for part in self.parts}
        kinds = {type(value) for values in self.targets.values() for value in values}
        if len(binary) != 1 or kinds != ({str} if True in binary else {int}):
            raise ValueError(f"targets: names where labels has {TARGET}, else values of the label map")
        return self

    def modality_of(self, case: str) -> Modality | None:
        """The modality of a case; None where no rule matches."""
        if isinstance(self.modality, Modality):
            return self.modality
        return next((rule.modality for rule in self.modality if re.fullmatch(rule.case, case)), None)

    def cases(self, source: Path) -> Iterator[Case]:
        """The cases that are there, by name within each part; hidden files (also macOS' `._*`) are none."""
        for part in self.parts:
            before, after = part.images.split(CASE)
            pattern = re.compile(re.escape(before) + r"([^/.][^/]*?)" + re.escape(after))
            found = sorted(source.glob(part.images.replace(CASE, "*")))
            for image in found:
                match = pattern.fullmatch(image.relative_to(source).as_posix())
                if match:
                    yield Case(match[1], image, source / part.labels.replace(CASE, match[1]), part.split)


@dataclass(frozen=True)
class Case:
    """An image and where its labels are.

    Attributes:
        name: of the case, and of its patient.
        image: its file.
        labels: its label map, or with `{target}` in the path one binary mask for each target.
        split: where the layout says.
    """

    name: str
    image: Path
    labels: Path
    split: Split | None


@cache
def load_layouts() -> dict[str, Layout]:
    """The layouts that are known, by name."""
    entries = yaml.safe_load((files(__package__) / "layouts.yaml").read_text())["layouts"]
    layouts = [Layout.model_validate(entry) for entry in entries]
    return {layout.name: layout for layout in layouts}
