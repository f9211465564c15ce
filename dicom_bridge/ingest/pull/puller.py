"""Works off the orders: asks the archive what a study has, has brought what we do not have, and sees that it came."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence

from sqlalchemy.exc import DBAPIError

from dicom_bridge.events.sink import Observer
from dicom_bridge.ingest.intake import InstanceIntake, Origin, RefusedInstanceError
from dicom_bridge.ingest.pull.orders import PullOrders, PullState
from dicom_bridge.ingest.pull.source import RemoteSeries, Source, SourceUnavailableError
from dicom_bridge.jobs.ledger import JobLedger
from dicom_bridge.settings import PullSettings
from dicom_bridge.store.states import JobState
from dicom_bridge.store.tables import PullRow
from rcmed.errors import InputError

_POLL_SECONDS = 1.0
_STUDIES_AT_ONCE = 500
_LOG = logging.getLogger(__name__)


class Puller:
    """One order after another, in a thread of its own."""

    def __init__(
        self,
        settings: PullSettings,
        sources: Mapping[str, Source],
        orders: PullOrders,
        intake: InstanceIntake,
        ledger: JobLedger,
        observer: Observer,
        our_ae: str,
    ) -> None:
        """Prepare.

        Args:
            settings: pace and patience.
            sources: archives by name.
            orders: what is to be fetched.
            intake: takes the instances; routes see them as from an AE title that is the archive's name, and what
                C-MOVE sends as from the archive's AE title.
            ledger: tells how many jobs are unfinished.
            observer: is told of instances.
            our_ae: our AE title, which routes see as the called one.
        """
        self._settings = settings
        self._sources = sources
        self._orders = orders
        self._intake = intake
        self._ledger = ledger
        self._observer = observer
        self._our_ae = our_ae
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._troubles: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="pull", daemon=True)

    def start(self) -> None:
        """Start working."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; what is unfinished goes on after the next start."""
        self._stopping.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def wake(self) -> None:
        """There is a new order."""
        self._woken.set()

    def health(self) -> str:
        """ "ok", or which archives failed at the last attempt."""
        if not self._thread.is_alive():
            return "not running"
        return "; ".join(f"{name}: {text}" for name, text in sorted(self._troubles.copy().items())) or "ok"

    def work(self) -> bool:
        """Work on the next order; False when none is due, or too much is unfinished.

        Raises:
            DBAPIError: the index can't be read or written.
        """
        unfinished = len(self._intake.index.open_studies()) + sum(
            self._ledger.count(state) for state in (JobState.QUEUED, JobState.RUNNING)
        )
        order = self._orders.next(self._sources, studies_too=unfinished < self._settings.maximum_unfinished)
        if order is None:
            return False
        source = self._sources[order.source]
        try:
            text = self._fetch(source, order) if order.study_uid is not None else self._expand(source, order)
            self._orders.finish(order.id, PullState.DONE, text)
            self._troubles.pop(order.source, None)
        except SourceUnavailableError as error:
            self._troubles[order.source] = str(error)
            self._failed(order, str(error))
        except RefusedInstanceError as error:  # we lack room: that is not the archive's fault
            self._failed(order, str(error), is_ours=True)
        except InputError as error:
            self._failed(order, str(error), is_final=True)
        except DBAPIError:
            raise
        except Exception as error:  # what the archive answered was not what its interface promises
            _LOG.exception("the answer of source %s could not be used", order.source)
            self._failed(order, f"its answer could not be used ({type(error).__name__})")
        return True

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                busy = self.work()
            except DBAPIError as error:
                _LOG.error("pulling: the index can't be used, trying again soon: %s", error.orig)
                busy = False
            if not busy:
                self._woken.wait(_POLL_SECONDS)
                self._woken.clear()

    def _expand(self, source: Source, order: PullRow) -> str:
        """Make an order of each study that meets a query; done again after a crash, none is ordered twice."""
        batch: list[str] = []
        count = 0
        for study_uid in source.studies(order.query or {}):
            count += 1
            batch.append(study_uid)
            if len(batch) == _STUDIES_AT_ONCE:
                self._orders.add_studies(order.source, batch)
                self._orders.keep(order.id)
                batch = []
        self._orders.add_studies(order.source, batch)
        return f"{count} studies"

    def _fetch(self, source: Source, order: PullRow) -> str:
        study_uid = str(order.study_uid)
        wanted = [
            series for series in source.series(study_uid) if series.modality not in self._settings.skipped_modalities
        ]
        total = sum(len(series.instances) for series in wanted)
        if not total:
            raise InputError(f"source {source.name} has no images of study {study_uid}")
        bringing = _Bringing(source, study_uid, self._intake, self._observer, self._our_ae)
        there = 0
        left: list[str] | None = None
        try:
            for series in wanted:
                if self._stopping.is_set():
                    raise SourceUnavailableError("the gateway stops")
                missing = bringing.missing(series)
                there += len(series.instances) - len(missing)
                if missing:
                    self._orders.keep(order.id)
                    source.fetch(study_uid, series, missing, bringing.take)
            left = [uid for series in wanted for uid in bringing.missing(series)]
        finally:
            bringing.end(is_aborted=left != [])
        if left:
            raise SourceUnavailableError(f"{len(left)} of {total} instances did not come, {left[0]} for one")
        refused = f", {len(bringing.refused)} refused" if bringing.refused else ""
        return f"{total - there - len(bringing.refused)} instances fetched, {there} were there{refused}"

    def _failed(self, order: PullRow, text: str, is_final: bool = False, is_ours: bool = False) -> None:
        given_up = is_final or (order.attempts >= self._settings.maximum_attempts and not is_ours)
        outcome = "given up" if given_up else "will be tried again"
        if given_up or order.text != text:
            self._intake.index.add_line(
                f"pull from {order.source}: {text}; {outcome}",
                level="error" if given_up else "warning",
                study_uid=order.study_uid,
            )
        if given_up:
            self._orders.finish(order.id, PullState.FAILED, text)
        else:
            # Stopped in the middle: the next start goes on at once.
            wait = 0.0 if self._stopping.is_set() else self._settings.wait_before(order.attempts)
            self._orders.postpone(order.id, wait, text)


