"""The bridge's commands as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from dicom_bridge.delivery.dimse.sending import send_files
from dicom_bridge.demo.returned import find_problems
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.results.segmentations.reading import read_segments
from dicom_bridge.series.images import read_series
from dicom_bridge.settings import GatewaySettings
from rcmed import Assistant, cli


def status_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    return int(end.value.code or 0)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, threshold_assistant: Any) -> Any:
    monkeypatch.setattr(Assistant, "from_pretrained", lambda *arguments, **options: threshold_assistant)
    return threshold_assistant


def test_find_files_seg_and_sr_beside_a_dicom_series(make_ct_series: Any, stub: Any, tmp_path: Path) -> None:
    files = make_ct_series(4)
    output = tmp_path / "out"
    assert status_of("find", str(files[0].parent), "--prompt", "liver", "--output", str(output)) == 0
    assert sorted(path.name for path in output.iterdir()) == [
        "findings.json",
        "mask-1-liver.nii.gz",
        "overlay-1-liver.png",
        "report.dcm",
        "segmentation.dcm",
    ]
    results = [pydicom.dcmread(output / name) for name in ("segmentation.dcm", "report.dcm")]
    assert find_problems([pydicom.dcmread(file) for file in files], results) == []
    (image,) = read_series(files).images
    (segment,) = read_segments(results[0], image)
    assert np.array_equal(segment.mask, image.pixels > 100)
    again = tmp_path / "again"
    assert status_of("find", str(files[0].parent), "--prompt", "liver", "--output", str(again)) == 0
    assert pydicom.dcmread(again / "segmentation.dcm").SOPInstanceUID == results[0].SOPInstanceUID


def test_find_says_what_can_not_be_filed_and_goes_on(
    make_ct_series: Any, stub: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = make_ct_series(1)
    dataset = pydicom.dcmread(file)
    del dataset.FrameOfReferenceUID
    dataset.save_as(file)
    assert status_of("find", str(file), "--prompt", "liver", "--output", str(tmp_path / "out")) == 0
    assert "no SEG is written" in capsys.readouterr().err
    assert (tmp_path / "out" / "report.dcm").exists()
    findings = json.loads((tmp_path / "out" / "findings.json").read_text())["findings"]
    assert findings[0]["present"] is True


@pytest.mark.parametrize("peer", ["nowhere", "host:0", "host:x", ":104"])
def test_send_says_how_a_peer_is_named(peer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("send", str(tmp_path), "--to", peer) == 2
    assert "HOST:PORT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sources", "known"),
    [("{}", "known are: none"), ('{old: {type: dicomweb, url: "http://127.0.0.1:1"}}', "known are: old")],
)
def test_process_names_the_archives_that_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sources: str, known: str
) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(f"sources: {sources}\n")
    assert status_of("process", "--from", "pacs", "--study", "1.2", "--config", str(config)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no source 'pacs'" in line and known in line and str(config) in line


def test_send_says_that_nobody_answers(make_ct_series: Any, capsys: pytest.CaptureFixture[str]) -> None:
    files = make_ct_series(1)
    assert status_of("send", str(files[0]), "--to", "127.0.0.1:1") == 2
    assert "does not answer" in capsys.readouterr().err


def test_serve_names_the_key_that_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text("receive: {prot: 1}\n")
    assert status_of("serve", "--config", str(config)) == 2
    assert "receive.prot" in capsys.readouterr().err


def test_serve_names_all_mistakes_at_once_missing_files_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(
        "receive:\n  prot: 1\n  tls: {certificate: own.pem, key: own.key}\n"
        "web: {port: 70000}\northanc: {password_file: p}\n"
    )
    (tmp_path / "own.key").write_text("")
    assert status_of("serve", "--config", str(config)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    for number, (key, line) in enumerate(
        zip(("receive.prot", "receive.tls.certificate", "web.port", "orthanc.password_file"), lines, strict=True), 2
    ):
        assert f"{config}, line {number}: " in line and key in line
    assert f"{tmp_path / 'p'} can't be read (No such file or directory)" in lines[-1]
    assert status_of("route", "--explain", "1.2.3", "--config", str(config)) == 2
    assert "can't be read" not in capsys.readouterr().err, "who explains a route need not be let at the secrets"


@pytest.mark.slow
def test_no_patient_name_reaches_the_log(make_ct_series: Any, tmp_path: Path) -> None:
    """In a process of its own: pytest shows warnings whatever the filters say."""
    (file,) = make_ct_series(1)
    dataset = pydicom.dcmread(file)
    dataset.PatientName = "ONLYONECOMPONENT"
    dataset.save_as(file)
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
        "from synthetic_study import ThresholdAssistant\n"
        "from dicom_bridge.results.dicom_writer import write_results\n"
        "from dicom_bridge.series.images import read_series\n"
        "(image,) = read_series([pathlib.Path(sys.argv[2])]).images\n"
        "print(write_results(image, ThresholdAssistant().find(image, 'liver'), pathlib.Path(sys.argv[3])))\n"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent / "support"), str(file), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]" and (tmp_path / "report.dcm").exists()
    assert "ONLYONECOMPONENT" not in ended.stderr


RULES = """\
routes:
  - name: abdomen
    conditions: [{field: modality, value: CT}, {field: calling_ae, operator: starts_with, value: CT}]
    prompts: [liver, spleen]
    destinations: [results]
    priority: high
  - {name: brain, conditions: [{field: modality, value: MR}], destinations: [results]}
