"""A few tokens through a Llama decoder on a CPU, where the calls take longer than the sums that they ask for.

The sums of `LlamaModel.forward` on the same weights, without what it prepares for other uses at every call (masks in
every form, hooks, recorded outputs, caches that grow), and without states that nobody asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm, LlamaRotaryEmbedding


def is_for(decoder: LlamaModel, embedded: Tensor) -> bool:
    """Whether `read_shortly` may read these tokens.

    Not with a gradient, not in half precision (`LlamaRMSNorm` rounds in its own way), and not through layers that
    something was wrapped around (to shard, offload or checkpoint them), or with places that depend on the length.
    """
    return (
        not torch.is_grad_enabled()
        and embedded.device.type == "cpu"
        and embedded.dtype == torch.float32
        and decoder.rotary_emb.rope_type == "default"
        and all(type(layer) is LlamaDecoderLayer and "forward" not in vars(layer) for layer in decoder.layers)
    )


def read_shortly(
    decoder: LlamaModel,
    embedded: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    attended: Tensor | None = None,
    positions: Tensor | None = None,
    last: Tensor | None = None,
) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Read tokens behind what was read before.

    Args:
        decoder: its layers are called part by part; adapters of their linear maps stay in effect.
        embedded: float32 (sequence, position, hidden).
        keys, values: of what was read before, per layer, float32 (sequence, head, past, channel); none: nothing.
        attended: bool (sequence, past and position), False at padding; None: there is none, or only behind the
            positions that are wanted, which do not see it.
        positions: int64 (sequence, position): places in the text; None: they follow the past.
        last: int64 (sequence,): the one position of each sequence whose state is wanted; None: all are.

    Returns:
        last-layer states float32 (sequence, position, hidden), or (sequence, hidden) of `last`; and keys and values of
        all that was read, as those given.
    """
    length = embedded.shape[1]
    past = keys[0].shape[2] if keys else 0
    if positions is None:
        # A length that is traced is no number to remember anything by.
        places = _places.__wrapped__ if torch.compiler.is_exporting() else _places
        cosines, sines, visible = places(decoder.rotary_emb, past, length)
    else:
        cosines, sines = _turns(decoder.rotary_emb, positions)
        visible = _causal(past, length)
    half = sines.shape[-1] // 2
    if attended is not None:
        visible = visible & attended[:, None, None]
    every_key, every_value = [], []
    states = embedded
    layers: Any = decoder.layers
    for index, layer in enumerate(layers):
        attention = layer.self_attn
        normed = _normed(states, layer.input_layernorm)
        layer_keys = _rotated(_heads(attention.k_proj(normed), attention.head_dim), cosines, sines, half)
        layer_values = _heads(attention.v_proj(normed), attention.head_dim)
        if keys:
            layer_keys = torch.cat([keys[index], layer_keys.contiguous()], dim=2)
            layer_values = torch.cat([values[index], layer_values.contiguous()], dim=2)
        every_key.append(layer_keys)
        every_value.append(layer_values)
        if last is not None and index == len(layers) - 1:
            # Of the last layer, other states would be read by nobody.
            states, normed = _at(states, last), _at(normed, last)
            cosines, sines, visible = (_at(each, last) for each in (cosines, sines, visible))
        queries = _rotated(_heads(attention.q_proj(normed), attention.head_dim), cosines, sines, half)
        seen = F.scaled_dot_product_attention(
            queries,
            layer_keys,
            layer_values,
            attn_mask=visible,
            scale=attention.scaling,
            enable_gqa=attention.num_key_value_groups > 1,
        )
        states = states + attention.o_proj(seen.transpose(1, 2).flatten(2))
        states = states + layer.mlp(_normed(states, layer.post_attention_layernorm))
    states = _normed(states, decoder.norm)
    return states if last is None else states[:, 0], tuple(every_key), tuple(every_value)


def _at(values: Tensor, last: Tensor) -> Tensor:
    """Of values (sequence or 1, ..., position, channel) those at one position of each sequence."""
    if len(last) == 1:
        return values.index_select(-2, last)
    index = last.view(-1, *[1] * (values.dim() - 1))
    shape = (len(last), *values.shape[1:-2], 1, values.shape[-1])
    return values.expand(len(last), *values.shape[1:]).gather(-2, index.expand(shape))


def _turns(rotary: LlamaRotaryEmbedding, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines of places int64 (sequence, position), as (sequence, 1, position, channel)."""
    cosines, sines = rotary(torch.empty(0, dtype=torch.float32), positions)
    half = sines.shape[-1] // 2
    # `rotate_half` negates the half that comes first after the halves changed places.
    return cosines[:, None], torch.cat([-sines[..., :half], sines[..., half:]], dim=-1)[:, None]


def _causal(past: int, length: int) -> Tensor:
    """What each of `length` tokens behind `past` others sees: bool (1, 1, position, past and position)."""
    return torch.ones(length, past + length, dtype=torch.bool).tril_(past)[None, None]


@lru_cache(maxsize=64)
def _places(rotary: LlamaRotaryEmbedding, past: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """`_turns` and `_causal` of tokens behind `past` others: prompts of one length need the same."""
    return *_turns(rotary, torch.arange(past, past + length)[None]), _causal(past, length)


def _normed(states: Tensor, norm: LlamaRMSNorm) -> Tensor:
    # In fewer calls than `F.rms_norm`.
    return states * (states.square().mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt_() * norm.weight


def _heads(projected: Tensor, size: int) -> Tensor:
    """(sequence, position, head and channel) to (sequence, head, position, channel)."""
    return projected.view(*projected.shape[:2], -1, size).transpose(1, 2)


def _rotated(heads: Tensor, cosines: Tensor, sines: Tensor, half: int) -> Tensor:
    """Queries or keys turned by their places."""
    return torch.addcmul(heads * cosines, heads.roll(half, -1), sines)
