"""Segment Anything's two-way attention between a prompt's tokens and an image's cells, in as few calls as it needs.

The sums of `SamTwoWayTransformer` on its own weights, in its own order, without a look-up of the kind of attention, a
dimension for several prompts to an image, and the copies that these bring at each of its seven attentions.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor
from transformers.models.sam.modeling_sam import SamAttention, SamTwoWayTransformer


def attend_both_ways(
    transformer: SamTwoWayTransformer, tokens: Tensor, cells: Tensor, position: Tensor
) -> tuple[Tensor, Tensor]:
    """The tokens and the cells after every layer.

    Args:
        transformer: whose weights these are.
        tokens: float (prompt, token, channel).
        cells: float (prompt, cell, channel): the image's embedding.
        position: float (1, cell, channel): where its cells are.
    Returns:
        tokens and cells, shaped as those given.
    """
    states = tokens
    layers: Any = transformer.layers
    for layer in layers:
        if layer.skip_first_layer_pe:
            states = _attend(layer.self_attn, states, states, states)
        else:
            named = states + tokens
            states = states + _attend(layer.self_attn, named, named, states)
        states = layer.layer_norm1(states)
        placed = cells + position
        states = layer.layer_norm2(states + _attend(layer.cross_attn_token_to_image, states + tokens, placed, cells))
        states = layer.layer_norm3(states + layer.mlp(states))
        cells = layer.layer_norm4(cells + _attend(layer.cross_attn_image_to_token, placed, states + tokens, states))
    states = states + _attend(transformer.final_attn_token_to_image, states + tokens, cells + position, cells)
    final: Tensor = transformer.layer_norm_final_attn(states)
    return final, cells


def _attend(attention: SamAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    seen = F.scaled_dot_product_attention(
        _heads(attention, attention.q_proj(queries)),
        _heads(attention, attention.k_proj(keys)),
        _heads(attention, attention.v_proj(values)),
        scale=attention.scaling,
    )
    projected: Tensor = attention.out_proj(seen.transpose(1, 2).flatten(2))
    return projected


def _heads(attention: SamAttention, projected: Tensor) -> Tensor:
    """(prompt, token, head and channel) to (prompt, head, token, channel)."""
    return projected.view(*projected.shape[:2], attention.num_attention_heads, -1).transpose(1, 2)
