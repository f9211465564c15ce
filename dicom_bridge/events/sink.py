"""One place that is told what happens: it counts for Prometheus and writes the audit trail."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import DBAPIError

from dicom_bridge.events.audit import AuditEvent, AuditTrail, Outcome
from dicom_bridge.events.metrics import Metrics
from dicom_bridge.events.telemetry import Telemetry
from dicom_bridge.security.peers import Caller
from dicom_bridge.store.removals import Removal
from dicom_bridge.store.tables import JobRow
from dicom_bridge.studies.completion import Arrival, StudyProgress

_LOG = logging.getLogger(__name__)


class Observer:
    """Is told what happens, from any thread; what it can't write is logged and stops nothing."""

    def __init__(
        self,
        metrics: Metrics | None = None,
        audit: AuditTrail | None = None,
        transferred: Callable[[str], Mapping[str, Any]] | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Prepare.

        Args:
            metrics: counts; None: counts of its own that nobody reads.
            audit: the trail; None: nothing is written.
            transferred: what an association brought, by its id in the index.
            telemetry: makes traces; None: none.
        """
        self.metrics = metrics or Metrics()
        self._audit = audit
        self._transferred = transferred
        self._untransferred: deque[str] = deque()
        self._telemetry = telemetry or Telemetry()

    # receiving

    def connection_refused(self, address: str, reason: str) -> None:
        """A connection was closed before an association came about."""
        self.metrics.connections_refused.inc()
        _LOG.warning("a connection%s was closed: %s", f" from {address}" if address else "", reason)
        self._record(AuditEvent.NODE_AUTHENTICATION, Outcome.MINOR_FAILURE, address=address or None, reason=reason)

    def association_opened(self, caller: Caller, peer: str | None) -> None:
        """A peer associated."""
        self.metrics.associations.labels(peer or "any", "accepted").inc()

    def association_rejected(self, caller: Caller, reason: str) -> None:
        """A caller was turned away."""
        self.metrics.associations.labels("unknown", "rejected").inc()
        asked = (caller.calling_ae, caller.address, caller.called_ae)
        _LOG.warning("%s from %s, which asked for %s, was rejected: %s", *asked, reason)
        self._record(AuditEvent.NODE_AUTHENTICATION, Outcome.MINOR_FAILURE, **_who(caller), reason=reason)

    def instance_taken(self, source: str, outcome: str, size: int) -> None:
        """An instance was acknowledged."""
        self.metrics.instances.labels(source, outcome).inc()
        self.metrics.received_bytes.labels(source).inc(size)

    def instance_refused(self, source: str, instance_uid: str, sender: str, reason: str) -> None:
        """An instance was not taken."""
        self.metrics.instances.labels(source, "refused").inc()
        facts = {"sender": sender, "instance": instance_uid, "reason": reason}
        self._record(AuditEvent.INSTANCES_TRANSFERRED, Outcome.SERIOUS_FAILURE, **facts)

    def instances_transferred(self, association: str) -> None:
        """An association (or a request by HTTP, or a look into a folder) ended that brought instances.

        What it brought is read from the index; while that does not answer it is kept for `tell_the_rest`.
        """
        try:
            self._tell_transferred(association)
        except DBAPIError as error:
            _LOG.warning("the audit trail is told later what an association brought: %s", error.orig)
            self._untransferred.append(association)

    def tell_the_rest(self) -> None:
        """Write into the trail what associations brought that ended while the index did not answer.

        Raises:
            DBAPIError: it still does not.
        """
        while self._untransferred:
            self._tell_transferred(self._untransferred[0])
            self._untransferred.popleft()

    def _tell_transferred(self, association: str) -> None:
        if self._transferred is None or self._audit is None:
            return
        brought = self._transferred(association)
        if brought.get("studies"):
            self._record(AuditEvent.INSTANCES_TRANSFERRED, Outcome.SUCCESS, **brought)

    # working and delivering

    @contextmanager
    def step(self, name: str, job: JobRow, **facts: str | int) -> Iterator[None]:
        """Measures a step of a job."""
        begun = time.monotonic()
        try:
            with self._telemetry.step(name, job, facts):
                yield
        finally:
            self.metrics.step_seconds.labels(name).observe(time.monotonic() - begun)

    def study_completed(self, study_uid: str, progress: StudyProgress, arrivals: Sequence[Arrival], jobs: int) -> None:
        """A generation of a study was complete and handed to the jobs."""
        self._telemetry.study_completed(study_uid, progress, arrivals, jobs)

    def delivered(
        self, destination: str, study_uid: str, delivered: Sequence[str], refused: Sequence[str], confirmed_by: str
    ) -> None:
        """A destination answered for every object of a job."""
        self.metrics.delivery_attempts.labels(destination, "refused" if refused else "delivered").inc()
        self._record(
            AuditEvent.EXPORT,
            Outcome.SERIOUS_FAILURE if refused else Outcome.SUCCESS,
            destination=destination,
            study=study_uid,
            delivered=list(delivered),
            refused=list(refused) or None,
            confirmed_by=confirmed_by,
        )

    def delivery_failed(self, destination: str, study_uid: str, reason: str, given_up: bool) -> None:
        """A destination was not reached; only giving up goes into the trail, there are many attempts."""
        self.metrics.delivery_attempts.labels(destination, "given up" if given_up else "failed").inc()
        if given_up:
            outcome = Outcome.SERIOUS_FAILURE
            self._record(AuditEvent.EXPORT, outcome, destination=destination, study=study_uid, reason=reason)

    def report_downloaded(self, study_uid: str, job_id: str, address: str, user: str | None) -> None:
        """Somebody fetched a report, which names the patient, from the status page."""
        facts = {"destination": "browser", "study": study_uid, "job": job_id, "address": address, "user": user}
        self._record(AuditEvent.EXPORT, Outcome.SUCCESS, **facts)

    # cleaning

    def study_deleted(self, removal: Removal) -> bool:
        """Retention took something of a study away; returns whether the trail has it, else it is to be told again."""
        self.metrics.removals.labels(removal.kind).inc()
        return self._record(
            AuditEvent.STUDY_DELETED,
            Outcome.SUCCESS,
            study=removal.study_uid,
            deleted=removal.kind,
            reason=removal.reason,
            series=removal.series or None,
            jobs=removal.jobs or None,
            removal=removal.id,
        )

    # operators

    def operated(self, action: str, address: str, user: str | None, **facts: Any) -> None:
        """An operator did something: cancelled, retried, drove again, said that a study is complete."""
        _LOG.info("%s by an operator from %s", action, address, extra=facts)
        self._record(
            AuditEvent.APPLICATION_ACTIVITY, Outcome.SUCCESS, action=action, address=address, user=user, **facts
        )

    # the gateway itself

    def started(self, **facts: Any) -> None:
        """The gateway listens."""
        self._record(AuditEvent.APPLICATION_START, Outcome.SUCCESS, **facts)
        self._log_head("started")

    def stopped(self) -> None:
        """The gateway ends in good order."""
        self._record(AuditEvent.APPLICATION_STOP, Outcome.SUCCESS)
        self._log_head("stopped")

    def logged_in(self, address: str, subject: str) -> None:
        """Someone logged in by browser; `subject` is what the identity provider calls him."""
        self._record(AuditEvent.USER_AUTHENTICATION, Outcome.SUCCESS, address=address, subject=subject)

    def request_refused(self, address: str, path: str) -> None:
        """A request by HTTP came without the token."""
        self.metrics.http_refused.inc()
        self._record(AuditEvent.USER_AUTHENTICATION, Outcome.MINOR_FAILURE, address=address, path=path)

    def _record(self, event: AuditEvent, outcome: Outcome, **facts: Any) -> bool:
        if self._audit is None:
            return True
        try:
            self._audit.record(event, outcome, **facts)
        except (OSError, ValueError) as error:
            # A full disk must not keep instances from being refused in good order; the log says what the trail lacks.
            _LOG.error("the audit trail can't be written (%s): %s %s", error, event.value[1], facts)
            return False
        return True

    def _log_head(self, what: str) -> None:
        if self._audit is not None:
            _LOG.info("%s; head of the audit trail %s", what, self._audit.head)


def _who(caller: Caller) -> dict[str, str | None]:
    return {
        "calling_ae": caller.calling_ae,
        "called_ae": caller.called_ae,
        "address": caller.address,
        "certificate": caller.certificate,
    }
