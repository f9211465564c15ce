"""Slices make one mask of a volume, and one presence."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from rcmed.assistant import Assistant
from rcmed.errors import CheckpointError
from rcmed.findings import FindingStatus, ModelIdentity
from rcmed.hints import Hint
from rcmed.image import Grid, Image
from rcmed.inference.answers import SliceLogits, VolumeAnswers
from rcmed.inference.decision import Decision, PresenceRule, decide
from rcmed.inference.packed_logits import HIGHEST, PackedLogits
from rcmed.inference.viewing import ReaderView
from rcmed.inference.volume import as_of_a_slice, drop_islands, presence_of_best, presence_of_volume
from rcmed.inference.volume_masks import join_slices, keep_parts
from rcmed.inference.volume_rule import Joining, VolumeRule
from rcmed.modality import Modality
from rcmed.model.config import RCMedConfig
from rcmed.model.processor import to_eight_bit, to_model_grid
from rcmed.vocabulary import Target, load_targets, target_named
from rcmed.vocabulary.named import private_target

SIZE = 64


@given(
    arrays(np.float32, (5, 4, 6), elements=st.floats(-20, 20, width=32)),
    st.permutations(range(5)),
)
def test_logits_come_back_in_steps(logits: NDArray[np.float32], order: list[int]) -> None:
    kept = PackedLogits(7)
    for index in order:
        kept.put(index + 1, torch.from_numpy(logits[index : index + 1]))
    back = kept.unpack(0, 7)
    assert np.abs(back[1:6] - logits.clip(-HIGHEST, HIGHEST)).max() <= HIGHEST / 127 / 2 + 1e-5
    assert (back[[0, 6]] == -HIGHEST).all() and (kept.unpack(2, 4) == back[2:4]).all()


def test_slices_without_the_target_take_nothing() -> None:
    logits = torch.full((100, 128, 128), -12.0)
    logits[40:44, 20:60, 20:60] = 9.0
    kept = PackedLogits(100)
    assert not kept.was_put
    kept.put(0, logits)
    assert kept.was_put and kept.any() and kept.nbytes < 4000
    kept.put(0, torch.full((100, 128, 128), -9.0))
    assert not kept.any() and kept.nbytes == 0


def test_neighbours_fill_a_slice_and_take_a_lone_one_away() -> None:
    logits = np.full((12, 5, 5), -3.0, dtype=np.float32)
    logits[3:8] = 5.0
    logits[5] = -1.0
    logits[10] = 1.0
    unknown = np.full(12, np.nan, dtype=np.float32)
    joined = join_slices(logits.copy(), unknown, 1.0, Joining(smoothing_mm=1.0, seed=0.0))
    assert (joined[:, 0, 0] > 0).tolist() == [3 <= index < 8 for index in range(12)]
    thick = join_slices(logits.copy(), unknown, 10.0, Joining(smoothing_mm=1.0))
    assert ((thick > 0) == (logits > 0)).all(), "slices that are far apart say nothing of each other"


def test_where_the_target_rather_is_not_its_mask_must_be_surer() -> None:
    logits = np.full((4, 2, 2), 1.5, dtype=np.float32)
    presence = np.array([0.9, 0.9, 0.5, 0.9], dtype=np.float32)
    joined = join_slices(logits, presence, 5.0, Joining(smoothing_mm=0.0, presence_weight=1.0))
    assert (joined[:, 0, 0] > 0).tolist() == [True, True, False, True]


@given(
    arrays(np.float32, (6, 3, 3), elements=st.floats(-8, 8, width=32)),
    arrays(np.float32, 6, elements=st.floats(0, 1, width=32)),
    st.sampled_from([None, 0.7, 1.0, 3.0]),
)
def test_slices_in_reverse_order_give_the_same_to_the_bit(
    logits: NDArray[np.float32], presence: NDArray[np.float32], distance_mm: float | None
) -> None:
    forth = join_slices(logits.copy(), presence, distance_mm)
    back = join_slices(logits[::-1].copy(), presence[::-1], distance_mm)
    assert (forth == back[::-1]).all()


def test_parts_are_kept_as_the_target_has_them() -> None:
    def volume() -> NDArray[np.float32]:
        logits = np.full((8, 20, 20), -5.0, dtype=np.float32)
        logits[1:5, 2:8, 2:8] = 6.0  # the largest
        logits[1:5, 12:16, 12:16] = 7.0
        logits[6, 2:4, 12:16] = 5.0
        logits[6, 15:20, 2:8] = 1.0  # of 30 voxels, nowhere sure
        return logits

    joining = Joining(seed=4.0, island_share=0.0)

    def shown(parts: int | None, least: float = 0.0) -> list[bool]:
        kept = keep_parts(volume(), parts, least, joining) > joining.growth
        return [bool(kept[place]) for place in ((2, 4, 4), (2, 13, 13), (6, 3, 13), (6, 17, 4))]

    assert shown(None) == [True, True, True, False]
    assert shown(2) == [True, True, False, False]
    assert shown(1) == [True, False, False, False]
    assert shown(None, least=20) == [True, True, False, False]
    assert shown(None, least=1000) == [True, True, True, False], "none is as large as that: nothing is known of size"
    nothing = np.full((2, 3, 3), -1.0, dtype=np.float32)
    assert (keep_parts(nothing, 1, 0.0) == -1.0).all()


VOLUMES = VolumeRule(thresholds=(0.42, 0.82))
RULE = PresenceRule(absent_below=0.38, found_from=0.76, sure_mask_logit=None, volumes=VOLUMES)


def said_of(presence: NDArray[np.float32], together: int | None = 11) -> Decision:
    """What is decided of a volume of which each slice shows one pixel."""
    masks = np.ones((len(presence), 1, 1), dtype=bool)
    return decide(masks, presence, np.zeros_like(presence), RULE, together)


@given(
    share=st.floats(0.2, 1.0),
    presence=st.floats(0.51, 1.0),
    first=st.floats(0.0, 1.0),
    slices=st.integers(55, 400),
)
def test_what_runs_through_a_fifth_of_a_volume_is_not_absent(
    share: float, presence: float, first: float, slices: int
) -> None:
    length = int(np.ceil(share * slices))
    start = round(first * (slices - length))
    said = np.zeros(slices, dtype=np.float32)
    said[start : start + length] = presence
    assert said_of(said).status is not FindingStatus.ABSENT


def test_a_lone_claim_among_hundreds_is_absent_and_so_are_many_weak_ones() -> None:
    """MNI152, a healthy brain of 189 slices, in 1 mm."""
    said = np.full(189, 0.1, dtype=np.float32)
    said[100] = 1.0
    assert said_of(said).status is FindingStatus.ABSENT
    said[95:106] = 0.8  # a whole window
    assert said_of(said).status is FindingStatus.ABSENT
    assert said_of(np.full(300, 0.3, dtype=np.float32)).status is FindingStatus.ABSENT
    scattered = np.zeros(189, dtype=np.float32)
    scattered[::4] = 1.0
    assert said_of(scattered).status is FindingStatus.ABSENT, "neighbours do not bear them out"
    said[60:140] = 0.95
    assert said_of(said).status is FindingStatus.FOUND


def test_presence_of_slices_on_their_own_is_that_of_the_surest() -> None:
    assert said_of(np.array([0.1, 0.9, 0.2], dtype=np.float32), None).presence == pytest.approx(0.9)
    for value, status in ((0.3, "absent"), (0.5, "uncertain"), (0.8, "found")):
        assert said_of(np.array([value], dtype=np.float32), None).status.value == status


@given(arrays(np.float32, st.integers(1, 60), elements=st.floats(0, 1, width=32)), st.integers(1, 11))
def test_presence_of_a_volume_lies_between_its_best_window_alone_and_its_surest_slice(
    smoothed: NDArray[np.float32], window: int
) -> None:
    window = min(window, len(smoothed))
    said = presence_of_volume(smoothed, window)
    assert presence_of_best(float(smoothed.max()), len(smoothed) / window) - 1e-6 <= said
    assert said <= float(smoothed.max()) + 1e-6
    assert said == presence_of_volume(smoothed[::-1], window)


def test_what_the_weights_say_everywhere_of_what_is_not_there_is_not_found() -> None:
    """Of a hippocampus in MR weights may say "kidney" in every slice, as sure as of what is there."""
    everywhere = np.full(40, 0.8, dtype=np.float32)
    assert said_of(everywhere).status is FindingStatus.UNCERTAIN, "as sure as this they are where nothing is"
    assert said_of(np.full(40, 0.9, dtype=np.float32)).status is FindingStatus.FOUND
    uncalibrated = replace(RULE, volumes=VolumeRule())
    assert decide(np.ones((40, 1, 1), dtype=bool), everywhere, everywhere, uncalibrated, 11).status is (
        FindingStatus.UNCERTAIN
    ), "the surest window shares its odds with those beside it"


def test_presence_of_a_volume_is_in_the_measure_of_slices() -> None:
    of_volumes, of_slices = (0.42, 0.82), (0.38, 0.76)
    assert as_of_a_slice(0.42, of_volumes, of_slices) == pytest.approx(0.38)
    assert as_of_a_slice(0.82, of_volumes, of_slices) == pytest.approx(0.76)
    said = [as_of_a_slice(value, of_volumes, of_slices) for value in np.linspace(0, 1, 50)]
    assert said == sorted(said) and 0 < said[0] < said[-1] < 1


def test_constants_of_volumes_travel_with_the_weights(tmp_path: Path) -> None:
    rule = VolumeRule((0.44, 0.84), 0.5, 0.7, Joining(smoothing_mm=3.0, seed=2.0))
    RCMedConfig(volumes=rule.constants()).save_pretrained(tmp_path)
    assert VolumeRule.of(RCMedConfig.from_pretrained(str(tmp_path))) == rule
    assert VolumeRule.of(RCMedConfig()) == VolumeRule()
    for wrong in ({"seeds": 1.0}, {"thresholds": [0.9, 0.4]}, {"growth": "high"}, {"thresholds": [0.4]}):
        with pytest.raises(CheckpointError, match="volumes"):
            VolumeRule.of(RCMedConfig(volumes=wrong))


def assistant() -> Assistant:
    """Weights that see a target where a slice is bright."""

    class Reader:
        def read(
            self, pixels: Any, names: Any, modality: Any, hints: Any = None, boxes: Any = ()
        ) -> Iterator[SliceLogits]:
            rows, columns = pixels.shape[1:3]
            for first in range(0, len(pixels), 4):
                grey = torch.tensor(np.ascontiguousarray(pixels[first : first + 4, ..., :1])).permute(0, 3, 1, 2)
                small = torch.nn.functional.avg_pool2d(to_model_grid(grey.float(), SIZE), 2)[:, 0]
                logits = ((small - 100) / 12).repeat(len(names), 1, 1, 1)
                presence = (grey.flatten(1).amax(1) > 100).float().repeat(len(names), 1) * 0.9
                said = presence.numpy().astype(np.float32)
                yield SliceLogits(first, logits, rows, columns, SIZE, said, said)

    config = RCMedConfig(image_size=SIZE, presence_thresholds=(0.25, 0.6), tiled_targets=(), takes_hints=True)
    model: Any = SimpleNamespace(config=config, eval=lambda: model, device="cpu")
    processor: Any = SimpleNamespace(surroundings=lambda: (torch.zeros(1), torch.zeros(1)), image_size=SIZE)
    made = Assistant(model, processor, ModelIdentity("made", "1", "0" * 64))
    made._reader = Reader()  # type: ignore[assignment]
    return made


def bright_blocks() -> NDArray[np.uint8]:
    """A large block and a small one, along (patient's left, back, head)."""
    voxels = np.zeros((40, 36, 24), dtype=np.uint8)
    voxels[6:20, 8:26, 5:17] = 220
    voxels[9, 10, 9:12] = 30  # a dark spot
    voxels[30:34, 28:33, 8:12] = 220
    return voxels


def as_stored(voxels: NDArray[np.uint8], turned: tuple[bool, ...], is_transposed: bool) -> Image:
    """The same body as axial slices, stored from either end along each axis, rows and columns exchanged or not."""
    order = (2, 0, 1) if is_transposed else (2, 1, 0)
    spacing = np.array([1.0, 1.0, 2.5])
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for place, axis in enumerate(order):
        affine[axis, place] = spacing[axis] * (-1 if turned[place] else 1)
        affine[axis, 3] += spacing[axis] * (voxels.shape[axis] - 1) if turned[place] else 0
    pixels = voxels.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in turned)]
    slices, rows, columns = pixels.shape
    grid = Grid((slices, rows, columns), affine)
    return Image(np.ascontiguousarray(pixels), grid, Modality.MR, is_volume=True)


