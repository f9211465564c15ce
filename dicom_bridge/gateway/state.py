"""What a process of the gateway holds open while it runs: the state folder, the database, the audit trail."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL

from dicom_bridge.delivery.dimse.commitment import CommitmentReports
from dicom_bridge.delivery.dimse.shared_reports import SharedCommitmentReports
from dicom_bridge.events.audit import AuditTrail, Rotation
from dicom_bridge.events.metrics import Metrics
from dicom_bridge.events.sink import Observer
from dicom_bridge.events.telemetry import open_telemetry
from dicom_bridge.jobs.ledger import JobLedger
from dicom_bridge.settings import GatewaySettings, RetentionSettings
from dicom_bridge.store.database import Database, index_address, open_database
from dicom_bridge.store.files.folder_lock import claim_name, lock_state_folder
from dicom_bridge.store.files.instance_files import InstanceFiles
from dicom_bridge.store.index import StudyIndex
from dicom_bridge.store.timeline import StudyTimeline
from rcmed.errors import ConfigurationError

ALONE = "gateway"
"""Name of a process that shares its state with none."""


@dataclass(frozen=True)
class OpenState:
    """The state of a gateway, as this process has it open.

    Attributes:
        name: of this process among those that share the state.
        is_shared: whether others may, on a PostgreSQL database.
        jobs: where the engine keeps its jobs: a file of SQLite, or the shared database.
    """

    name: str
    is_shared: bool
    jobs: Path | URL
    files: InstanceFiles
    database: Database
    index: StudyIndex
    timeline: StudyTimeline
    ledger: JobLedger
    metrics: Metrics
    observer: Observer
    reports: CommitmentReports


def open_state(settings: GatewaySettings, root: Path, receives: bool, held: ExitStack) -> OpenState:
    """Take the state folder, open what is in it, and end the associations that an earlier run left open.

    Args:
        settings: of everything.
        root: the state folder, resolved.
        receives: whether this process receives; one that does not shares its state.
        held: closes everything again.
    Raises:
        ConfigurationError: the state folder is in use or can't be written, or the database can't be used.
    """
    address = index_address(settings.database, root)
    is_shared = isinstance(address, URL)
    if not (receives or is_shared):
        raise ConfigurationError("database.url: must name a PostgreSQL database: SQLite serves one process")
    held.enter_context(lock_state_folder(root, is_shared))
    name, trail = ALONE, "audit.jsonl"
    if is_shared:
        name, lock = claim_name(root, settings.workers.name)
        held.enter_context(lock)
        trail = f"audit-{name}.jsonl"
    files = InstanceFiles(root, name if is_shared else None, settings.receive.keep_cached)
    files.prepare()
    database = open_database(address)
    held.callback(database.close)
    index = StudyIndex(database, receiver=name if is_shared else None)
    metrics = Metrics()
    observer = _open_observer(settings, root / trail, name, index, metrics, held)
    for association in index.release_all_associations():
        observer.instances_transferred(association)
    return OpenState(
        name=name,
        is_shared=is_shared,
        jobs=address if isinstance(address, URL) else root / "jobs.sqlite",
        files=files,
        database=database,
        index=index,
        timeline=StudyTimeline(database),
        ledger=JobLedger(database),
        metrics=metrics,
        observer=observer,
        reports=SharedCommitmentReports(database) if is_shared else CommitmentReports(),
    )


def _open_observer(
    settings: GatewaySettings, trail: Path, name: str, index: StudyIndex, metrics: Metrics, held: ExitStack
) -> Observer:
    audit = AuditTrail(trail, rotation=_rotation(settings.retention))
    held.callback(audit.close)
    telemetry = open_telemetry(settings.telemetry, name)
    held.callback(telemetry.close)
    return Observer(metrics, audit, index.transferred, telemetry)


def _rotation(settings: RetentionSettings) -> Rotation:
    megabytes, days = settings.audit_megabytes, settings.audit_days
    return Rotation(
        bytes=None if megabytes is None else round(megabytes * 1e6), seconds=None if days is None else days * 86_400.0
    )
