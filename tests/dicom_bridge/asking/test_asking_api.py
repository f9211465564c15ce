"""The interface of the page of `rcmed ask`: what is dropped is read, shown and answered as `rcmed find` answers it."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import nibabel
import numpy as np
import pytest
import typer
from fastapi.testclient import TestClient
from PIL import Image as PillowImage
from typer.testing import CliRunner

from dicom_bridge.asking.application import build_application
from dicom_bridge.asking.asking import Asking
from dicom_bridge.asking.opening import open_browser
from dicom_bridge.asking.uploads import AskLimits, Uploads, open_paths
from dicom_bridge.commands.ask import ask
from pointing import make_pointing_assistant
from rcmed import Assistant
from rcmed.errors import CheckpointError
from rcmed.findings import Findings
from rcmed.hints import Hint
from rcmed.image import Image
from rcmed.inference.viewing import ReaderView
from rcmed.readers import read_images

ADDRESS = "http://127.0.0.1"


@pytest.fixture(scope="module")
def assistant(weak_weights: Path) -> Assistant:
    return Assistant.from_pretrained(weak_weights, "cpu", cache_bytes=2**26)


@pytest.fixture(scope="module")
def pointing_assistant() -> Assistant:
    return make_pointing_assistant()


@pytest.fixture
def uploads() -> Iterator[Uploads]:
    kept = Uploads(AskLimits(upload_bytes=2**20, upload_files=50, kept_uploads=3, kept_bytes=2**22))
    yield kept
    kept.close()


@pytest.fixture
def serve(uploads: Uploads) -> Iterator[Callable[[Any], TestClient]]:
    """A client of the page's application with an assistant."""
    begun = []

    def start(answers: Any) -> TestClient:
        begun.append(Asking(lambda: answers))
        return TestClient(build_application(uploads, begun[-1]), base_url=ADDRESS)

    yield start
    for asking in begun:
        asking.close()


@pytest.fixture
def client(serve: Callable[[Any], TestClient], assistant: Assistant) -> TestClient:
    return serve(assistant)


def drop(client: TestClient, files: dict[str, bytes], modality: str | None = None) -> dict[str, Any]:
    upload = client.post("/api/uploads").json()["id"]
    for name, content in files.items():
        sent = client.put(f"/api/uploads/{upload}/files/{name}", content=content)
        assert sent.status_code == 201, sent.text
    return dict(client.post(f"/api/uploads/{upload}/read", json={"modality": modality}).json())


def find(client: TestClient, upload: str, image: int = 0, **question: Any) -> dict[str, Any]:
    asked = client.post(f"/api/uploads/{upload}/images/{image}/find", json=question)
    assert asked.status_code == 200, asked.text
    return dict(json.loads(asked.text.splitlines()[-1]))


def png(pixels: Any) -> bytes:
    content = io.BytesIO()
    PillowImage.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def pixels_of(content: bytes) -> np.ndarray:
    return np.asarray(PillowImage.open(io.BytesIO(content)))


