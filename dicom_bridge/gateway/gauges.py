"""The state of the gateway as Prometheus sees it: read when it asks, from the index, the ledger and the disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dicom_bridge.delivery.condition import DestinationConditions
from dicom_bridge.events.metrics import Metrics
from dicom_bridge.ingest.dimse.scp import StorageScp
from dicom_bridge.jobs.ledger import JobLedger
from dicom_bridge.store.files.instance_files import InstanceFiles
from dicom_bridge.store.index import StudyIndex
from dicom_bridge.store.marks import FindingMarks
from dicom_bridge.store.states import JobState


def show_state(
    metrics: Metrics,
    index: StudyIndex,
    ledger: JobLedger,
    conditions: DestinationConditions,
    files: InstanceFiles,
    scp: StorageScp,
    health: Callable[[], Mapping[str, str]],
    marks: FindingMarks,
) -> None:
    """Add the gauges of one gateway to its metrics."""

    def jobs() -> dict[tuple[str, ...], float]:
        return {(state,): ledger.count(state) for state in JobState}

    def destinations() -> dict[tuple[str, ...], float]:
        return {(name,): float(not condition.is_suspended) for name, condition in conditions.all().items()}

    def parts() -> dict[tuple[str, ...], float]:
        return {(part,): float(status == "ok") for part, status in health().items()}

    show = metrics.show
    show("rcmed_associations_open", "Associations now.", (), lambda: {(): scp.association_count})
    show("rcmed_studies_open", "Studies that are not complete.", (), lambda: {(): len(index.open_studies())})
    show("rcmed_jobs", "Jobs by state.", ("state",), jobs)
    show("rcmed_deliveries", "Deliveries by state.", ("destination", "state"), ledger.delivery_counts)
    show("rcmed_destination_ok", "0: suspended after an attempt that failed.", ("destination",), destinations)
    show("rcmed_disk_free_bytes", "Free disk under the state folder.", (), lambda: {(): files.free_megabytes() * 1e6})
    told = "Findings that were marked right or wrong, by target and by what was said of it."
    show("rcmed_marked_findings", told, ("target", "status", "mark"), marks.counts)
    show("rcmed_part_ok", "1: sound, as /healthz tells.", ("part",), parts)
