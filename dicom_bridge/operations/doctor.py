"""What `rcmed doctor` looks at: what is installed, what is configured, which peers answer."""

from __future__ import annotations

import platform
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from dicom_bridge.delivery import open_destination
from dicom_bridge.delivery.destination import DestinationUnavailableError
from dicom_bridge.events.audit import AuditError, trail_files, verified
from dicom_bridge.ingest.pull import open_source
from dicom_bridge.ingest.pull.source import SourceUnavailableError
from dicom_bridge.jobs.worker_registry import WorkerRegistry, WorkerState
from dicom_bridge.security.oidc import Provider, ProviderUnavailableError
from dicom_bridge.security.tls import expiry, server_context
from dicom_bridge.security.token import Token
from dicom_bridge.settings import GatewaySettings, OidcSettings, ServerTlsSettings
from dicom_bridge.store.database import Database, index_address
from dicom_bridge.store.migrations import OlderTablesError
from rcmed.errors import CheckpointError, ConfigurationError

PACKAGES = ("torch", "transformers", "pydicom", "pynetdicom", "highdicom", "dbos", "fastapi", "monailabel")
_EXPIRES_SOON = timedelta(days=30)


class Verdict(StrEnum):
    """WRONG is what someone must mend; NOTE is worth knowing."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True)
class Check:
    """One line of the doctor's report."""

    about: str
    verdict: Verdict
    text: str


def examine(settings: GatewaySettings) -> Iterator[Check]:
    """Every check, in an order that a reader can follow; peers are asked as their turn comes. Nothing is changed."""
    yield from _installed(settings)
    yield from _state_folder(settings)
    yield from _database(settings)
    yield from _ports(settings)
    yield from _destinations(settings)
    yield from _sources(settings)


def _installed(settings: GatewaySettings) -> Iterator[Check]:
    yield Check("rcmed", Verdict.OK, f"{version('rcmed')} on Python {platform.python_version()}")
    for package in PACKAGES:
        try:
            yield Check(package, Verdict.OK, version(package))
        except PackageNotFoundError:
            yield Check(package, Verdict.WRONG, "is not installed: install rcmed again")
    yield from _decoders()
    yield _weights(settings.model.name)


def _decoders() -> Iterator[Check]:
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLossless, JPEGLSLossless, RLELossless

    for syntax in (JPEGBaseline8Bit, JPEGLossless, JPEGLSLossless, JPEG2000Lossless, RLELossless):
        decoder = get_decoder(syntax)
        if decoder.is_available:
            yield Check(syntax.name, Verdict.OK, "can be decoded")
        else:
            yield Check(syntax.name, Verdict.WRONG, "can't be decoded: install pylibjpeg[all] and pyjpegls")


def _weights(name: str) -> Check:
    from rcmed.model.packaged import model_folder, weight_files

    folder = model_folder(name)
    try:
        size = sum(file.stat().st_size for file in weight_files(folder))
    except (CheckpointError, OSError) as error:
        return Check(f"model {name}", Verdict.WRONG, str(error))
    return Check(f"model {name}", Verdict.OK, f"{size / 1e6:.0f} MB of weights in {folder}")


def _state_folder(settings: GatewaySettings) -> Iterator[Check]:
    folder = settings.state_folder.resolve()
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free, least = shutil.disk_usage(existing).free / 1e6, settings.receive.minimum_free_megabytes
    enough = free > 2 * least
    text = f"{free:.0f} MB free, instances are refused below {least}"
    yield Check(f"disk of {folder}", Verdict.OK if enough else Verdict.WRONG, text)
    # The trails of processes that share the folder; what was rotated has one more dot in its name.
    trails = sorted(trail for trail in folder.glob("audit*.jsonl") if trail.name.count(".") == 1)
    for trail in trails or [folder / "audit.jsonl"]:
        yield from _audit_trail(trail)
    yield from _retention(settings)


def _database(settings: GatewaySettings) -> Iterator[Check]:
    if settings.database.address is None:
        return
    about = f"database {settings.database.url}"
    try:
        database = Database(index_address(settings.database, settings.state_folder), only_to_look=True)
    except OlderTablesError as error:
        yield Check(about, Verdict.NOTE, f"answers; {error}")
        return
    except (ConfigurationError, DBAPIError) as error:
        reason = str(error.orig if isinstance(error, DBAPIError) else error).strip().partition("\n")[0]
        yield Check(about, Verdict.WRONG, reason)
        return
    try:
        yield Check(about, Verdict.OK, "answers, its tables are up to date")
        for worker in WorkerRegistry(database).all():
            silent = worker.silent_seconds > settings.workers.lost_seconds and worker.state == WorkerState.ALIVE
            text = f"{worker.state} on {worker.host}, said so {worker.silent_seconds:.0f} s ago"
            yield Check(f"worker {worker.name}", Verdict.NOTE if silent else Verdict.OK, text)
    finally:
        database.close()


