"""STOW-RS as clients send it: what is answered with success is in the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom.uid import generate_uid

from dicom_bridge.web.application import build_application
from dicom_bridge.web.server import WebServer
from dicom_bridge.web.stow import stow
from stored import Stored

CONTENT_TYPE = 'multipart/related; type="application/dicom"; boundary=b'


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    stored = Stored(tmp_path / "state", maximum_instance_megabytes=1)
    yield stored
    stored.close()


@pytest.fixture
def url(stored: Stored) -> Iterator[str]:
    server = WebServer(build_application([stow(stored.intake, stored.observer, "RCMED", 30)]), "127.0.0.1", 0)
    server.start()
    yield f"http://127.0.0.1:{server.port}/dicom-web"
    server.stop()


def body(*parts: bytes, end: bytes = b"--b--\r\n") -> bytes:
    whole = b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n" for part in parts)
    return whole + end


def post(url: str, content: bytes, content_type: str = CONTENT_TYPE) -> httpx.Response:
    return httpx.post(url, content=content, headers={"Content-Type": content_type}, timeout=60)


def test_a_study_by_a_dicomweb_client(url: str, stored: Stored, make_ct_series: Any) -> None:
    sources = [pydicom.dcmread(file) for file in make_ct_series(3)]
    study = sources[0].StudyInstanceUID
    answer = DICOMwebClient(url).store_instances(sources, study_instance_uid=study)
    assert {item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence} == {
        source.SOPInstanceUID for source in sources
    }
    assert "FailedSOPSequence" not in answer
    kept = stored.index.instances_of(study, sources[0].SeriesInstanceUID)
    for source in sources:
        assert pydicom.dcmread(stored.files.root / kept[source.SOPInstanceUID]) == source
    assert all(arrival.released_at is not None for arrival in stored.index.arrivals(study))
    assert stored.index.series_of(study)[0][1].calling_ae == "STOW-RS"
    assert stored.counted("rcmed_instances_total", source="stow", outcome="stored") == 3
    record = json.loads(stored.trail.read_text().splitlines()[-1])
    assert (record["event"]["meaning"], record["studies"]) == ("DICOM Instances Transferred", {study: 3})


@pytest.mark.parametrize(
    ("before", "padding", "kind"),
    [
        (b"to be ignored\r\n", b"", "application/dicom"),
        (b"", b"  ", "application/dicom"),
        (b"", b"", "Application/DICOM"),
    ],
)
def test_what_the_standards_allow_around_the_parts_is_taken(
    url: str, stored: Stored, make_ct_series: Any, before: bytes, padding: bytes, kind: str
) -> None:
    (file,) = make_ct_series(1)
    start = b"--b" + padding + b"\r\nContent-Type: application/dicom\r\n\r\n"
    content = before + start + file.read_bytes() + b"\r\n--b--\r\n"
    told = f'multipart/related; type="{kind}"; boundary=b'
    answer = httpx.post(f"{url}/studies", content=content, headers={"Content-Type": told}, timeout=60)
    assert answer.status_code == 200
    source = pydicom.dcmread(file)
    (path,) = stored.index.instances_of(source.StudyInstanceUID, source.SeriesInstanceUID).values()
    assert pydicom.dcmread(stored.files.root / path) == source


def test_a_request_that_breaks_off_is_no_end_of_its_study(url: str, stored: Stored, make_ct_series: Any) -> None:
    (file,) = make_ct_series(1)
    part = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + file.read_bytes() + b"\r\n--b\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=b'
    answer = httpx.post(f"{url}/studies", content=part, headers={"Content-Type": kind}, timeout=60)
    assert answer.status_code == 400
    (arrival,) = stored.index.arrivals(pydicom.dcmread(file).StudyInstanceUID)
    assert arrival.released_at is not None and arrival.is_aborted


def test_what_is_refused_is_told_and_the_rest_is_stored(url: str, stored: Stored, make_ct_series: Any) -> None:
    sound, elsewhere = make_ct_series(1)[0], make_ct_series(1)[0]
    study = pydicom.dcmread(sound).StudyInstanceUID
    answer = post(
        f"{url}/studies/{study}",
        body(sound.read_bytes(), b"no DICOM", elsewhere.read_bytes(), bytes(2_000_000), sound.read_bytes()),
    )
    assert answer.status_code == 202
    assert answer.headers["content-type"] == "application/dicom+json"
    told = pydicom.Dataset.from_json(answer.json())
    assert len(told.ReferencedSOPSequence) == 2  # the second time it is a duplicate, which is a success
    assert [item.FailureReason for item in told.FailedSOPSequence] == [0xC000] * 3
    assert told.FailedSOPSequence[1].ReferencedSOPInstanceUID == pydicom.dcmread(elsewhere).SOPInstanceUID
    assert [row.study_uid for row in stored.index.studies()] == [study]
    lines = "\n".join(line.text for line in stored.index.lines())
    assert "can't be parsed" in lines and "(0020,000D) differs" in lines and "maximum_instance_megabytes" in lines
    assert post(f"{url}/studies", body(b"no DICOM")).status_code == 409


def test_without_room_the_client_is_asked_to_come_again(
    url: str, stored: Stored, make_ct_series: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored.files, "free_megabytes", lambda: -1.0)
    assert post(f"{url}/studies", body(make_ct_series(1)[0].read_bytes())).status_code == 503
    assert stored.index.studies() == []


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"", "application/dicom", 415),
        (b"", 'multipart/related; type="application/dicom+json"; boundary=b', 415),
        (b"", "multipart/form-data; boundary=b", 415),
        (b"", 'multipart/related; type="application/dicom"', 400),
        (b"", "multipart/related; boundary=" + "b" * 71, 400),
        (b"no boundary at all", CONTENT_TYPE, 400),
        (body(end=b""), CONTENT_TYPE, 400),
        (b"--b\r\nContent-Type: application/dicom\r\n\r\nhalf", CONTENT_TYPE, 400),
    ],
)
def test_what_is_no_stow_request_is_told(
    url: str, stored: Stored, content: bytes, content_type: str, status: int
) -> None:
    assert post(f"{url}/studies", content, content_type).status_code == status
    assert stored.index.studies() == []


def test_what_came_whole_before_the_line_broke_is_kept(url: str, stored: Stored, make_ct_series: Any) -> None:
    first, second = make_ct_series(2)
    cut = body(first.read_bytes(), second.read_bytes())[:-900]
    assert post(f"{url}/studies", cut).status_code == 400
    study = pydicom.dcmread(first).StudyInstanceUID
    assert stored.index.instance_count(study) == 1
    assert post(f"{url}/studies", body(first.read_bytes(), second.read_bytes())).status_code == 200
    assert stored.index.instance_count(study) == 2


def test_a_study_uid_that_is_none_matches_nothing(url: str, stored: Stored, make_ct_series: Any) -> None:
    content = body(make_ct_series(1)[0].read_bytes())
    for study in (generate_uid(), "..%2f..", "x"):
        assert post(f"{url}/studies/{study}", content).status_code in (404, 409)
    assert stored.index.studies() == []
