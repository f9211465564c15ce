"""Public layouts, as tiny copies, and folders of one's own become an index whose masks lie on their images."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, ornt_transform
from numpy.typing import NDArray
from PIL import Image as PillowImage
from typer.testing import CliRunner

from rcmed.cli import build_app
from rcmed.data.conversion import convert, load_layouts
from rcmed.data.conversion.converter import PROVENANCE
from rcmed.data.conversion.labelled import cases_of_layout, cases_of_own
from rcmed.data.triplets import Triplet, read_index
from rcmed.errors import InputError
from rcmed.modality import Modality
from rcmed.vocabulary import load_targets

SHAPE = (14, 12, 6)


def labels(*values: int) -> NDArray[np.int16]:
    """A block for each value: the first at the patient's right front, each next one further to the left."""
    volume = np.zeros(SHAPE, dtype=np.int16)
    for place, value in enumerate(values):
        volume[1 + 4 * place : 4 + 4 * place, 2:6, 1:4] = value
    return volume


def save(voxels: NDArray[np.int16], path: Path, axes: str = "LPS") -> None:
    """Write voxels whose axes run as LPS to a NIfTI file whose axes run otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = nib.Nifti1Image(voxels, np.diag([-2.0, -2.0, 3.0, 1.0]))
    wanted = ornt_transform(axcodes2ornt(tuple("LPS")), axcodes2ornt(tuple(axes)))
    nib.save(file.as_reoriented(wanted) if voxels.ndim == 3 else file, path)


def picture(volume: NDArray[np.int16]) -> NDArray[np.int16]:
    """An image in which each label has a grey of its own: 100 HU and more, the rest is air."""
    return np.where(volume > 0, 60 + 20 * volume, -1000).astype(np.int16)


def run(name: str, source: Path, output: Path, **options: int) -> list[Triplet]:
    list(convert(cases_of_layout(load_layouts()[name], source, 0.0), output, **options))
    return read_index(output / "image2label_2d_train.json", output)


def shown_greys(triplet: Triplet, name: str) -> set[int]:
    return set(np.unique(triplet.read_pixels()[..., 0][triplet.read_mask(name)]).tolist())


def test_every_layout_names_targets_of_the_vocabulary() -> None:
    known = {target.name for target in load_targets()}
    for layout in load_layouts().values():
        assert set(layout.targets) <= known, layout.name
    assert {"msd_liver", "totalsegmentator", "amos"} <= set(load_layouts())


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["LPS", "RAS", "LAS", "RPI", "SLP", "ASR"]), st.sampled_from(["LPS", "RAS", "PIL"]))
def test_masks_lie_on_their_images_whatever_way_the_axes_run(
    tmp_path_factory: pytest.TempPathFactory, of_image: str, of_labels: str
) -> None:
    source, output = tmp_path_factory.mktemp("msd"), tmp_path_factory.mktemp("index")
    volume = labels(1, 2)
    save(picture(volume), source / "imagesTr" / "liver_0.nii.gz", of_image)
    save(volume, source / "labelsTr" / "liver_0.nii.gz", of_labels)
    triplets = run("msd_liver", source, output)
    assert any(triplet.masks for triplet in triplets)
    for triplet in triplets:
        assert triplet.labelled == ("liver", "liver tumor")
        if not triplet.masks:
            assert triplet.read_pixels().max() == 0
            continue
        # 80 and 100 HU in the window of 40 and 400 HU.
        assert shown_greys(triplet, "liver tumor") == {166} and shown_greys(triplet, "liver") == {153, 166}
        assert triplet.read_mask("liver").sum() == (triplet.read_pixels()[..., 0] > 0).sum()


def test_one_sequence_is_taken_of_several(tmp_path: Path) -> None:
    volume = labels(1, 2, 3)
    channels = np.stack([picture(volume), np.zeros_like(volume)], axis=-1)
    save(channels, tmp_path / "imagesTr" / "BRATS_001.nii.gz")
    save(volume, tmp_path / "labelsTr" / "BRATS_001.nii.gz")
    triplets = run("msd_brain_tumour", tmp_path, tmp_path / "out")
    shown = [triplet for triplet in triplets if triplet.masks]
    assert len(shown) == 3 and {triplet.modality for triplet in shown} == {Modality.MR}
    for triplet in shown:
        whole, core = triplet.read_mask("brain tumor with edema"), triplet.read_mask("brain tumor")
        assert whole.sum() == 36 and core.sum() == 24
        assert (whole == (core | triplet.read_mask("peritumoral edema"))).all()
        assert triplet.read_pixels()[whole].min() > 0


def test_a_structure_with_a_part_missing_was_not_annotated(tmp_path: Path) -> None:
    volume = labels(1, 2)
    for case in ("s0000", "s0001"):
        save(picture(volume), tmp_path / case / "ct.nii.gz")
        for value, name in ((1, "kidney_right"), (2, "kidney_left"), (0, "spleen"), (1, "lung_upper_lobe_left")):
            mask = (volume == value) & (value > 0)
            save(mask.astype(np.int16), tmp_path / case / "segmentations" / f"{name}.nii.gz")
    (tmp_path / "meta.csv").write_text("image_id;age;split\ns0000;50;train\ns0001;60;test\n")
    triplets = run("totalsegmentator", tmp_path, tmp_path / "out")
    held_out = read_index(tmp_path / "out" / "image2label_2d_test.json", tmp_path / "out")
    assert {t.patient for t in triplets} == {"totalsegmentator_s0000"}
    assert {t.patient for t in held_out} == {"totalsegmentator_s0001"}
    assert triplets[0].labelled == ("kidney", "left kidney", "right kidney", "spleen")
    shown = [triplet for triplet in triplets if triplet.masks]
    assert shown and all(set(triplet.masks) == {"kidney", "left kidney", "right kidney"} for triplet in shown)
    for triplet in shown:  # the patient's right is at the left of the picture
        right, left = (triplet.read_mask(f"{side} kidney").nonzero()[1].mean() for side in ("right", "left"))
        assert right < left


def test_amos_tells_ct_from_mr_by_the_case(tmp_path: Path) -> None:
    volume = labels(6, 1)
    for folder, case in (("Tr", "amos_0004"), ("Tr", "amos_0507"), ("Va", "amos_0008")):
        save(picture(volume), tmp_path / f"images{folder}" / f"{case}.nii.gz")
        save(volume, tmp_path / f"labels{folder}" / f"{case}.nii.gz")
    triplets = run("amos", tmp_path, tmp_path / "out")
    assert {(t.patient, t.modality) for t in triplets} == {
        ("amos_amos_0004", Modality.CT),
        ("amos_amos_0507", Modality.MR),
    }
    held_out = read_index(tmp_path / "out" / "image2label_2d_test.json", tmp_path / "out")
    assert {t.patient for t in held_out} == {"amos_amos_0008"}
    assert {name for t in triplets for name in t.masks} == {"liver", "spleen"}


def test_a_broken_case_is_left_out_with_a_line(tmp_path: Path) -> None:
    volume = labels(1)
    for case in ("spleen_1", "spleen_2"):
        save(picture(volume), tmp_path / "imagesTr" / f"{case}.nii.gz")
        save(volume, tmp_path / "labelsTr" / f"{case}.nii.gz")
    (tmp_path / "labelsTr" / "spleen_1.nii.gz").write_bytes(b"no volume")
    (tmp_path / "imagesTr" / "._spleen_2.nii.gz").write_bytes(b"left behind by a Mac")
    done = list(convert(cases_of_layout(load_layouts()["msd_spleen"], tmp_path, 0.0), tmp_path / "out"))
    assert [(each.case, each.images > 0) for each in done] == [("spleen_1", False), ("spleen_2", True)]
    assert done[0].refusal is not None and "labelsTr/spleen_1.nii.gz" in done[0].refusal


def test_a_stopped_conversion_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    volume = labels(1)
    for case in ("spleen_1", "spleen_2", "spleen_3"):
        save(picture(volume), tmp_path / "imagesTr" / f"{case}.nii.gz")
        save(volume, tmp_path / "labelsTr" / f"{case}.nii.gz")
    run("msd_spleen", tmp_path, tmp_path / "whole")
    run("msd_spleen", tmp_path, tmp_path / "stopped")
    provenance = tmp_path / "stopped" / PROVENANCE
    lines = provenance.read_text().splitlines(keepends=True)
    provenance.write_text("".join(lines[:-2]) + lines[-2][:20])
    (tmp_path / "stopped" / "image2label_2d_train.json").unlink()
    run("msd_spleen", tmp_path, tmp_path / "stopped")
    for name in (PROVENANCE, "image2label_2d_train.json"):
        assert (tmp_path / "stopped" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_a_long_volume_gives_slices_all_along_it(tmp_path: Path) -> None:
    volume = np.zeros((8, 8, 60), dtype=np.int16)
    volume[2:5, 2:5, 10:50] = 1
    save(picture(volume), tmp_path / "imagesTr" / "spleen_1.nii.gz")
    save(volume, tmp_path / "labelsTr" / "spleen_1.nii.gz")
    triplets = run("msd_spleen", tmp_path, tmp_path / "out", most_slices=8)
    numbers = [int(triplet.image.stem.rsplit("_", 1)[1]) for triplet in triplets if triplet.masks]
    assert len(triplets) == 8 and len(numbers) == 6
    assert min(numbers) == 10 and max(numbers) == 49


def test_the_authors_index_keeps_its_files_and_gets_our_names(tmp_path: Path) -> None:
    source = tmp_path / "Datasets2D"
    (source / "images").mkdir(parents=True)
    PillowImage.new("L", (8, 8), 100).save(source / "images" / "ct--kits--1.png")
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[2:4, 2:4] = 255
    for name in ("a", "b", "c"):
        PillowImage.fromarray(mask).save(source / "images" / f"{name}.png")
    entry = [{"images/a.png": "left_kidney"}, {"images/b.png": "Kidney tumour"}, {"images/c.png": "widget"}]
    (source / "image2label_train.json").write_text(json.dumps({"images/ct--kits--1.png": entry}))
    runner = CliRunner()
    command = ["convert", "datasets2d", str(source), "--output", str(tmp_path / "out")]
    result = runner.invoke(build_app(command), command)
    assert result.exit_code == 0 and "`widget` (1 masks)" in result.output
    (triplet,) = read_index(tmp_path / "out" / "image2label_2d_train.json", tmp_path / "out")
    assert set(triplet.masks) == {"left kidney", "kidney tumor", "widget"}
    assert triplet.dataset == "kits" and triplet.read_mask("left kidney").sum() == 4
    assert triplet.image.resolve() == (source / "images" / "ct--kits--1.png").resolve()


def own_folder(root: Path) -> None:
    for patient, size in (("p1", 10), ("p2", 12)):
        pixels = np.zeros((size, 16, 3), dtype=np.uint8)
        pixels[2:5, 3:9] = (200, 40, 40)
        for folder in ("images", "masks/Optic_Disc", "masks/screw"):
            (root / folder / patient).mkdir(parents=True)
        PillowImage.fromarray(pixels).save(root / "images" / patient / "left eye.png")
        PillowImage.fromarray(pixels[..., 0]).save(root / "masks" / "Optic_Disc" / patient / "left eye.png")
    empty = PillowImage.new("L", (16, 10))
    empty.save(root / "masks" / "screw" / "p1" / "left eye.png")


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    own_folder(tmp_path)
    list(convert(cases_of_own(tmp_path, Modality.FUNDUS, 0.0), tmp_path / "out"))
    first, second = read_index(tmp_path / "out" / "image2label_2d_train.json", tmp_path / "out")
    assert (first.patient, second.patient) == ("own_p1", "own_p2")
    assert first.labelled == ("optic disc", "screw") and set(first.masks) == {"optic disc"}  # empty: absent
    assert second.labelled == ("optic disc",)  # no mask: nothing is known
    assert first.read_mask("optic disc").sum() == 18
    assert (first.read_pixels()[first.read_mask("optic disc")] == (200, 40, 40)).all()


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="imagesTr/{case}.nii.gz"):
        list(cases_of_layout(load_layouts()["msd_liver"], tmp_path, 0.0))
    with pytest.raises(InputError, match="masks/TARGET/NAME.png"):
        list(cases_of_own(tmp_path, None, 0.0))
    with pytest.raises(InputError, match="image2label_train.json"):
        from rcmed.data.conversion.published import link_published

        link_published(tmp_path, tmp_path / "out")


def test_an_index_that_spells_a_name_otherwise_means_the_same_target(tmp_path: Path) -> None:
    image, mask = "images/ct--made--1.png", "masks/ct--made--1--oesophagus.png"
    index = tmp_path / "image2label_2d_train.json"
    index.write_text(json.dumps({image: [{mask: "oesophagus"}]}))
    labelled = {"image": image, "dataset": "made", "patient": "1", "labelled": ["oesophagus", "esophagus", "thalamus"]}
    (tmp_path / "provenance.jsonl").write_text(json.dumps(labelled))
    (triplet,) = read_index(index, tmp_path)
    assert triplet.masks == {"esophagus": (tmp_path / mask,)}
    assert triplet.labelled == ("esophagus", "thalamus")