def mask_of(
    client: TestClient,
    upload: str,
    answer: dict[str, Any],
    number: int,
    folder: Path,
    axes: tuple[int, int, int] = (2, 1, 0),
) -> np.ndarray:
    """As it is downloaded, bool (slice, row, column); these are the file's axes `axes`."""
    got = client.get(f"/api/uploads/{upload}/images/0/masks/{number}?answer={answer['number']}")
    assert got.status_code == 200, got.text
    name = got.headers["content-disposition"].partition('filename="')[2].rstrip('"')
    path = folder / name
    path.write_bytes(got.content)
    if path.suffix == ".png":
        return pixels_of(got.content)[None] > 0
    return np.asarray(nibabel.load(path).dataobj).transpose(axes) > 0  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_picture_is_answered_as_rcmed_find_answers_it(
    client: TestClient, assistant: Assistant, shapes: Any, tmp_path: Path
) -> None:
    pixels, _ = shapes.draw(100)
    (tmp_path / "ct--made.png").write_bytes(png(pixels))
    dropped = drop(client, {"ct--made.png": png(pixels)})
    assert [image["name"] for image in dropped["images"]] == ["ct--made.png"] and dropped["refused"] == []
    assert dropped["images"][0]["kind"] == "computed tomography"
    assert dropped["images"][0]["planes"] == [
        {"axis": 0, "name": "", "slices": 1, "rows": 64, "columns": 64, "spacing": [1.0, 1.0]}
    ]
    shown = client.get(f"/api/uploads/{dropped['id']}/images/0/slices/0/0.png")
    assert np.array_equal(pixels_of(shown.content), pixels)

    words = "liver; spleen; optic disc; wibble"
    answer = find(client, dropped["id"], words=words)["answer"]
    (image,) = read_images(tmp_path / "ct--made.png")
    expected = assistant.find(image, words)
    assert [told["status"] for told in answer["findings"]] == [each.status for each in expected.findings]
    assert answer["answer"] == expected.answer and answer["input"] == {"files": ["ct--made.png"]}
    for number, finding in enumerate(expected.findings):
        told = answer["findings"][number]
        assert told["presence"] == finding.presence and told["description"] == finding.description
        if finding.mask is None:
            assert not told["is_drawn"]
            got = client.get(f"/api/uploads/{dropped['id']}/images/0/masks/{number}?answer=1")
            assert got.status_code == 404
        else:
            assert np.array_equal(mask_of(client, dropped["id"], answer, number, tmp_path), finding.mask)
            painted = client.get(
                f"/api/uploads/{dropped['id']}/images/0/overlays/0/0.png?answer=1&finding={number}"
            ).content
            assert np.array_equal(pixels_of(painted)[..., 3] > 0, finding.mask[0])
            assert told["sizes"] and told["largest"] == [0]
    said = [told["said"] for told in answer["findings"]]
    assert said[2].startswith("not looked for: `optic disc`") and "it was not looked for" not in said[2]
    assert said[3].startswith("not looked for: ")
    assert any(told["is_drawn"] for told in answer["findings"])


@pytest.mark.slow
def test_the_archive_holds_what_rcmed_find_writes(client: TestClient, shapes: Any) -> None:
    dropped = drop(client, {"ct--made.png": png(shapes.draw(100)[0])})
    answer = find(client, dropped["id"], words="spleen")["answer"]
    got = client.get(f"/api/uploads/{dropped['id']}/images/0/answer.zip?answer={answer['number']}")
    with zipfile.ZipFile(io.BytesIO(got.content)) as archive:
        assert sorted(archive.namelist()) == ["findings.json", "mask-1-spleen.png", "overlay-1-spleen.png"]
        assert json.loads(archive.read("findings.json"))["findings"][0]["mask"] == "mask-1-spleen.png"
    find(client, dropped["id"], words="liver")
    assert client.get(f"/api/uploads/{dropped['id']}/images/0/answer.zip?answer=1").status_code == 404


def test_names_that_the_modality_knows_come_first(client: TestClient, shapes: Any) -> None:
    dropped = drop(client, {"ct--made.png": png(shapes.draw(100)[0])})
    offered = client.get(f"/api/uploads/{dropped['id']}/images/0/names").json()
    known = [each["name"] for each in offered if each["is_known"]]
    assert known == ["liver", "spleen"] and [each["name"] for each in offered][:2] == known
    assert "optic disc" in [each["name"] for each in offered]


