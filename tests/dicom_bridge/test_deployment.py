"""What is deployed: settings that load, commands that exist, secrets that are mounted where the settings look."""

from __future__ import annotations

import configparser
import json
import shlex
import shutil
import socket
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml

from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.operations.doctor import Verdict, examine
from dicom_bridge.settings import GatewaySettings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = [DEPLOY / "systemd" / "rcmed.service", DEPLOY / "systemd" / "rcmed-work@.service"]
COMMANDS = {entry.name for entry in entry_points(group="rcmed.commands")}


def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return content


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


def test_settings_load() -> None:
    inside = GatewaySettings.from_yaml(DEPLOY / "compose" / "gateway.yaml")
    assert inside.database.url is not None and inside.web.host == "0.0.0.0"
    alone = GatewaySettings.from_yaml(DEPLOY / "systemd" / "gateway.yaml")
    assert alone.database.url is None and alone.web.host == "127.0.0.1"


def test_compose_mounts_what_the_settings_name() -> None:
    told = compose()
    settings = GatewaySettings.from_yaml(DEPLOY / "compose" / "gateway.yaml")
    for name in ("gateway", "worker"):
        service = told["services"][name]
        command, option, config = service["command"]
        assert command in COMMANDS and option == "--config"
        mounts = dict(reversed(volume.split(":")[:2]) for volume in service["volumes"])
        assert mounts[str(settings.state_folder)] in told["volumes"]
        assert (DEPLOY / mounts[str(Path(config).parent)] / Path(config).name).is_file()
        secrets = {f"/run/secrets/{secret}" for secret in service["secrets"]}
        named = {word for file in (DEPLOY / "compose").glob("*.yaml") for word in _secrets_in(file)}
        assert named == secrets
        assert set(service["secrets"]) <= set(told["secrets"])
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
    gateway, orthanc = told["services"]["gateway"], told["services"]["orthanc"]
    assert {f"{port}:{port}" for port in (settings.receive.port, settings.web.port)} == set(gateway["ports"])
    assert settings.database.address is not None and settings.database.address.host in told["services"]
    assert settings.receive.peers[0].addresses == (f"{orthanc['networks']['rcmed']['ipv4_address']}/32",)
    calling = json.loads((DEPLOY / "compose" / "orthanc.json").read_text())
    assert settings.receive.peers[0].calling_ae == (calling["DicomAet"],)
    assert calling["DicomModalities"]["rcmed"] == [settings.receive.ae_title, "gateway", settings.receive.port]
    for port in orthanc["ports"]:
        assert port.startswith(("127.0.0.1:", "${ORTHANC_ADDRESS:-127.0.0.1}:"))


def test_nothing_takes_all_the_memory_of_the_machine() -> None:
    for name, service in compose()["services"].items():
        assert service["mem_limit"], name
        assert service["restart"] == "unless-stopped", "a process that ran out of it starts again"
    for path in UNITS:
        service = unit(path)["Service"]
        assert 0 < int(service["MemoryMax"].removesuffix("%")) < 100, path.name
        assert service["Restart"] == "on-failure"


def _secrets_in(file: Path) -> set[str]:
    return {word.strip("{},") for word in file.read_text().split() if word.startswith("/run/secrets/")}


def test_the_image_runs_a_command_that_exists_as_nobody_special() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    told = dict(line.split(" ", 1) for line in lines if line.split(" ", 1)[0] in ("USER", "CMD", "ENTRYPOINT"))
    assert told["USER"] == "rcmed" and json.loads(told["ENTRYPOINT"]) == ["rcmed"]
    assert json.loads(told["CMD"])[0] in COMMANDS
    asked = next(line for line in lines if "CMD [" in line and "health" in line)
    assert json.loads(asked[asked.index("[") : asked.index("]") + 1])[:2] == ["rcmed", "health"]
    assert "health" in COMMANDS
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            for name in line.split()[1:-1]:
                assert (ROOT / name).exists()
                assert f"!{name}" in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    torch = next(line.split("=", 1)[1] for line in lines if line.startswith("ARG TORCH="))
    assert f"TORCH := {torch}" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_runs_a_command_that_exists_and_is_hardened(path: Path) -> None:
    service = unit(path)["Service"]
    program, command, option, config = shlex.split(service["ExecStart"])
    assert (Path(program).name, option) == ("rcmed", "--config") and command in COMMANDS
    assert (DEPLOY / "systemd" / Path(config).name).is_file()
    settings = GatewaySettings.from_yaml(DEPLOY / "systemd" / Path(config).name)
    assert settings.state_folder == Path("/var/lib") / service["StateDirectory"]
    hardened = {"NoNewPrivileges": "yes", "ProtectSystem": "strict", "Restart": "on-failure", "PrivateTmp": "yes"}
    assert hardened.items() <= dict(service).items()
    assert int(service["RestartPreventExitStatus"]) == 2


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.integration
def test_the_secrets_that_are_made_open_the_gateway(tmp_path: Path, threshold_assistant: Any) -> None:
    """The settings of the containers with what make-secrets made, on loopback and without PostgreSQL and Orthanc."""
    secrets = tmp_path / "secrets"
    subprocess.run([DEPLOY / "make-secrets", "localhost", secrets], check=True, capture_output=True)
    before = {file.name: file.read_bytes() for file in secrets.iterdir()}
    subprocess.run([DEPLOY / "make-secrets", "localhost", secrets], check=True, capture_output=True)
    assert {file.name: file.read_bytes() for file in secrets.iterdir()} == before  # made once
    assert set(compose()["secrets"]) <= set(before) and secrets.stat().st_mode & 0o077 == 0
    users = json.loads(before["orthanc-users.json"])["RegisteredUsers"]
    assert users == {"rcmed": before["orthanc-password"].decode().strip()}

    told = yaml.safe_load((DEPLOY / "compose" / "gateway.yaml").read_text().replace("/run/secrets", str(secrets)))
    del told["database"], told["orthanc"], told["routing"]
    told["state_folder"] = str(tmp_path / "state")
    told["receive"] |= {"host": "127.0.0.1", "port": free_port(), "minimum_free_megabytes": 0}
    told["retention"]["free_megabytes"] = None
    told["web"] |= {"host": "127.0.0.1", "port": free_port()}
    config = tmp_path / "gateway.yaml"
    config.write_text(yaml.safe_dump(told))
    settings = GatewaySettings.from_yaml(config)

    def asked() -> tuple[int, str]:
        command = [Path(sys.executable).with_name("rcmed"), "health", "--config", config]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    assert asked()[0] == 1
    with Gateway(settings, threshold_assistant):
        assert asked() == (0, "ok\n")
    found = [check for check in examine(settings) if check.about in ("web.tls", "web.token_file", "audit trail")]
    assert found and all(check.verdict != Verdict.WRONG for check in found)


@pytest.mark.integration
def test_compose_can_be_read_by_docker(tmp_path: Path) -> None:
    if shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is not installed (package docker-compose)")
    done = subprocess.run(
        ["docker-compose", "--file", DEPLOY / "compose.yaml", "config"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == {"database", "gateway", "worker", "orthanc"}


@pytest.mark.integration
def test_units_can_be_read_by_systemd(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (package systemd)")
    copies = []
    for path in UNITS:
        copies.append(tmp_path / path.name)
        copies[-1].write_text(path.read_text().replace("/opt/rcmed/bin/rcmed", shutil.which("true") or "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", *copies], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")
