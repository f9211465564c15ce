"""References to images, many at once.

A report names every slice of a series several times. highdicom builds each content item anew, copies the whole tree and
walks it again and again; so it gets the first of them, and the others, which differ in what they refer to, come after.
pydicom encodes each element anew, too; so what they share is encoded once, and they are data sets as if read from a
file, whose values it copies.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from highdicom.sr import ImageContentItem
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag

_REFERENCED_SOP_SEQUENCE = Tag("ReferencedSOPSequence")
_REFERENCED_SOP_CLASS_UID = Tag("ReferencedSOPClassUID")
_REFERENCED_SOP_INSTANCE_UID = Tag("ReferencedSOPInstanceUID")
_CONTENT_SEQUENCE = Tag("ContentSequence")


@dataclass(frozen=True)
class ImageReference:
    """An instance, or frames of it (from 1)."""

    sop_class_uid: str
    sop_instance_uid: str
    frames: tuple[int, ...] = ()

    @classmethod
    def of(cls, headers: Iterable[Dataset]) -> list[ImageReference]:
        """The whole instances of these headers."""
        return [cls(str(header.SOPClassUID), str(header.SOPInstanceUID)) for header in headers]

    def item(self) -> Dataset:
        """The item that refers to it (SOP Instance Reference Macro, PS3.3 Table 10-11; with frames Table 10-3)."""
        elements = (
            _uid(_REFERENCED_SOP_CLASS_UID, self.sop_class_uid),
            _uid(_REFERENCED_SOP_INSTANCE_UID, self.sop_instance_uid),
        )
        item = _as_if_read({element.tag: element for element in elements})
        if self.frames:
            item.ReferencedFrameNumber = list(self.frames)
        return item


@dataclass(frozen=True, eq=False)
class ImageList:
    """Images that a content item has as children, of which only the first is there yet.

    Attributes:
        holder: the content item.
        first: its child.
        others: come behind it.
    """

    holder: Dataset
    first: ImageContentItem
    others: Sequence[ImageReference]

    def complete(self) -> None:
        """Put the others into the tree, which no library looks at after that: what they share is shared, not copied."""
        shared = _encoded_once(self.first)
        children: list[Dataset] = list(self.holder.ContentSequence)
        place = next(number for number, child in enumerate(children) if child is self.first)
        others = []
        for reference in self.others:
            refers = DataElement(_REFERENCED_SOP_SEQUENCE, "SQ", DicomSequence([reference.item()]))
            others.append(_as_if_read({**shared, _REFERENCED_SOP_SEQUENCE: refers}))
        children[place + 1 : place + 1] = others
        self.holder[_CONTENT_SEQUENCE] = DataElement(_CONTENT_SEQUENCE, "SQ", DicomSequence(children))


def spare_encoding(document: Dataset) -> None:
    """Let pydicom write a report without looking for ambiguous value representations, of which a report has none.

    It would look through the whole tree again at each of its levels, and take apart what is encoded.
    """
    document.set_original_encoding(False, True, convert_encodings(document.SpecificCharacterSet))
    pending = [document]
    while pending:
        for item in pending.pop().get("ContentSequence", ()):
            item.set_original_encoding(False, True, default_encoding)
            if "ContentSequence" in item:
                pending.append(item)


def _as_if_read(elements: dict[BaseTag, DataElement | RawDataElement]) -> Dataset:
    """A data set that pydicom takes for one read from a file of the encoding that results are written in."""
    dataset = Dataset(elements)
    dataset.set_original_encoding(False, True, default_encoding)
    return dataset


def _encoded_once(item: Dataset) -> dict[BaseTag, DataElement | RawDataElement]:
    """The elements of an item, encoded."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, item)
    return dict(read_dataset(io.BytesIO(buffer.getvalue()), False, True).items())


def _uid(tag: BaseTag, uid: str) -> RawDataElement:
    value = uid.encode("ascii")
    value += b"\0" * (len(value) % 2)
    return RawDataElement(tag, "UI", len(value), value, 0, False, True)