destinations: {results: {type: folder, path: results}}
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    (tmp_path / "routing.yaml").write_text(RULES)
    told = {
        "state_folder": str(tmp_path / "state"),
        "receive": {"port": 0, "minimum_free_megabytes": 0},
        "completion": {"released_seconds": 0.1},
        "web": {"enabled": False},
        "routing": "routing.yaml",
    }
    path = tmp_path / "gateway.yaml"
    path.write_text(json.dumps(told))
    return path


def test_route_explains_a_folder(rules: Path, make_ct_series: Any, capsys: pytest.CaptureFixture[str]) -> None:
    files = make_ct_series(3)
    files[2].write_bytes(files[2].read_bytes()[:400])
    arguments = ("route", "--explain", str(files[0].parent), "--config", str(rules))
    assert status_of(*arguments) == 0
    said = capsys.readouterr()
    series = pydicom.dcmread(files[0]).SeriesInstanceUID
    assert said.out.splitlines()[1:] == [
        f"series {series}: CT, ABDOMEN, Square 2.5, 2 instances",
        "  route abdomen: no match",
        "    modality equals 'CT': modality is 'CT', match",
        "    calling_ae starts_with 'CT': calling_ae is absent, no match",
        "  route brain: no match",
        "    modality equals 'MR': modality is 'CT', no match",
        "  => nothing is asked: no route matches",
    ]
    (line,) = said.err.splitlines()
    assert line.startswith(f"{files[2]}: can't be read")
    assert status_of(*arguments, "--calling-ae", "CT07") == 0
    said = capsys.readouterr()
    assert "    => asks: liver; spleen; priority high; results to results" in said.out.splitlines()


def test_route_explains_what_is_never_asked(
    rules: Path, make_ct_series: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = make_ct_series(1)
    dataset = pydicom.dcmread(file)
    dataset.Modality = "SR"
    dataset.save_as(file)
    assert status_of("route", "--explain", str(file.parent), "--config", str(rules)) == 0
    assert "=> nothing is asked: SR is among receive.skipped_modalities" in capsys.readouterr().out


@pytest.mark.slow
def test_route_explains_a_study_of_a_gateway_that_runs(
    rules: Path, make_ct_series: Any, stub: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    files = make_ct_series(2)
    study = pydicom.dcmread(files[0]).StudyInstanceUID
    with Gateway(GatewaySettings.from_yaml(rules), stub) as gateway:
        send_files(files, "127.0.0.1", gateway.ports.dicom, "RCMED", "CT01")
        gateway.wait_for_study(study, 60)
        assert status_of("route", "--explain", study, "--config", str(rules)) == 0
        said = capsys.readouterr().out.splitlines()
        assert said[0] == f"study {study}" and "  route abdomen: match" in said
        assert "    calling_ae starts_with 'CT': calling_ae is 'CT01', match" in said
        assert status_of("route", "--explain", "1.2.3", "--config", str(rules)) == 2
        assert "no study 1.2.3" in capsys.readouterr().err
        assert status_of("route", "--explain", "nothing", "--config", str(rules)) == 2
        assert "neither a folder nor a Study Instance UID" in capsys.readouterr().err


@pytest.mark.integration
def test_route_explains_a_study_in_postgresql(
    rules: Path, make_ct_series: Any, stub: Any, postgresql_of_all: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    password = postgresql_of_all.create_database("explained").password
    told = json.loads(rules.read_text())
    database = postgresql_of_all.settings("explained").model_dump(mode="json")
    rules.write_text(json.dumps({**told, "database": database}))
    files = make_ct_series(2)
    study = pydicom.dcmread(files[0]).StudyInstanceUID
    explain = ("route", "--explain", study, "--config", str(rules))
    assert status_of(*explain) == 2
    assert "no tables of the index yet" in capsys.readouterr().err
    with Gateway(GatewaySettings.from_yaml(rules), stub) as gateway:
        send_files(files, "127.0.0.1", gateway.ports.dicom, "RCMED", "CT01")
        gateway.wait_for_study(study, 60)
        assert status_of(*explain) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"study {study}" and "  route abdomen: match" in said
    assert status_of("route", "--explain", "1.2.3", "--config", str(rules)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no study 1.2.3" in line and password not in line
