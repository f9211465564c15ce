"""A PACS with DICOMweb as datastore: Orthanc, with user and password."""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from scipy.spatial.transform import Rotation

from dicom_bridge.demo.instances import fundus_photograph
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.result_files import write_result
from dicom_bridge.results.segmentations.reading import read_segments
from dicom_bridge.results.segmentations.segmentation import build_segmentation
from monailabel_app.datastores.dicom.access import PeerAccess, PeerError
from monailabel_app.datastores.dicom.datastore import DicomDatastore
from monailabel_app.datastores.dicom.dicomweb import DicomWeb
from rcmed.errors import InputError
from rcmed.readers import read_images

pytestmark = pytest.mark.integration

SAGITTAL = np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]])
OBLIQUE = Rotation.from_euler("zyx", (20, -35, 50), degrees=True).as_matrix()
SOURCES: dict[str, Callable[[Any, Path], object]] = {
    "axial CT": lambda sources, folder: sources.volume(folder),
    "sagittal MR": lambda sources, folder: sources.volume(folder, rotation=SAGITTAL, modality="MR"),
    "oblique MR": lambda sources, folder: sources.volume(folder, rotation=OBLIQUE, modality="MR", reverse=True),
    "single CT slice": lambda sources, folder: sources.volume(folder, shape=(1, 7, 5)),
    "enhanced MR": lambda sources, folder: sources.enhanced(folder, frames=(3, 1, 4, 2)),
    "RGB photograph": lambda sources, folder: [
        instance.save_as(folder / "fundus.dcm", enforce_file_format=True) for instance in fundus_photograph()
    ],
    "MONOCHROME1 radiograph": lambda sources, folder: sources.planar(
        folder, PhotometricInterpretation="MONOCHROME1", PixelSpacing=[0.2, 0.3]
    ),
    "ultrasound loop": lambda sources, folder: sources.frames_without_groups(folder),
}
NAMES = {"label_info": [{"name": name, "idx": i + 1} for i, name in enumerate(["Liver", "spleen", "odd shadow"])]}


def opened(orthanc: Any, state: Path, **filters: str) -> DicomDatastore:
    return DicomDatastore(DicomWeb(orthanc.dicomweb, orthanc.access, filters), state)


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_a_label_comes_back_from_the_pacs_voxel_by_voxel(
    kind: str,
    orthanc: Any,
    sources: Any,
    studies: Path,
    tmp_path: Path,
    read_folder: Any,
    as_nrrd: Any,
    tool: Callable[[str, str], str],
) -> None:
    """Values 1 and 3 of three names: stock MONAI Label calls the second one by the second name, as a spleen."""
    SOURCES[kind](sources, studies)
    orthanc.upload(sorted(studies.iterdir()))
    image = read_folder(studies)
    labels = np.random.default_rng(3).choice(np.array([0, 1, 3], np.uint8), image.grid.shape, p=[0.6, 0.2, 0.2])
    labels[-1, 0, :2] = 1, 3

    submitting = opened(orthanc, tmp_path / "submitting")
    assert submitting.list_images() == [image.series_instance_uid]
    label = submitting.save_label(
        image.series_instance_uid, str(as_nrrd(labels, image.grid)), "final", {**NAMES, "user": "Doe^Jane"}
    )
    assert submitting.get_labels_by_image_id(image.series_instance_uid) == {"final": label}

    # Another server, which knows nothing but the PACS.
    other = opened(orthanc, tmp_path / "other")
    (pair,) = other.datalist()
    assert (pair["image_id"], pair["label_id"]) == (image.series_instance_uid, label)
    liver, odd = other.read_label(label, "final").segments
    assert (liver.label, odd.label) == ("Liver", "odd shadow")
    assert (liver.type.value, odd.type.scheme) == ("10200004", "99RCMED")
    np.testing.assert_array_equal(liver.mask, labels == 1)
    np.testing.assert_array_equal(odd.mask, labels == 3)
    # Its file is on the grid of the series.
    voxels, header = nrrd.read(pair["label"], index_order="C")
    np.testing.assert_array_equal(voxels, np.where(labels == 3, 2, labels))
    np.testing.assert_allclose(header["space directions"], image.grid.affine[:3, [2, 1, 0]].T)
    np.testing.assert_allclose(header["space origin"], image.grid.affine[:3, 3])
    # And what is in the PACS is valid, the user's, and unverified.
    segmentation = other.archive.fetch_segmentation(other.archive.segmentations()[0])
    written = write_result(segmentation, tmp_path / "segmentation")
    assert str(segmentation.ContentCreatorName) == "Doe^Jane"
    assert {segment.SegmentAlgorithmType for segment in segmentation.SegmentSequence} == {"MANUAL"}
    assert segmentation.ContentQualification == "RESEARCH"
    assert segmentation.StudyInstanceUID == image.sources[0].study_instance_uid
    done = subprocess.run(
        [tool("dciodvfy", "dicom3tools"), "-new", str(written)], capture_output=True, text=True, timeout=120
    )
    said = (done.stdout + done.stderr).splitlines()
    assert any(line.strip() == "Segmentation" for line in said), said
    assert [line for line in said if line.startswith("Error")] == []


