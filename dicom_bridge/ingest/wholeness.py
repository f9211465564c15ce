"""Whether a DICOM file has its end: one that is still being copied, or was cut, has not."""

from __future__ import annotations

import os
from pathlib import Path

from pydicom.filereader import data_element_generator, read_file_meta_info
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

_META_START = 132 + 12  # preamble, prefix, and the group length element itself (PS3.10 7.1)
_NOTHING_OF_IT = [Tag("SOPInstanceUID")]
_PIXELS = {int(Tag(keyword)) for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")}


class _Watched:
    """A file that remembers whether it ended in the middle of what was asked for."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.ended_within = False
        self.name = str(path)
        self.seek, self.tell, self.close = self._file.seek, self._file.tell, self._file.close

    def read(self, count: int = -1) -> bytes:
        found = self._file.read(count)
        self.ended_within |= 0 < len(found) < count
        return found


def is_cut_short(path: Path) -> bool:
    """Whether the elements of a DICOM file run beyond its end, or those of an image end before its pixels.

    Values are passed over, not read.

    Returns:
        False also of what can't be judged: no file meta information, a deflated data set, a damaged one.
    """
    size = os.path.getsize(path)
    file = _Watched(path)
    seen: set[int] = set()

    def passes(tag: BaseTag, vr: str | None, length: int) -> bool:
        seen.add(int(tag))
        return False

    try:
        if len(head := file.read(_META_START)) < _META_START:
            return head[128:132] == b"DICM"
        if head[128:136] != b"DICM\x02\x00\x00\x00":
            return False
        start = _META_START + int.from_bytes(head[140:], "little")
        if start > size:
            return True
        meta = read_file_meta_info(path)
        syntax = meta.TransferSyntaxUID
        if syntax == DeflatedExplicitVRLittleEndian:
            return False
        file.seek(start)
        implicit, little_endian = bool(syntax.is_implicit_VR), bool(syntax.is_little_endian)
        for _ in data_element_generator(file, implicit, little_endian, passes, specific_tags=_NOTHING_OF_IT):  # type: ignore[arg-type]
            pass
    except EOFError:
        return True
    except Exception:  # pydicom raises nearly anything on damaged files, and the intake says what is wrong
        return file.ended_within
    else:
        is_image = "Image Storage" in UID(meta.get("MediaStorageSOPClassUID", "")).name
        return file.ended_within or file.tell() > size or (is_image and not seen & _PIXELS)
    finally:
        file.close()