@pytest.mark.slow
def test_hints_on_the_slice_as_shown_are_those_of_the_file(
    serve: Callable[[Any], TestClient], pointing_assistant: Assistant, tmp_path: Path
) -> None:
    """A volume that is stored otherwise than it is shown; the click and the box lie where the reader sees them."""
    generator = np.random.default_rng(1)
    voxels = generator.integers(-200, 300, (40, 30, 5)).astype(np.int16)
    affine = np.array([[0, 2.0, 0, 0], [-1.0, 0, 0, 0], [0, 0, 3.0, 0], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / "ct--odd.nii.gz")  # type: ignore[attr-defined]
    (image,) = read_images(tmp_path / "ct--odd.nii.gz")
    view = ReaderView.of(image.grid)
    assert view.columns_reversed and image.file_axes != (2, 1, 0), "the fixture is of no use otherwise"
    client = serve(pointing_assistant)
    dropped = drop(client, {"ct--odd.nii.gz": (tmp_path / "ct--odd.nii.gz").read_bytes()})
    planes = dropped["images"][0]["planes"]
    assert {plane["name"] for plane in planes} == {"axial", "coronal", "sagittal"} and planes[0]["name"] == "axial"
    rows, columns = planes[0]["rows"], planes[0]["columns"]
    assert (rows, columns) == image.grid.shape[1:]
    shown_hint = Hint(inside=((3, 4),), box=(2, 3, 20, 17))
    stored = {2: view.inverse.hint_to_view(shown_hint, rows, columns)}
    expected = pointing_assistant.find(image, "liver", stored).findings[0].mask
    answer = find(client, dropped["id"], words="liver", hints={"2": {"inside": [[3, 4]], "box": [2, 3, 20, 17]}})[
        "answer"
    ]
    assert expected is not None and expected[2].any()
    assert np.array_equal(mask_of(client, dropped["id"], answer, 0, tmp_path, image.file_axes), expected)
    # Each plane shows the same voxels.
    whole = np.zeros(image.grid.shape, dtype=bool)
    for plane in planes:
        for index in range(plane["slices"]):
            url = f"/api/uploads/{dropped['id']}/images/0/overlays/{plane['axis']}/{index}.png?answer=1&finding=0"
            painted = pixels_of(client.get(url).content)[..., 3] > 0
            assert painted.shape == (plane["rows"], plane["columns"])
            if plane["axis"] == 0:
                whole[index] = view.from_view(painted[None])[0]
            else:
                assert painted.sum() == np.moveaxis(expected, plane["axis"], 0)[index].sum()
    assert np.array_equal(whole, expected)


@pytest.mark.parametrize(
    ("hints", "line"),
    [
        ({"7": {"inside": [[1, 1]]}}, "there is no slice 7"),
        ({"0": {"inside": [[1, 99]]}}, "lies outside the slice"),
        ({"0": {}}, "it holds nothing"),
        ({"0": {"inside": [[1, "x"]]}}, "hints"),
    ],
)
def test_hints_that_make_no_sense_get_a_line(
    serve: Callable[[Any], TestClient], pointing_assistant: Assistant, shapes: Any, hints: Any, line: str
) -> None:
    client = serve(pointing_assistant)
    dropped = drop(client, {"ct--made.png": png(shapes.draw(1)[0])})
    asked = client.post(f"/api/uploads/{dropped['id']}/images/0/find", json={"words": "liver", "hints": hints})
    assert asked.status_code == 422 and line in asked.json()["error"] and "\n" not in asked.json()["error"]


def test_weights_that_take_no_hints_say_so(client: TestClient, shapes: Any) -> None:
    assert client.get("/api/model").json()["takes_hints"] is False
    dropped = drop(client, {"ct--made.png": png(shapes.draw(1)[0])})
    question = {"words": "liver", "hints": {"0": {"inside": [[1, 1]]}}}
    asked = client.post(f"/api/uploads/{dropped['id']}/images/0/find", json=question)
    assert asked.status_code == 422 and "no clicks" in asked.json()["error"]


def test_files_that_are_no_images_get_a_line_each(client: TestClient, shapes: Any) -> None:
    good = png(shapes.draw(1)[0])
    dropped = drop(client, {"ct--a.png": good, "ct--b.png": b"no picture", "notes/x.txt": b"hello", "c.png": good})
    assert [image["name"] for image in dropped["images"]] == ["ct--a.png"]
    assert len(dropped["refused"]) == 3 and dropped["needs_modality"]
    assert any(line.startswith("ct--b.png: can't be read") for line in dropped["refused"])
    assert any("x.txt" in line for line in dropped["refused"])
    assert not any("rcmed-ask" in line for line in dropped["refused"]), "where it lies here is nobody's business"
    again = client.post(f"/api/uploads/{dropped['id']}/read", json={"modality": "ct"}).json()
    assert [image["name"] for image in again["images"]] == ["c.png", "ct--a.png"]


@pytest.mark.slow
def test_a_series_becomes_one_image_with_its_objects(
    serve: Callable[[Any], TestClient], threshold_assistant: Any, make_ct_series: Any
) -> None:
    class Knows:
        identity, takes_hints, takes_hints_without_name = threshold_assistant.identity, False, False

        def find(self, image: Image, words: str, hints: Any, progress: Any) -> Findings:
            return replace(threshold_assistant.find(image, [words]))

    client = serve(Knows())
    files = {f"series/{path.name}": path.read_bytes() for path in make_ct_series(4)}
    dropped = drop(client, files)
    (image,) = dropped["images"]
    assert image["is_dicom"] and image["planes"][0]["slices"] == 4 and image["window"] == [50, 400]
    answer = find(client, dropped["id"], words="liver")["answer"]
    archive = client.get(f"/api/uploads/{dropped['id']}/images/0/answer.zip?answer={answer['number']}")
    with zipfile.ZipFile(io.BytesIO(archive.content)) as opened:
        names = opened.namelist()
    assert {"findings.json", "segmentation.dcm", "report.dcm", "document.dcm"} <= set(names)


def test_windows_are_of_the_pixels_unit(client: TestClient, tmp_path: Path) -> None:
    voxels = np.arange(6 * 5 * 2).reshape(6, 5, 2).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1.0, -1, 1, 1])), tmp_path / "v.nii")  # type: ignore[attr-defined]
    dropped = drop(client, {"v.nii": (tmp_path / "v.nii").read_bytes()}, "mr")
    url = f"/api/uploads/{dropped['id']}/images/0/slices/0/1.png"
    shown = pixels_of(client.get(f"{url}?centre=30&width=60").content)
    assert np.array_equal(shown, np.floor(np.clip(voxels[..., 1].T / 60, 0, 1) * 255 + 0.5))
    assert client.get(f"{url}?centre=30&width=0").status_code == 422
    assert client.get(f"/api/uploads/{dropped['id']}/images/0/slices/0/2.png").status_code == 404
    assert client.get(f"/api/uploads/{dropped['id']}/images/0/slices/5/0.png").status_code == 404


