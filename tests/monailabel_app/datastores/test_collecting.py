"""What was submitted to a DICOM store is learned from: the SEG's own segments, overlaps included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from monailabel_app.collecting import collect
from monailabel_app.datastores.dicom_datastore import DicomDatastore
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
