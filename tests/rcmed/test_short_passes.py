"""What is computed in fewer steps gives what `transformers` gives on the same weights."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaModel, SamMaskDecoderConfig
from transformers.models.sam.modeling_sam import SamTwoWayTransformer

from rcmed.model import short_reading
from rcmed.model.grounding.two_way import attend_both_ways
from rcmed.model.language import filled_cache

HIDDEN, LAYERS, PAST, LENGTH = 32, 3, 7, 5


def make_decoder(key_value_heads: int = 4) -> LlamaModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=HIDDEN,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=key_value_heads,
        vocab_size=50,
    )
    decoder = LlamaModel(config).eval()
    for name, weight in decoder.named_parameters():
        # A norm's weights start as ones, which would hide that they are left out.
        nn.init.normal_(weight, mean=float("norm" in name), std=0.2)
    return decoder


def past(decoder: LlamaModel, sequences: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    heads = decoder.config.num_key_value_heads
    shape = (sequences, heads, PAST, decoder.layers[0].self_attn.head_dim)
    return [torch.randn(shape) for _ in range(LAYERS)], [torch.randn(shape) for _ in range(LAYERS)]


@pytest.mark.parametrize("key_value_heads", [4, 2])
@pytest.mark.parametrize("adapted", [False, True])
@torch.no_grad()
def test_words_are_read_as_by_the_decoder_itself(key_value_heads: int, adapted: bool) -> None:
    decoder = make_decoder(key_value_heads)
    if adapted:
        settings = LoraConfig(r=2, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
        get_peft_model(decoder, settings).eval()
    embedded = torch.randn(2, LENGTH, HIDDEN)
    # The second sequence has two places of padding at its end.
    last = torch.tensor([LENGTH - 1, LENGTH - 3])
    attended = torch.ones(2, PAST + LENGTH, dtype=torch.bool)
    attended[1, -2:] = False
    keys, values = past(decoder, 2)
    wanted = decoder(inputs_embeds=embedded, attention_mask=attended.long(), cache=filled_cache(keys, values))
    assert short_reading.is_for(decoder, embedded)
    states, all_keys, all_values = short_reading.read_shortly(decoder, embedded, keys, values, last=last)
    torch.testing.assert_close(states, wanted.last_hidden_state[[0, 1], last], atol=1e-5, rtol=1e-5)
    alone, _, _ = short_reading.read_shortly(
        decoder, embedded[1:], [each[1:] for each in keys], [each[1:] for each in values], last=last[1:]
    )
    torch.testing.assert_close(alone, states[1:], atol=1e-5, rtol=1e-5)
    every, _, _ = short_reading.read_shortly(decoder, embedded, keys, values)
    torch.testing.assert_close(every[0], wanted.last_hidden_state[0], atol=1e-5, rtol=1e-5)

    # One word more, behind the padding of the second sequence, and in the place behind its words.
    more = torch.randn(2, 1, HIDDEN)
    attended = torch.cat([attended, torch.ones(2, 1, dtype=torch.bool)], dim=1)
    places = (PAST + last + 1)[:, None]
    further = decoder(
        inputs_embeds=more,
        attention_mask=attended.long(),
        position_ids=places,
        cache=filled_cache(all_keys, all_values),
    )
    states, grown, _ = short_reading.read_shortly(decoder, more, all_keys, all_values, attended, places)
    torch.testing.assert_close(states, further.last_hidden_state, atol=1e-5, rtol=1e-5)
    assert grown[0].shape[2] == PAST + LENGTH + 1


@torch.no_grad()
def test_the_first_words_have_nothing_before_them() -> None:
    decoder = make_decoder()
    embedded = torch.randn(1, LENGTH, HIDDEN)
    states, _, _ = short_reading.read_shortly(decoder, embedded, (), ())
    torch.testing.assert_close(states, decoder(inputs_embeds=embedded).last_hidden_state, atol=1e-5, rtol=1e-5)


def test_what_needs_the_decoder_itself_gets_it() -> None:
    decoder = make_decoder()
    embedded = torch.randn(1, LENGTH, HIDDEN)
    assert not short_reading.is_for(decoder, embedded), "a gradient would pass by checkpoints and hooks"
    with torch.no_grad():
        assert short_reading.is_for(decoder, embedded)
        assert not short_reading.is_for(decoder, embedded.bfloat16())
        assert not short_reading.is_for(decoder, embedded.to("meta"))
        layer = decoder.layers[1]
        layer.forward = layer.forward  # As a hook does that brings weights from elsewhere.
        assert not short_reading.is_for(decoder, embedded)


def test_both_ways_as_segment_anything_attends() -> None:
    torch.manual_seed(0)
    size, cells, tokens = 32, 16, 4
    transformer = SamTwoWayTransformer(
        SamMaskDecoderConfig(
            hidden_size=size, mlp_dim=64, num_attention_heads=4, num_hidden_layers=2, attn_implementation="sdpa"
        )
    )
    for weight in transformer.parameters():
        nn.init.normal_(weight, std=0.3)
    prompts = torch.randn(3, tokens, size)
    maps, position = torch.randn(3, size, 4, cells // 4), torch.randn(1, size, 4, cells // 4)
    wanted, wanted_cells = transformer(
        point_embeddings=prompts[:, None],
        image_embeddings=maps,
        image_positional_embeddings=position,
        attention_similarity=None,
    )
    found, found_cells = attend_both_ways(
        transformer, prompts, maps.flatten(2).transpose(1, 2), position.flatten(2).transpose(1, 2)
    )
    torch.testing.assert_close(found, wanted[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found_cells, wanted_cells[:, 0], atol=1e-5, rtol=1e-5)
    # Processes that train together wait for a gradient of each weight.
    learned, wanted_learned = (
        torch.autograd.grad(one.square().sum() + other.square().sum(), list(transformer.parameters()))
        for one, other in ((found, found_cells), (wanted, wanted_cells))
    )
    for gradient, wanted_gradient in zip(learned, wanted_learned, strict=True):
        torch.testing.assert_close(gradient, wanted_gradient, atol=1e-4, rtol=1e-4)
