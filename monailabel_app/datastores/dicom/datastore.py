"""MONAI Label's datastore over an archive of DICOM: images are series, labels are SEGs beside them.

An image's id is its SeriesInstanceUID; a series of pictures (radiographs, photographs) has an image for each instance,
`<SeriesInstanceUID>_<SOPInstanceUID>`. A label's id is the SOPInstanceUID of its SEG. Nothing in the archive is ever
changed or removed: a label that is submitted again is a newer SEG, one that is removed here is withdrawn.
"""

from __future__ import annotations

import io
import logging
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore

from dicom_bridge.results.result_files import write_result
from dicom_bridge.results.segmentations.reading import SegmentLayers, read_layers
from dicom_bridge.series.headers.instance import load_instance
from dicom_bridge.store.files.instance_files import require_uid
from monailabel_app.datastores.dataset_archive import zip_dataset
from monailabel_app.datastores.dicom.access import PeerError
from monailabel_app.datastores.dicom.archive import Archive
from monailabel_app.datastores.dicom.archive_index import ArchiveIndex, is_labelled, plain_tag
from monailabel_app.datastores.dicom.archive_status import ArchiveStatus
from monailabel_app.datastores.dicom.archived_labels import (
    FINAL,
    ORIGINAL,
    ArchivedLabel,
    image_facts,
    label_facts,
    names_by_value,
)
from monailabel_app.datastores.dicom.series_cache import SeriesCache
from monailabel_app.datastores.dicom.source_images import SourceImages
from monailabel_app.datastores.dicom.submission import Submission, build_submission, segment_names
from monailabel_app.datastores.records import Records, require_tag
from monailabel_app.datastores.volumes_as_nrrd import image_as_nrrd, segments_as_nrrd
from rcmed.durable_files import write_durably
from rcmed.errors import InputError, RCMedError, UnknownFormatError
from rcmed.image import Image

logger = logging.getLogger(__name__)

MAXIMUM_CACHE_BYTES = 2**36
"""Most that is kept of fetched series."""