@pytest.mark.parametrize("name", ["../x.png", "a/../../x.png", "/x.png", "a//b.png", "%00.png", "x" * 300 + ".png"])
def test_names_that_lead_elsewhere_are_refused(client: TestClient, uploads: Uploads, name: str) -> None:
    upload = client.post("/api/uploads").json()["id"]
    sent = client.put(f"/api/uploads/{upload}/files/" + name.replace("..", "%2e%2e"), content=b"x")
    assert sent.status_code in (404, 422)
    assert [path for path in uploads.get(upload).folder.rglob("*") if path.is_file()] == []


def test_too_much_is_refused_and_leaves_nothing(client: TestClient, uploads: Uploads) -> None:
    upload = client.post("/api/uploads").json()["id"]
    sent = client.put(f"/api/uploads/{upload}/files/large.nii", content=bytes(2**20 + 1))
    assert sent.status_code == 413 and "at most 1 MB" in sent.json()["error"]
    assert uploads.get(upload).nbytes == 0 and list(uploads.get(upload).folder.iterdir()) == []
    for number in range(50):
        assert client.put(f"/api/uploads/{upload}/files/{number}", content=b"x").status_code == 201
    assert client.put(f"/api/uploads/{upload}/files/50", content=b"x").status_code == 413
    assert client.put(f"/api/uploads/{upload}/files/5", content=b"x").status_code in (413, 422)


def test_the_oldest_is_forgotten_with_its_files(client: TestClient, uploads: Uploads) -> None:
    first, *others = (client.post("/api/uploads").json()["id"] for _ in range(3))
    folder = uploads.get(first).folder
    assert folder.exists()
    uploads.get(first)  # used, so that another one is the oldest
    newest = client.post("/api/uploads").json()["id"]
    gone = client.get(f"/api/uploads/{others[0]}")
    assert gone.status_code == 404 and "drop it again" in gone.json()["error"]
    assert client.delete(f"/api/uploads/{first}").status_code == 204 and not folder.exists()
    assert client.get(f"/api/uploads/{newest}").status_code == 200


