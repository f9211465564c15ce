"""What is computed once for all prompts, slices or channels gives the answers that computing it each time gives."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rcmed.hints import Hint
from rcmed.image import Grid, Image
from rcmed.inference.logits import SliceReader
from rcmed.modality import Modality
from rcmed.model.config import RCMedConfig
from rcmed.model.grounding.hint_maps import HintAddition
from rcmed.model.modeling import RCMedModel
from rcmed.model.processor import ChannelOrder, RCMedProcessor, to_eight_bit, to_image_grid, to_masks
from rcmed.model.tokenizer import build_tokenizer

NAMES = ("liver", "left kidney", "optic disc")
SLICES = 11


def make_reader(seed: int = 0, loop_turns: int = 0) -> SliceReader:
    """A tiny random model."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(NAMES)
    config = RCMedConfig(
        image_size=64,
        loop_turns=loop_turns,
        takes_hints=True,
        vision_widths=(8, 16, 16, 32, 32),
        vision_depths=(1, 1, 1, 1, 1),
        prompt_size=32,
        language={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "vocab_size": len(tokenizer),
        },
    )
    model = RCMedModel(config)
    # Untrained, hints and a further turn have no effect.
    for layer in model.modules():
        if isinstance(layer, HintAddition):
            torch.nn.init.normal_(layer.weight)
    if model.loop is not None:
        torch.nn.init.normal_(model.loop.gate)
    return SliceReader(model, RCMedProcessor(tokenizer, config.image_size, config.pixel_mean, config.pixel_std))


def noise(slices: int = SLICES) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (slices, 40, 56, 3), dtype=np.uint8)


def plainly(
    reader: SliceReader, pixels: NDArray[np.uint8], hints: Mapping[int, Hint] = MappingProxyType({})
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (target, slice, r, c) and presence (target, slice), each by a pass of its own that shares nothing.

    With gradients, as training reads: without, a CPU reads words on a shorter way.
    """
    masks, presence = [], []
    for index, one in enumerate(pixels):
        values = reader.processor.prepare_pixels(one[None])
        hint = reader.processor.prepare_hint(hints[index], *one.shape[:2]) if index in hints else None
        outputs = [
            reader.model(
                values,
                reader.before,
                reader.after,
                torch.zeros(1, dtype=torch.long),
                reader.processor.prepare_prompts([name], [Modality.CT]),
                hint,
            )
            for name in NAMES
        ]
        masks.append(torch.cat([output.mask_logits.detach() for output in outputs]))
        presence.append(torch.cat([output.presence_logits.detach().sigmoid() for output in outputs]))
    return torch.stack(masks, 1), torch.stack(presence, 1)


@pytest.mark.parametrize("loop_turns", [0, 1])
@pytest.mark.slow
def test_slices_and_prompts_that_share_a_pass_are_answered_as_if_alone(loop_turns: int) -> None:
    reader = make_reader(loop_turns=loop_turns)
    masks, presence = reader.ground(reader.encode(noise()), NAMES, Modality.CT)
    plain_masks, plain_presence = plainly(reader, noise())
    assert plain_masks.std() > 1e-3
    torch.testing.assert_close(masks, plain_masks, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(presence, plain_presence, atol=1e-5, rtol=1e-4)
    again, _ = reader.ground(reader.encode(noise()), NAMES, Modality.CT)
    assert torch.equal(masks, again)


@pytest.mark.parametrize("hinted", [(0,), (3, 4), (SLICES - 1,)])
@pytest.mark.slow
def test_a_hint_reaches_its_own_slice_alone(hinted: tuple[int, ...]) -> None:
    reader = make_reader()
    hints = {index: Hint(inside=((10, 20 + index),)) for index in hinted}
    placed = {index: reader.processor.prepare_hint(hint, 40, 56) for index, hint in hints.items()}
    encoded = reader.encode(noise())
    masks, _ = reader.ground(encoded, NAMES, Modality.CT, hints=placed)
    torch.testing.assert_close(masks, plainly(reader, noise(), hints)[0], atol=1e-4, rtol=1e-4)
    without, _ = reader.ground(encoded, NAMES, Modality.CT)
    differs = (masks - without).abs().amax((0, 2, 3)) > 1e-4
    assert differs.nonzero().flatten().tolist() == list(hinted)


def test_weights_that_change_are_read_anew() -> None:
    reader, other = make_reader(0), make_reader(1)
    before, _ = reader.ground(reader.encode(noise(1)), NAMES, Modality.CT)
    reader.model.load_state_dict(other.model.state_dict())
    after, _ = reader.ground(reader.encode(noise(1)), NAMES, Modality.CT)
    wanted, _ = other.ground(other.encode(noise(1)), NAMES, Modality.CT)
    assert (before - after).abs().max() > 1e-3
    torch.testing.assert_close(after, wanted, atol=1e-5, rtol=1e-5)


def test_training_reaches_what_prompts_share() -> None:
    """Only a reader prepares images ahead; a gradient must not end there."""
    reader = make_reader()
    values = reader.processor.prepare_pixels(noise(2))
    with torch.no_grad():
        encoded = reader.model.encode(values, reader.before, reader.after)
    prompts = reader.processor.prepare_prompts(NAMES[:2], [Modality.CT] * 2)
    output = reader.model.ground(encoded, torch.tensor([0, 1]), prompts)
    assert output.mask_logits is not None
    output.mask_logits.sum().backward()
    grounding = reader.model.grounding
    for layer in (grounding.dense_projection, grounding.lateral_8, grounding.lateral_4):
        assert layer.weight.grad is not None and layer.weight.grad.abs().max() > 0


def test_kept_images_count_shared_memory_once() -> None:
    encoded = make_reader().encode(noise(2))
    distinct = [encoded.dense, *encoded.fine, *encoded.prefix.keys, *encoded.prefix.values, encoded.prefix.image_states]
    assert encoded.prepared is not None
    alone = [encoded.prepared.dense, encoded.prepared.position, encoded.prepared.stride_8, encoded.prepared.stride_4]
    look = encoded.prepared.first_look
    assert look is not None
    alone += [encoded.prepared.summary_8, look.placed, look.keys, look.values, look.queries]
    assert encoded.nbytes == sum(each.nbytes for each in (*distinct, *alone))


@given(st.integers(0, 1000), st.integers(1, 90), st.integers(1, 90), st.floats(-3, 3))
def test_masks_are_the_positive_logits_on_the_image(seed: int, rows: int, columns: int, shift: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 16, 16, generator=generator) + shift
    logits[0, 1] = -logits[0, 1].abs()
    masks = to_masks(logits, rows, columns, 32)
    wanted = np.stack([(to_image_grid(each, rows, columns, 32) > 0).numpy() for each in logits])
    assert masks.shape == (2, 3, rows, columns) and not masks[0, 1].any()
    assert (masks == wanted).all()


@pytest.mark.parametrize("order", list(ChannelOrder))
@pytest.mark.parametrize("pads_before_normalising", [True, False])
def test_grey_pixels_need_one_channel(order: ChannelOrder, pads_before_normalising: bool) -> None:
    values = np.random.default_rng(0).integers(-1000, 1000, (3, 30, 50)).astype(np.int16)
    grey = to_eight_bit(Image(values, Grid(values.shape, np.eye(4)), Modality.CT))
    processor = make_reader().processor
    processor.channel_order, processor.pads_before_normalising = order, pads_before_normalising
    assert grey.shape == (3, 30, 50, 3)
    assert torch.equal(processor.prepare_pixels(grey), processor.prepare_pixels(grey.copy()))
