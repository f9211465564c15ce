"""`rcmed doctor`: what is sound is told, and what is not ends with status 2."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from dicom_bridge.events.audit import AuditEvent, AuditTrail, Outcome
from dicom_bridge.operations.doctor import Check, Verdict, examine
from dicom_bridge.settings import GatewaySettings
from dicom_bridge.store.database import Database
from rcmed import cli


def checks(settings: dict[str, Any]) -> dict[str, list[Check]]:
    found: dict[str, list[Check]] = {}
    for check in examine(GatewaySettings.model_validate(settings)):
        found.setdefault(check.about, []).append(check)
    return found


def test_a_sound_gateway(tmp_path: Path, certificates: Any) -> None:
    token = tmp_path / "token"
    token.write_text("x" * 40)
    token.chmod(0o600)
    trail = AuditTrail(tmp_path / "state" / "audit.jsonl")
    trail.record(AuditEvent.APPLICATION_START, Outcome.SUCCESS)
    own = certificates.gateway
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = checks(
            {
                "state_folder": str(tmp_path / "state"),
                "receive": {"port": listener.getsockname()[1], "minimum_free_megabytes": 0},
                "web": {"port": 0, "token_file": token, "tls": {"certificate": own.certificate, "key": own.key}},
            }
        )
    assert [check for told in found.values() for check in told if check.verdict == Verdict.WRONG] == []
    assert found["audit trail"][0].text == "1 records, the chain is whole"
    assert "something listens" in found["receive"][0].text
    assert "renew it within" in found["web.tls"][0].text  # the tests' certificates are short-lived
    assert found["web.token_file"][0].verdict == Verdict.OK
    assert found["model small"][0].verdict == Verdict.OK
    assert "can be written" in found["destination results"][0].text


@pytest.mark.slow
def test_what_is_wrong_is_told_with_its_mend(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "audit.jsonl").write_text("{}\n")
    (tmp_path / "file").write_text("")
    found = checks(
        {
            "state_folder": str(tmp_path / "state"),
            "model": {"name": str(tmp_path / "no-model")},
            "web": {"token_file": tmp_path / "nowhere"},
            "receive": {"tls": {"certificate": tmp_path / "no.pem", "key": tmp_path / "no.key"}},
            "routing": {
                "routes": [{"name": "a", "destinations": ["pacs", "stow", "orthanc", "folder"]}],
                "destinations": {
                    "pacs": {"type": "c_store", "host": "127.0.0.1", "port": 1, "called_ae": "PACS"},
                    "stow": {"type": "stow", "url": "http://127.0.0.1:1/dicom-web"},
                    "orthanc": {"type": "orthanc", "url": "http://127.0.0.1:1"},
                    "folder": {"type": "folder", "path": str(tmp_path / "file")},
                    "spare": {"type": "folder", "path": "spare"},
                },
            },
        }
    )
    wrong = {about: told[0].text for about, told in found.items() if told[0].verdict == Verdict.WRONG}
    assert {"audit trail", "web.token_file", "receive.tls", f"model {tmp_path / 'no-model'}"} <= set(wrong)
    for name in ("pacs", "stow", "orthanc"):
        assert "does not answer" in wrong[f"destination {name}"]
    assert "can't be written" in wrong["destination folder"]
    assert found["destination spare"][-1].text == "no route names it"


@pytest.mark.slow
def test_the_command_ends_with_2_when_something_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "gateway.yaml"
    for destination, status, said in (
        ("{type: folder, path: results}", 0, "nothing to mend"),
        ("{type: orthanc, url: 'http://127.0.0.1:1'}", 2, "1 to mend"),
    ):
        config.write_text(
            f"receive: {{minimum_free_megabytes: 0}}\nrouting: {{destinations: {{results: {destination}}}}}\n"
        )
        with pytest.raises(SystemExit) as end:
            cli.main(["doctor", "--config", str(config)])
        assert int(end.value.code or 0) == status
        assert said in capsys.readouterr().out


def test_nothing_is_changed(tmp_path: Path) -> None:
    told: dict[str, Any] = {
        "state_folder": str(tmp_path / "state"),
        "receive": {"port": 0},
        "routing": {"destinations": {"results": {"type": "folder", "path": str(tmp_path / "results" / "of rcmed")}}},
    }
    (check,) = checks(told)["destination results"]
    assert check.text == f"folder {tmp_path / 'results' / 'of rcmed'} can be written"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.integration
def test_a_database_without_tables_stays_so(tmp_path: Path, postgresql_of_all: Any) -> None:
    address = postgresql_of_all.create_database("looked_at")
    database = postgresql_of_all.settings("looked_at")
    told = {"state_folder": str(tmp_path / "state"), "database": database.model_dump()}
    for _ in range(2):
        (check,) = checks(told)[f"database {database.url}"]
        assert check.verdict == Verdict.NOTE and "no tables of the index yet" in check.text
    Database(address).close()
    (check,) = checks(told)[f"database {database.url}"]
    assert check.verdict == Verdict.OK
