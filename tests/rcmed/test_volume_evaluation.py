"""Volumes with label maps scored in millimetres and millilitres, patients that were trained on left out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from rcmed import cli
from rcmed.data.labelled_volumes import LabelledVolume, find_labelled_volumes
from rcmed.data.training_patients import trained_on
from rcmed.data.triplets import Triplet
from rcmed.errors import InputError
from rcmed.evaluation.volumes.metrics import VolumeScore, count_parts, neighbour_agreement, score_volume
from rcmed.evaluation.volumes.pictures import Planes
from rcmed.evaluation.volumes.rows import VolumeRow
from rcmed.evaluation.volumes.tables import summarise_volumes
from rcmed.image import Grid, Image
from rcmed.modality import Modality

SHAPE = (12, 30, 40)


def grid(slices_mm: float = 3.0, pixels_mm: float = 1.0) -> Grid:
    """Axial slices."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = slices_mm, pixels_mm, pixels_mm, 1
    return Grid(SHAPE, affine)


def block(first: int, last: int) -> NDArray[np.bool_]:
    """A block in the slices from `first` to before `last`."""
    mask = np.zeros(SHAPE, dtype=bool)
    mask[first:last, 10:20, 10:25] = True
    return mask


def test_a_block_one_slice_too_long_is_scored_in_millimetres() -> None:
    score = score_volume(block(3, 8), block(3, 7), grid())
    assert score.dice == pytest.approx(2 * 4 / (4 + 5))
    assert score.found_ml == pytest.approx(5 * 150 * 3 / 1000) and score.true_ml == pytest.approx(4 * 150 * 3 / 1000)
    assert score.hausdorff95_mm == pytest.approx(3.0), "a slice is 3 mm away"
    assert 0 < score.surface_mm < 3
    assert (score.parts, score.true_parts, score.slices_share) == (1, 1, pytest.approx(4 / 12))
    assert score.agreement == score.true_agreement == 1.0
    same = score_volume(block(3, 7), block(3, 7), grid())
    assert (same.dice, same.surface_mm, same.hausdorff95_mm) == (1.0, 0.0, 0.0)


def test_what_is_missed_has_no_distance_and_what_is_not_there_no_dice() -> None:
    nothing = np.zeros(SHAPE, dtype=bool)
    missed, false = score_volume(nothing, block(3, 7), grid()), score_volume(block(3, 7), nothing, grid())
    assert missed.dice == 0 and np.isnan([missed.surface_mm, missed.hausdorff95_mm, missed.agreement]).all()
    assert np.isnan(false.dice) and false.found_ml > 0 and false.true_ml == 0
    pixels = score_volume(block(3, 8), block(3, 7), Grid.without_geometry(30, 40, 12))
    assert pixels.dice > 0.8 and np.isnan([pixels.surface_mm, pixels.true_ml]).all()