def _audit_trail(trail: Path) -> Iterator[Check]:
    about = "audit trail" if trail.name == "audit.jsonl" else f"audit trail {trail.name}"
    if not trail_files(trail):
        yield Check(about, Verdict.NOTE, f"{trail} is not there yet")
        return
    try:
        found = verified(trail)
    except (AuditError, OSError) as error:
        yield Check(about, Verdict.WRONG, str(error))
        return
    files = f" in {found.files} files" if found.files > 1 else ""
    yield Check(about, Verdict.OK, f"{found.records} records{files}, the chain is whole")
    if found.first > 1:
        yield Check(about, Verdict.NOTE, f"records before number {found.first} are not in this folder any more")


def _retention(settings: GatewaySettings) -> Iterator[Check]:
    retention, least = settings.retention, settings.receive.minimum_free_megabytes
    if not retention.deletes:
        yield Check("retention", Verdict.NOTE, "nothing is ever deleted: the disk fills")
        return
    mark = retention.free_megabytes
    if mark is not None and mark <= least:
        text = f"free_megabytes is {mark}, and instances are refused below {least} already: give more"
        yield Check("retention.free_megabytes", Verdict.WRONG, text)
    days = "when room is needed" if retention.instances_days is None else f"after {retention.instances_days:g} days"
    left = "never" if retention.results_days is None else f"after {retention.results_days:g} days"
    yield Check("retention", Verdict.OK, f"instances of finished studies go {days}, what is left of them {left}")


def _ports(settings: GatewaySettings) -> Iterator[Check]:
    receive, web = settings.receive, settings.web
    yield _port("receive", receive.host, receive.port)
    if receive.tls is not None:
        yield from _certificate(receive.tls, "receive.tls")
    if receive.peers:
        yield Check("receive.peers", Verdict.OK, ", ".join(peer.name for peer in receive.peers))
    else:
        yield Check("receive.peers", Verdict.NOTE, "none: whoever reaches the port may associate")
    if not web.enabled:
        return
    yield _port("web", web.host, web.port)
    if web.tls is not None:
        yield from _certificate(web.tls, "web.tls")
    if web.oidc is not None:
        yield _identity_provider(web.oidc)
    if web.token_file is None:
        if web.oidc is None:
            yield Check("web.token_file", Verdict.NOTE, "none: whoever reaches the port sees the status page")
        return
    try:
        Token.from_file(web.token_file)
    except ConfigurationError as error:
        yield Check("web.token_file", Verdict.WRONG, str(error))
        return
    open_to_others = web.token_file.stat().st_mode & 0o077
    text = "others may read it: chmod 600" if open_to_others else "only its owner may read it"
    yield Check("web.token_file", Verdict.NOTE if open_to_others else Verdict.OK, text)


def _identity_provider(settings: OidcSettings) -> Check:
    try:
        Provider(settings).discover()
    except (ProviderUnavailableError, ConfigurationError) as error:
        return Check("web.oidc", Verdict.WRONG, str(error))
    return Check("web.oidc", Verdict.OK, f"{settings.issuer} answers")


def _port(section: str, host: str, port: int) -> Check:
    if port == 0:
        return Check(section, Verdict.NOTE, f"a free port of {host} will be taken")
    loopback = "127.0.0.1" if host in ("localhost", "0.0.0.0") else "::1" if host == "::" else host
    try:
        with socket.create_connection((loopback, port), timeout=2):
            return Check(section, Verdict.OK, f"something listens on {host}:{port}")
    except OSError:
        return Check(section, Verdict.NOTE, f"nothing listens on {host}:{port}: the gateway does not run")


def _certificate(settings: ServerTlsSettings, section: str) -> Iterator[Check]:
    try:
        server_context(settings, section)
        ends = expiry(settings.certificate)
    except ConfigurationError as error:
        yield Check(section, Verdict.WRONG, str(error))
        return
    left = ends - datetime.now(UTC)
    text = f"{settings.certificate} is valid until {ends:%Y-%m-%d}"
    if left < timedelta(0):
        yield Check(section, Verdict.WRONG, f"{text}: it has expired")
    elif left < _EXPIRES_SOON:
        yield Check(section, Verdict.NOTE, f"{text}: renew it within {left.days} days")
    else:
        yield Check(section, Verdict.OK, text)
    if settings.trusted is None:
        yield Check(section, Verdict.NOTE, "trusted is not set: peers need no certificate")


def _destinations(settings: GatewaySettings) -> Iterator[Check]:
    root: Path = settings.state_folder.resolve()
    for name, configured in settings.routing.destinations.items():
        about = f"destination {name}"
        try:
            yield Check(about, Verdict.OK, open_destination(configured, root, settings.delivery).check())
        except (DestinationUnavailableError, ConfigurationError) as error:
            yield Check(about, Verdict.WRONG, str(error))
    named = {destination for route in settings.routing.routes for destination in route.destinations}
    for name in sorted(set(settings.routing.destinations) - named):
        yield Check(f"destination {name}", Verdict.NOTE, "no route names it")


def _sources(settings: GatewaySettings) -> Iterator[Check]:
    for name, configured in settings.sources.items():
        about = f"source {name}"
        try:
            source = open_source(name, configured, settings.pull, settings.receive.ae_title)
            yield Check(about, Verdict.OK, source.check())
        except (SourceUnavailableError, ConfigurationError) as error:
            yield Check(about, Verdict.WRONG, str(error))
