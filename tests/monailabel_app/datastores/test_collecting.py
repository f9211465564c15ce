"""What was submitted to a DICOM store is learned from: the SEG's own segments, overlaps included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monailabel_app.datastores.dicom.datastore import DicomDatastore
from monailabel_app.datastores.folder import FolderDatastore
from monailabel_app.datastores.volumes_as_nrrd import image_as_nrrd
from monailabel_app.tasks.collecting import collect
from rcmed.data.collected import list_corrections, read_slices


def test_overlapping_segments_become_a_correction_each(
    studies: Path, sources: Any, open_folder: Callable[[], DicomDatastore], as_nrrd: Any, tmp_path: Path
) -> None:
    image = sources.volume(studies)
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
    store = open_folder()
    store.save_label(image.series_instance_uid, str(file), "final", {"user": "jane"})
    assert collect(store, tmp_path / "collected") == []
    (correction,), refused = list_corrections(tmp_path / "collected")
    assert refused == [] and correction.description.user == "jane"
    assert correction.description.image_id == image.series_instance_uid
    slices, refused = read_slices([correction])
    assert refused == [] and len(slices) == 2
    assert sorted(name for each in slices for name in each.masks) == ["liver", "liver", "liver tumor"]
    drawn = (
        sum(int(each.masks["liver"].sum()) for each in slices),
        sum(int(each.masks["liver tumor"].sum()) for each in slices if "liver tumor" in each.masks),
    )
    assert drawn == (int(liver.sum()), int(tumour.sum()))
    assert collect(store, tmp_path / "collected") == [], "nothing is kept twice"
    assert len(list_corrections(tmp_path / "collected")[0]) == 1


@pytest.mark.parametrize(
    ("values", "told", "expected"),
    [
        # Slicer counts scribbles, which it does not send, in `idx` but not in the values.
        ((1, 2), {"label_info": [{"name": "liver", "idx": 2}, {"name": "spleen", "idx": 3}]}, ["liver", "spleen"]),
        ((2, 3), {"label_info": [{"name": "liver", "idx": 2}, {"name": "spleen", "idx": 3}]}, ["liver", "spleen"]),
        (
            (1, 2),
            {
                "params": {"label_names": {"spleen": 1, "liver": 2}},
                "label_info": [{"name": "liver", "idx": 1}, {"name": "spleen", "idx": 2}],
            },
            ["spleen", "liver"],
        ),
    ],
    ids=["by order", "by idx", "by params"],
)
def test_a_folder_and_an_archive_learn_the_same_of_the_same_label(
    values: tuple[int, int],
    told: dict[str, Any],
    expected: list[str],
    studies: Path,
    sources: Any,
    open_folder: Callable[[], DicomDatastore],
    as_nrrd: Any,
    tmp_path: Path,
) -> None:
    image = sources.volume(studies)
    labels = np.zeros(image.grid.shape, np.uint8)
    labels[1:3, 1:6, 1:4], labels[2, 2:4, 2:4] = values
    file = as_nrrd(labels, image.grid, "label.nrrd")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "ct--body.nrrd").write_bytes(image_as_nrrd(image))
    for name, store, image_id in (
        ("archive", open_folder(), image.series_instance_uid),
        ("folder", FolderDatastore(folder, watch=False), "ct--body"),
    ):
        store.save_label(image_id, str(file), "final", told)
        assert collect(store, tmp_path / name, lambda *_: image.modality) == []
    learned = [
        {
            target: sum(int(each.masks[target].sum()) for each in read_slices(corrections)[0] if target in each.masks)
            for correction in corrections
            for label_map in correction.description.masks
            for target in label_map.names.values()
        }
        for corrections, _ in (list_corrections(tmp_path / name) for name in ("archive", "folder"))
    ]
    drawn = {name: int((labels == value).sum()) for name, value in zip(expected, values, strict=True)}
    assert learned == [drawn, drawn]
