"""Overlay pictures show the region and nothing else; findings.json says what was found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rcmed.codes import Code
from rcmed.errors import GridMismatchError
from rcmed.evaluation.overlays import best_slice, paint_overlay
from rcmed.findings import Box, Finding, Findings, FindingStatus, Measurement, ModelIdentity
from rcmed.findings.json_file import findings_to_json, write_findings_json
from rcmed.image import Grid, Image
from rcmed.modality import Modality
from rcmed.vocabulary.table import Target

CODE = Code("1", "99RCMED", "thing")
LIVER = Target("liver", (), CODE, CODE, CODE, None, (200, 100, 0), (Modality.CT,))


def example() -> tuple[Image, Finding]:
    grid = Grid.without_geometry(20, 30, slices=3)
    pixels = np.zeros(grid.shape, dtype=np.int16)
    pixels[:, :, 15:] = 100
    mask = np.zeros(grid.shape, dtype=bool)
    mask[1, 5:15, 10:20] = True
    mask[2, 5, 10] = True
    image = Image(pixels, grid, Modality.CT, window=(50, 100), files=(Path("a.nii"),))
    boxes = (Box((1, 5, 10), (2, 14, 19)),)
    measurement = Measurement("area", 100.0, "{pixels}", CODE)
    return image, Finding("liver?", LIVER, FindingStatus.FOUND, 0.9, mask, boxes, (measurement,), "A square.")


def test_the_region_is_painted_and_the_rest_is_untouched() -> None:
    image, finding = example()
    picture = paint_overlay(image, [finding], 1)
    plain = paint_overlay(image, [], 1)
    assert picture.shape == (20, 30, 3) and picture.dtype == np.uint8
    mask = finding.mask[1]  # type: ignore[index]
    assert np.array_equal(picture[~mask], plain[~mask])
    assert tuple(picture[5, 10]) == LIVER.colour
    assert tuple(picture[10, 12]) == (60, 30, 0)
    assert tuple(plain[0, 0]) == (0, 0, 0) and tuple(plain[0, 29]) == (255, 255, 255)


def test_an_empty_slice_and_an_absent_finding_change_nothing() -> None:
    image, finding = example()
    absent = Finding("x", None, FindingStatus.ABSENT, 0.1)
    assert np.array_equal(paint_overlay(image, [finding, absent], 0), paint_overlay(image, [], 0))
    assert best_slice(image, finding) == 1
    assert best_slice(image, absent) == 1


def test_colour_not_finite_and_foreign_masks() -> None:
    grid = Grid.without_geometry(4, 5)
    rgb = np.full((1, 4, 5, 3), 77, dtype=np.uint8)
    assert np.array_equal(paint_overlay(Image(rgb, grid, Modality.FUNDUS), [], 0), rgb[0])
    nothing = np.full((1, 4, 5), np.nan, dtype=np.float32)
    assert paint_overlay(Image(nothing, grid, Modality.MR), [], 0).max() == 0
    image, finding = example()
    with pytest.raises(GridMismatchError):
        paint_overlay(Image(rgb, grid, Modality.FUNDUS), [finding], 0)
    with pytest.raises(IndexError):
        paint_overlay(image, [], 3)


def test_findings_json(tmp_path: Path) -> None:
    image, finding = example()
    unknown = Finding("wibble", None, FindingStatus.UNRESOLVED, reason="no such target")
    uncertain = Finding("liver", LIVER, FindingStatus.UNCERTAIN, 0.5)
    model = ModelIdentity("RCMed small", "0.1", "ab" * 32)
    findings = Findings((finding, unknown, uncertain), model, image.grid, image.modality, "?", "!", {"find": 0.1})
    write_findings_json(image, findings, {0: "mask.png"}, tmp_path / "findings.json")
    content = json.loads((tmp_path / "findings.json").read_text())
    assert content == findings_to_json(image, findings, {0: "mask.png"})
    assert content["input"] == {"files": ["a.nii"]} and content["warnings"] == []
    told = findings_to_json(replace(image, warnings=("the series is incomplete",)), findings)
    assert told["warnings"] == ["the series is incomplete"]
    first, second, third = content["findings"]
    assert first["mask"] == "mask.png" and first["present"] is True and first["codes"]["type"]["meaning"] == "thing"
    assert first["boxes"] == [{"first": [1, 5, 10], "last": [2, 14, 19]}]
    assert first["measurements"] == [{"name": "area", "value": 100.0, "unit": "{pixels}"}]
    assert second["target"] is None and second["reason"] == "no such target" and second["mask"] is None
    assert third["present"] is None
