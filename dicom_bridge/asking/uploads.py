"""What was dropped on the page: received into a folder of its own, read, kept in memory within bounds, forgotten."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from dicom_bridge.asking.planes import Plane, planes_of
from dicom_bridge.asking.reading import Opened, open_dropped
from dicom_bridge.errors import NotThereError
from rcmed.errors import InputError
from rcmed.findings import Finding, Findings
from rcmed.image import Image
from rcmed.modality import Modality

_LONGEST_NAME = 255  # of one part, in bytes: what file systems take
_DEEPEST = 16


@dataclass(frozen=True)
class AskLimits:
    """How much may be dropped and is kept.

    Attributes:
        upload_bytes, upload_files: of what is dropped at once.
        kept_uploads, kept_bytes: of all that is kept, files and pixels together; the least recently used is forgotten
            first, the newest never.
    """

    upload_bytes: int = 4 * 2**30
    upload_files: int = 20_000
    kept_uploads: int = 12
    kept_bytes: int = 8 * 2**30


class TooMuchError(InputError):
    """More is dropped than is taken."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found in an image.

    Attributes:
        number: of the image's answers, from 1; an earlier one is forgotten.
        findings: all of it.
    """

    number: int
    findings: Findings

    def __post_init__(self) -> None:
        # Planes across the slices need whole masks; of those looked at last they need not be unpacked again.
        object.__setattr__(self, "_unpacked", lru_cache(maxsize=4)(self._unpack))

    def finding(self, number: int) -> Finding:
        """The finding of a number, from 0; raises NotThereError where there is none."""
        if not 0 <= number < len(self.findings.findings):
            raise NotThereError(f"there is no finding {number}")
        return self.findings.findings[number]

    def mask_of(self, finding: int, plane: Plane, index: int) -> NDArray[np.bool_] | None:
        """A finding's mask in a slice as it is shown, bool (row, column); None where it has no region.

        Raises:
            NotThereError: there is no such finding or slice.
        """
        region = self.finding(finding).region
        if region is None:
            return None
        if plane.axis == 0 and 0 <= index < region.shape[0]:
            shown: NDArray[np.bool_] = plane.view.to_view(region[index][None])[0]
            return shown
        whole: NDArray[np.bool_] = self._unpacked(finding)  # type: ignore[attr-defined]
        return plane.slice_of(whole, index).astype(bool)

    def _unpack(self, finding: int) -> NDArray[np.bool_]:
        region = self.findings.findings[finding].region
        assert region is not None
        return region.unpack()


@dataclass(eq=False)
class AskedImage:
    """An image that can be asked, with what was found in it last.

    Attributes:
        name: what the page calls it.
        image: itself.
        planes: in which it can be looked at.
        answer: None where nothing was asked yet.
    """

    name: str
    image: Image
    planes: Sequence[Plane]
    answer: Answer | None = None

    def answered(self, findings: Findings) -> Answer:
        """Keep what was found; the answer before is forgotten."""
        self.answer = Answer(1 if self.answer is None else self.answer.number + 1, findings)
        return self.answer

    def plane(self, axis: int) -> Plane:
        """The plane along an axis; raises NotThereError where the image has none."""
        for plane in self.planes:
            if plane.axis == axis:
                return plane
        raise NotThereError(f"{self.name}: it has no plane {axis}")

    def require_answer(self, number: int | None = None) -> Answer:
        """The answer, of this number where one is given; raises NotThereError where it is not there."""
        if self.answer is None or (number is not None and number != self.answer.number):
            raise NotThereError(f"{self.name}: that answer is not kept any more; ask again")
        return self.answer


@dataclass(eq=False)
class Upload:
    """Files dropped at once.

    Attributes:
        identifier: opaque; who does not know it finds nothing.
        folder: of its files, which is ours.
        folders: that are read: ours, and whose files stay where they are.
        nbytes, files: received so far.
        images: once they were read.
        refused: a line for each file that is no image.
        needs_modality: whether files are refused because nothing says what kind of image they are.
    """

    identifier: str
    folder: Path
    nbytes: int = 0
    files: int = 0
    images: list[AskedImage] = field(default_factory=list)
    refused: tuple[str, ...] = ()
    needs_modality: bool = False
    folders: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        self.folders = self.folders or (self.folder,)

    @property
    def kept_bytes(self) -> int:
        """Of its files and of its pixels."""
        return self.nbytes + sum(each.image.pixels.nbytes for each in self.images)

    def take(self, parts: Sequence[Opened]) -> None:
        """Let the images of its folders be its own."""
        self.images = [AskedImage(name, image, planes_of(image)) for part in parts for name, image in part.images]
        self.refused = tuple(line for part in parts for line in part.refused)
        self.needs_modality = any(part.needs_modality for part in parts)

    def image(self, number: int) -> AskedImage:
        """Its image of a number, from 0; raises NotThereError where there is none."""
        if not 0 <= number < len(self.images):
            raise NotThereError(f"there is no image {number} in what was dropped")
        return self.images[number]


class Uploads:
    """All that is kept. Threads may share it."""

    def __init__(self, limits: AskLimits | None = None) -> None:
        """Begin with nothing, in a folder that only this user may read."""
        self.limits = limits or AskLimits()
        self._root = tempfile.TemporaryDirectory(prefix="rcmed-ask-")
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self) -> Upload:
        """A new upload, empty."""
        identifier = secrets.token_urlsafe(16)
        folder = Path(self._root.name).resolve() / identifier
        folder.mkdir()
        upload = Upload(identifier, folder)
        with self._lock:
            self._kept[identifier] = upload
        self.keep_within_bounds()
        return upload

    def get(self, identifier: str) -> Upload:
        """An upload, which counts as used now; raises NotThereError where it is not kept."""
        with self._lock:
            if identifier not in self._kept:
                raise NotThereError("what was dropped is not kept any more; drop it again")
            self._kept.move_to_end(identifier)
            return self._kept[identifier]

    def forget(self, identifier: str) -> None:
        """Remove an upload and its files, where it is there."""
        with self._lock:
            upload = self._kept.pop(identifier, None)
        if upload is not None:
            shutil.rmtree(upload.folder, ignore_errors=True)

    def keep_within_bounds(self) -> None:
        """Forget the least recently used uploads while they are too many or too large."""
        while True:
            with self._lock:
                kept = list(self._kept.values())
            too_many = len(kept) > self.limits.kept_uploads
            too_large = sum(upload.kept_bytes for upload in kept) > self.limits.kept_bytes
            if len(kept) < 2 or not (too_many or too_large):
                return
            self.forget(kept[0].identifier)

    def close(self) -> None:
        """Remove everything."""
        with self._lock:
            self._kept.clear()
        self._root.cleanup()


class Receiving:
    """One file that comes in parts."""

    def __init__(self, uploads: Uploads, upload: Upload, name: str) -> None:
        """Make the file.

        Args:
            name: as it was dropped, with the folders below the dropped one, parted by "/".
        Raises:
            InputError: the name can't be one of a file here, or was sent before.
            TooMuchError: there are too many files.
        """
        if upload.files >= uploads.limits.upload_files:
            raise TooMuchError(f"at most {uploads.limits.upload_files} files are taken at once; drop fewer")
        self._uploads, self._upload = uploads, upload
        self._path = upload.folder / safe_path(name)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file: BinaryIO = self._path.open("xb")
        except (FileExistsError, IsADirectoryError):
            raise InputError(f"{name}: was sent before") from None
        upload.files += 1

    def write(self, part: bytes) -> None:
        """Add a part; raises TooMuchError where the upload becomes too large."""
        limit = self._uploads.limits.upload_bytes
        if self._upload.nbytes + len(part) > limit:
            raise TooMuchError(f"at most {limit / 2**20:,.0f} MB are taken at once; drop fewer or smaller files")
        self._file.write(part)
        self._upload.nbytes += len(part)

    def end(self, is_whole: bool) -> None:
        """No part comes any more; what is not whole is removed."""
        self._file.close()
        if not is_whole:
            self._upload.nbytes -= self._path.stat().st_size
            self._upload.files -= 1
            self._path.unlink()


def safe_path(name: str) -> PurePosixPath:
    """The relative path of a dropped file; raises InputError where the name leads elsewhere or is none."""
    parts = name.replace("\\", "/").split("/")
    if len(parts) > _DEEPEST or not all(_is_safe(part) for part in parts):
        raise InputError(f"{name!r}: is no name that a dropped file can have")
    return PurePosixPath(*parts)


def _is_safe(part: str) -> bool:
    has_controls = any(unicodedata.category(letter) in ("Cc", "Cs") for letter in part)
    return part not in ("", ".", "..") and not has_controls and len(part.encode()) <= _LONGEST_NAME


def open_upload(uploads: Uploads, upload: Upload, modality: Modality | None = None) -> None:
    """Read what was received, or read it again as another modality."""
    upload.take([open_dropped(folder, modality) for folder in upload.folders])
    uploads.keep_within_bounds()


def open_paths(uploads: Uploads, paths: Sequence[Path], modality: Modality | None = None) -> Upload:
    """An upload of files and folders of this machine, which are read where they are and stay there."""
    upload = uploads.begin()
    files = dict.fromkeys(path.resolve() for path in paths if not path.is_dir())
    for number, path in enumerate(files):
        place = upload.folder / path.name
        if place.exists():
            place = upload.folder / str(number) / path.name
            place.parent.mkdir()
        place.symlink_to(path)
    folders = [path.resolve() for path in paths if path.is_dir()]
    upload.folders = (*((upload.folder,) if files else ()), *folders)
    open_upload(uploads, upload, modality)
    return upload