def test_source_instances_come_as_they_are(orthanc: Any, sources: Any, studies: Path, tmp_path: Path) -> None:
    """A task gets the folder of the source instances, which the readers of `rcmed` read."""
    image = sources.volume(studies)
    orthanc.upload(sorted(studies.iterdir()))
    store = opened(orthanc, tmp_path / "state")
    folder = Path(store.get_image_uri(image.series_instance_uid))
    (read,) = read_images(folder)
    assert read.grid.matches(image.grid)
    assert [source.sop_instance_uid for source in read.sources] == [s.sop_instance_uid for s in image.sources]
    for file in studies.iterdir():
        original = dcmread(file)
        assert dcmread(folder / f"{original.SOPInstanceUID}.dcm") == original


def test_overlapping_segments_survive(orthanc: Any, sources: Any, studies: Path, tmp_path: Path, as_nrrd: Any) -> None:
    image = sources.volume(studies)
    orthanc.upload(sorted(studies.iterdir()))
    liver, tumour = np.zeros((2, *image.grid.shape), np.uint8)
    liver[1:3, 1:6, 1:4] = 1
    tumour[2, 2:4, 2:4] = 1
    header = {
        "Segment0_Name": "liver",
        "Segment0_LabelValue": "1",
        "Segment0_Layer": "0",
        "Segment1_Name": "liver tumor",
        "Segment1_LabelValue": "1",
        "Segment1_Layer": "1",
    }
    file = as_nrrd(np.stack([liver, tumour]), image.grid, "label.seg.nrrd", **header)
    store = opened(orthanc, tmp_path / "state")
    label = store.save_label(image.series_instance_uid, str(file), "final", {})
    found = store.read_label(label, "final").segments
    assert [segment.label for segment in found] == ["liver", "liver tumor"]
    np.testing.assert_array_equal(found[0].mask, liver == 1)
    np.testing.assert_array_equal(found[1].mask, tumour == 1)
    assert found[1].type.value == "108369006" and found[1].region.value == "10200004"
    # What Slicer reads has a layer for each, and says which segment is where.
    voxels, header = nrrd.read(store.get_label_uri(label, "final"), index_order="F")
    assert header["kinds"] == ["list", "domain", "domain", "domain"]
    for number, mask in enumerate((liver, tumour)):
        layer = int(header[f"Segment{number}_Layer"])
        value = int(header[f"Segment{number}_LabelValue"])
        np.testing.assert_array_equal(np.transpose(voxels[layer] == value), mask == 1)
    # Submitted as it came, it is the same again.
    again = store.save_label(image.series_instance_uid, store.get_label_uri(label, "final"), "final", {})
    assert again != label
    for before, after in zip(found, store.read_label(again, "final").segments, strict=True):
        assert before.label == after.label
        np.testing.assert_array_equal(before.mask, after.mask)


def segmentation_of(sources: Any, image: Any, job: str, **changes: object) -> Any:
    mask = np.zeros(image.grid.shape, dtype=bool)
    mask[1, 2:4, 1:3] = True
    findings = sources.findings(image, sources.found(mask))
    segmentation = build_segmentation(findings, image, ResultIdentifiers.derive(job))
    for keyword, value in changes.items():
        setattr(segmentation, keyword, value)
    return segmentation, mask