def test_parts_and_agreement_of_neighbouring_slices() -> None:
    mask = block(2, 9)
    mask[5] = False
    assert count_parts(mask) == 2
    assert neighbour_agreement(mask) == pytest.approx(4 / 6), "a slice left out counts twice, the ends do not"
    mask[3, 10:15] = False
    assert neighbour_agreement(mask) == pytest.approx((2 * (2 * 75 / 225) + 2) / 6)
    assert np.isnan(neighbour_agreement(block(2, 3)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two CT volumes of two patients, one of them with the two kidneys."""
    for number, labels in enumerate(({"1": "liver"}, {"1": "left kidney", "2": "right kidney", "3": "flux capacitor"})):
        case = tmp_path / "volumes" / "made" / f"case_{number}"
        case.mkdir(parents=True)
        voxels = np.full((40, 30, 6), -100, np.int16)
        voxels[10:20, 10:20] = 60
        drawn = np.zeros(voxels.shape, np.uint8)
        drawn[10:20, 10:20, 1:5] = 1
        drawn[30:35, 10:20, 1:5] = 2
        drawn[0, 0, 0] = 3
        affine = np.diag([-2.0, -2.0, 4.0, 1.0])
        nib.save(nib.Nifti1Image(voxels, affine), case / "image.nii.gz")
        nib.save(nib.Nifti1Image(drawn, affine), case / "label.nii.gz")
        (case / "labels.json").write_text(json.dumps({"modality": "ct", "labels": labels}))
    return tmp_path / "volumes"


def test_label_maps_name_their_values_and_a_whole_its_parts(folder: Path) -> None:
    liver, kidneys = find_labelled_volumes(folder)
    assert (liver.dataset, liver.name, liver.patient, liver.modality) == ("made", "case_0", "case_0", Modality.CT)
    image, masks = kidneys.read()
    assert image.grid.spacing == (4.0, 2.0, 2.0) and set(masks) == {
        "left kidney",
        "right kidney",
        "kidney",
        "flux capacitor",
    }
    assert (masks["kidney"] == (masks["left kidney"] | masks["right kidney"])).all()
    assert masks["left kidney"].sum() == 400 and masks["right kidney"].sum() == 200
    (folder / "made/case_0/labels.json").write_text('{"labels": ["liver"]}')
    with pytest.raises(InputError, match="case_0/labels.json"):
        find_labelled_volumes(folder)
    with pytest.raises(InputError, match="no volume with a label map"):
        find_labelled_volumes(folder / "made/case_1/label.nii.gz")


@pytest.mark.parametrize(
    ("patients", "case", "is_seen"),
    [
        (("openkbp_test_pt_247", "openkbp_test_pt_269"), "test_pt_247", True),
        (("openkbp_test_pt_247", "openkbp_test_pt_269"), "test_pt_24", False),
        (("ts_example_ct", "ts_cta"), "example_ct_sm", True),
        (("ts_example_mr", "ts_cta"), "example_ct_sm", False),
        (("sub-unf01",), "sub-unf01__t2w", True),
        (("STS_001", "STS_008"), "STS_008_pet", True),
        (("sct03", "sct04"), "sct01__t1w", False),
        (("msd_spleen_spleen_26", "spleen_2"), "spleen_2", True),
    ],
)
def test_patients_that_were_trained_on_are_known_under_other_names(
    patients: tuple[str, ...], case: str, is_seen: bool
) -> None:
    triplets = [Triplet(Path(f"{p}.png"), {}, (), Modality.CT, "made", p) for p in patients]
    volume = LabelledVolume(Path("volumes") / case, case, "made", Modality.CT, case, {})
    assert trained_on([volume], triplets) == ({str(volume.folder)} if is_seen else set())
    assert not trained_on([replace(volume, dataset="another")], triplets)


def row(patient: str, dice: float, is_trained_on: bool = False, status: str = "found") -> VolumeRow:
    return VolumeRow(
        f"volume {patient}", "ct", "made", patient, "liver", status, 0.9,
        VolumeScore(dice, 1.0, 4.0, 90.0, 100.0, 2, 1, 0.8, 0.9, 0.5), 2.0, is_trained_on,
    )  # fmt: skip


def test_means_leave_out_whom_the_weights_were_trained_on() -> None:
    rows = [row("a", 0.5), row("b", 0.7), row("c", 1.0, is_trained_on=True)]
    assert "| Dice | 2 | 0.600" in summarise_volumes(rows, {}, True)
    assert "1 volumes of patients whose slices were trained on" in summarise_volumes(rows, {}, True)
    assert "| Dice | 3 | 0.733" in summarise_volumes(rows, {}, True, with_trained=True)
    assert "Nobody told" in summarise_volumes(rows, {}, False)
    missed = summarise_volumes([row("a", 0.0, status="absent")], {"flux capacitor": 1}, True)
    assert "called absent: liver (volume a)" in missed and "flux capacitor (1 volumes)" in missed


def test_three_planes_are_to_scale() -> None:
    image = Image(np.zeros(SHAPE, np.int16), grid(slices_mm=10.0), Modality.CT, is_volume=True)
    picture = Planes(image).draw(block(3, 8), block(3, 7))
    scale = 320 / 120
    assert picture.shape == (320, round(40 * scale) * 2 + round(30 * scale) + 3 * 4, 3)
    assert (picture == (255, 60, 60)).all(-1).any() and (picture == (60, 255, 60)).all(-1).any()


def test_a_folder_of_volumes_is_evaluated(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ct--made--case_1_3.png").touch()
    (tmp_path / "index.json").write_text(json.dumps({"ct--made--case_1_3.png": []}))
    (tmp_path / "provenance.jsonl").write_text(
        json.dumps({"image": "ct--made--case_1_3.png", "dataset": "made", "patient": "case_1", "labelled": []})
    )
    output = tmp_path / "out"
    with pytest.raises(SystemExit) as end:
        cli.main(["evaluate", str(folder), "--output", str(output), "--trained", str(tmp_path / "index.json")])
    assert not end.value.code
    said = capsys.readouterr().out
    assert "Left out, for no target has the name: flux capacitor (1 volumes)" in said
    assert "1 volumes of patients whose slices were trained on are left out" in said
    header, *lines = (output / "metrics.csv").read_text().splitlines()
    assert header.startswith("image,modality,dataset,patient,target,status") and len(lines) == 4
    assert [line.endswith("True") for line in lines] == [False, True, True, True]
    page = (output / "summary.html").read_text()
    pictures = sorted(path.name for path in (output / "overlays").iterdir())
    assert len(pictures) == 4 and all(name in page for name in pictures)


def test_an_index_needs_its_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(SystemExit) as end:
        cli.main(["evaluate", str(tmp_path / "index.json")])
    assert end.value.code and "--root" in capsys.readouterr().err
