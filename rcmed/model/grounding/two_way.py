"""Segment Anything's two-way attention between a prompt's tokens and an image's cells, in as few calls as it needs.

The sums of `SamTwoWayTransformer` on its own weights, in its own order, without a look-up of the kind of attention, a
dimension for several prompts to an image, and the copies that these bring at each of its seven attentions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from transformers.models.sam.modeling_sam import SamAttention, SamTwoWayTransformer


@dataclass(frozen=True)
class FirstLook:
    """What a layer makes of the cells before it knows what the tokens say; in the first layer all prompts share it.

    Attributes:
        placed: float (image, cell, channel): the cells with their places.
        keys, values: float (image, cell, head and channel), of the tokens' attention to the cells.
        queries: the same of the cells' attention to the tokens.
    """

    placed: Tensor
    keys: Tensor
    values: Tensor
    queries: Tensor


def look_first(transformer: SamTwoWayTransformer, cells: Tensor, position: Tensor) -> FirstLook:
    """What all prompts about an image share; arguments as of `attend_both_ways`."""
    return _look(transformer.layers[0], cells, position)


def _look(layer: Any, cells: Tensor, position: Tensor) -> FirstLook:
    placed = cells + position
    to_image, to_token = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
    return FirstLook(placed, to_image.k_proj(placed), to_image.v_proj(cells), to_token.q_proj(placed))


def attend_both_ways(
    transformer: SamTwoWayTransformer, tokens: Tensor, cells: Tensor, position: Tensor, first: FirstLook | None = None
) -> tuple[Tensor, Tensor]:
    """The tokens and the cells after every layer.

    Args:
        transformer: whose weights these are.
        tokens: float (prompt, token, channel).
        cells: float (prompt, cell, channel): the image's embedding.
        position: float (1, cell, channel): where its cells are.
        first: of these cells, an entry for each prompt; None: it is made now.
    Returns:
        tokens and cells, shaped as those given.
    """
    states = tokens
    look = first
    layers: Any = transformer.layers
    for layer in layers:
        if layer.skip_first_layer_pe:
            states = _attend(layer.self_attn, states, states, states)
        else:
            named = states + tokens
            states = states + _attend(layer.self_attn, named, named, states)
        states = layer.layer_norm1(states)
        to_image, to_token = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        look = look or _look(layer, cells, position)
        seen = _attended(to_image, to_image.q_proj(states + tokens), look.keys, look.values)
        states = layer.layer_norm2(states + seen)
        states = layer.layer_norm3(states + layer.mlp(states))
        told = _attended(to_token, look.queries, to_token.k_proj(states + tokens), to_token.v_proj(states))
        cells = layer.layer_norm4(cells + told)
        look = None
    states = states + _attend(transformer.final_attn_token_to_image, states + tokens, cells + position, cells)
    final: Tensor = transformer.layer_norm_final_attn(states)
    return final, cells


def _attend(attention: SamAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return _attended(attention, attention.q_proj(queries), attention.k_proj(keys), attention.v_proj(values))


def _attended(attention: SamAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """As `_attend`, of what its projections made."""
    seen = F.scaled_dot_product_attention(
        _heads(attention, queries), _heads(attention, keys), _heads(attention, values), scale=attention.scaling
    )
    projected: Tensor = attention.out_proj(seen.transpose(1, 2).flatten(2))
    return projected


def _heads(attention: SamAttention, projected: Tensor) -> Tensor:
    """(prompt, token, head and channel) to (prompt, head, token, channel)."""
    return projected.view(*projected.shape[:2], attention.num_attention_heads, -1).transpose(1, 2)
