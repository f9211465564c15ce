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

    def elements(self) -> dict[BaseTag, DataElement | RawDataElement]:
        """What names the instance (SOP Instance Reference Macro, PS3.3 Table 10-11), encoded."""
        return {
            _REFERENCED_SOP_CLASS_UID: _uid(_REFERENCED_SOP_CLASS_UID, self.sop_class_uid),
            _REFERENCED_SOP_INSTANCE_UID: _uid(_REFERENCED_SOP_INSTANCE_UID, self.sop_instance_uid),
        }

    def item(self) -> Dataset:
        """The item that refers to it (SOP Instance Reference Macro; with frames PS3.3 Table 10-3)."""
        item = _as_if_read(self.elements())
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


def first_evidence(instances: Sequence[Dataset], lists: Iterable[ImageList]) -> list[Dataset]:
    """Of a source's instances the first of each series and those that a report names before its lists are complete.

    Args:
        instances: headers.
        lists: of the report.
    """
    wanted = {str(images.first.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for images in lists}
    wanted.update(str(headers[0].SOPInstanceUID) for headers in _by_series(instances).values())
    return [header for header in instances if str(header.SOPInstanceUID) in wanted]


def complete_evidence(document: Dataset, instances: Iterable[Dataset]) -> None:
    """Name every instance of a source as evidence (PS3.3 C.17.2), where `first_evidence` was named.

    Args:
        document: a report whose tree is finished.
        instances: headers, of the report's study.
    """
    series = _by_series(instances)
    for study in document.CurrentRequestedProcedureEvidenceSequence:
        for item in study.ReferencedSeriesSequence:
            headers = series.get(str(item.SeriesInstanceUID))
            if headers is not None:
                item.ReferencedSOPSequence = [reference.item() for reference in ImageReference.of(headers)]


def _by_series(instances: Iterable[Dataset]) -> dict[str, list[Dataset]]:
    series: dict[str, list[Dataset]] = {}
    for header in instances:
        series.setdefault(str(header.SeriesInstanceUID), []).append(header)
    return series


def spare_encoding(document: Dataset) -> None:
    """Let pydicom write a report without looking for ambiguous value representations, of which a report has none.

    It would look through the whole tree again at each of its levels, and take apart what is encoded.
    """
    document.set_original_encoding(False, True, convert_encodings(document.SpecificCharacterSet))
    _spare_items(document.ContentSequence)


def spare_encoding_of_frames(segmentation: Dataset) -> None:
    """As `spare_encoding`, of the functional groups of a SEG's frames; the SEG itself is written as ever."""
    _spare_items(segmentation.PerFrameFunctionalGroupsSequence)


def _spare_items(items: Iterable[Dataset]) -> None:
    """Take items, and those inside them at any depth, for read in the encoding that results are written in."""
    pending = [items]
    while pending:
        for item in pending.pop():
            item.set_original_encoding(False, True, default_encoding)
            elements = (element for element in item.values() if isinstance(element, DataElement))
            pending.extend(element.value for element in elements if element.VR == "SQ")


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
