"""Orthanc, a PACS: it sends a study to the gateway, and the results come back into the same study."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import pydicom
import pytest

from dicom_bridge.demo.returned import find_problems
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.results.segmentations.reading import read_segments
from dicom_bridge.series.images import read_series
from dicom_bridge.store.states import JobState

pytestmark = pytest.mark.integration
PATIENCE = 120.0


def test_results_come_back_into_the_study(
    start_gateway: Callable[[dict[str, Any]], Gateway], orthanc: Any, make_ct_series: Any
) -> None:
    files = make_ct_series(4)
    sent = [pydicom.dcmread(file) for file in files]
    study = sent[0].StudyInstanceUID
    gateway = start_gateway(orthanc.destination)
    api = orthanc.api
    for file in files:
        api.upload_file(str(file))
    modality = {"AET": "RCMED", "Host": "127.0.0.1", "Port": gateway.ports.dicom}
    api.put("modalities/gateway", json=modality)
    api.modalities.store("gateway", api.studies.lookup(study), timeout=PATIENCE)

    (job,) = gateway.wait_for_study(study, PATIENCE)
    assert job.state == JobState.DONE
    instances = [pydicom.dcmread(BytesIO(api.instances.get_file(i))) for i in api.instances.get_all_ids()]
    assert {instance.StudyInstanceUID for instance in instances} == {study}
    assert len(api.studies.get_all_ids()) == 1
    assert sorted(instance.Modality for instance in instances) == ["CT"] * 4 + ["SEG", "SR"]
    returned = {instance.Modality: instance for instance in instances if instance.Modality != "CT"}
    folder = gateway.root / "jobs" / job.job_id
    for kind, name in (("SEG", "segmentation.dcm"), ("SR", "report.dcm")):
        assert returned[kind].SOPInstanceUID == pydicom.dcmread(folder / name).SOPInstanceUID
    assert find_problems(sent, list(returned.values())) == []
    (image,) = read_series(files).images
    (segment,) = read_segments(returned["SEG"], image)
    assert segment.label == "liver"
    assert segment.mask.any() and (segment.mask == (image.pixels > 100)).all()