def test_what_another_system_stored_is_a_label(orthanc: Any, sources: Any, studies: Path, tmp_path: Path) -> None:
    image = sources.volume(studies)
    orthanc.upload(sorted(studies.iterdir()))
    store = opened(orthanc, tmp_path / "state")
    assert store.get_unlabeled_images() == [image.series_instance_uid]
    assert store.datalist() == []
    foreign, mask = segmentation_of(sources, image, "other", Manufacturer="Another", SeriesDescription="contours")
    orthanc.upload([write_result(foreign, tmp_path / "foreign")])
    # Nobody told the store: its lists are fresh.
    assert store.get_labels_by_image_id(image.series_instance_uid) == {"final": foreign.SOPInstanceUID}
    assert store.get_labeled_images() == [image.series_instance_uid]
    assert store.get_labeled_images(labels=["liver"]) == [image.series_instance_uid]
    assert store.get_labeled_images(labels=["spleen"]) == []
    assert store.get_unlabeled_images() == []
    (pair,) = store.datalist()
    assert pair["label_id"] == foreign.SOPInstanceUID
    info = store.get_label_info(foreign.SOPInstanceUID, "final")
    assert info["label_info"] == [{"name": "liver", "idx": 1}] and info["manufacturer"] == "Another"
    (segment,) = store.read_label(foreign.SOPInstanceUID, "final").segments
    np.testing.assert_array_equal(segment.mask, mask)
    with pytest.raises(InputError, match="not submitted here"):
        store.remove_label(foreign.SOPInstanceUID, "final")


def test_what_the_model_drew_is_no_ground_truth(
    orthanc: Any, sources: Any, studies: Path, tmp_path: Path, as_nrrd: Any
) -> None:
    image = sources.volume(studies)
    orthanc.upload(sorted(studies.iterdir()))
    drawn, mask = segmentation_of(sources, image, "gateway")
    orthanc.upload([write_result(drawn, tmp_path / "gateway")])
    store = opened(orthanc, tmp_path / "state")
    uid = image.series_instance_uid
    assert store.get_labels_by_image_id(uid) == {"original": drawn.SOPInstanceUID}
    assert store.datalist() == [] and store.get_unlabeled_images() == [uid]
    # A batch result is stored as such, and what a person makes of it is semi-automatic.
    batch = store.save_label(
        uid,
        str(as_nrrd(mask.astype(np.uint8), image.grid)),
        "original",
        {"model": "rcmed", "params": {"label_names": {"liver": 1}}},
    )
    corrected = store.save_label(uid, str(as_nrrd(mask.astype(np.uint8), image.grid)), "final", NAMES)
    assert store.get_labels_by_image_id(uid) == {"original": batch, "final": corrected}
    assert store.get_label_info(batch, "original")["algorithm_types"] == ["AUTOMATIC"]
    assert store.get_label_info(corrected, "final")["algorithm_types"] == ["SEMIAUTOMATIC"]
    assert [pair["label_id"] for pair in store.datalist()] == [corrected]


