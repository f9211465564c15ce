"""A prompt by ONNX Runtime is answered as by torch; the graph is made once, and what is wrong is said."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rcmed import Assistant
from rcmed.errors import ConfigurationError
from rcmed.image import Grid, Image
from rcmed.inference.logits import SliceReader
from rcmed.inference.prompt_graph import PromptGraph
from rcmed.modality import Modality
from rcmed.model.modeling import RCMedModel
from rcmed.model.processor import RCMedProcessor

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def in_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


def images(shapes: Any, *seeds: int) -> list[Image]:
    grid = Grid.without_geometry(shapes.size, shapes.size)
    return [Image(shapes.draw(seed)[0][None], grid, Modality.CT) for seed in seeds]


def test_prompts_of_any_length_are_answered_as_by_torch(weak_weights: Path, shapes: Any) -> None:
    model, processor = RCMedModel.from_pretrained(str(weak_weights)), RCMedProcessor.from_pretrained(weak_weights)
    by_torch = SliceReader(model, processor)
    by_graph = SliceReader(model, processor, prompt_graph=PromptGraph.of(model))
    for seed in (500, 501):
        pixels = np.repeat(shapes.draw(seed)[0][None, ..., None], 3, axis=-1)
        encoded = by_torch.encode(pixels)
        for name, modality in (("liver", Modality.CT), ("liver liver spleen", Modality.X_RAY)):
            logits, presence = by_graph.ground(encoded, [name], modality)
            wanted, wanted_presence = by_torch.ground(encoded, [name], modality)
            torch.testing.assert_close(logits, wanted, atol=1e-3, rtol=1e-4)
            torch.testing.assert_close(presence, wanted_presence, atol=1e-4, rtol=1e-4)
            assert not torch.equal(logits, wanted), "another runtime rounds otherwise: did it answer?"
        # Several that share a pass are torch's.
        together, _ = by_graph.ground(encoded, ["liver", "spleen"], Modality.CT)
        assert torch.equal(together, by_torch.ground(encoded, ["liver", "spleen"], Modality.CT)[0])


def test_an_assistant_finds_the_same_and_the_graph_is_made_once(weak_weights: Path, shapes: Any, cache: Path) -> None:
    assistant = Assistant.from_pretrained(weak_weights, device="onnx")
    (path,) = (cache / "rcmed" / "onnx").glob("*/*.onnx")
    made = path.stat().st_mtime_ns
    again = Assistant.from_pretrained(weak_weights, device="onnx")
    assert path.stat().st_mtime_ns == made and list((cache / "rcmed" / "onnx").iterdir()) == [path.parent]
    wanted = Assistant.from_pretrained(weak_weights, device="cpu")
    for image in images(shapes, 600, 601, 602):
        for prompt in ("liver", "spleen"):
            (mine,), (theirs,) = again.find(image, prompt).findings, wanted.find(image, prompt).findings
            assert mine.status is theirs.status and mine.mask is not None and theirs.mask is not None
            assert (mine.mask != theirs.mask).mean() < 0.001
    assert assistant.identity == wanted.identity
    assert not (cache / "Microsoft").exists(), "ONNX Runtime keeps what it will report to its maker there"


def test_a_damaged_graph_and_what_is_not_installed_are_named(
    weak_weights: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Assistant.from_pretrained(weak_weights, device="onnx")
    (kept,) = (cache / "rcmed" / "onnx").glob("*/*.onnx")
    content = kept.read_bytes()
    try:
        kept.write_bytes(content[: len(content) // 2])
        with pytest.raises(ConfigurationError, match="prompt.onnx: is no graph that can be read"):
            Assistant.from_pretrained(weak_weights, device="onnx")
    finally:
        kept.write_bytes(content)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigurationError, match=r"device onnx needs onnxruntime: pip install 'rcmed\[onnx\]'"):
        Assistant.from_pretrained(weak_weights, device="onnx")


def test_a_cache_that_cannot_be_written_is_named(
    weak_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ConfigurationError, match="can't be written .*XDG_CACHE_HOME"):
        Assistant.from_pretrained(weak_weights, device="onnx")
