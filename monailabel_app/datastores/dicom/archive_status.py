"""How many images and labels an archive has, kept for a moment: MONAI Label asks for it with every /info."""

from __future__ import annotations

import threading
import time
from typing import Any

from monailabel_app.datastores.dicom.access import PeerError
from monailabel_app.datastores.dicom.archive_index import ArchiveIndex, is_labelled
from monailabel_app.datastores.dicom.archived_labels import tags_in

STATUS_SECONDS = 5.0
"""How old the counts may be."""


class ArchiveStatus:
    """The counts of an archive. Safe to call from any thread."""

    def __init__(self, index: ArchiveIndex) -> None:
        self._index = index
        self._lock = threading.Lock()
        self._counted: tuple[float, dict[str, Any]] | None = None

    def forget(self) -> None:
        """Something changed: count anew when next asked."""
        self._counted = None

    def now(self) -> dict[str, Any]:
        """The counts, at most five seconds old; where the archive is silent they say so."""
        with self._lock:
            now = time.monotonic()
            if self._counted is None or now - self._counted[0] > STATUS_SECONDS:
                self._counted = now, self._count()
            return dict(self._counted[1])

    def _count(self) -> dict[str, Any]:
        try:
            listing = self._index.listing()
        except PeerError as error:
            return {"total": 0, "completed": 0, "label_tags": {}, "error": str(error)}
        completed = sum(is_labelled(labels, None, None) for labels in listing.labels.values())
        return {"total": len(listing.images), "completed": completed, "label_tags": tags_in(listing.labels)}
