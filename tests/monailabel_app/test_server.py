"""Faults of MONAI Label 0.8.5's server; each test says what stock does, and fails there."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

Make = Callable[..., TestClient]
LIVER = {"params": json.dumps({"prompt": "liver"})}


def test_info_is_as_both_viewers_need_it(client: TestClient) -> None:
    """Slicer refuses a `config` key, OHIF calls `.push` on the labels and reads each model's."""
    info = client.get("/info/").json()
    assert "config" not in info
    assert isinstance(info["labels"], list) and info["labels"][0] == "prompt 1"
    kinds = {name: (model["type"], model["dimension"]) for name, model in info["models"].items()}
    assert kinds == {
        "rcmed": ("segmentation", 3),
        "rcmed_edit": ("deepgrow", 3),
        "rcmed_2d": ("segmentation", 2),
        "rcmed_vista": ("vista3d", 3),
    }
    for model in info["models"].values():
        assert model["labels"]["prompt 1"] == 1 and model["labels"]["liver"] > 8
        assert model["config"]["prompt"] == ""
    assert info["datastore"]["total"] == 2


@pytest.mark.parametrize("key", ["image", "model", "image_path", "label_tag", "save_label", "session_id"])
def test_params_do_not_override_what_is_read_or_written(client: TestClient, stub: Any, key: str) -> None:
    """Stock merges them into the request: a task ran on /etc/passwd."""
    params = json.dumps({"prompt": "liver", key: "/etc/passwd"})
    reply = client.post("/infer/rcmed?image=ct--body", data={"params": params})
    assert reply.status_code == 400
    assert key in reply.json()["detail"] and stub.asked == []


@pytest.mark.parametrize("image", ["/etc/passwd", "../studies/ct--body", "..", "a/b", "a\\b", ".hidden", "%00"])
def test_an_image_is_never_a_path(client: TestClient, stub: Any, image: str, tmp_path: Path) -> None:
    """Stock takes any path that exists for an image."""
    reply = client.post(f"/infer/rcmed?image={image}", data=LIVER)
    assert reply.status_code in (400, 404) and len(reply.json()["detail"]) < 200
    for path in ("/datastore/image", "/datastore/image/info"):
        assert client.get(path, params={"image": image}).status_code in (400, 404)
    assert stub.asked == []


