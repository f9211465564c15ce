"""Follows an Orthanc: when it says that a study is stable, the study's new instances are fetched.

Orthanc numbers its changes. The number up to which everything is dealt with is kept in the index after the instances
are, so a restart goes on where it was; a study that is told twice (Orthanc does that) brings nothing new.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from sqlalchemy.exc import DBAPIError

from dicom_bridge.delivery.destination import DestinationUnavailableError
from dicom_bridge.delivery.orthanc import MissingResourceError, OrthancServer
from dicom_bridge.events.sink import Observer
from dicom_bridge.ingest.intake import InstanceIntake, Origin, RefusedInstanceError
from dicom_bridge.settings import FollowedOrthancSettings

CALLING_AE = "ORTHANC"
_CHANGES_AT_ONCE = 100
_LONGEST_WAIT_SECONDS = 300.0
_TIMEOUT_SECONDS = 60.0
_LOG = logging.getLogger(__name__)


class OrthancFollower:
    """Asks for changes, in a thread of its own."""

    def __init__(
        self, settings: FollowedOrthancSettings, intake: InstanceIntake, observer: Observer, our_ae: str
    ) -> None:
        """Prepare.

        Args:
            settings: which Orthanc; its `url` is set.
            intake: takes the instances; routes see them as from the AE title ORTHANC.
            observer: is told of instances.
            our_ae: our AE title, which routes see as the called one.
        Raises:
            ConfigurationError: a file of the settings can't be used.
        """
        assert settings.url is not None
        self._settings = settings
        self._server = OrthancServer(
            settings.url, settings.user, settings.password_file, settings.tls, _TIMEOUT_SECONDS, "section orthanc"
        )
        self._intake = intake
        self._observer = observer
        self._our_ae = our_ae
        self._stopping = threading.Event()
        self._trouble = ""
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="orthanc", daemon=True)

    def start(self) -> None:
        """Start following."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; the rest is fetched after the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def health(self) -> str:
        """ "ok", or what hinders the following."""
        return self._trouble or "ok"

    def follow(self) -> bool:
        """Deal with the next changes; returns whether there may be more at once.

        Raises:
            DestinationUnavailableError: Orthanc does not answer.
            RefusedInstanceError: we lack room; nothing is passed over.
            DBAPIError: the index can't be written.
        """
        since = self._intake.index.followed_to(self._server.url)
        if since is None:
            since = 0 if self._settings.begin == "oldest" else int(self._server.get("/changes", last="")["Last"])
            self._intake.index.follow_to(self._server.url, since)
        page = self._server.get("/changes", since=since, limit=_CHANGES_AT_ONCE)
        for change in page["Changes"]:
            if self._stopping.is_set():
                return False
            if change["ChangeType"] == "StableStudy":
                self._fetch(str(change["ID"]))
            self._intake.index.follow_to(self._server.url, int(change["Seq"]))
        return not page["Done"]

    def _run(self) -> None:
        wait = 0.0
        while not self._stopping.wait(wait):
            try:
                wait = 0.0 if self.follow() else self._settings.poll_seconds
                self._trouble, self._failures = "", 0
            except (DestinationUnavailableError, RefusedInstanceError, DBAPIError) as error:
                wait = self._after(str(error.orig) if isinstance(error, DBAPIError) else str(error))
            except Exception as error:  # what Orthanc answered was not what its interface promises
                _LOG.exception("the answer of %s could not be used", self._server.url)
                wait = self._after(f"its answer could not be used ({type(error).__name__})")

    def _after(self, trouble: str) -> float:
        """Say it once; returns the seconds until the next attempt."""
        if not self._trouble:
            _LOG.warning("following Orthanc: %s; trying again", trouble)
        self._trouble = trouble
        self._failures += 1
        return min(self._settings.poll_seconds * 2.0 ** min(self._failures - 1, 20), _LONGEST_WAIT_SECONDS)

    def _fetch(self, study: str) -> None:
        try:
            study_uid = self._server.get(f"/studies/{study}")["MainDicomTags"]["StudyInstanceUID"]
            all_series = self._server.get(f"/studies/{study}/series")
        except MissingResourceError:
            return  # deleted since
        origin: Origin | None = None
        is_whole = False
        try:
            for series in all_series:
                tags = series["MainDicomTags"]
                if tags.get("Modality") in self._settings.skipped_modalities:
                    continue
                for instance, uid in self._instances(series):
                    if self._intake.index.instance_path(study_uid, tags["SeriesInstanceUID"], uid) is not None:
                        continue
                    if origin is None:
                        identifier = self._intake.index.open_association(CALLING_AE, self._our_ae, self._server.url)
                        origin = Origin(identifier, CALLING_AE, self._our_ae)
                    self._take(instance, uid, origin)
            is_whole = True
        finally:
            if origin is not None:
                self._intake.end(origin, is_aborted=not is_whole)
                self._observer.instances_transferred(origin.association)

    def _instances(self, series: dict[str, Any]) -> list[tuple[str, str]]:
        """(Orthanc's id, SOP Instance UID) of the instances of a series."""
        try:
            instances = self._server.get(f"/series/{series['ID']}/instances")
        except MissingResourceError:
            return []
        return [(str(one["ID"]), str(one["MainDicomTags"]["SOPInstanceUID"])) for one in instances]

    def _take(self, instance: str, uid: str, origin: Origin) -> None:
        try:
            content = self._server.download(f"/instances/{instance}/file")
            arrived = self._intake.take((content,), origin)
        except MissingResourceError:
            return
        except RefusedInstanceError as error:
            if error.is_passing:
                raise
            self._intake.index.add_line(f"instance {uid} of {self._server.url} refused: {error}")
            self._observer.instance_refused("orthanc", uid, self._server.url, str(error))
            return
        self._observer.instance_taken("orthanc", arrived.outcome, len(content))