def shown_pixels(image: Image) -> NDArray[np.uint8]:
    """Slices as the model gets them."""
    return ReaderView.of(image.grid).to_view(to_eight_bit(image))


@pytest.mark.parametrize("name", ["spleen", "brain tumor"])
def test_a_volume_gets_the_same_mask_whichever_way_it_is_stored(name: str) -> None:
    target, asked = target_named(name), assistant()
    masks = []
    for turned, is_transposed in product(product((False, True), repeat=3), (False, True)):
        image = as_stored(bright_blocks(), turned, is_transposed)
        (finding,) = asked.find_targets(image, [target])
        assert finding.status is FindingStatus.FOUND and finding.mask is not None
        back = finding.mask[tuple(slice(None, None, -1 if flip else 1) for flip in turned)]
        masks.append(back.transpose(np.argsort((2, 0, 1) if is_transposed else (2, 1, 0))))
    assert all((mask == masks[0]).all() for mask in masks)
    expected = bright_blocks() > 0
    if name == "spleen":
        expected[30:] = False
    overlap = 2 * (masks[0] & expected).sum() / (masks[0].sum() + expected.sum())
    assert overlap > 0.9, "a spleen is one, a tumor may be several"
    assert masks[0][31, 30, 9] == (name == "brain tumor")