def test_a_file_beside_the_server_is_no_image(
    client: TestClient, tmp_path: Path, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stock takes an id for a path of the working folder, where there is one."""
    monkeypatch.chdir(studies)
    reply = client.post("/infer/rcmed?image=ct--body.nii.gz", data=LIVER)
    assert reply.status_code == 404 and "not in the store" in reply.json()["detail"]


@pytest.mark.parametrize("tag", ["../../evil", "..", "a/b", "/tmp/evil", ".hidden", "a\\b"])
@pytest.mark.slow
def test_a_tag_is_never_a_path(client: TestClient, studies: Path, tag: str) -> None:
    """Stock writes `tag=../../evil` outside the store."""
    before = sorted(path for path in studies.parent.rglob("*") if "state" not in path.parts)
    label = {"label": ("l.nii.gz", (studies / "ct--body.nii.gz").read_bytes())}
    reply = client.put("/datastore/label", params={"image": "ct--body", "tag": tag}, files=label)
    assert reply.status_code == 400 and "tag" in reply.json()["detail"]
    assert client.get("/datastore/label", params={"label": "ct--body", "tag": tag}).status_code == 400
    assert client.delete("/datastore/label", params={"id": "ct--body", "tag": tag}).status_code == 400
    batch = client.post("/batch/infer/rcmed?run_sync=true", json={"prompt": "liver", "label_tag": tag})
    assert all("error" in result for result in batch.json().values())
    assert sorted(path for path in studies.parent.rglob("*") if "state" not in path.parts) == before


@pytest.mark.parametrize("image", ["../evil", "..", "/tmp/evil", "a/b"])
def test_an_upload_stays_in_the_store(client: TestClient, studies: Path, image: str) -> None:
    """Stock copies an upload to any place that the id leads to."""
    file = {"file": ("ct--x.nii.gz", (studies / "ct--body.nii.gz").read_bytes())}
    assert client.put("/datastore/image", params={"image": image}, files=file).status_code == 400
    assert not (studies.parent / "evil.nii.gz").exists()


def test_an_uploads_file_name_is_no_path(client: TestClient, studies: Path) -> None:
    file = {"file": ("../../ct--new.scan.nii.gz", (studies / "ct--body.nii.gz").read_bytes())}
    assert client.put("/datastore/", files=file).json() == {"image": "ct--new.scan"}
    assert (studies / "ct--new.scan.nii.gz").exists()
    again = client.put("/datastore/", files={"file": ("ct--new.scan.nii.gz", b"other")})
    assert again.status_code == 422 and "there already" in again.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status", "word"),
    [
        ("POST", "/infer/other?image=ct--body", 404, "rcmed_vista"),
        ("POST", "/infer/rcmed?image=nothing", 404, "not in the store"),
        ("POST", "/infer/rcmed", 400, "name an image"),
        ("POST", "/infer/rcmed?session_id=nothing", 404, "session"),
        ("POST", "/infer/rcmed?image=ct--body&output=dicom_seg", 400, "dicom_seg"),
        ("GET", "/datastore/label?label=ct--body&tag=final", 404, "final"),
        ("DELETE", "/datastore/label?id=ct--body&tag=final", 404, "final"),
        ("DELETE", "/datastore/image?id=nothing", 404, "not in the store"),
        ("PUT", "/datastore/label?image=ct--body", 422, "label"),
        ("GET", "/datastore/dataset", 404, "no image"),
        ("POST", "/activelearning/nothing", 404, "random"),
        ("POST", "/train/nothing", 404, "trainer"),
        ("GET", "/session/..%2f..", 404, ""),
        ("GET", "/proxy/dicom/qido/studies", 404, "folder"),
        ("GET", "/batch/infer", 404, "batch"),
    ],
)
def test_a_fault_of_the_caller_is_told_in_a_line(
    client: TestClient, method: str, path: str, status: int, word: str
) -> None:
    """Stock answers most of them with a bare 500, `output=image` without a file among them."""
    reply = client.request(method, path)
    assert reply.status_code == status, reply.text
    detail = reply.json()["detail"]
    assert isinstance(detail, str) and word.lower() in detail.lower() and "\n" not in detail


def test_params_that_are_no_json_are_told(client: TestClient) -> None:
    for params in ("{", "[]", "7"):
        reply = client.post("/infer/rcmed?image=ct--body", data={"params": params})
        assert reply.status_code == 422 and "params" in reply.json()["detail"]


def test_a_fault_of_ours_tells_no_paths(make_client: Make, make_stub: Any) -> None:
    def fails(image: Any) -> Any:
        raise KeyError("/home/somebody/secret")

    reply = make_client(make_stub(liver=fails)).post("/infer/rcmed?image=ct--body", data=LIVER)
    assert reply.status_code == 500
    assert "KeyError" in reply.json()["detail"] and "secret" not in reply.text


def test_a_damaged_image_is_told(client: TestClient, studies: Path) -> None:
    (studies / "ct--bad.nii.gz").write_bytes(b"nothing")
    client.app.state.monailabel.datastore().refresh()  # type: ignore[attr-defined]
    reply = client.post("/infer/rcmed?image=ct--bad", data=LIVER)
    assert reply.status_code == 422 and "ct--bad.nii.gz" in reply.json()["detail"]


def test_an_uploaded_image_is_answered_and_not_stored(client: TestClient, studies: Path) -> None:
    """Stock: IndexError on a DICOMweb store, the modality's prefix lost with the name."""
    file = {"file": ("/home/user/ct--up.nii.gz", (studies / "ct--body.nii.gz").read_bytes())}
    reply = client.post("/infer/rcmed?output=json", data=LIVER, files=file)
    assert reply.json()["label_names"] == {"liver": 1}
    assert client.get("/info/").json()["datastore"]["total"] == 2


def test_a_larger_upload_is_refused(make_client: Make) -> None:
    """Stock takes uploads of any size."""
    client = make_client(upload_megabytes=1)
    content = b"x" * (2**20 + 1)
    reply = client.put("/session/", files={"files": ("ct--x.nii.gz", content)})
    assert reply.status_code == 413 and "upload_megabytes" in reply.json()["detail"]

    def pieces() -> Any:
        # Without an announced length.
        yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="x"\r\n\r\n'
        yield content
        yield b"\r\n--b--\r\n"

    reply = client.put("/session/", content=pieces(), headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert reply.status_code == 413
    assert client.get("/info/").status_code == 200


def test_origins(make_client: Make) -> None:
    """Stock lets pages of every origin in, with credentials."""
    client = make_client(cors_origins=("https://viewer.hospital.example",))
    for origin, is_allowed in (
        ("http://127.0.0.1:3000", True),
        ("http://localhost:8000", True),
        ("https://viewer.hospital.example", True),
        ("https://evil.example", False),
        ("http://127.0.0.1.evil.example", False),
        ("null", False),
    ):
        headers = client.get("/info/", headers={"Origin": origin}).headers
        assert (headers.get("access-control-allow-origin") == origin) is is_allowed
        assert headers.get("access-control-allow-credentials") is None
        reply = client.post("/infer/rcmed?image=ct--body&output=json", data=LIVER, headers={"Origin": origin})
        assert (reply.status_code == 200) is is_allowed


def test_names_of_the_server(make_client: Make) -> None:
    """A page whose name is made to point to loopback is another site to the browser, not to stock."""
    client = make_client(allowed_hosts=("annotate.hospital.example",))
    assert client.get("/info/", headers={"Host": "evil.example:8000"}).status_code == 400
    assert client.get("/info/", headers={"Host": "annotate.hospital.example"}).status_code == 200
    assert client.get("/info/", headers={"Host": "[::1]:8000"}).status_code == 200


def test_ohif_is_served_with_its_nested_assets(client: TestClient) -> None:
    """Stock joins paths with ':' and gives index.html for every nested file."""
    from monailabel_app.server.routes.viewer import ohif_folder

    nested = [path for path in ohif_folder().rglob("*") if path.is_file() and path.parent != ohif_folder()]
    assert nested
    for path in nested[:3]:
        assert client.get(f"/ohif/{path.relative_to(ohif_folder())}").content == path.read_bytes()
    wasm = next(ohif_folder().glob("*.wasm"))
    assert client.get(f"/ohif/{wasm.name}").headers["content-type"] == "application/wasm"
    index = (ohif_folder() / "index.html").read_bytes()
    assert client.get("/ohif/").content == index
    assert client.get("/ohif/monai-label?StudyInstanceUIDs=1.2").content == index
    assert client.get("/ohif/assets/nothing.js").status_code == 404
    assert client.get("/ohif/..%2f..%2f__init__.py").content != (ohif_folder() / "../../__init__.py").read_bytes()
    assert client.get("/", follow_redirects=False).headers["location"] == "/ohif/"


def test_a_full_queue_is_429(make_client: Make, make_stub: Any) -> None:
    """Stock has no limit."""
    started, go = threading.Event(), threading.Event()

    def waits(image: Any) -> Any:
        started.set()
        assert go.wait(60)
        import numpy as np

        return np.ones(image.grid.shape, bool)

    client = make_client(make_stub(liver=waits), waiting_infers=1)
    with client:
        replies: list[int] = []

        def ask() -> None:
            replies.append(client.post("/infer/rcmed?image=ct--body", data=LIVER).status_code)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        threads[0].start()
        assert started.wait(60)
        threads[1].start()
        queue = client.app.state.infers  # type: ignore[attr-defined]
        until = time.monotonic() + 60
        while queue._inside < 2 and time.monotonic() < until:
            time.sleep(0.01)
        refused = client.post("/infer/rcmed?image=ct--body", data=LIVER)
        assert refused.status_code == 429 and "2 requests" in refused.json()["detail"]
        assert client.get("/info/").status_code == 200
        go.set()
        for thread in threads:
            thread.join(60)
        assert replies == [200, 200]
        assert client.post("/infer/rcmed?image=ct--body", data=LIVER).status_code == 200


def test_batch_runs_without_a_gpu_and_its_results_are_labels(
    client: TestClient, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stock divides by the number of GPUs, and one bad image ends the run."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    (studies / "ct--bad.nii.gz").write_bytes(b"nothing")
    client.app.state.monailabel.datastore().refresh()  # type: ignore[attr-defined]
    stock_default = {"device": "cuda", "multi_gpu": True, "gpus": "all", "max_workers": 1, "max_batch_size": 0}
    started = client.post("/batch/infer/rcmed", json={**stock_default, "prompt": "liver"})
    assert started.status_code == 200 and started.json()["status"] == "RUNNING"
    client.app.state.batches.wait(60)  # type: ignore[attr-defined]
    task = client.get("/batch/infer").json()
    assert task["status"] == "DONE" and len(task["details"]) == 3
    assert "error" in task["result"]["ct--bad"] and task["result"]["ct--body"]["label"] == "ct--body"
    info = client.get("/datastore/label/info?label=ct--body&tag=original").json()
    assert info["label_info"] == [{"name": "liver", "idx": 1}] and info["model"] == "rcmed"
    label = client.get("/datastore/label?label=ct--body&tag=original")
    assert label.content.startswith(b"NRRD")
    assert client.get("/info/").json()["datastore"]["label_tags"] == {"original": 2}


def test_the_next_sample_is_given(client: TestClient) -> None:
    sample = client.post("/activelearning/random", json={"client_id": "somebody"}).json()
    assert sample["id"] in ("ct--body", "fundus--eye") and os.path.exists(sample["path"])
    assert sample["strategy"]["random"]["client_id"] == "somebody"


def test_a_label_is_submitted_and_comes_back(client: TestClient, studies: Path) -> None:
    label = client.post("/infer/rcmed?image=ct--body&output=image", data=LIVER).content
    params = {"label_info": [{"name": "liver", "idx": 1}]}
    reply = client.put(
        "/datastore/label?image=ct--body", data={"params": json.dumps(params)}, files={"label": ("x.nrrd", label)}
    )
    assert reply.json() == {"image": "ct--body", "label": "ct--body"}
    assert client.get("/datastore/label?label=ct--body&tag=final").content == label
    assert client.head("/datastore/label?image=ct--body&tag=final").status_code == 200
    (pair,) = client.get("/datastore/?output=train").json()
    assert pair["image"].endswith("ct--body.nii.gz") and pair["label"].endswith("final/ct--body.nrrd")
    assert client.delete("/datastore/label?id=ct--body&tag=final").status_code == 200
    assert client.head("/datastore/label?image=ct--body&tag=final").status_code == 404
    assert client.get("/info/").json()["datastore"]["completed"] == 0


def test_a_label_of_another_size_is_refused(client: TestClient, studies: Path) -> None:
    label = client.post("/infer/rcmed?image=ct--body&output=image", data=LIVER).content
    reply = client.put("/datastore/label?image=fundus--eye", files={"label": ("x.nrrd", label)})
    assert reply.status_code == 422 and "voxels" in reply.json()["detail"]
