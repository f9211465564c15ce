"""DCMTK, which shares no code with us, sends studies and takes results."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_bridge.demo.returned import find_problems
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.results.segmentations.reading import read_segments
from dicom_bridge.series.images import read_series
from dicom_bridge.store.states import JobState

pytestmark = pytest.mark.integration
PATIENCE = 120.0
FOLDER = {"type": "folder", "path": "results"}

StartGateway = Callable[[dict[str, Any]], Gateway]
Tool = Callable[[str, str], str]


def run(path: str, *arguments: object) -> None:
    done = subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr


def test_echo(start_gateway: StartGateway, tool: Tool) -> None:
    echoscu = tool("echoscu", "dcmtk")
    gateway = start_gateway(FOLDER)
    run(echoscu, "--call", "RCMED", "127.0.0.1", gateway.ports.dicom)


def test_a_study_sent_by_storescu_comes_back_to_storescp(
    start_gateway: StartGateway, tool: Tool, storescp: Any, make_ct_series: Any
) -> None:
    files = make_ct_series(4)
    sent = [pydicom.dcmread(file) for file in files]
    gateway = start_gateway(storescp.destination)
    run(tool("storescu", "dcmtk"), "--call", "RCMED", "127.0.0.1", gateway.ports.dicom, *files)
    (job,) = gateway.wait_for_study(sent[0].StudyInstanceUID, PATIENCE)
    assert job.state == JobState.DONE
    returned = {dataset.Modality: dataset for dataset in map(pydicom.dcmread, storescp.folder.iterdir())}
    assert len(list(storescp.folder.iterdir())) == 2
    folder = gateway.root / "jobs" / job.job_id
    for modality, name in (("SEG", "segmentation.dcm"), ("SR", "report.dcm")):
        assert returned[modality].SOPInstanceUID == pydicom.dcmread(folder / name).SOPInstanceUID
    assert find_problems(sent, list(returned.values())) == []
    (image,) = read_series(files).images
    (segment,) = read_segments(returned["SEG"], image)
    assert segment.label == "liver"
    assert segment.mask.any() and (segment.mask == (image.pixels > 100)).all()


@pytest.mark.parametrize(
    ("option", "syntax"),
    [("-xr", RLELossless), ("-xt", JPEGLSLossless), ("-xv", JPEG2000Lossless)],
    ids=["RLE", "JPEG-LS", "JPEG 2000"],
)
def test_compressed_instances_stay_as_they_are(
    start_gateway: StartGateway, tool: Tool, make_ct_series: Any, option: str, syntax: str
) -> None:
    files: list[Path] = make_ct_series(3)
    storescu = tool("storescu", "dcmtk")
    (uncompressed,) = read_series(files).images
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(file)
    sent = {dataset.SOPInstanceUID: dataset for dataset in map(pydicom.dcmread, files)}
    first = next(iter(sent.values()))
    gateway = start_gateway(FOLDER)
    run(storescu, option, "--required", "--call", "RCMED", "127.0.0.1", gateway.ports.dicom, *files)
    kept = gateway.index.instances_of(first.StudyInstanceUID, first.SeriesInstanceUID)
    assert set(kept) == set(sent)
    for uid, path in kept.items():
        stored = pydicom.dcmread(gateway.root / path)
        assert stored.file_meta.TransferSyntaxUID == syntax
        assert stored.PixelData == sent[uid].PixelData
    # What is stored compressed is found in all the same.
    (job,) = gateway.wait_for_study(first.StudyInstanceUID, PATIENCE)
    assert job.state == JobState.DONE
    (image,) = read_series([gateway.root / path for path in kept.values()]).images
    (segment,) = read_segments(pydicom.dcmread(gateway.root / "jobs" / job.job_id / "segmentation.dcm"), image)
    assert (segment.mask == (uncompressed.pixels > 100)).all()