def test_slices_that_are_no_volume_are_answered_each_on_its_own() -> None:
    """A 2D image and the frames of a cine loop: no slice weighs on another, nothing is taken for noise."""
    volume, asked, target = as_stored(bright_blocks(), (False, True, False), True), assistant(), target_named("spleen")
    cine = replace(volume, is_volume=False)
    (finding,) = asked.find_targets(cine, [target])
    said = asked._reader.read(shown_pixels(cine), ["spleen"], Modality.MR)
    masks = np.concatenate([each.masks[0] for each in said])
    assert finding.mask is not None and (finding.mask == ReaderView.of(cine.grid).from_view(masks)).all()
    for index in (9, 3):
        alone = Image(cine.pixels[index : index + 1], Grid.without_geometry(*cine.pixels.shape[1:]), Modality.MR)
        (answer,) = asked.find_targets(alone, [target])
        (each,) = asked._reader.read(shown_pixels(alone), ["spleen"], Modality.MR)
        assert (answer.mask is None) == (index == 3)
        assert answer.mask is None or (answer.mask == each.masks[0]).all()


def test_memory_hardly_grows_with_the_number_of_targets() -> None:
    """A mask of this volume is 4 MB; ten targets more must not take one more."""
    voxels = np.zeros((200, 200, 100), dtype=np.uint8)
    voxels[60:140, 60:140, 20:80] = 220
    image = as_stored(voxels, (False, False, False), False)

    def peak(targets: int) -> int:
        wanted = [private_target(f"region {number}", list(Modality)) for number in range(targets)]
        asked = assistant()
        tracemalloc.start()
        try:
            findings = asked.find_targets(image, wanted)
            highest = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert all(finding.is_present for finding in findings)
        return highest

    peak(1)
    assert peak(12) < peak(2) + voxels.size


