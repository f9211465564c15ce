"""A folder of DICOM files, in whatever subfolders, as an archive; SEGs are written into `labels` below it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from dicom_bridge.results.segmentations.reading import SEGMENTATION_CLASSES
from dicom_bridge.series.dicom_reader import MAX_FILES
from dicom_bridge.series.headers.instance import load_instance, text
from dicom_bridge.store.files.instance_files import UnsafeUidError, require_uid
from monailabel_app.datastores.dicom.archive import ArchivedSegmentation, ArchivedSeries, segmentation_entry
from rcmed.durable_files import write_durably
from rcmed.errors import InputError, UnreadableFileError

LABELS = "labels"
"""Folder below the studies into which SEGs go, by study."""


@dataclass(frozen=True)
class _File:
    """What a file is: an image instance, a SEG, or (neither) something else."""

    instance_uid: str = ""
    series: ArchivedSeries | None = None
    segmentation: ArchivedSegmentation | None = None


class DicomFolder:
    """All DICOM files of a folder and below; headers are read once, and again when a file changes."""

    def __init__(self, folder: Path, without: Path | None = None) -> None:
        """All below `folder` but what is below `without` (our own state, where it lies in the folder)."""
        if not folder.is_dir():
            raise UnreadableFileError(f"{folder}: no such folder; give a folder with DICOM files")
        self.name = str(folder)
        self._folder = folder.resolve()
        self._without = without.resolve() if without is not None else None
        self._known: dict[Path, tuple[tuple[int, int], _File]] = {}
        self._lock = threading.Lock()

    def series(self) -> list[ArchivedSeries]:
        """All series that hold images, by study and series UID."""
        found: dict[str, ArchivedSeries] = {}
        instances: dict[str, set[str]] = {}
        for _, file in self._files():
            if file.series is not None:
                found.setdefault(file.series.series_uid, file.series)
                instances.setdefault(file.series.series_uid, set()).add(file.instance_uid)
        counted = [replace(series, count=len(instances[uid])) for uid, series in found.items()]
        return sorted(counted, key=lambda series: (series.study_uid, series.series_uid))

    def segmentations(self) -> list[ArchivedSegmentation]:
        """All SEGs below the folder, whoever put them there; a SEG that is there twice counts once."""
        found = {file.instance_uid: file.segmentation for _, file in self._files() if file.segmentation is not None}
        return list(found.values())

    def instances(self, series: ArchivedSeries) -> dict[str, str]:
        """SOP Instance UIDs of a series, sorted, with the time and size of their files."""
        statuses = {uid: path.stat() for uid, path in sorted(self._paths(series).items())}
        return {uid: f"{status.st_mtime_ns} {status.st_size}" for uid, status in statuses.items()}

    def fetch(self, series: ArchivedSeries, folder: Path) -> None:
        """Link the instances of a series into an empty folder; the files stay where they are."""
        for uid, path in self._paths(series).items():
            (folder / f"{uid}.dcm").symlink_to(path)

    def fetch_segmentation(self, segmentation: ArchivedSegmentation) -> Dataset:
        """A SEG, whole.

        Raises:
            UnreadableFileError: it is gone or damaged.
        """
        for path, file in self._files():
            if file.instance_uid == segmentation.instance_uid and file.segmentation is not None:
                try:
                    return dcmread(path)
                except Exception as error:  # pydicom raises nearly anything on damaged files
                    raise UnreadableFileError(f"{path}: can't be read ({type(error).__name__})") from error
        raise UnreadableFileError(f"{self._folder}: SEG {segmentation.instance_uid} is no longer there")

    def store(self, path: Path) -> None:
        """Copy an instance to its place below the folder, durably.

        Raises:
            InputError: it has no UIDs, or the folder can't be written.
        """
        header = dcmread(path, stop_before_pixels=True, specific_tags=["StudyInstanceUID", "SOPInstanceUID"])
        study = require_uid(text(header, "StudyInstanceUID"), "StudyInstanceUID (0020,000D)")
        instance = require_uid(text(header, "SOPInstanceUID"), "SOPInstanceUID (0008,0018)")
        try:
            write_durably(self._folder / LABELS / study / f"{instance}.dcm", path.read_bytes())
        except OSError as error:
            raise InputError(f"{self._folder / LABELS}: can't be written ({error.strerror}); mend its rights") from None

    def _paths(self, series: ArchivedSeries) -> dict[str, Path]:
        return {
            file.instance_uid: path
            for path, file in self._files()
            if file.series is not None and file.series.series_uid == series.series_uid
        }

    def _files(self) -> list[tuple[Path, _File]]:
        """Every DICOM file by path; links that lead out of the folder are passed over."""
        with self._lock:
            known: dict[Path, tuple[tuple[int, int], _File]] = {}
            for path in _regular_files(self._folder, self._without):
                try:
                    status = path.stat()
                except OSError:
                    continue
                stamp = (status.st_mtime_ns, status.st_size)
                before = self._known.get(path)
                known[path] = before if before is not None and before[0] == stamp else (stamp, _look_at(path))
                if len(known) > MAX_FILES:
                    raise UnreadableFileError(
                        f"{self._folder}: more than {MAX_FILES} files; give a subfolder, or a DICOMweb server"
                    )
            self._known = known
            return [(path, file) for path, (_, file) in sorted(known.items()) if file.instance_uid]


def holds_dicom(folder: Path) -> bool:
    """Whether any file of a folder and below is DICOM, by the preamble (PS3.10 7.1) of the first hundred files."""
    for number, path in enumerate(_regular_files(folder)):
        if number == 100:
            break
        try:
            with path.open("rb") as file:
                if file.read(132)[128:] == b"DICM":
                    return True
        except OSError:
            continue
    return False


def _regular_files(folder: Path, without: Path | None = None) -> Iterator[Path]:
    root = folder.resolve()
    for place, folders, names in os.walk(root, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and Path(place) / name != without)
        for name in sorted(names):
            path = Path(place) / name
            if not name.startswith(".") and path.is_file() and path.resolve().is_relative_to(root):
                yield path


def _look_at(path: Path) -> _File:
    try:
        with disable_value_validation():
            header = dcmread(path, stop_before_pixels=True, specific_tags=_WANTED)
    except Exception:  # not DICOM, or damaged beyond its header
        header = None
    if header is not None and header.get("SOPClassUID") in SEGMENTATION_CLASSES:
        entry = segmentation_entry(header)
        return _File(entry.instance_uid, segmentation=entry) if entry is not None else _File()
    try:
        instance = load_instance(path)
        return _image_file(instance.header)
    except (InputError, OSError):
        return _File()


def _image_file(header: Dataset) -> _File:
    try:
        study, series, uid = (
            require_uid(text(header, keyword), keyword)
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        )
    except UnsafeUidError:
        return _File()
    entry = ArchivedSeries(
        study,
        series,
        text(header, "Modality"),
        text(header, "SeriesDescription"),
        text(header, "PatientID"),
        text(header, "StudyDate"),
    )
    return _File(uid, series=entry)


_WANTED = [
    *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"),
    *("ReferencedSeriesSequence", "StudiesContainingOtherReferencedInstancesSequence", "SegmentSequence"),
    *("ContentDate", "ContentTime", "Manufacturer", "SeriesDescription", "ContentCreatorName"),
]
