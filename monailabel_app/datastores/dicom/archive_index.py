"""What an archive holds at one moment: its images, and the labels of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from monailabel_app.datastores.dicom.archive import Archive, ArchivedSeries
from monailabel_app.datastores.dicom.archived_labels import FINAL, ArchivedImage, ArchivedLabel, labels_by_image
from monailabel_app.datastores.errors import UnknownImageError, UnknownLabelError
from monailabel_app.datastores.records import Records, require_identifier


@dataclass(frozen=True)
class Listing:
    """Images by id in the order of the archive, and the labels of each."""

    images: Mapping[str, ArchivedImage]
    labels: Mapping[str, Sequence[ArchivedLabel]]


class ArchiveIndex:
    """Looks images and labels up; the archive is asked anew each time."""

    def __init__(self, archive: Archive, records: Records) -> None:
        self._archive = archive
        self._records = records

    def images(self) -> dict[str, ArchivedImage]:
        """All images by id."""
        return {image.identifier: image for series in self._archive.series() for image in self._images_of(series)}

    def image(self, image_id: str) -> ArchivedImage:
        """The image with this id.

        Raises:
            UnknownImageError: there is none; a series of pictures is not one image.
            InputError: it is no UID.
        """
        require_identifier(image_id)
        images = self.images()
        if image_id in images:
            return images[image_id]
        pictures = [other for other in images if other.startswith(f"{image_id}_")]
        if pictures:
            raise UnknownImageError(
                f"series {image_id}: holds {len(pictures)} pictures, which are images of their own; ask for one, as "
                f"{pictures[0]}"
            )
        raise UnknownImageError(f"image {image_id}: not in {self._archive.name}")

    def listing(self, image: ArchivedImage | None = None) -> Listing:
        """All images with their labels, or one."""
        images = self.images() if image is None else {image.identifier: image}
        return Listing(images, labels_by_image(images.values(), self._archive.segmentations(), self._is_withdrawn))

    def labels_of(self, image: ArchivedImage) -> Sequence[ArchivedLabel]:
        """The labels of an image."""
        return self.listing(image).labels[image.identifier]

    def label(self, label_id: str, label_tag: str) -> tuple[ArchivedLabel, ArchivedImage]:
        """The label with this id, and its image.

        Args:
            label_tag: its tag; "" where it does not matter.
        Raises:
            UnknownLabelError: there is none.
            InputError: it is no UID.
        """
        require_identifier(label_id)
        tag = plain_tag(label_tag)
        listing = self.listing()
        for image_id, labels in listing.labels.items():
            for label in labels:
                if label.identifier == label_id and tag in ("", label.tag, label.kind):
                    return label, listing.images[image_id]
        tagged = f" with tag {tag[:40]!r}" if tag else ""
        raise UnknownLabelError(f"label {label_id}: not in {self._archive.name}{tagged}")

    def _images_of(self, series: ArchivedSeries) -> list[ArchivedImage]:
        if not series.holds_pictures:
            return [ArchivedImage(series.series_uid, series)]
        instances = self._archive.instances(series)
        return [ArchivedImage(f"{series.series_uid}_{uid}", series, uid) for uid in instances]

    def _is_withdrawn(self, label_id: str) -> bool:
        return bool(self._records.read("labels", label_id).get("withdrawn"))


def plain_tag(tag: object) -> str:
    """The text of a tag; MONAI Label gives members of an enumeration too."""
    return str(getattr(tag, "value", tag) or "")


def is_labelled(labels: Sequence[ArchivedLabel], tag: str | None, names: Sequence[str] | None) -> bool:
    """Whether one of an image's labels has this tag (by default final), and one of these names where some are given."""
    wanted = plain_tag(tag) or FINAL
    return any(
        wanted in (label.tag, label.kind) and (not names or set(names) & set(label.segmentation.names))
        for label in labels
    )
