"""A DICOMweb server as an archive: QIDO-RS to list, WADO-RS to retrieve, STOW-RS to store (PS3.18)."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import requests
from dicomweb_client import DICOMwebClient
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_bridge.series.headers.instance import NO_IMAGE_MODALITIES, numbers, text
from dicom_bridge.store.files.instance_files import UnsafeUidError, require_uid
from monailabel_app.datastores.dicom.access import PeerAccess, PeerError
from monailabel_app.datastores.dicom.archive import ArchivedSegmentation, ArchivedSeries, segmentation_entry
from rcmed.errors import InputError, RCMedError, UnreadableFileError

# The client's retries, of which there is one, are told with a traceback each; `_ask` says the same in a line.
logging.getLogger("retrying").setLevel(logging.ERROR)

Answer = TypeVar("Answer")

# As stored: nothing is transcoded on the way, so that the source instances stay what they are.
_AS_STORED = (("application/dicom", "*"),)
_SERIES_FIELDS = ("Modality", "SeriesDescription", "NumberOfSeriesRelatedInstances", "PatientID", "StudyDate")


class DicomWeb:
    """A DICOMweb server; images of every modality are listed."""

    def __init__(self, url: str, access: PeerAccess | None = None, filters: Mapping[str, str] | None = None) -> None:
        """Nothing is asked yet.

        Args:
            url: where the services lie, e.g. http://127.0.0.1:8042/dicom-web.
            access: credentials and limits.
            filters: attributes that series must match to be listed, by keyword; none lists all.
        Raises:
            ConfigurationError: the URL is no http(s) URL or holds credentials.
        """
        access = access or PeerAccess()
        url = url.strip().rstrip("/")
        session = access.session(url)
        self.name = url
        self._maximum_bytes = access.maximum_bytes
        self._filters = dict(filters or {})
        self._client = DICOMwebClient(url, session=session, timeout=access.timeout_seconds)
        self._client.set_http_retry_params(retry=False)
        # A SEG never changes, so that its header is read once; by series, with the number of its instances.
        self._headers: dict[str, tuple[int, list[ArchivedSegmentation]]] = {}
        self._lock = threading.Lock()

    def series(self) -> list[ArchivedSeries]:
        """All series whose Modality is not that of a report, a segmentation, a presentation state, ..."""
        found = [_series_entry(header) for header in self._search(self._filters)]
        images = [entry for entry in found if entry is not None and entry.modality not in NO_IMAGE_MODALITIES]
        return sorted(images, key=lambda series: (series.study_uid, series.series_uid))

    def segmentations(self) -> list[ArchivedSegmentation]:
        """All SEGs; the headers of those not seen before are read."""
        known: dict[str, tuple[int, list[ArchivedSegmentation]]] = {}
        for entry in (_series_entry(header) for header in self._search({"Modality": "SEG"})):
            if entry is None or entry.modality != "SEG":
                continue
            with self._lock:
                before = self._headers.get(entry.series_uid)
            if before is None or before[0] != entry.count or not entry.count:
                before = entry.count, self._segmentations_of(entry)
            known[entry.series_uid] = before
        with self._lock:
            self._headers = known
        return [segmentation for _, segmentations in known.values() for segmentation in segmentations]

    def instances(self, series: ArchivedSeries) -> dict[str, str]:
        """SOP Instance UIDs of a series, sorted; an instance never changes under its UID (PS3.5 9)."""
        answer = self._all_pages(
            lambda offset: self._client.search_for_instances(series.study_uid, series.series_uid, offset=offset)
        )
        uids = (text(Dataset.from_json(item), "SOPInstanceUID") for item in answer)
        return dict.fromkeys(sorted(require_uid(uid, "SOPInstanceUID (0008,0018)") for uid in uids), "")

    def fetch(self, series: ArchivedSeries, folder: Path) -> None:
        """Retrieve the instances of a series as they are stored, into an empty folder.

        Raises:
            UnreadableFileError: an instance is not of this series, or all of them are larger than the limit.
        """

        def retrieve() -> None:
            size = 0
            for instance in self._client.iter_series(series.study_uid, series.series_uid, media_types=_AS_STORED):
                if text(instance, "SeriesInstanceUID") != series.series_uid:
                    raise UnreadableFileError(f"{self.name}: an instance of another series than {series.series_uid}")
                path = folder / f"{require_uid(text(instance, 'SOPInstanceUID'), 'SOPInstanceUID (0008,0018)')}.dcm"
                instance.save_as(path, enforce_file_format=True)
                size += path.stat().st_size
                if size > self._maximum_bytes:
                    raise UnreadableFileError(
                        f"series {series.series_uid}: larger than the limit of {self._maximum_bytes} bytes"
                    )

        self._ask(retrieve)

    def fetch_segmentation(self, segmentation: ArchivedSegmentation) -> Dataset:
        """A SEG, whole."""
        return self._ask(
            lambda: self._client.retrieve_instance(
                segmentation.study_uid,
                segmentation.series_uid,
                segmentation.instance_uid,
                media_types=_AS_STORED,
            )
        )

    def store(self, path: Path) -> None:
        """Store an instance by STOW-RS; what the server says of it is heard (PS3.18 10.5.3).

        Raises:
            InputError: the server did not take it; with its failure reason.
        """
        instance = dcmread(path)
        answer = self._ask(lambda: self._client.store_instances([instance]))
        failed = answer.get("FailedSOPSequence") or []
        if failed:
            reason = numbers(failed[0], "FailureReason", 1)
            said = f"0x{int(reason[0]):04X}" if reason else "no reason told"
            raise InputError(
                f"{self.name}: did not take instance {text(instance, 'SOPInstanceUID')} (FailureReason (0008,1197): "
                f"{said})"
            )

    def _segmentations_of(self, series: ArchivedSeries) -> list[ArchivedSegmentation]:
        answer = self._ask(lambda: self._client.retrieve_series_metadata(series.study_uid, series.series_uid))
        entries = (segmentation_entry(Dataset.from_json(item, lambda *_: None)) for item in answer)
        return [entry for entry in entries if entry is not None]

    def _search(self, filters: Mapping[str, str]) -> list[Dataset]:
        answer = self._all_pages(
            lambda offset: self._client.search_for_series(
                fields=_SERIES_FIELDS, search_filters=dict(filters), offset=offset
            )
        )
        return [Dataset.from_json(item) for item in answer]

    def _all_pages(self, search: Callable[[int | None], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Search until a page brings nothing new: servers limit their pages, and some know no offset."""
        found: dict[str, dict[str, Any]] = {}
        offset = 0
        while True:
            page = self._ask(lambda: search(offset or None))  # noqa: B023 (called at once)
            before = len(found)
            found.update((json.dumps(item, sort_keys=True), item) for item in page)
            if len(found) == before:
                return list(found.values())
            offset += len(page)

    def _ask(self, question: Callable[[], Answer]) -> Answer:
        """Ask the server; whatever goes wrong on the way is one line without credentials."""
        try:
            return question()
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status in (401, 403):
                raise PeerError(
                    f"{self.name}: refuses our credentials (HTTP {status}); check user, password or token"
                ) from None
            if status in (400, 409, 413, 415, 422):
                raise InputError(f"{self.name}: does not take this (HTTP {status})") from None
            raise PeerError(f"{self.name}: answers HTTP {status}") from None
        except requests.RequestException as error:
            raise PeerError(f"{self.name}: does not answer ({type(error).__name__})") from None
        except (RCMedError, OSError):
            raise
        except Exception as error:  # an answer that is no DICOM raises nearly anything
            raise PeerError(f"{self.name}: answers what is no DICOM ({type(error).__name__})") from error


def _series_entry(header: Dataset) -> ArchivedSeries | None:
    """The entry of a series by QIDO-RS; None where its UIDs are missing or no UIDs."""
    try:
        study, series = (
            require_uid(text(header, keyword), keyword) for keyword in ("StudyInstanceUID", "SeriesInstanceUID")
        )
    except UnsafeUidError:
        return None
    count: Any = numbers(header, "NumberOfSeriesRelatedInstances", 1)
    return ArchivedSeries(
        study,
        series,
        text(header, "Modality"),
        text(header, "SeriesDescription"),
        text(header, "PatientID"),
        text(header, "StudyDate"),
        int(count[0]) if count else 0,
    )