def test_other_pages_and_other_names_are_refused(client: TestClient) -> None:
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.post("/api/uploads", headers={"host": "evil.example"}).status_code == 400
    assert client.post("/api/uploads", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.post("/api/uploads", headers={"origin": "http://127.0.0.1:1"}).status_code == 403
    assert client.get("/api/model", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert client.post("/api/uploads", headers={"origin": ADDRESS, "sec-fetch-site": "same-origin"}).status_code == 201
    assert client.post("/api/uploads", content=bytes(2**20 + 1)).status_code == 413


def test_the_page_runs_its_own_scripts_only(client: TestClient) -> None:
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
    assert "<script>" not in page.text and " style=" not in page.text and "onclick" not in page.text
    assert "http://" not in page.text and "https://" not in page.text
    assert "RESEARCH, unverified" in page.text
    for name in ("main.js", "viewer.js", "style.css"):
        assert client.get(f"/page/{name}").status_code == 200
    assert client.get("/page/../application.py").status_code == 404


def test_weights_that_do_not_load_are_told(uploads: Uploads) -> None:
    def load() -> Any:
        raise CheckpointError("weights: are of lead")

    asking = Asking(load)
    told = TestClient(build_application(uploads, asking), base_url=ADDRESS).get("/api/model")
    assert told.status_code == 422 and told.json() == {"error": "weights: are of lead"}
    asking.close()


def test_an_asking_that_is_left_ends_in_its_midst(shapes: Any) -> None:
    class Slow:
        """Goes on until it is ended."""

        began, ended = threading.Event(), threading.Event()

        def find(self, image: Any, words: str, hints: Any, progress: Callable[[float], None]) -> Any:
            try:
                self.began.set()
                deadline = time.monotonic() + 60
                while time.monotonic() < deadline:
                    progress(0.5)
            finally:
                self.ended.set()

    slow = Slow()
    asking = Asking(lambda: slow)  # type: ignore[arg-type, return-value]

    async def leave() -> None:
        shares = asking.find(None, "", {})  # type: ignore[arg-type]
        assert await anext(shares) == 0.5
        await shares.aclose()  # type: ignore[attr-defined]

    asyncio.run(leave())
    assert slow.ended.wait(30)
    asking.close()


def test_files_of_the_command_line_are_read_where_they_are(uploads: Uploads, shapes: Any, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("ct--a.png", "folder/ct--a.png"):
        (tmp_path / name).write_bytes(png(shapes.draw(1)[0]))
    upload = open_paths(uploads, [tmp_path / "ct--a.png", tmp_path / "folder", tmp_path / "ct--a.png"])
    assert [image.name for image in upload.images] == ["ct--a.png", "ct--a.png"] and upload.refused == ()
    uploads.forget(upload.identifier)
    assert (tmp_path / "ct--a.png").exists() and (tmp_path / "folder" / "ct--a.png").exists()


def test_without_a_screen_no_browser_takes_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("webbrowser.open", lambda address: True)
    assert not open_browser("http://127.0.0.1:1/", {})
    assert open_browser("http://127.0.0.1:1/", {"DISPLAY": ":0"})


def test_the_command_names_files_that_are_not_there(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(ask)
    ended = CliRunner().invoke(app, [str(tmp_path / "missing.png"), "--no-browser"])
    assert ended.exit_code == 2 and ended.stderr == f"rcmed: {tmp_path / 'missing.png'}: no such file or folder\n"


@pytest.mark.integration
def test_the_command_serves_the_page_until_it_is_ended(shapes: Any, weak_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "ct--made.png").write_bytes(png(shapes.draw(100)[0]))
    starts = "import typer; from dicom_bridge.commands.ask import ask; typer.run(ask)"
    command = [
        sys.executable,
        "-c",
        starts,
        str(tmp_path / "ct--made.png"),
        "--no-browser",
        "--model",
        str(weak_weights),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        address, _, upload = said.split()[-3].partition("#") if "(Ctrl-C" in said else ("", "", "")
        try:
            page = httpx.get(address, timeout=60)
            assert page.status_code == 200 and "RESEARCH, unverified" in page.text
            dropped = httpx.get(f"{address}api/uploads/{upload}", timeout=60).json()
            assert [image["name"] for image in dropped["images"]] == ["ct--made.png"]
            assert httpx.get(f"{address}api/model", timeout=240).json()["takes_hints"] is False
        finally:
            process.terminate()
        assert process.wait(120) == 0
