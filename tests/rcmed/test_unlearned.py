"""In an image of a kind that the weights never saw nothing is looked for, whatever is asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rcmed import Assistant
from rcmed.findings import FindingStatus
from rcmed.hints import Hint
from rcmed.image import Grid, Image
from rcmed.modality import Modality

REASON = "Modality (0008,0060) is OPT: sections through the retina"


@pytest.fixture(scope="module")
def assistant() -> Assistant:
    return Assistant.from_pretrained("small", "cpu")


@pytest.fixture(scope="module")
def section() -> Image:
    pixels = np.random.default_rng(3).integers(0, 255, (1, 48, 64), dtype=np.uint8)
    return Image(pixels, Grid.without_geometry(48, 64), Modality.FUNDUS, unlearned=REASON)


def test_what_is_asked_is_not_looked_for_with_the_reason(assistant: Assistant, section: Image) -> None:
    findings = assistant.find(section, "optic disc; retinal vessel").findings
    assert [finding.prompt for finding in findings] == ["optic disc", "retinal vessel"]
    for finding in findings:
        assert finding.status is FindingStatus.UNRESOLVED and finding.presence is None and finding.mask is None
        assert finding.reason is not None and REASON in finding.reason and "not looked for" in finding.reason
    learned = assistant.find(replace(section, unlearned=None), "optic disc").findings
    assert learned[0].status is not FindingStatus.UNRESOLVED


def test_everything_asked_for_is_nothing(assistant: Assistant, section: Image) -> None:
    found = assistant.find(section)
    assert found.findings == () and REASON in found.answer and "fundus" not in found.answer


def test_who_points_at_something_is_answered(assistant: Assistant, section: Image) -> None:
    if not assistant.model.config.takes_hints:
        pytest.skip("the weights take no hints")
    (finding,) = assistant.find(section, "optic disc", {0: Hint(inside=((20, 20),))}).findings
    assert finding.target is not None
