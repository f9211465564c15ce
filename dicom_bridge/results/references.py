"""References to images, many at once.

A report names every slice of a series several times. highdicom builds each content item anew, copies the whole tree and
walks it again and again; so it gets the first of them, and the others, which differ in what they refer to, come after.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from highdicom.sr import ImageContentItem
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag

_REFERENCED_SOP_SEQUENCE = Tag("ReferencedSOPSequence")
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
        elements = dict(self.first.items())
        children: list[Dataset] = list(self.holder.ContentSequence)
        place = next(number for number, child in enumerate(children) if child is self.first)
        others = []
        for reference in self.others:
            refers = DataElement(_REFERENCED_SOP_SEQUENCE, "SQ", DicomSequence([_item(reference)]))
            others.append(Dataset({**elements, _REFERENCED_SOP_SEQUENCE: refers}))
        children[place + 1 : place + 1] = others
        self.holder[_CONTENT_SEQUENCE] = DataElement(_CONTENT_SEQUENCE, "SQ", DicomSequence(children))


def _item(reference: ImageReference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    if reference.frames:
        item.ReferencedFrameNumber = list(reference.frames)
    return item
