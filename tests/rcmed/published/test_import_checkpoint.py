"""`rcmed import-checkpoint`: what it reads, and what it says of a checkpoint that can't be used."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from pydicom.data import get_testdata_file
from torch import Tensor

from rcmed.assistant import Assistant
from rcmed.cli import main
from rcmed.errors import CheckpointError
from rcmed.modality import Modality
from rcmed.model.processor import to_image_grid
from rcmed.published import checkpoint, import_checkpoint

State = dict[str, Tensor]


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_a_checkpoint_of_mixed_types_gives_the_masks_of_the_plain_composition(
    suffix: str, checkpoints: Any, tokenizer: Any, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    state = checkpoints.state(mixed=True)
    model = import_checkpoint(checkpoints.write(tmp_path / "checkpoint", state, suffix), tmp_path / "model")
    reader = Assistant.from_pretrained(model, "cpu")._reader
    logits, _ = reader.ground(reader.encode(pixels[None]), ["optic disc"], Modality.FUNDUS)
    ours = to_image_grid(logits[:, 0], *pixels.shape[:2], reader.processor.image_size)[0]
    plain = checkpoints.composition_of(state).mask_logits(pixels, "optic disc", Modality.FUNDUS, tokenizer)
    torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-4)


def test_the_provenance_tells_what_was_read_and_written(checkpoints: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(checkpoint, "_LARGEST_FILE_BYTES", 40_000)
    source = checkpoints.write(tmp_path / "checkpoint", checkpoints.state(mixed=True))
    model = import_checkpoint(source, tmp_path / "model")
    told = json.loads((model / "provenance.json").read_text())
    files = sorted(path.name for path in model.glob("*.safetensors"))
    assert len(files) > 3 and [each["file"] for each in told["written"]] == files
    for folder, kind in ((source, "read"), (model, "written")):
        for each in told[kind]:
            content = (folder / each["file"]).read_bytes()
            assert (each["bytes"], each["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    index = json.loads((model / "model.safetensors.index.json").read_text())
    assert len(index["weight_map"]) == len(checkpoints.state())


def drop(name: str) -> Callable[[State], None]:
    return lambda state: state.__delitem__(name)


def add(name: str) -> Callable[[State], None]:
    return lambda state: state.__setitem__(name, torch.zeros(2))


def reshape(name: str) -> Callable[[State], None]:
    return lambda state: state.__setitem__(name, torch.zeros(3, 3))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop("model.layers.1.mlp.up_proj.weight"), r"model\.layers\.1\.mlp\.up_proj\.weight is missing"),
        (drop("model.embed_tokens.weight"), "lacks a tensor"),
        (add("model.layers.7.extra.weight"), r"model\.layers\.7\.extra\.weight is left over|shape|missing"),
        (add("model.mm_projector.5.weight"), r"model\.mm_projector\.5\.weight is left over"),
        (add("vision_tower.weight"), r"vision_tower\.weight is no tensor of the published model"),
        (reshape("model.mm_projector.2.weight"), r"mm_projector\.2\.weight is of shape \(3, 3\), but \(64, 64\)"),
    ],
)
def test_a_wrong_tensor_is_named(change: Any, said: str, checkpoints: Any, tmp_path: Path) -> None:
    state = checkpoints.state()
    change(state)
    source = checkpoints.write(tmp_path / "checkpoint", state)
    with pytest.raises(CheckpointError, match=said):
        import_checkpoint(source, tmp_path / "model")
    assert not (tmp_path / "model").exists(), "nothing is written before all is known to be right"


def first_shard(source: Path) -> Path:
    return min(path for path in source.iterdir() if path.suffix in (".bin", ".safetensors"))


def remove_shard(source: Path) -> None:
    first_shard(source).unlink()


def truncate_shard(source: Path) -> None:
    shard = first_shard(source)
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])


def break_index(source: Path) -> None:
    next(source.glob("*.index.json")).write_text("[]")


def lead_out(source: Path) -> None:
    index = next(source.glob("*.index.json"))
    told = json.loads(index.read_text())
    told["weight_map"]["lm_head.weight"] = "../elsewhere.bin"
    index.write_text(json.dumps(told))


def remove_config(source: Path) -> None:
    (source / "config.json").unlink()


def remove_tokenizer(source: Path) -> None:
    for path in source.glob("token*"):
        path.unlink()


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (remove_shard, "is missing, but .* names it"),
        (truncate_shard, "is truncated"),
        (break_index, "no index of shards"),
        (lead_out, "no file beside it"),
        (remove_config, r"config\.json: can't be read"),
        (remove_tokenizer, "tokenizer"),
    ],
)
def test_a_damaged_download_is_named(damage: Any, said: str, suffix: str, checkpoints: Any, tmp_path: Path) -> None:
    source = checkpoints.write(tmp_path / "checkpoint", checkpoints.state(), suffix)
    damage(source)
    with pytest.raises(CheckpointError, match=said):
        import_checkpoint(source, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_shard_that_is_more_than_tensors_is_refused(checkpoints: Any, tmp_path: Path) -> None:
    source = checkpoints.write(tmp_path / "checkpoint", checkpoints.state())
    torch.save({"weight": Path("/")}, first_shard(source))
    with pytest.raises(CheckpointError, match="truncated or no file of tensors"):
        import_checkpoint(source, tmp_path / "model")


def test_no_room_on_the_disk_is_said_before_anything_is_written(
    checkpoints: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    source = checkpoints.write(tmp_path / "checkpoint", checkpoints.state())
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1 << 20))
    with pytest.raises(CheckpointError, match="the disk has only 0.0 GiB free"):
        import_checkpoint(source, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_folder_that_holds_something_is_left_alone(checkpoints: Any, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="is not empty"):
        import_checkpoint(tmp_path, tmp_path / "model")


@pytest.mark.slow
def test_the_commands_import_it_and_find_with_it(
    checkpoints: Any, pixels: NDArray[np.uint8], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = checkpoints.write(tmp_path / "checkpoint", checkpoints.state())
    model = tmp_path / "imported"
    with pytest.raises(SystemExit) as ended:
        main(["import-checkpoint", str(source), str(model)])
    assert not ended.value.code and f"model written to {model}" in capsys.readouterr().out
    picture = tmp_path / "picture.png"
    PillowImage.fromarray(pixels).save(picture)
    dicom = get_testdata_file("CT_small.dcm")
    for given, folder in ((picture, "picture"), (dicom, "dicom")):
        arguments = ["find", str(given), "--modality", "ct", "--prompt", "liver; optic disc", "--model", str(model)]
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--device", "cpu", "--output", str(tmp_path / folder)])
        assert not ended.value.code
        told = json.loads((tmp_path / folder / "findings.json").read_text())
        assert told["model"]["name"] == "RCMed imported" and len(told["model"]["weights_sha256"]) == 64
    report = pydicom.dcmread(tmp_path / "dicom" / "report.dcm")
    assert report.Modality == "SR" and report.StudyInstanceUID == pydicom.dcmread(dicom).StudyInstanceUID


def test_a_broken_checkpoint_is_one_line_and_exit_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["import-checkpoint", str(tmp_path / "nowhere"), str(tmp_path / "model")])
    assert ended.value.code == 2
    assert capsys.readouterr().err.strip().count("\n") == 0
