"""What a receiving process opens to others: the DICOM port, the sources that it follows, and the web port."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter

from dicom_bridge.delivery.condition import DestinationConditions
from dicom_bridge.delivery.dimse.commitment import CommitmentReports
from dicom_bridge.events.metrics import Metrics
from dicom_bridge.events.sink import Observer
from dicom_bridge.gateway.gauges import show_state
from dicom_bridge.gateway.study_watch import StudyWatch
from dicom_bridge.ingest.dimse.commitment import CommitmentScp
from dicom_bridge.ingest.dimse.scp import StorageScp
from dicom_bridge.ingest.intake import InstanceIntake
from dicom_bridge.ingest.orthanc import OrthancFollower
from dicom_bridge.ingest.pull import open_source
from dicom_bridge.ingest.pull.orders import PullOrders
from dicom_bridge.ingest.pull.puller import Puller
from dicom_bridge.ingest.watched_folder import WatchedFolder
from dicom_bridge.jobs.control import JobControl
from dicom_bridge.jobs.engine import JobEngine
from dicom_bridge.jobs.ledger import JobLedger
from dicom_bridge.operations.operator_actions import OperatorActions
from dicom_bridge.operations.study_listing import StudyListing
from dicom_bridge.security.tls import server_context
from dicom_bridge.settings import GatewaySettings
from dicom_bridge.store.commitments import CommitmentRequests
from dicom_bridge.store.database import Database
from dicom_bridge.store.files.instance_files import InstanceFiles
from dicom_bridge.store.index import StudyIndex
from dicom_bridge.store.marks import FindingMarks
from dicom_bridge.store.resends import Resends
from dicom_bridge.store.study_facts import forget_patient_names
from dicom_bridge.store.timeline import StudyTimeline
from dicom_bridge.web.actions import actions
from dicom_bridge.web.application import build_application
from dicom_bridge.web.auth import open_door
from dicom_bridge.web.connections import ConnectionLimits
from dicom_bridge.web.probes import operations
from dicom_bridge.web.pull import pull
from dicom_bridge.web.server import WebServer
from dicom_bridge.web.status import Shown, status_pages
from dicom_bridge.web.stow import stow
from rcmed.errors import ConfigurationError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inside:
    """What lies behind the ports.

    Attributes:
        root: the state folder.
        orders: of studies that are to be fetched; None where no source is configured.
        health: name of a part -> "ok", or what is wrong with it.
        attention: what an operator should look at though the gateway itself is sound, by name.
    """

    root: Path
    files: InstanceFiles
    database: Database
    index: StudyIndex
    story: StudyTimeline
    ledger: JobLedger
    control: JobControl
    operating: OperatorActions
    watch: StudyWatch
    engine: JobEngine
    observer: Observer
    metrics: Metrics
    conditions: DestinationConditions
    reports: CommitmentReports
    orders: PullOrders | None
    health: Callable[[], dict[str, str]]
    attention: Callable[[], dict[str, str]]


class Listening:
    """The ports and sources of one process."""

    def __init__(self, settings: GatewaySettings, inside: Inside) -> None:
        self._settings = settings
        self._inside = inside
        receive = settings.receive
        names = settings.web.patient_names
        if not names:
            forget_patient_names(inside.database)
        self.intake = InstanceIntake(
            receive, inside.files, inside.index, inside.watch.wake, names, Resends(inside.database)
        )
        self._commitment = CommitmentScp(
            receive,
            inside.files,
            CommitmentRequests(inside.database),
            inside.reports,
            lambda text, level: inside.index.add_line(text, level=level),
        )
        self._scp = StorageScp(receive, self.intake, inside.observer, self._commitment, inside.watch.wake)
        self._sources: dict[str, WatchedFolder | OrthancFollower | Puller] = {}
        self._web: WebServer | None = None

    @property
    def dicom_port(self) -> int:
        """The DICOM port in use; 0 where it does not listen."""
        return self._scp.port

    @property
    def web_port(self) -> int | None:
        """The web port in use; None where it is switched off."""
        return self._web.port if self._web else None

    def start(self) -> None:
        """Listen.

        Raises:
            ConfigurationError: a port is taken.
        """
        settings, inside = self._settings, self._inside
        self._commitment.start()
        _listen(self._scp.start, "receive", settings.receive.host, settings.receive.port)
        self._open_sources()
        if settings.web.enabled:
            self._web = self._open_web()
        show_state(
            inside.metrics,
            inside.index,
            inside.ledger,
            inside.conditions,
            inside.files,
            self._scp,
            inside.health,
            FindingMarks(inside.database),
        )
        _LOG.info("listening for DICOM on port %s, status page on port %s", self.dicom_port, self.web_port)

    def stop(self) -> None:
        """Stop listening; what is under way is not acknowledged."""
        self._scp.stop()
        for source in self._sources.values():
            source.stop()
        self._commitment.stop()
        if self._web is not None:
            self._web.stop()

    def health(self) -> dict[str, str]:
        """Name of a part -> "ok", or what is wrong with it."""
        parts = {"receive": "ok" if self._scp.port else "not listening"}
        return parts | {name: source.health() for name, source in self._sources.items()}

    def _open_sources(self) -> None:
        """Start what brings instances without being sent them by DICOM."""
        settings, inside = self._settings, self._inside
        our_ae = settings.receive.ae_title
        if settings.folder.path is not None:
            self._sources["folder"] = WatchedFolder(settings.folder, self.intake, inside.observer, our_ae)
        if settings.orthanc.url is not None:
            self._sources["orthanc"] = OrthancFollower(settings.orthanc, self.intake, inside.observer, our_ae)
        if inside.orders is not None:
            orders = inside.orders
            archives = {
                name: open_source(name, named, settings.pull, our_ae) for name, named in settings.sources.items()
            }
            inside.metrics.show(
                "rcmed_pulls",
                "Orders to fetch studies, by state.",
                ("state",),
                lambda: {(state,): count for state, count in orders.counts().items()},
            )
            self._sources["pull"] = Puller(
                settings.pull, archives, orders, self.intake, inside.ledger, inside.observer, our_ae
            )
        for source in self._sources.values():
            source.start()

    def _open_web(self) -> WebServer:
        settings, inside = self._settings, self._inside
        web, receive = settings.web, settings.receive
        parts: tuple[APIRouter, ...] = (
            operations(inside.health, inside.metrics, inside.attention),
            stow(self.intake, inside.observer, receive.ae_title, receive.idle_seconds),
            status_pages(self._shown()),
            actions(inside.operating),
        )
        puller = self._sources.get("pull")
        if isinstance(puller, Puller) and inside.orders is not None:
            parts += (pull(inside.orders, settings.sources, puller.wake),)
        names = [web.host, *web.host_names]
        door = open_door(web, inside.observer)
        application = build_application(parts, door, names, inside.observer.request_refused)
        tls = None if web.tls is None else server_context(web.tls, "web.tls")
        limits = ConnectionLimits(web.request_seconds, web.idle_seconds, web.maximum_connections)
        server = WebServer(application, web.host, web.port, tls, limits)
        _listen(server.start, "web", web.host, web.port)
        return server

    def _shown(self) -> Shown:
        inside = self._inside
        return Shown(
            inside.index,
            inside.story,
            inside.ledger,
            inside.control,
            inside.root,
            self._settings.routing.routes,
            inside.health,
            inside.conditions.all,
            lambda: self._scp.association_count,
            inside.engine.steps,
            StudyListing(inside.database),
            FindingMarks(inside.database),
            inside.attention,
            self._settings.web,
            inside.observer.report_downloaded,
        )


def _listen(start: Callable[[], None], section: str, host: str, port: int) -> None:
    try:
        start()
    except OSError as error:
        raise ConfigurationError(
            f"{section}.port: can't listen on {host}:{port} ({error.strerror}): choose another port, 0 for a free one"
        ) from None
