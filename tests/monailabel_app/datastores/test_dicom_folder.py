"""A folder of DICOM files as datastore: what is listed, split, refused; what is written, and where."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.result_files import write_result
from dicom_bridge.results.segmentations.segmentation import build_segmentation
from monailabel_app.datastores.dicom.datastore import DicomDatastore
from monailabel_app.datastores.errors import UnknownImageError, UnknownLabelError
from rcmed.errors import InputError
from rcmed.readers import read_images

Opener = Callable[[], DicomDatastore]
NAMES = {"label_info": [{"name": "liver", "idx": 1}, {"name": "spleen", "idx": 2}], "user": "jane"}


def again(file: Path, folder: Path, name: str, **changes: object) -> Path:
    """A copy of an instance under another SOPInstanceUID."""
    dataset = dcmread(file)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    path = folder / name
    dataset.save_as(path, enforce_file_format=True)
    return path


def other(file: Path, folder: Path, name: str) -> Path:
    """Another instance at the same place, with other pixels."""
    path = again(file, folder, name)
    dataset = dcmread(path)
    dataset.PixelData = bytes(255 - value for value in dataset.PixelData)
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_series_in_any_folders_are_told_apart(studies: Path, sources: Any, open_folder: Opener) -> None:
    """Files of two series and others side by side: a task gets only those of its own."""
    sources.volume(studies, shape=(3, 7, 5))
    for path in list(studies.iterdir()):
        path.rename(studies / f"a{path.name}")
    (studies / "deeper").mkdir()
    sources.volume(studies / "deeper", shape=(2, 7, 5), modality="MR")
    for path in list((studies / "deeper").iterdir()):
        shutil.move(path, studies / f"b{path.name}")
    (studies / "notes.txt").write_text("no DICOM")
    store = open_folder()
    images = store.list_images()
    assert len(images) == 2
    shapes = {read_images(store.get_image_uri(image))[0].grid.shape for image in images}
    assert shapes == {(3, 7, 5), (2, 7, 5)}
    assert {store.get_image_info(image)["Modality"] for image in images} == {"CT", "MR"}


def test_a_label_becomes_a_seg_in_the_folder(
    studies: Path, sources: Any, open_folder: Opener, as_nrrd: Any, tmp_path: Path
) -> None:
    image = sources.volume(studies)
    labels = np.random.default_rng(1).integers(0, 3, image.grid.shape).astype(np.uint8)
    label = open_folder().save_label(image.series_instance_uid, str(as_nrrd(labels, image.grid)), "final", NAMES)
    (file,) = (studies / "labels").rglob("*.dcm")
    segmentation = dcmread(file)
    assert segmentation.SOPInstanceUID == label and segmentation.SeriesDescription == "RCMed label: final"
    shutil.rmtree(tmp_path / "state")
    store = open_folder()
    for name, value in (("liver", 1), ("spleen", 2)):
        (found,) = [s for s in store.read_label(label, "final").segments if s.label == name]
        np.testing.assert_array_equal(found.mask, labels == value)
    assert store.status() == {"total": 1, "completed": 1, "label_tags": {"final": 1}}


def test_what_another_program_put_there_is_a_label(
    studies: Path, sources: Any, open_folder: Opener, tmp_path: Path
) -> None:
    image = sources.volume(studies)
    mask = np.zeros(image.grid.shape, bool)
    mask[1, 2, 3] = True
    foreign = build_segmentation(sources.findings(image, sources.found(mask)), image, ResultIdentifiers.derive("x"))
    foreign.Manufacturer = "Another"
    store = open_folder()
    assert store.get_labels_by_image_id(image.series_instance_uid) == {}
    write_result(foreign, studies / "from elsewhere")
    assert store.get_labels_by_image_id(image.series_instance_uid) == {"final": foreign.SOPInstanceUID}
    (segment,) = store.read_label(foreign.SOPInstanceUID, "final").segments
    np.testing.assert_array_equal(segment.mask, mask)


def test_each_tag_has_its_newest_label(studies: Path, sources: Any, open_folder: Opener, as_nrrd: Any) -> None:
    image = sources.volume(studies)
    uid, labels = image.series_instance_uid, np.ones(image.grid.shape, np.uint8)
    store = open_folder()
    first = store.save_label(uid, str(as_nrrd(labels, image.grid)), "jane", NAMES)
    other = store.save_label(uid, str(as_nrrd(labels, image.grid)), "joe", NAMES)
    # Within one second the order of submission still counts.
    second = store.save_label(uid, str(as_nrrd(labels * 2, image.grid)), "jane", NAMES)
    assert store.get_labels_by_image_id(uid) == {"jane": second, "joe": other}
    assert store.get_label_by_image_id(uid, "joe") == other and store.get_label_by_image_id(uid, "nobody") == ""
    assert first != second and store.get_label_info(second, "jane")["label_info"] == [{"name": "spleen", "idx": 1}]
    assert len(list((studies / "labels").rglob("*.dcm"))) == 3
    store.remove_label(second, "jane")
    assert store.get_labels_by_image_id(uid) == {"jane": first, "joe": other}
    assert len(list((studies / "labels").rglob("*.dcm"))) == 3
    with pytest.raises(UnknownLabelError):
        store.get_label_uri(second, "jane")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: other(folder / "1.dcm", folder, "again.dcm"), "some slices are repeated"),
        (lambda folder: (folder / "2.dcm").unlink(), "slices are missing"),
        (
            lambda folder: again(folder / "1.dcm", folder, "turned.dcm", ImageOrientationPatient=[0, 1, 0, 0, 0, -1]),
            "different values of ImageOrientationPatient",
        ),
        (
            lambda folder: [other(folder / f"{n}.dcm", folder, f"again-{n}.dcm") for n in range(5)],
            "2 volumes in one series",
        ),
        (lambda folder: (folder / "2.dcm").write_bytes((folder / "2.dcm").read_bytes()[:-20]), "can't be decoded"),
    ],
    ids=["duplicate position", "gap", "another orientation", "two volumes", "damaged slice"],
)
def test_what_makes_no_volume_is_refused_with_the_reason(
    spoil: Callable[[Path], object], reason: str, studies: Path, sources: Any, open_folder: Opener
) -> None:
    """Stock MONAI Label stacks all of these."""
    image = sources.volume(studies, shape=(5, 7, 5))
    store = open_folder()
    assert Path(store.get_image_uri(image.series_instance_uid)).is_dir()
    spoil(studies)
    with pytest.raises(InputError, match=reason):
        store.get_image_uri(image.series_instance_uid)
    assert store.list_images() == [image.series_instance_uid]


def test_exact_copies_of_slices_are_taken_once(studies: Path, sources: Any, open_folder: Opener) -> None:
    image = sources.volume(studies, shape=(5, 7, 5))
    again(studies / "1.dcm", studies, "again.dcm")
    (read,) = read_images(open_folder().get_image_uri(image.series_instance_uid))
    assert read.grid.shape == (5, 7, 5)


def test_a_localizer_is_no_slice(studies: Path, sources: Any, open_folder: Opener) -> None:
    image = sources.volume(studies, shape=(5, 7, 5))
    again(
        studies / "1.dcm",
        studies,
        "scout.dcm",
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
    )
    (read,) = read_images(open_folder().get_image_uri(image.series_instance_uid))
    assert read.grid.shape == (5, 7, 5)
    assert any("localizer" in warning for warning in read.warnings)


def test_pictures_of_a_series_are_images_of_their_own(
    studies: Path, sources: Any, open_folder: Opener, as_nrrd: Any
) -> None:
    image = sources.planar(studies, "OP", (9, 6), colour=True)
    other = again(studies / "image.dcm", studies, "second.dcm")
    series = image.series_instance_uid
    store = open_folder()
    first = f"{series}_{image.sources[0].sop_instance_uid}"
    second = f"{series}_{dcmread(other).SOPInstanceUID}"
    assert store.list_images() == sorted([first, second])
    with pytest.raises(UnknownImageError, match="2 pictures"):
        store.get_image_uri(series)
    (read,) = read_images(store.get_image_uri(second))
    # Stock MONAI Label loads an RGB picture as (30, 20, 1, 1, 3), and writes its mask as a third shape.
    assert read.pixels.shape == (1, 9, 6, 3)
    label = store.save_label(second, str(as_nrrd(np.ones((1, 9, 6), np.uint8), read.grid)), "final", NAMES)
    assert store.get_labels_by_image_id(first) == {}
    assert store.get_labels_by_image_id(second) == {"final": label}
    assert store.read_label(label, "final").layers.shape == (1, 1, 9, 6)


@pytest.mark.parametrize("tag", ["../../evil", "..", "a/b", "a\\b", "", "x" * 49, ".hidden", "a..b", "tag\n"])
def test_a_tag_is_no_path(
    tag: str, studies: Path, sources: Any, open_folder: Opener, as_nrrd: Any, tmp_path: Path
) -> None:
    image = sources.volume(studies)
    file = as_nrrd(np.ones(image.grid.shape, np.uint8), image.grid)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="tag"):
        open_folder().save_label(image.series_instance_uid, str(file), tag, NAMES)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "identifier", ["../../etc/passwd", "1.2.3/../..", "/etc/passwd", "", "1.2_3_4", "1" * 200, "a"]
)
def test_an_id_is_no_path(identifier: str, studies: Path, sources: Any, open_folder: Opener) -> None:
    sources.volume(studies)
    store = open_folder()
    for ask in (
        store.get_image_uri,
        store.get_image_info,
        lambda uid: store.update_image_info(uid, {}),
        store.get_labels_by_image_id,
        lambda uid: store.get_label_uri(uid, "final"),
        lambda uid: store.update_label_info(uid, "final", {"a": 1}),
    ):
        with pytest.raises(InputError, match="id: "):
            ask(identifier)


def test_unknown_ids_are_said_to_be_so(studies: Path, sources: Any, open_folder: Opener) -> None:
    sources.volume(studies)
    with pytest.raises(UnknownImageError, match="not in"):
        open_folder().get_image_uri("1.2.3")
    with pytest.raises(UnknownLabelError, match="not in"):
        open_folder().get_label_info("1.2.3", "final")


def test_what_is_noted_stays(studies: Path, sources: Any, open_folder: Opener, as_nrrd: Any) -> None:
    image = sources.volume(studies)
    uid = image.series_instance_uid
    store = open_folder()
    store.update_image_info(uid, {"strategy": {"random": {"ts": 1, "client_id": "jane"}}})
    store.update_image_info(uid, {"entropy": np.float32(0.5)})
    label = store.save_label(uid, str(as_nrrd(np.ones(image.grid.shape, np.uint8), image.grid)), "final", NAMES)
    store.update_label_info(label, "final", {"dice": 0.75})
    info = open_folder().get_image_info(uid)
    assert info["strategy"]["random"]["client_id"] == "jane" and info["entropy"] == 0.5
    told = open_folder().get_label_info(label, "final")
    assert told["dice"] == 0.75 and told["user"] == "jane" and told["ts"] > 0
    json.dumps([info, told])
    with pytest.raises(InputError, match="limit"):
        store.update_image_info(uid, {"much": "x" * 2**21})
    with pytest.raises(InputError, match="JSON"):
        store.update_image_info(uid, {"odd": object()})
    assert open_folder().get_image_info(uid) == info


def test_labels_that_say_nothing_are_refused(studies: Path, sources: Any, open_folder: Opener, as_nrrd: Any) -> None:
    image = sources.volume(studies)
    with pytest.raises(InputError, match="empty"):
        open_folder().save_label(
            image.series_instance_uid, str(as_nrrd(np.zeros(image.grid.shape, np.uint8), image.grid)), "final", NAMES
        )


def test_a_series_without_a_frame_of_reference_can_not_hold_a_label(
    studies: Path, sources: Any, open_folder: Opener, as_nrrd: Any
) -> None:
    image = sources.volume(studies, without=("FrameOfReferenceUID",))
    with pytest.raises(InputError, match="FrameOfReferenceUID"):
        open_folder().save_label(
            image.series_instance_uid, str(as_nrrd(np.ones(image.grid.shape, np.uint8), image.grid)), "final", NAMES
        )


def test_a_folder_that_did_not_change_is_seen_to_be_unchanged(studies: Path, sources: Any, open_folder: Opener) -> None:
    """Images are kept in memory by the path and the time of their files."""
    image = sources.volume(studies)
    folder = Path(open_folder().get_image_uri(image.series_instance_uid))
    before = folder.stat().st_mtime_ns
    assert open_folder().get_image_uri(image.series_instance_uid) == str(folder)
    assert folder.stat().st_mtime_ns == before


def test_links_out_of_the_folder_are_not_followed(
    studies: Path, sources: Any, open_folder: Opener, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    sources.volume(outside)
    (studies / "link").symlink_to(outside)
    (studies / "link.dcm").symlink_to(outside / "0.dcm")
    assert open_folder().list_images() == []


def test_the_image_for_viewers_far_away(studies: Path, sources: Any, open_folder: Opener, tmp_path: Path) -> None:
    """As NRRD, read by the readers of other software."""
    import SimpleITK as sitk  # noqa: N813

    image = sources.volume(studies, spacing=(0.8, 0.7), distance=2.5)
    file = tmp_path / "image.nrrd"
    file.write_bytes(open_folder().get_image(image.series_instance_uid).getvalue())
    read = sitk.ReadImage(str(file))
    assert read.GetSize() == image.grid.shape[::-1]
    np.testing.assert_allclose(read.GetOrigin(), image.grid.affine[:3, 3])
    np.testing.assert_allclose(read.GetSpacing(), (0.7, 0.8, 2.5))
    last = tuple(length - 1 for length in read.GetSize())
    np.testing.assert_allclose(
        read.TransformIndexToPhysicalPoint(last), image.grid.to_patient(np.array(last[::-1], float)), atol=1e-6
    )
