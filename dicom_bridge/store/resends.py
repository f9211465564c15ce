"""Instances that came again: from whom, of which study, and how many. The first one of each is kept."""

from __future__ import annotations

import logging
import threading

from sqlalchemy.exc import DBAPIError

from dicom_bridge.store.database import Database
from dicom_bridge.store.tables import ResendRow

_LOG = logging.getLogger(__name__)


class Resends:
    """Counts in memory while an association lasts, and writes at its end, so that a resend costs nothing by instance.

    An association that the gateway itself does not live to see the end of is not counted. Safe to call from any thread.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counts: dict[str, dict[str, list[int]]] = {}
        self._lock = threading.Lock()

    def count(self, association: str, study_uid: str, differs: bool) -> None:
        """An instance of a study came again; `differs`: with other content."""
        with self._lock:
            counted = self._counts.setdefault(association, {}).setdefault(study_uid, [0, 0])
            counted[0] += 1
            counted[1] += differs

    def end(self, association: str) -> dict[str, tuple[int, int]]:
        """Write down what an association brought again.

        Returns:
            study -> how many instances, and how many of them with other content. A database that fails is told in the
            log: nobody waits for these figures.
        """
        with self._lock:
            counted = self._counts.pop(association, {})
        if not counted:
            return {}
        try:
            with self._database.writing() as session:
                for study_uid, (instances, differing) in counted.items():
                    session.add(
                        ResendRow(
                            association=association,
                            study_uid=study_uid,
                            instances=instances,
                            differing=differing,
                        )
                    )
        except DBAPIError as error:
            _LOG.warning("what came again can't be recorded now: %s", str(error.orig).partition("\n")[0])
        return {study_uid: (instances, differing) for study_uid, (instances, differing) in counted.items()}
