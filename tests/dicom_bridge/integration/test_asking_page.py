"""The page of `rcmed ask` in Chromium: a drop, words, a click and a box; masks are those of `Assistant.find`."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image as PillowImage

from dicom_bridge.asking.application import build_application
from dicom_bridge.asking.asking import Asking
from dicom_bridge.asking.uploads import Uploads
from dicom_bridge.web.server import WebServer
from pointing import make_pointing_assistant
from rcmed import Assistant
from rcmed.hints import Hint
from rcmed.inference.viewing import ReaderView
from rcmed.readers import read_images

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

PATIENCE = 240.0
SIZES = ((1280, 900), (390, 844))
DROP = """
([name, content]) => {
  const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true}));
}
"""


@pytest.fixture
def page(tool: Callable[[str, str], str]) -> Iterator[Any]:
    """A page of a headless Chromium that fails the test on errors of scripts, of the console and of the policy."""
    from playwright.sync_api import sync_playwright

    wrong: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=tool("chromium", "chromium"), args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": SIZES[0][0], "height": SIZES[0][1]}, accept_downloads=True)
        opened.set_default_timeout(PATIENCE * 1000)
        opened.on("pageerror", lambda error: wrong.append(str(error)))
        opened.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        yield opened
        browser.close()
    assert wrong == []


@contextmanager
def served(assistant: Any) -> Iterator[str]:
    uploads, asking = Uploads(), Asking(lambda: assistant)
    server = WebServer(build_application(uploads, asking), "127.0.0.1", 0)
    server.start()
    try:
        yield f"http://127.0.0.1:{server.port}/"
    finally:
        asking.close()
        server.stop()
        uploads.close()


def take_pictures(page: Any, name: str) -> None:
    """Look at the page at every size: nothing may need scrolling sideways. RCMED_PICTURES names a folder for them."""
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        wide = page.evaluate("() => document.documentElement.scrollWidth")
        assert wide <= width, f"{name}: {wide} pixels of {width}"
        folder = os.environ.get("RCMED_PICTURES")
        if folder:
            page.screenshot(path=str(Path(folder) / f"{name}-{width}.png"), full_page=True)
    page.set_viewport_size({"width": SIZES[0][0], "height": SIZES[0][1]})


def downloaded(page: Any, folder: Path) -> Path:
    with page.expect_download() as waited:
        page.get_by_role("link", name="Mask of").first.click()
    path = folder / waited.value.suggested_filename
    waited.value.save_as(path)
    return path


# Pixels of the canvas that are coloured.
PAINTED = """(() => {
  const canvas = document.getElementById("canvas");
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
  copy.drawImage(canvas, 0, 0);
  const {data} = copy.getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let i = 0; i < data.length; i += 4)
    if (Math.max(data[i], data[i + 1], data[i + 2]) - Math.min(data[i], data[i + 1], data[i + 2]) > 40) count++;
  return count;
})()"""


def test_a_dropped_picture_is_answered_in_words(page: Any, weak_weights: Path, shapes: Any, tmp_path: Path) -> None:
    assistant = Assistant.from_pretrained(weak_weights, "cpu", cache_bytes=2**26)
    content = io.BytesIO()
    PillowImage.fromarray(shapes.draw(100)[0]).save(content, "PNG")
    (tmp_path / "ct--made.png").write_bytes(content.getvalue())
    (image,) = read_images(tmp_path / "ct--made.png")
    expected = assistant.find(image, "spleen; optic disc")
    with served(assistant) as address:
        page.goto(address)
        page.wait_for_function("() => document.getElementById('model').textContent.startsWith('model: ')")
        assert page.get_by_label("Click on it").is_disabled(), "these weights take no clicks"
        page.evaluate(DROP, ["notes.txt", base64.b64encode(b"nothing to see").decode()])
        page.get_by_text("notes.txt: is of no format that is known").wait_for()
        page.evaluate(DROP, ["ct--made.png", base64.b64encode(content.getvalue()).decode()])
        page.locator("#looking").wait_for()
        page.get_by_label("What to find").fill("sp")
        offered = page.wait_for_function(
            "() => document.getElementById('names').options.length && document.getElementById('names').options[0].value"
            " || (document.getElementById('words').dispatchEvent(new Event('input')), false)"
        )
        assert offered.json_value() == "spleen"
        page.get_by_label("What to find").fill("spleen; optic disc")
        page.keyboard.press("Enter")
        page.locator("#found").wait_for()
        page.wait_for_function(f"() => {PAINTED} > 0")
        text = page.locator("#findings").inner_text()
        assert expected.findings[0].description in text and "not looked for: “optic disc”" in text
        assert page.locator("#status").inner_text().startswith(expected.answer)
        path = downloaded(page, tmp_path)
        assert path.name == "mask-1-spleen.png"
        mask = expected.findings[0].mask
        assert mask is not None and np.array_equal(np.asarray(PillowImage.open(path)) > 0, mask[0])
        take_pictures(page, "ask-picture")
        page.get_by_label("Show spleen").uncheck()
        page.wait_for_function(f"() => {PAINTED} === 0")


def test_a_click_and_a_box_steer_the_mask_of_a_volume(page: Any, tmp_path: Path) -> None:
    """Stored otherwise than it is shown; the weights take hints and know nothing."""
    assistant = make_pointing_assistant()
    voxels = np.random.default_rng(1).integers(-200, 300, (40, 30, 5)).astype(np.int16)
    affine = np.array([[0, 2.0, 0, 0], [-1.0, 0, 0, 0], [0, 0, 3.0, 0], [0, 0, 0, 1]])
    path = tmp_path / "ct--odd.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)  # type: ignore[attr-defined]
    (image,) = read_images(path)
    view = ReaderView.of(image.grid)

    def asked_with(hints: dict[str, Any]) -> Any:
        ((index, hint),) = hints.items()
        box = tuple(hint["box"]) if hint.get("box") else None
        shown = Hint(tuple(map(tuple, hint["inside"])), tuple(map(tuple, hint["outside"])), box)
        stored = view.inverse.hint_to_view(shown, *view.to_view(image.pixels).shape[1:])
        return assistant.find(image, "liver", {int(index): stored}).findings[0].mask

    def drawn_with(hints: dict[str, Any]) -> Any:
        """The mask for these hints, which the page has as well; None where both have none."""
        page.locator("#work").wait_for(state="hidden")
        mask = asked_with(hints)
        if mask is None:
            assert page.get_by_role("link", name="Mask of").count() == 0
        else:
            read = np.asarray(nibabel.load(downloaded(page, tmp_path)).dataobj)  # type: ignore[attr-defined]
            assert np.array_equal(read.transpose(image.file_axes) > 0, mask)
        return mask

    with served(assistant) as address:
        page.goto(address)
        page.get_by_label("What to find").fill("liver")
        page.evaluate(DROP, [path.name, base64.b64encode(path.read_bytes()).decode()])
        page.locator("#looking").wait_for()
        page.wait_for_function("() => !document.querySelector('input[value=inside]').disabled")
        page.locator("#found").wait_for()
        canvas = page.locator("#canvas")
        canvas.focus()
        page.keyboard.press("Home")
        page.keyboard.press("PageDown")
        page.keyboard.press("PageDown")
        assert "slice 3 of 5" in (canvas.get_attribute("aria-label") or "")

        rows, columns = view.to_view(image.pixels).shape[1:]
        high, wide = image.grid.spacing[1:]

        def at(row: float, column: float) -> tuple[float, float]:
            """Where a pixel's centre is in the window."""
            canvas.scroll_into_view_if_needed()
            bounds = canvas.bounding_box()
            scale = min(bounds["width"] / (columns * wide), bounds["height"] / (rows * high))
            x = bounds["width"] / 2 + (column + 0.5 - columns / 2) * wide * scale
            y = bounds["height"] / 2 + (row + 0.5 - rows / 2) * high * scale
            return bounds["x"] + x, bounds["y"] + y

        page.get_by_label("Box").check()
        with page.expect_request("**/find") as request:
            page.mouse.move(*at(2, 3))
            page.mouse.down()
            page.mouse.move(*at(20, 17), steps=4)
            page.mouse.up()
        hints = request.value.post_data_json["hints"]
        assert hints == {"2": {"inside": [], "outside": [], "box": [2, 3, 20, 17]}}
        drawn_with(hints)

        page.get_by_label("Click on it").check()
        with page.expect_request("**/find") as request:
            page.mouse.click(*at(3, 4))
        hints = request.value.post_data_json["hints"]
        assert np.allclose(hints["2"]["inside"], [[3, 4]], atol=0.2) and hints["2"]["box"] == [2, 3, 20, 17]
        mask = drawn_with(hints)
        assert mask is not None and mask[2].any()
        take_pictures(page, "ask-volume")

        # By the keyboard alone.
        page.get_by_label("Click beside it").check()
        canvas.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        with page.expect_request("**/find") as request:
            page.keyboard.press("Enter")
        hints = request.value.post_data_json["hints"]
        assert hints["2"]["outside"] == [[rows // 2 + 1, columns // 2]] and len(hints["2"]["inside"]) == 1
        drawn_with(hints)

        page.get_by_label("coronal").check()
        page.wait_for_function("() => document.getElementById('canvas').ariaLabel.includes('coronal slice')")
        assert page.get_by_label("Click on it").is_disabled(), "the weights see the slices of the first plane"
