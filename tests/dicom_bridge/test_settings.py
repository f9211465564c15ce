"""Settings: the YAML files say the same as the classes, and mistakes are told in one line."""

from pathlib import Path

import pytest
import yaml
from sqlalchemy import URL

from dicom_bridge.series.headers.modality import BY_MODALITY
from dicom_bridge.settings import CStoreDestination, DeliverySettings, GatewaySettings
from dicom_bridge.store.database import index_address
from dicom_bridge.studies.routing import Route, RouteField
from rcmed.errors import ConfigurationError
from rcmed.model.config import RCMedConfig
from rcmed.model.knowledge import known_targets
from rcmed.model.packaged import model_folder
from rcmed.vocabulary import resolve_targets

CONFIGS = Path(__file__).parents[2] / "configs"


def test_yaml_files_hold_the_defaults() -> None:
    assert GatewaySettings.from_yaml(CONFIGS / "gateway.yaml") == GatewaySettings()


def test_yaml_files_show_every_key() -> None:
    shown = yaml.safe_load((CONFIGS / "gateway.yaml").read_text())
    shown["routing"] = yaml.safe_load((CONFIGS / "routing.yaml").read_text())
    assert shown == GatewaySettings().model_dump(mode="json")


@pytest.mark.parametrize("file", ["configs/routing.yaml", "deploy/compose/routing.yaml"])
def test_no_shipped_route_asks_a_series_for_everything(file: str) -> None:
    routes = yaml.safe_load((CONFIGS.parent / file).read_text())["routes"]
    known = known_targets(RCMedConfig.from_pretrained(str(model_folder("small"))))
    assert len(routes) > 3
    for route in map(Route.model_validate, routes):
        assert route.conditions and route.prompts
        (of_modality, *_) = [c for c in route.conditions if c.field is RouteField.MODALITY]
        terms = [of_modality.value] if isinstance(of_modality.value, str) else of_modality.value
        for prompt in route.prompts:
            (target,) = resolve_targets(prompt).targets
            assert target in known and all(BY_MODALITY[term] in target.modalities for term in terms)


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
        ("database: {url: 'mysql://rcmed@db/rcmed'}", ("'database.url'", "postgresql+psycopg")),
        ("database: {url: 'postgresql://rcmed@db'}", ("'database.url'", "name the database")),
        ("workers: {heartbeat_seconds: 30}", ("'workers'", "three times")),
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


MISTAKEN_GATEWAY = """\
state_folder: state
recieve: {port: 1}
web:
  port: many
completion: {quiet_seconds: 9,
  released: 1}
routing: routing.yaml
"""
MISTAKEN_ROUTING = """\
routes:
  - name: a
    conditions:
      - {field: modality, operator: equal, value: CT}
      - field: colour
        value: [1]
      - {field: modality, operator: one_of, value: CT}
    destinations: [results]
  - name: b
    destination: [pacs]
destinations:
  pacs: {type: c_store, host: h, port: 104, called_ae: PACS, calling: A}
  results: {type: folder, path: results}
"""


def mistakes(folder: Path, gateway: str, routing: str) -> list[str]:
    (folder / "gateway.yaml").write_text(gateway)
    (folder / "routing.yaml").write_text(routing)
    with pytest.raises(ConfigurationError) as caught:
        GatewaySettings.from_yaml(folder / "gateway.yaml")
    return [line.removeprefix(f"{folder}/") for line in str(caught.value).splitlines()]


def test_every_mistake_is_told_with_its_line(tmp_path: Path) -> None:
    told = mistakes(tmp_path, MISTAKEN_GATEWAY, MISTAKEN_ROUTING)
    wanted = [
        ("gateway.yaml, line 2: unknown key 'recieve'", "'receive'?"),
        ("gateway.yaml, line 4: key 'web.port'", "'many'"),
        ("gateway.yaml, line 6: unknown key 'completion.released'", "'released_seconds'?"),
        ("routing.yaml, line 4: key 'routes.0.conditions.0.operator'", "'one_of'"),
        ("routing.yaml, line 5: key 'routes.0.conditions.1.field'", "'modality'"),
        ("routing.yaml, line 6: key 'routes.0.conditions.1.value.0'", "(it is 1)"),
        ("routing.yaml, line 7: key 'routes.0.conditions.2'", "[CT, MR]"),
        ("routing.yaml, line 9: key 'routes.1.destinations' is missing", "add it"),
        ("routing.yaml, line 10: unknown key 'routes.1.destination'", "'destinations'?"),
        ("routing.yaml, line 12: unknown key 'destinations.pacs.calling'", "'calling_ae'?"),
    ]
    assert len(told) == len(wanted), told
    for line, (beginning, mend) in zip(told, wanted, strict=True):
        assert line.startswith(beginning) and mend in line


def test_names_that_do_not_fit_together_are_told_where_they_stand(tmp_path: Path) -> None:
    routing = """\
routes:
  - {name: a, destinations: [results]}
  - name: a
    destinations:
      - results
      - pacs
"""
    assert mistakes(tmp_path, "routing: routing.yaml", routing) == [
        "routing.yaml, line 3: key 'routes.1.name': two routes are called 'a'; give each its own name",
        "routing.yaml, line 6: key 'routes.1.destinations.1': route 'a' names destination 'pacs', known are: results",
    ]


def test_a_key_that_is_there_twice_is_a_mistake(tmp_path: Path) -> None:
    routing = (
        "destinations:\n  a: {type: folder, path: a}\n  b: {type: folder, path: b}\n  a: {type: folder, path: c}\n"
    )
    (line,) = mistakes(tmp_path, "routing: routing.yaml", routing)
    assert line == "routing.yaml, line 4: key 'a' is there twice, first in line 2: remove one"


def test_syntax_is_told_with_its_line(tmp_path: Path) -> None:
    (line,) = mistakes(tmp_path, "receive:\n  port: 1\n bad: 2\n", "")
    assert line.startswith("gateway.yaml, line 3: not valid YAML") and line.endswith("mend the syntax")


def test_anchors_and_merged_keys_are_understood(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("routing:\n  routes:\n    - &one {name: a, destinations: [results]}\n    - {<<: *one, name: b}\n")
    assert [route.name for route in GatewaySettings.from_yaml(file).routing.routes] == ["a", "b"]


def test_a_password_in_an_address_is_refused_and_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    for url in ("postgresql://rcmed:pa55word@db/rcmed", "postgresql://db/rcmed?password=pa55word"):
        file.write_text(f"database: {{url: '{url}'}}\n")
        with pytest.raises(ConfigurationError, match="password_file") as caught:
            GatewaySettings.from_yaml(file)
        assert "pa55word" not in str(caught.value)


def test_an_address_of_postgresql_gets_its_driver_and_its_password(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("pa55word\n")
    file = tmp_path / "gateway.yaml"
    file.write_text("database: {url: 'postgresql://rcmed@db/rcmed', password_file: secret}\n")
    settings = GatewaySettings.from_yaml(file).database
    assert settings.url == "postgresql+psycopg://rcmed@db/rcmed"
    address = index_address(settings, tmp_path)
    assert isinstance(address, URL)
    assert address.password == "pa55word"
    assert "pa55word" not in f"{address} {address!r} {settings!r}"
