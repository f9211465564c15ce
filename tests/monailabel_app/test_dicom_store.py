"""The server over a folder of DICOM: a viewer that sees no folder of ours opens a series, asks, and submits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from fastapi.testclient import TestClient
from pydicom import dcmread

from dicom_bridge.demo.instances import abdominal_slice

Make = Callable[..., TestClient]
LABEL = {"params": json.dumps({"label_info": [{"name": "liver", "idx": 1}]})}


@pytest.fixture
def served(make_client: Make, make_stub: Any, blocks: Any, tmp_path: Path) -> tuple[TestClient, Path, str]:
    """A client, the folder of the studies, and the id of its one image."""
    folder = tmp_path / "dicom"
    folder.mkdir()
    (instance,) = abdominal_slice()
    instance.save_as(folder / "slice.dcm", enforce_file_format=True)
    client = make_client(make_stub(liver=blocks((0, 40, 60), (1, 90, 130))), studies=str(folder))
    return client, folder, str(instance.SeriesInstanceUID)


def test_a_series_is_downloaded_on_its_own_grid(served: tuple[TestClient, Path, str], tmp_path: Path) -> None:
    """Stock sends nothing that a viewer on another machine can open without DICOMweb of its own."""
    client, folder, image = served
    reply = client.get(f"/datastore/image?image={image}")
    assert reply.status_code == 200 and f'"{image}.nrrd"' in reply.headers["content-disposition"]
    (tmp_path / "got.nrrd").write_bytes(reply.content)
    got, source = sitk.ReadImage(str(tmp_path / "got.nrrd")), sitk.ReadImage(str(folder / "slice.dcm"))
    assert got.GetSize() == source.GetSize()
    assert np.array_equal(sitk.GetArrayFromImage(got), sitk.GetArrayFromImage(source))
    corner = (got.GetSize()[0] - 1, 0, 0)
    np.testing.assert_allclose(
        got.TransformIndexToPhysicalPoint(corner), source.TransformIndexToPhysicalPoint(corner), atol=1e-3
    )
    assert client.head(f"/datastore/image?image={image}").status_code == 200
    assert client.head(f"/datastore/image?image={image}&check_sum=SHA256:00").status_code == 404


def test_a_label_says_whether_the_model_helped(served: tuple[TestClient, Path, str]) -> None:
    client, folder, image = served

    def submit(label: bytes) -> str:
        reply = client.put(f"/datastore/label?image={image}&tag=final", data=LABEL, files={"label": ("l.nrrd", label)})
        assert reply.status_code == 200, reply.text
        written = [dcmread(path, stop_before_pixels=True) for path in folder.rglob("*.dcm")]
        (newest,) = (each for each in written if str(each.SOPInstanceUID) == reply.json()["label"])
        return str(newest.SegmentSequence[0].SegmentAlgorithmType)

    drawn = sitk.GetImageFromArray(np.zeros((1, 300, 484), dtype=np.uint8))
    drawn.CopyInformation(sitk.ReadImage(str(folder / "slice.dcm")))
    drawn[100, 50, 0] = 1
    path = folder.parent / "drawn.nrrd"
    sitk.WriteImage(drawn, str(path))
    assert submit(path.read_bytes()) == "MANUAL"
    asked = client.post(f"/infer/rcmed?image={image}&output=image", data={"params": json.dumps({"prompt": "liver"})})
    assert asked.status_code == 200
    assert submit(asked.content) == "SEMIAUTOMATIC"
