"""Masks in bits: the same as in bytes, and many of them in little memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from rcmed.assistant import Assistant
from rcmed.errors import GridMismatchError
from rcmed.findings import Finding, Findings, FindingStatus, ModelIdentity
from rcmed.image import Grid, Image
from rcmed.inference.answers import SliceAnswers, VolumeAnswers
from rcmed.modality import Modality
from rcmed.model.config import RCMedConfig
from rcmed.packed_mask import PackedMask
from rcmed.vocabulary.named import private_target

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, max_side=19))


@given(MASKS, st.data())
def test_what_is_packed_comes_back(mask: NDArray[np.bool_], data: st.DataObject) -> None:
    packed = PackedMask.of(mask)
    np.testing.assert_array_equal(packed.unpack(), mask)
    np.testing.assert_array_equal(packed.areas, mask.sum(axis=(1, 2)))
    assert packed.any() == mask.any() and packed.shape == mask.shape
    first = data.draw(st.integers(0, len(mask) - 1))
    end = data.draw(st.integers(first, len(mask)))
    np.testing.assert_array_equal(packed.unpack(first, end), mask[first:end])
    np.testing.assert_array_equal(packed[first], mask[first])


@given(MASKS)
def test_a_turned_view_is_packed_as_it_is_seen(mask: NDArray[np.bool_]) -> None:
    seen = mask.swapaxes(1, 2)[:, ::-1]
    np.testing.assert_array_equal(PackedMask.of(seen).unpack(), seen)


def test_slices_can_be_put_again() -> None:
    packed = PackedMask((3, 4, 5))
    packed.put(1, np.ones((2, 4, 5), dtype=bool))
    packed.put(2, np.zeros((1, 4, 5), dtype=bool))
    assert packed.areas.tolist() == [0, 20, 0]
    assert packed.unpack().sum(axis=(1, 2)).tolist() == [0, 20, 0]


def test_a_finding_keeps_its_mask_in_bits() -> None:
    mask = np.zeros((64, 256, 256), dtype=bool)
    mask[10:40, 60:200, 80:190] = True
    finding = Finding("liver", None, FindingStatus.FOUND, mask=mask)
    assert finding.region is not None and finding.region.nbytes < mask.nbytes / 100
    np.testing.assert_array_equal(finding.mask, mask)
    told = finding.reworded(prompt="the liver", description="large")
    assert (told.prompt, told.description, finding.prompt, finding.description) == ("the liver", "large", "liver", "")
    np.testing.assert_array_equal(told.mask, mask)
    np.testing.assert_array_equal(replace(finding, prompt="the liver").mask, mask)
    without = replace(finding, status=FindingStatus.ABSENT, mask=None)
    assert without.mask is None and without.region is None and not without.is_present
    assert Finding("liver", None, FindingStatus.ABSENT).mask is None


def test_a_mask_of_another_shape_is_refused() -> None:
    image = Grid.without_geometry(4, 5, 3)
    identity = ModelIdentity("made", "1", "0" * 64)
    with pytest.raises(GridMismatchError, match=r"\(2, 4, 5\)"):
        finding = Finding("liver", None, FindingStatus.FOUND, mask=np.zeros((2, 4, 5), dtype=bool))
        Findings((finding,), identity, image, Modality.CT)
    with pytest.raises(GridMismatchError, match="3 of them|not 2"):
        Finding("liver", None, FindingStatus.FOUND, mask=np.zeros((4, 5), dtype=bool))


def test_parts_of_the_targets_are_put_where_they_belong() -> None:
    whole = VolumeAnswers.empty(3, 4, 2, 2)
    masks = np.ones((2, 2, 2, 2), dtype=bool)
    said = np.array([[0.1, 0.2], [0.3, 0.4]], dtype=np.float32)
    whole.put(SliceAnswers(2, masks, said, said + 1, first_target=1))
    assert [mask.areas.tolist() for mask in whole.masks] == [[0, 0, 0, 0], [0, 0, 4, 4], [0, 0, 4, 4]]
    np.testing.assert_array_equal(whole.presence[1:, 2:], said)
    np.testing.assert_array_equal(whole.sureness[1:, 2:], said + 1)
    assert not whole.presence[0].any() and not whole.presence[:, :2].any()


@pytest.mark.slow
def test_many_targets_of_a_volume_take_little_more_memory_than_one() -> None:
    # Names of nobody's anatomy, of which nothing is implausible.
    targets = [private_target(f"region {number}", [Modality.CT]) for number in range(40)]
    shape = (64, 192, 192)

    class Reader:
        def read(self, pixels: Any, names: Any, modality: Any, hints: Any, boxes: Any) -> Iterator[SliceAnswers]:
            for first in range(0, shape[0], 8):
                masks = np.zeros((len(names), 8, *shape[1:]), dtype=bool)
                for number in range(len(names)):
                    masks[number, :, 20 + number : 90 + number, 30:120] = True
                said = np.full((len(names), 8), 0.95, dtype=np.float32)
                yield SliceAnswers(first, masks, said, said)

    config = RCMedConfig(presence_thresholds=(0.25, 0.6), tiled_targets=())
    model: Any = SimpleNamespace(config=config, eval=lambda: model, device="cpu")
    processor: Any = SimpleNamespace(surroundings=lambda: (torch.zeros(1), torch.zeros(1)))
    assistant = Assistant(model, processor, ModelIdentity("made", "1", "0" * 64))
    assistant._reader = Reader()  # type: ignore[assignment]
    image = Image(np.zeros(shape, dtype=np.int16), Grid(shape, np.eye(4)[[2, 1, 0, 3]]), Modality.CT, is_volume=True)
    tracemalloc.start()
    try:
        findings = assistant.find_targets(image, targets)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    in_bytes = len(targets) * np.prod(shape)
    assert peak < in_bytes / 3, f"{peak / 1e6:.0f} MB; the masks in bytes have {in_bytes / 1e6:.0f} MB"
    for number, finding in enumerate(findings):
        assert finding.mask is not None
        rows = np.flatnonzero(finding.mask.any(axis=(0, 2)))
        assert (rows[0], rows[-1]) == (20 + number, 89 + number) and finding.mask.sum() == 64 * 70 * 90