def test_an_answer_that_is_stopped_between_batches_ends_there() -> None:
    class StoppedError(Exception):
        pass

    asked = assistant()
    read, batches = asked._reader.read, []

    def stopping(*arguments: Any) -> Iterator[SliceLogits]:
        for answers in read(*arguments):
            batches.append(answers.first)
            if len(batches) == 2:
                raise StoppedError
            yield answers

    asked._reader.read = stopping  # type: ignore[method-assign, assignment]
    with pytest.raises(StoppedError):
        asked.find_targets(as_stored(bright_blocks(), (False, False, False), False), [target_named("spleen")])
    assert batches == [0, 4]


def test_a_slice_that_is_pointed_at_keeps_its_own_mask() -> None:
    voxels = bright_blocks()
    image = as_stored(voxels, (False, False, False), False)
    hint = Hint(inside=((30.0, 31.0),))
    (without,) = assistant().find_targets(image, [target_named("spleen")])
    (with_hint,) = assistant().find_targets(image, [target_named("spleen")], {9: hint})
    assert without.mask is not None and with_hint.mask is not None
    assert with_hint.mask[9, 30, 31] and not without.mask[9, 30, 31]
    assert (np.delete(with_hint.mask, 9, 0) == np.delete(without.mask, 9, 0)).all()