class DicomDatastore(Datastore):
    """Images and labels of a DICOM archive; see the module's docstring.

    Attributes:
        archive: where they are.
    """

    def __init__(
        self,
        archive: Archive,
        state: Path,
        maximum_cache_bytes: int = MAXIMUM_CACHE_BYTES,
    ) -> None:
        """Nothing of the archive is asked yet.

        Args:
            archive: where images and SEGs are.
            state: folder for what is fetched and noted; made where it is missing.
            maximum_cache_bytes: most that is kept of fetched series.
        """
        self.archive = archive
        self._state = state
        self._records = Records(state / "info")
        self._index = ArchiveIndex(archive, self._records)
        self._sources = SourceImages(SeriesCache(state / "series", archive, maximum_cache_bytes))
        self._name = archive.name
        self._description = ""
        self._status = ArchiveStatus(self._index)

    # what it is called

    def name(self) -> str:
        """The archive's address, unless it was given another name."""
        return self._name

    def set_name(self, name: str) -> None:
        """Give another name, until the server ends."""
        self._name = name

    def description(self) -> str:
        """What was set."""
        return self._description

    def set_description(self, description: str) -> None:
        """Describe it, until the server ends."""
        self._description = description

    # images

    def list_images(self) -> list[str]:
        """Ids of all images of all modalities that the archive has now."""
        return list(self._index.images())

    def get_image_uri(self, image_id: str) -> str:
        """A folder with exactly the source instances of an image (a file, for a picture of several in a series).

        Raises:
            UnknownImageError: there is no such image.
            SeriesGeometryError: its instances do not make one image on one grid; with the reason.
            PeerError: it can't be fetched.
        """
        return str(self._sources.path_of(self._index.image(image_id)))

    def get_image(self, image_id: str, params: Any = None) -> io.BytesIO:
        """The image as NRRD on its own grid, for viewers that can't see the server's folders."""
        return io.BytesIO(image_as_nrrd(self.read_image(image_id)))

    def read_image(self, image_id: str) -> Image:
        """The image with its source instances; the last one read is kept."""
        return self._sources.read(self._index.image(image_id))

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What DICOM says of the image, and what was noted of it (active learning's strategies, scores)."""
        return {**image_facts(self._index.image(image_id)), **self._records.read("images", image_id)}

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Note more of an image."""
        self._records.update("images", self._index.image(image_id).identifier, info)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Store a DICOM instance in the archive.

        Returns:
            the id of the image that it belongs to.
        Raises:
            InputError: it is no DICOM image; anything else would lose its place in the patient and its identity.
        """
        path = Path(image_filename)
        try:
            instance = load_instance(path)
        except UnknownFormatError:
            raise InputError(
                f"{path.name}: a DICOM archive takes DICOM instances only; send the series to it and open it from there"
            ) from None
        series = require_uid(instance.uid("SeriesInstanceUID"), "SeriesInstanceUID (0020,000E)")
        uid = require_uid(instance.uid("SOPInstanceUID"), "SOPInstanceUID (0008,0018)")
        self.archive.store(path)
        self._status.forget()
        picture = f"{series}_{uid}"
        stored = picture if picture in self._index.images() else series
        if image_info:
            self._records.update("images", stored, image_info)
        return stored

    def remove_image(self, image_id: str) -> None:
        """Refused: images are the archive's own.

        Raises:
            InputError: always.
        """
        raise InputError(f"image {self._index.image(image_id).identifier}: is the archive's; remove it there")

    # labels

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        """Label ids by tag."""
        return {label.tag: label.identifier for label in self._index.labels_of(self._index.image(image_id))}

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        """The id of the label with this tag; "" where there is none."""
        return self.get_labels_by_image_id(image_id).get(plain_tag(tag), "")

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Images with a label of this tag (by default final), and one of these names where names are given."""
        listing = self._index.listing()
        return [image for image in listing.images if is_labelled(listing.labels[image], label_tag, labels)]

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """The other images."""
        listing = self._index.listing()
        return [image for image in listing.images if not is_labelled(listing.labels[image], label_tag, labels)]

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """A .seg.nrrd of the label on the grid of its image, with names, colours and codes.

        Raises:
            UnknownLabelError: there is no such label.
            InputError: the SEG or its series can't be read, or the SEG does not lie on the series' voxels.
        """
        label, image = self._index.label(label_id, label_tag)
        source = self._sources.path_of(image)
        # The file holds for these instances; a series that grew is another grid.
        version = source.name if source.is_dir() else f"{source.parent.name}-{source.stem}"
        path = self._state / "labels" / label.identifier / f"{version}.seg.nrrd"
        if not path.is_file():
            pixels = self._sources.read(image)
            write_durably(path, segments_as_nrrd(self._layers(label, pixels), pixels))
        return str(path)

    def get_label(self, label_id: str, label_tag: str, params: Any = None) -> io.BytesIO:
        """The content of `get_label_uri`."""
        return io.BytesIO(Path(self.get_label_uri(label_id, label_tag)).read_bytes())

    def read_label(self, label_id: str, label_tag: str) -> SegmentLayers:
        """The segments of a label with their masks, names and codes, on the grid of its image."""
        label, image = self._index.label(label_id, label_tag)
        return self._layers(label, self._sources.read(image))

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """What the SEG says of itself, and what was noted of it."""
        label, _ = self._index.label(label_id, label_tag)
        return {**label_facts(label), **self._records.read("labels", label.identifier)}

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Note more of a label."""
        label, _ = self._index.label(label_id, label_tag)
        self._records.update("labels", label.identifier, info)

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Store a submitted label as SEG beside its series; it is listed from then on.

        A label that the archive does not take at once is kept and sent again later (`refresh`).

        Args:
            image_id: of the image that was labelled.
            label_filename: see `label_files.read_label`.
            label_tag: "final", "original" (the model's own) or a user's tag.
            label_info: names of the values and who drew them, see `submission.Submission`.
        Returns:
            the label's id.
        Raises:
            InputError: unreadable, empty, on another grid, a value without a name, a tag that is no tag; with the mend.
            PeerError: the archive can't be reached; the label is kept.
        """
        tag = require_tag(label_tag)
        image = self._index.image(image_id)
        labels = self._index.labels_of(image)
        info = dict(label_info or {})
        submission = Submission(image.identifier, tag, info, any(label.kind == ORIGINAL for label in labels))
        pixels = self._sources.read(image)
        created = datetime.now()
        segmentation = build_submission(submission, Path(label_filename), pixels, created)
        waiting = write_result(segmentation, self._state / "unsent")
        identifier = str(segmentation.SOPInstanceUID)
        names = [{"name": name, "idx": value} for value, name in enumerate(segment_names(segmentation), start=1)]
        noted = {**info, "label_info": names, "ts": int(created.timestamp()), "tag": tag, "image": image.identifier}
        self._records.update("labels", identifier, noted)
        self._send(waiting)
        self._status.forget()
        return identifier

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Withdraw a label that was submitted here: it is not listed any more; the archive keeps its SEG.

        Raises:
            InputError: another system stored it.
        """
        label, _ = self._index.label(label_id, label_tag)
        if label.kind == FINAL and "tag" not in self._records.read("labels", label.identifier):
            raise InputError(f"label {label.identifier}: was not submitted here; remove it in the archive")
        self._records.update("labels", label.identifier, {"withdrawn": True})
        self._status.forget()

    # the whole

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """Files of images and labels for training: every label that is a person's or another system's, not the model's.

        A pair that can't be read is left out, with a line in the log.
        """
        pairs = []
        for image_id, labels in self._index.listing().labels.items():
            for label in labels:
                if label.kind == ORIGINAL:
                    continue
                try:
                    pair = {
                        "image": self.get_image_uri(image_id),
                        "label": self.get_label_uri(label.identifier, label.tag),
                    }
                except RCMedError as error:
                    logger.warning("left out of the list: %s", error)
                    continue
                pairs.append({**pair, "image_id": image_id, "label_id": label.identifier, "label_tag": label.tag})
        return pairs

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        """A new ZIP with images and labels as NRRD, and `metadata.json`; who asked for it removes it.

        Raises:
            InputError: nothing is labelled.
        """
        pairs = self.datalist()
        if not pairs:
            raise InputError("dataset: no image has a label yet")
        pairs = pairs[:limit_cases] if limit_cases and limit_cases > 0 else pairs
        path = self._state / "datasets" / f"{uuid.uuid4().hex}.zip"
        zip_dataset(path, pairs, self.json(), self.read_image)
        return str(path)

    def refresh(self) -> None:
        """Send what the archive did not take before; listings are always fresh."""
        self._status.forget()
        for path in sorted((self._state / "unsent").glob("[!.]*.dcm")):
            try:
                self._send(path)
            except RCMedError as error:
                logger.warning("label %s is still kept here: %s", path.stem, error)

    def status(self) -> dict[str, Any]:
        """How many images and labels there are; at most five seconds old. Where the archive is silent it says so."""
        return self._status.now()

    def json(self) -> dict[str, Any]:
        """All images with what is known of them and of their labels."""
        listing = self._index.listing()
        return {
            "name": self._name,
            "description": self._description,
            "objects": {
                image_id: {
                    "image": {"info": self._records.read("images", image_id), "ext": ""},
                    "labels": {
                        label.tag: {
                            "id": label.identifier,
                            "ext": ".seg.nrrd",
                            "info": {"label_info": names_by_value(label), "user": label.segmentation.creator},
                        }
                        for label in labels
                    },
                }
                for image_id, labels in listing.labels.items()
            },
        }

    def _send(self, waiting: Path) -> None:
        try:
            self.archive.store(waiting)
        except PeerError as error:
            raise PeerError(f"{error}; the label is kept and sent later") from None
        waiting.unlink()

    def _layers(self, label: ArchivedLabel, image: Image) -> SegmentLayers:
        return read_layers(self.archive.fetch_segmentation(label.segmentation), image)
