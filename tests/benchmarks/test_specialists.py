"""`benchmarks/specialists.py` on a tiny made index."""

import importlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from PIL import Image as PillowImage

from rcmed.data.triplets import read_index
from rcmed.modality import Modality
from rcmed.model.processor import RCMedProcessor
from rcmed.training.settings import TrainingSettings

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def specialists(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(BENCHMARKS)
    threads = torch.get_num_threads()
    yield importlib.import_module("specialists")
    torch.set_num_threads(threads)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Bright discs in four photographs, and squares called "left lung" in one radiograph; the same to test on."""
    index, provenance = {}, []
    for number in range(5):
        prefix, name = ("x_ray", "left lung") if number == 0 else ("fundus", "optic disc")
        pixels = np.full((60, 80, 3), 30, dtype=np.uint8)
        mask = np.zeros((60, 80), dtype=np.uint8)
        mask[20:45, 10 + 8 * number : 35 + 8 * number] = 255
        pixels[mask > 0] += 180
        image = f"{prefix}--made_{prefix}--{number}.png"
        PillowImage.fromarray(pixels).save(tmp_path / image)
        PillowImage.fromarray(mask).save(tmp_path / f"mask{number}.png")
        index[image] = [{f"mask{number}.png": name}]
        labelled = [name, "hard exudate"] if prefix == "fundus" else [name]
        provenance.append({"image": image, "dataset": f"made_{prefix}", "patient": str(number), "labelled": labelled})
    (tmp_path / "provenance.jsonl").write_text("\n".join(map(json.dumps, provenance)))
    for split in ("train", "test"):
        (tmp_path / f"image2label_2d_{split}.json").write_text(json.dumps(index))
    return tmp_path


@pytest.fixture
def joint_run(tmp_path: Path) -> Path:
    stages = [
        {"steps": 10, "dataset_weights": {"made_x_ray": 2.0}},
        {"steps": 9, "dataset_weights": {}, "healthy_controls": {"heads": 9}},
    ]
    path = tmp_path / "joint_run.yaml"
    path.write_text(yaml.safe_dump({"batch_images": 4, "size_exponent": 0.5, "stages": stages}))
    return path


@pytest.fixture
def arguments(root: Path, joint_run: Path, tmp_path: Path) -> list[str]:
    """Of the command: the tiny index, and folders of the test's own (results in `results`)."""
    folders = ["--output", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    return [str(root), *folders, "--joint-run", str(joint_run)]


def test_image_steps_are_those_of_the_joint_sampler(specialists: ModuleType, root: Path, joint_run: Path) -> None:
    triplets = read_index(root / "image2label_2d_train.json", root)
    shown = specialists.joint_image_steps(triplets, joint_run)
    # First 40 images by weights 1 * 2 and sqrt(4); then 36 by 1, 2 and, of the controls, 3.
    assert shown["made_x_ray", Modality.X_RAY] == 20 + 6
    assert shown["made_fundus", Modality.FUNDUS] == 20 + 12
    assert shown["heads", Modality.MR] == 18


def test_the_shipped_run_is_told_whole(specialists: ModuleType) -> None:
    stages = yaml.safe_load(specialists.JOINT_RUN.read_text())["stages"]
    assert sum(stage["steps"] for stage in stages) == 6_160 + 15_350 + 2_700 + 3_314 * 12 + 5_000


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_in_the_same_weights(specialists: ModuleType, root: Path, tmp_path: Path) -> None:
    triplets = [t for t in read_index(root / "image2label_2d_train.json", root) if t.modality is Modality.FUNDUS]
    processor = RCMedProcessor.from_pretrained("small")
    settings = TrainingSettings(image_size=64)

    def start(name: str) -> object:
        return specialists.Specialist(triplets, 24, settings, processor, tmp_path / name)

    unbroken = start("unbroken")
    assert (unbroken.names, unbroken.steps) == (["hard exudate", "optic disc"], 6)
    list(unbroken.train())
    list(start("broken").train(last=2))
    resumed = start("broken")
    assert resumed.step == 2
    list(resumed.train())
    for name, value in unbroken.averaged.items():
        assert torch.equal(value, resumed.averaged[name]), name


@pytest.mark.slow
def test_a_specialist_learns_where_its_target_is(specialists: ModuleType, root: Path, tmp_path: Path) -> None:
    triplets = [t for t in read_index(root / "image2label_2d_train.json", root) if t.modality is Modality.FUNDUS]
    processor = RCMedProcessor.from_pretrained("small")
    specialist = specialists.Specialist(triplets, 240, TrainingSettings(image_size=64), processor, tmp_path / "run")
    list(specialist.train())
    dice, images = specialists.mean_dice(triplets, specialist.answering())
    assert images == {"optic disc": 4}
    assert dice["optic disc"] > 0.8


@pytest.mark.slow
def test_the_command_trains_once_and_prints_a_row_for_each_target(
    specialists: ModuleType, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*arguments, "--steps-share", "0.25"]
    specialists.main([*arguments, "--data-sets", "made_x_ray:x_ray", "--table-only"])
    assert "No specialist is finished" in capsys.readouterr().out

    specialists.main([*arguments, "--data-sets", "made_x_ray"])
    told = capsys.readouterr().out
    assert 'made_x_ray, of 2 steps: {"step": 2' in told
    (row,) = [line for line in told.splitlines() if "left lung" in line]
    assert row.startswith("| x_ray | made_x_ray | left lung | 1 | 8 (**fewer**: 31% of 26) | 1 |")

    page = tmp_path / "page.md"
    page.write_text(f"Before.\n{specialists.BEGIN}| an older table |\n{specialists.END}Behind.\n")
    specialists.main([*arguments, "--data-sets", "made_x_ray", "--write", str(page)])
    assert "of 2 steps" not in capsys.readouterr().out
    written = page.read_text()
    assert row in written and "older" not in written
    assert written.startswith("Before.\n") and written.endswith("Behind.\n")


@pytest.mark.slow
def test_a_specialist_that_saw_less_than_the_joint_model_is_trained_anew(
    specialists: ModuleType, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*arguments, "--data-sets", "made_x_ray"]
    result = tmp_path / "results" / "made_x_ray-x_ray.json"
    specialists.main([*arguments, "--steps-share", "0.25"])
    kept = json.loads(result.read_text())
    assert (kept["image_steps"], kept["of_joint"]) == (8, 26)
    capsys.readouterr()

    specialists.main([*arguments, "--table-only"])
    assert "8 (**fewer**: 31% of 26)" in capsys.readouterr().out
    specialists.main([*arguments, "--steps-share", "0.3"])
    assert "of 2 steps" not in capsys.readouterr().out

    specialists.main(arguments)
    told = capsys.readouterr().out
    assert 'made_x_ray, of 7 steps: {"step": 7' in told and "fewer" not in told
    assert json.loads(result.read_text())["image_steps"] == 28


def test_finished_specialists_are_of_the_shipped_data_sets(specialists: ModuleType) -> None:
    known = {name.partition(":")[0] for name in specialists.DATA_SETS}
    kept = sorted(specialists.RESULTS.glob("*.json"))
    assert kept
    for path in kept:
        result = specialists.Result(**json.loads(path.read_text()))
        assert path.stem == f"{result.dataset}-{result.modality}" and result.dataset in known
        assert result.dice.keys() == result.test_images.keys()


def test_the_table_tells_whether_one_model_is_as_good(specialists: ModuleType) -> None:
    result = specialists.Result(
        dataset="made",
        modality="ct",
        training_images=3,
        image_steps=400,
        of_joint=400,
        parameters=7,
        seconds=1.0,
        dice={"left lung": 0.8, "right lung": 0.6},
        test_images={"left lung": 2, "right lung": 1},
    )
    one = specialists.JointResult("", {"left lung": 0.85, "right lung": 0.54}, {"left lung": 0.9, "right lung": 0.6})
    told = specialists.table([(result, one)])
    assert "| ct | made | left lung | 3 | 400 | 2 | 0.800 | 0.850 | +0.050 | 0.900 |" in told
    assert "| 0.700 | 0.695 | -0.005 | 0.750 |" in told
    assert "with as many image-steps as in the joint training: 0.695 >= 0.690: holds." in told
    worse = replace(one, dice={"left lung": 0.7, "right lung": 0.6})
    assert "does not hold" in specialists.table([(result, worse)])
    less = replace(result, dataset="less", image_steps=100, dice={"left lung": 0.5, "right lung": 0.5})
    told = specialists.table([(result, worse), (less, one)])
    assert "with as many image-steps as in the joint training: 0.650 >= 0.690: **does not hold**." in told
    assert "fewer image-steps included: 0.67" in told and ">= 0.590: holds." in told