def test_logits_of_many_targets_of_many_slices_are_small() -> None:
    whole = VolumeAnswers.empty(6, 64, 512, 512, keeps_logits=True)
    assert not whole.has_logits
    place = torch.linspace(-3, 3, 128)
    bump = 10 - 4 * (place[:, None] ** 2 + place[None] ** 2)
    said = np.ones((6, 8), dtype=np.float32)
    for first in range(0, 64, 8):
        whole.put(SliceLogits(first, bump.repeat(6, 8, 1, 1), 512, 512, 256, said, said))
    assert whole.has_logits and not any(mask.any() for mask in whole.masks), "no mask was made"
    assert sum(logits.nbytes for logits in whole.logits) < 6 * 64 * 128 * 128 / 2


def test_the_vocabulary_tells_in_how_many_parts_an_organ_is_seen() -> None:
    parts = {target.name: target.parts for target in load_targets()}
    assert (parts["spleen"], parts["kidney"], parts["left kidney"], parts["vertebra"]) == (1, 2, 1, None)
    for target in load_targets():
        assert target.parts in (None, 1, 2) and (target.least_ml is None or target.least_ml > 0)
        assert target.parts is None or target.mirror is None or target.parts == mirrored(target).parts


def mirrored(target: Target) -> Target:
    assert target.mirror is not None
    return target_named(target.mirror)


def test_of_parts_the_largest_are_kept_and_of_equal_ones_all() -> None:
    mask = np.zeros((6, 12, 12), dtype=bool)
    mask[0:3, 0:4, 0:4] = mask[4, 0:3, 8:12] = mask[0, 8:11, 8:12] = True
    assert drop_islands(mask, 0.0).sum() == drop_islands(mask, 0.0, 3).sum() == 48 + 12 + 12
    assert drop_islands(mask, 0.0, 2).sum() == 48 + 12 + 12, "two of one size"
    assert drop_islands(mask, 0.0, 1).sum() == drop_islands(mask, 0.5).sum() == 48
