"""The stock OHIF of MONAI Label's package: a prompt is typed into its Options, and what is found lies in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from rcmed import Assistant
from rcmed.image import Grid, Image
from rcmed.readers import read_images

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

# A head may show them; neither is drawn rightly, and the answers say that they are uncertain: what matters here is that
# they lie where they were drawn.
PROMPTS = ("vertebra", "brain tumor")

# Of the viewer's label map: its geometry (mm, patient coordinates, LPS) and the places of what is not background.
LABEL_MAP = """() => {
  const shown = cornerstone.cache.getVolumes().filter(volume => volume.voxelManager.getCompleteScalarDataArray()
    .constructor === Uint8Array);
  const volume = shown[shown.length - 1];
  const values = volume.voxelManager.getCompleteScalarDataArray();
  const places = [];
  for (let index = 0; index < values.length; index++) if (values[index]) places.push(index);
  return {dimensions: volume.dimensions, origin: volume.origin, spacing: volume.spacing,
          direction: Array.from(volume.direction), places, kinds: [...new Set(values)].length - 1};
}"""


@pytest.fixture(scope="module")
def brain(workstation: Any) -> Image:
    (image,) = read_images(workstation.studies / "brain")
    return image


@pytest.fixture(scope="module")
def expected(brain: Image, eager_weights: Path) -> dict[str, NDArray[np.bool_]]:
    """What `rcmed find` draws, by prompt: each asked alone, as in the viewer. Asked together they round otherwise."""
    assistant = Assistant.from_pretrained(eager_weights, "cpu")
    findings = [finding for prompt in PROMPTS for finding in assistant.find(brain, prompt).findings]
    masks = {finding.prompt: finding.mask for finding in findings if finding.mask is not None}
    assert set(masks) == set(PROMPTS), "the demo's brain is asked for what the weights draw in it"
    return masks


def mask_on(grid: Grid, label_map: dict[str, Any]) -> NDArray[np.bool_]:
    """The viewer's label map on a grid, bool (slice, row, column), by way of patient coordinates."""
    columns, rows, _ = label_map["dimensions"]
    places = np.array(label_map["places"])
    indices = np.stack([places % columns, places // columns % rows, places // (columns * rows)])
    axes = np.array(label_map["direction"]).reshape(3, 3).T * np.array(label_map["spacing"])
    points = axes @ indices + np.array(label_map["origin"])[:, None]
    voxels = np.linalg.inv(grid.affine) @ np.vstack([points, np.ones(points.shape[1])])
    nearest = np.round(voxels[:3]).astype(int)
    assert np.abs(voxels[:3] - nearest).max() < 1e-3, "the viewer's voxels are the series' own"
    mask = np.zeros(grid.shape, dtype=bool)
    mask[tuple(nearest)] = True
    return mask


def ask(page: Any, prompt: str, take_picture: Callable[[str], Path], name: str) -> None:
    page.get_by_text("Options / Configurations").first.click()
    cell = page.locator("#inferrcmedprompt")
    cell.fill(prompt)
    cell.press("Tab")
    take_picture(f"{name}-options")
    page.get_by_text("Confirm", exact=True).last.click()
    with page.expect_response(lambda r: "/infer/" in r.url and r.request.method == "POST") as answered:
        page.locator('button[title="Run Segmentation"]').click()
    assert answered.value.status == 200


def test_what_is_typed_is_found_and_lies_in_its_place(
    page: Any,
    workstation: Any,
    brain: Image,
    expected: dict[str, NDArray[np.bool_]],
    take_picture: Callable[[str], Path],
) -> None:
    uid = pydicom.dcmread(next((workstation.studies / "brain").iterdir()), stop_before_pixels=True).StudyInstanceUID
    page.goto(workstation.ohif)
    page.get_by_text("DEMO-BRAIN").first.wait_for()
    take_picture("ohif-studies")
    page.goto(f"{workstation.ohif}monai-label?StudyInstanceUIDs={uid}")
    server = page.locator("#monailabelServerURL")
    server.fill(workstation.server)
    server.press("Tab")
    page.locator("button.actionButton").first.click()
    page.get_by_text("Connected to MONAI Label - Successful").wait_for()
    page.get_by_text("Confirm and Hide").click()
    seen = None
    for number, (prompt, wanted) in enumerate(expected.items(), start=1):
        ask(page, prompt, take_picture, f"ohif-{number}")
        page.wait_for_function(
            f"() => {{ const map = ({LABEL_MAP})(); return map.places.length === {int(wanted.sum())}; }}"
        )
        label_map = page.evaluate(LABEL_MAP)
        assert label_map["kinds"] == 1
        assert np.array_equal(mask_on(brain.grid, label_map), wanted)
        picture = take_picture(f"ohif-{number}-found").read_bytes()
        assert picture != seen, "the viewer shows something else now"
        seen = picture