def test_images_of_every_modality_are_listed_at_once(orthanc: Any, sources: Any, tmp_path: Path) -> None:
    store = opened(orthanc, tmp_path / "state")
    assert store.list_images() == []
    expected = []
    for number, make in enumerate(SOURCES.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        make(sources, folder)
        orthanc.upload(sorted(folder.iterdir()))
        expected.append(str(dcmread(next(folder.iterdir())).SeriesInstanceUID))
        assert sorted(store.list_images()) == sorted(expected)
    modalities = {store.get_image_info(image)["Modality"] for image in expected}
    assert modalities == {"CT", "MR", "OP", "CR", "US"}
    assert len(opened(orthanc, tmp_path / "filtered", Modality="MR").list_images()) == 3


def test_a_series_that_grew_is_fetched_again(orthanc: Any, sources: Any, studies: Path, tmp_path: Path) -> None:
    image = sources.volume(studies)
    files = sorted(studies.iterdir())
    orthanc.upload(files[:3])
    store = opened(orthanc, tmp_path / "state")
    before = store.get_image_uri(image.series_instance_uid)
    assert store.get_image_uri(image.series_instance_uid) == before
    orthanc.upload(files[3:])
    (read,) = read_images(store.get_image_uri(image.series_instance_uid))
    assert read.grid.shape == image.grid.shape


def test_uploads(orthanc: Any, sources: Any, studies: Path, tmp_path: Path, as_nrrd: Any) -> None:
    """Stock MONAI Label answers the first with an IndexError."""
    image = sources.volume(studies, shape=(1, 7, 5))
    store = opened(orthanc, tmp_path / "state")
    volume = as_nrrd(np.zeros(image.grid.shape, np.int16), image.grid, "volume.nrrd")
    with pytest.raises(InputError, match="takes DICOM instances only"):
        store.add_image("volume", str(volume), {})
    (file,) = studies.iterdir()
    assert store.add_image("whatever", str(file), {"user": "jane"}) == image.series_instance_uid
    assert store.list_images() == [image.series_instance_uid]
    assert store.get_image_info(image.series_instance_uid)["user"] == "jane"
    with pytest.raises(InputError, match="remove it there"):
        store.remove_image(image.series_instance_uid)


@pytest.mark.parametrize("access", [PeerAccess(), PeerAccess("annotator", "guess"), PeerAccess(token="guess")])
def test_without_the_right_credentials_nothing_is_told(
    access: PeerAccess, orthanc: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = DicomDatastore(DicomWeb(orthanc.dicomweb, access), tmp_path / "state")
    with pytest.raises(PeerError, match="refuses our credentials") as refused:
        store.list_images()
    assert "guess" not in str(refused.value) + caplog.text + repr(access)
    # The server's /info goes on.
    assert "refuses our credentials" in store.status()["error"]


def test_a_label_that_the_pacs_does_not_take_is_kept_and_sent_later(
    orthanc: Any, sources: Any, studies: Path, tmp_path: Path, as_nrrd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = sources.volume(studies)
    orthanc.upload(sorted(studies.iterdir()))
    store = opened(orthanc, tmp_path / "state")
    labels = np.ones(image.grid.shape, np.uint8)

    def down(path: Path) -> None:
        raise PeerError("the PACS does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(store.archive, "store", down)
        with pytest.raises(PeerError, match="kept"):
            store.save_label(image.series_instance_uid, str(as_nrrd(labels, image.grid)), "final", NAMES)
    assert store.get_labels_by_image_id(image.series_instance_uid) == {}
    again = opened(orthanc, tmp_path / "state")
    again.refresh()
    (label,) = again.get_labels_by_image_id(image.series_instance_uid).values()
    np.testing.assert_array_equal(again.read_label(label, "final").segments[0].mask, labels == 1)
    assert list((tmp_path / "state" / "unsent").iterdir()) == []


def test_what_is_no_series_is_refused_with_the_reason(
    orthanc: Any, sources: Any, studies: Path, tmp_path: Path
) -> None:
    image = sources.volume(studies, shape=(5, 7, 5))
    files = sorted(studies.iterdir())
    orthanc.upload([*files[:2], *files[3:]])
    store = opened(orthanc, tmp_path / "state")
    for _ in range(2):
        with pytest.raises(InputError, match="slices are missing"):
            store.get_image_uri(image.series_instance_uid)


def test_the_whole_as_json_and_zip(orthanc: Any, sources: Any, studies: Path, tmp_path: Path, as_nrrd: Any) -> None:
    image = sources.volume(studies)
    orthanc.upload(sorted(studies.iterdir()))
    store = opened(orthanc, tmp_path / "state")
    with pytest.raises(InputError, match="no image has a label"):
        store.get_dataset_archive(None)
    store.save_label(
        image.series_instance_uid, str(as_nrrd(np.ones(image.grid.shape, np.uint8), image.grid)), "final", NAMES
    )
    assert store.status() == {"total": 1, "completed": 1, "label_tags": {"final": 1}}
    json.dumps(store.json())
    import zipfile

    with zipfile.ZipFile(store.get_dataset_archive(5)) as archive:
        names = sorted(name.partition("/")[0] for name in archive.namelist())
    assert names == ["image", "label", "metadata.json"]


def test_a_segmentation_of_another_grid_is_listed_but_not_read(
    orthanc: Any, sources: Any, studies: Path, tmp_path: Path
) -> None:
    """It says that it belongs to the series, and refers to instances that are not in it."""
    image = sources.volume(studies)
    orthanc.upload(sorted(studies.iterdir()))
    foreign, _ = segmentation_of(sources, image, "other", Manufacturer="Another")
    for group in foreign.PerFrameFunctionalGroupsSequence:
        for item in group.DerivationImageSequence[0].SourceImageSequence:
            item.ReferencedSOPInstanceUID = generate_uid()
    orthanc.upload([write_result(foreign, tmp_path / "foreign")])
    store = opened(orthanc, tmp_path / "state")
    assert store.get_labels_by_image_id(image.series_instance_uid) == {"final": foreign.SOPInstanceUID}
    with pytest.raises(InputError, match="no slice of the image"):
        store.get_label_uri(foreign.SOPInstanceUID, "final")
    assert store.datalist() == []


def test_a_seg_file_may_be_submitted_too(orthanc: Any, sources: Any, studies: Path, tmp_path: Path) -> None:
    image = sources.volume(studies)
    orthanc.upload(sorted(studies.iterdir()))
    drawn, mask = segmentation_of(sources, image, "a viewer")
    store = opened(orthanc, tmp_path / "state")
    label = store.save_label(image.series_instance_uid, str(write_result(drawn, tmp_path / "seg")), "final", {})
    (segment,) = read_segments(store.archive.fetch_segmentation(store.archive.segmentations()[0]), image)
    assert segment.label == "liver" and label != drawn.SOPInstanceUID
    np.testing.assert_array_equal(segment.mask, mask)