class _Bringing:
    """What comes of one study."""

    def __init__(self, source: Source, study_uid: str, intake: InstanceIntake, observer: Observer, our_ae: str) -> None:
        self._source = source
        self._study_uid = study_uid
        self._intake = intake
        self._observer = observer
        self._our_ae = our_ae
        self._origin: Origin | None = None
        self.refused: set[str] = set()

    def missing(self, series: RemoteSeries) -> list[str]:
        """SOP Instance UIDs that we neither have nor refused."""
        have = self._intake.index.instances_of(self._study_uid, series.series_uid)
        return [uid for uid in series.instances if uid not in have and uid not in self.refused]

    def take(self, parts: Sequence[bytes | memoryview]) -> None:
        """Take an instance.

        Raises:
            RefusedInstanceError: we lack room.
        """
        if self._origin is None:
            identifier = self._intake.index.open_association(self._source.name, self._our_ae, self._source.name)
            self._origin = Origin(identifier, self._source.name, self._our_ae)
        try:
            arrived = self._intake.take(parts, self._origin, expected_study=self._study_uid)
        except RefusedInstanceError as error:
            if error.is_passing:
                raise
            uid = error.instance_uid or "of unknown UID"
            self.refused.add(uid)
            self._intake.index.add_line(
                f"instance {uid} from {self._source.name} refused: {error}", study_uid=self._study_uid
            )
            self._observer.instance_refused("pull", uid, self._source.name, str(error))
            return
        self._observer.instance_taken("pull", arrived.outcome, sum(memoryview(part).nbytes for part in parts))

    def end(self, is_aborted: bool) -> None:
        """Nothing more comes; `is_aborted`: though it should have."""
        if self._origin is not None:
            self._intake.end(self._origin, is_aborted)
            self._observer.instances_transferred(self._origin.association)
