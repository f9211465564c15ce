"""Faults of MONAI Label's own folder store; each test says what stock does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException

from monailabel_app.datastores.folder import FolderDatastore
from monailabel_app.datastores.label_files import read_label
from rcmed.errors import InputError
from rcmed.readers import read_images


@pytest.fixture
def store(studies: Path) -> Iterator[FolderDatastore]:
    yield FolderDatastore(studies, watch=False)


def test_every_kind_of_image_is_listed_by_its_name(studies: Path, store: FolderDatastore) -> None:
    """Stock passes over upper-case suffixes, MHA and JPEG, and cuts a suffix out of the middle of a name."""
    for name in ("us--A.PNG", "x_ray--b.jpeg", "ct--c.mha", "ct--d.png.v2.nii.gz", "notes.txt", ".ct--hidden.nii"):
        (studies / name).write_bytes(b"")
    store.refresh()
    assert sorted(store.list_images()) == [
        "ct--body",
        "ct--c",
        "ct--d.png.v2",
        "fundus--eye",
        "us--A",
        "x_ray--b",
    ]
    assert store.get_image_uri("us--A").endswith("us--A.PNG")


def test_a_name_that_can_be_no_id_is_left_out(studies: Path, store: FolderDatastore) -> None:
    (studies / "ct--a..b.nii.gz").write_bytes(b"")
    store.refresh()
    assert sorted(store.list_images()) == ["ct--body", "fundus--eye"]


@pytest.mark.parametrize("tag", ["../../evil", "..", "/tmp/evil"])
def test_no_label_is_written_outside(studies: Path, store: FolderDatastore, tag: str) -> None:
    """Stock: `tag=../../evil` wrote outside the store."""
    with pytest.raises(InputError, match="tag"):
        store.save_label("ct--body", str(studies / "ct--body.nii.gz"), tag, {})
    with pytest.raises(InputError, match="id"):
        store.add_image("../evil", str(studies / "ct--body.nii.gz"), {})


def test_a_label_replaces_one_of_another_format(
    studies: Path, store: FolderDatastore, volume_writer: Callable[..., None], tmp_path: Path
) -> None:
    """Stock leaves the older file, which comes back at the next start."""
    volume_writer(tmp_path / "l.nii.gz")
    volume_writer(tmp_path / "l.nrrd")
    store.save_label("ct--body", str(tmp_path / "l.nii.gz"), "final", {"label_info": []})
    store.save_label("ct--body", str(tmp_path / "l.nrrd"), "final", {"label_info": [{"name": "liver", "idx": 1}]})
    assert [path.name for path in (studies / "labels" / "final").iterdir()] == ["ct--body.nrrd"]
    again = FolderDatastore(studies, watch=False)
    assert again.get_label_info("ct--body", "final")["label_info"] == [{"name": "liver", "idx": 1}]
    assert again.get_labeled_images() == ["ct--body"] and again.get_unlabeled_images() == ["fundus--eye"]


def test_a_label_lies_on_its_image_or_is_refused_when_it_is_sent(
    studies: Path, store: FolderDatastore, tmp_path: Path
) -> None:
    """Stock takes any file; another size was all that was noticed here. A part of the image's voxels is enough."""
    image = nib.load(studies / "ct--body.nii.gz")
    label = np.zeros(image.shape, np.uint8)
    label[2:4, 2:5, 1:3] = 1
    cropped = image.affine @ nib.affines.from_matvec(np.eye(3), (1, 1, 0))
    nib.save(nib.Nifti1Image(label[1:, 1:], cropped), tmp_path / "l.nii")
    store.save_label("ct--body", str(tmp_path / "l.nii"), "final", {})
    (kept,) = read_images(store.get_image_uri("ct--body"))
    (segment,) = read_label(Path(store.get_label_uri("ct--body", "final")), kept, {})
    assert np.array_equal(segment.mask, np.transpose(label > 0, kept.file_axes))
    elsewhere = image.affine.copy()
    elsewhere[0, 3] += 0.5 * np.linalg.norm(elsewhere[:3, 0])
    nib.save(nib.Nifti1Image(label, elsewhere), tmp_path / "l.nii")
    with pytest.raises(InputError, match=r"l\.nii: its voxels .* do not lie on those of the image"):
        store.save_label("ct--body", str(tmp_path / "l.nii"), "final", {})


def test_what_is_not_there_is_told(store: FolderDatastore) -> None:
    with pytest.raises(LabelNotFoundException):
        store.remove_label("ct--body", "final")
    with pytest.raises(ImageNotFoundException):
        store.remove_image("nothing")
    store.remove_image("ct--body")
    assert store.list_images() == ["fundus--eye"]
