"""Settings: the YAML files say the same as the classes, and mistakes are told in one line."""

from pathlib import Path

import pytest
import yaml

from dicom_bridge.settings import CStoreDestination, DeliverySettings, GatewaySettings
from rcmed.errors import ConfigurationError

CONFIGS = Path(__file__).parents[2] / "configs"


def test_yaml_files_hold_the_defaults() -> None:
    assert GatewaySettings.from_yaml(CONFIGS / "gateway.yaml") == GatewaySettings()


def test_yaml_files_show_every_key() -> None:
    shown = yaml.safe_load((CONFIGS / "gateway.yaml").read_text())
    shown["routing"] = yaml.safe_load((CONFIGS / "routing.yaml").read_text())
    assert shown == GatewaySettings().model_dump(mode="json")


def test_missing_keys_take_defaults(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("receive: {port: 0}\n")
    settings = GatewaySettings.from_yaml(file)
    assert settings.receive.port == 0
    assert settings.completion == GatewaySettings().completion


def test_destinations_are_told_apart_by_type(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "destinations: {pacs: {type: c_store, host: h, port: 104, called_ae: PACS}}\n"
        "routes: [{name: a, destinations: [pacs]}]\n"
    )
    (tmp_path / "g.yaml").write_text("routing: r.yaml\n")
    destination = GatewaySettings.from_yaml(tmp_path / "g.yaml").routing.destinations["pacs"]
    assert destination == CStoreDestination(type="c_store", host="h", port=104, called_ae="PACS")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("receive: {prot: 1}", ("unknown key 'receive.prot'",)),
        ("receive: {port: 70000}", ("'receive.port'", "65535", "70000")),
        ("receive: {host: 0.0.0.0}", ("'receive'", "0.0.0.0 is not loopback", "tls with trusted", "addresses")),
        ("receive: {host: example.org}", ("'receive.host'", "IP address")),
        ("web: {host: 0.0.0.0}", ("'web'", "configure tls", "token_file")),
        ("web: {host: 0.0.0.0, token_file: t}", ("'web'", "configure tls")),
        ("web: {oidc: {issuer: 'http://i.example', audience: a}}", ("'web.oidc'", "https")),
        ("retention: {results_days: 3}", ("'retention'", "needs instances_days")),
        ("receive: {peers: [{name: a, addresses: [10.0.0.1/8]}]}", ("addresses", "host bits")),
        ("receive: {peers: [{name: a, certificates: [ab]}]}", ("certificates", "fingerprint")),
        ("receive: {host: 10.1.1.1, peers: [{name: a, calling_ae: [CT01]}]}", ("peers that each have addresses",)),
        ("receive: {ae_title: A_NAME_THAT_IS_TOO_LONG}", ("'receive.ae_title'", "16")),
        ("completion: {quiet_seconds: soon}", ("'completion.quiet_seconds'", "soon")),
        ("routing: {routes: [{name: a, destinations: [b]}]}", ("'a'", "'b'", "results")),
        (
            "routing: {routes: [{name: a, destinations: [results], conditions: [{field: colour, value: x}]}]}",
            ("field",),
        ),
        ("- 1", ("must hold keys",)),
        ("a: [", ("not valid YAML",)),
        ("routing: nowhere.yaml", ("nowhere.yaml", "can't be read")),
    ],
)
def test_mistakes_are_one_clear_line(tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        GatewaySettings.from_yaml(file)
    line = str(caught.value)
    assert "\n" not in line
    assert str(tmp_path) in line
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    "text",
    [
        "receive: {host: 0.0.0.0, peers: [{name: a, addresses: [10.1.0.0/16]}]}",
        "receive: {host: 0.0.0.0, tls: {certificate: c.pem, key: k.pem, trusted: t.pem}}",
        "web: {host: 0.0.0.0, token_file: t, tls: {certificate: c.pem, key: k.pem}}",
        "web: {host: 0.0.0.0, tls: {certificate: c.pem, key: k.pem, trusted: t.pem}}",
        "web: {host: 0.0.0.0, tls: {certificate: c.pem, key: k.pem}, oidc: {issuer: 'https://i.example', audience: a}}",
    ],
)
def test_beyond_loopback_only_with_authentication(tmp_path: Path, text: str) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    settings = GatewaySettings.from_yaml(file)
    assert "0.0.0.0" in (settings.receive.host, settings.web.host)
    if settings.receive.tls is not None:
        assert settings.receive.tls.trusted == tmp_path / "t.pem"  # beside the file that names it


def test_waits_grow_and_are_bounded() -> None:
    settings = DeliverySettings(first_wait_seconds=1, maximum_wait_seconds=5)
    assert [settings.wait_before(attempt) for attempt in (1, 2, 3, 4, 2000)] == [1, 2, 4, 5, 5]
