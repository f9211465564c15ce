"""Clicks, boxes and rough masks as Segment Anything's own prompts, beside the words' (Kirillov et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import cast

import torch
from torch import Tensor, nn
from transformers import SamConfig, SamMaskDecoderConfig, SamPromptEncoderConfig, SamVisionConfig
from transformers.models.sam.modeling_sam import SamPromptEncoder

from rcmed.model.config import RCMedConfig

# Of the masks that the encoder reads.
MASK_STRIDE = 4

# Places float (..., 2) as (x, y) in [0, 1] of the model grid to float (..., channel).
PlaceEncoding = Callable[[Tensor], Tensor]


class PointLabel(IntEnum):
    """What a point says; a box is its two corners. The numbers are Segment Anything's."""

    NONE = -1
    OUTSIDE = 0
    INSIDE = 1
    FIRST_CORNER = 2
    LAST_CORNER = 3


@dataclass(frozen=True, eq=False)
class PlacedHints:
    """Hints on the model grid, one set for each prompt.

    Attributes:
        points: float (prompt, point, 2), (column, row) in pixels of the model grid, the first one's centre at 0.
        labels: int64 (prompt, point), `PointLabel`.
        masks: float (prompt, r, c) logits at stride `MASK_STRIDE`; None: no rough masks.
        has_mask: bool (prompt,): which of the masks counts.
    """

    points: Tensor
    labels: Tensor
    masks: Tensor | None = None
    has_mask: Tensor | None = None

    def to(self, device: torch.device | str) -> PlacedHints:
        """The same on another device."""
        return PlacedHints(
            self.points.to(device),
            self.labels.to(device),
            None if self.masks is None else self.masks.to(device),
            None if self.has_mask is None else self.has_mask.to(device),
        )

    def part(self, first: int, last: int) -> PlacedHints:
        """Those of the prompts from `first` up to, not including, `last`."""
        return PlacedHints(
            self.points[first:last],
            self.labels[first:last],
            None if self.masks is None else self.masks[first:last],
            None if self.has_mask is None else self.has_mask[first:last],
        )

    def expand(self, count: int) -> PlacedHints:
        """The same hints for several prompts, of one that is for a single one."""
        return PlacedHints(
            self.points.expand(count, -1, -1),
            self.labels.expand(count, -1),
            None if self.masks is None else self.masks.expand(count, -1, -1),
            None if self.has_mask is None else self.has_mask.expand(count),
        )


def sam_prompt_encoder(config: RCMedConfig, decoder: SamMaskDecoderConfig | None = None) -> SamPromptEncoder:
    """Segment Anything's prompt encoder at the size of a configuration; its frequencies are a buffer, no weights."""
    vision_settings = {} if config.segment_anything is None else config.segment_anything["vision"]
    settings = {"patch_size": config.dense_stride, **vision_settings}
    vision = SamVisionConfig(image_size=config.image_size, num_pos_feats=config.prompt_size // 2, **settings)
    prompts = SamPromptEncoderConfig(
        hidden_size=config.prompt_size, image_size=config.image_size, patch_size=vision.patch_size
    )
    decoder = decoder or SamMaskDecoderConfig(hidden_size=config.prompt_size)
    encoder = SamPromptEncoder(
        SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    )
    frequencies = encoder.shared_embedding.positional_embedding.detach()
    del encoder.shared_embedding.positional_embedding
    encoder.shared_embedding.register_buffer("positional_embedding", frequencies)
    return encoder


def encode_hints(encoder: SamPromptEncoder, hints: PlacedHints, encode_places: PlaceEncoding) -> tuple[Tensor, Tensor]:
    """Sparse embeddings float (prompt, point, channel) and dense ones (prompt, channel, row, column).

    The same as the encoder's own forward pass, but that each prompt of a batch may have hints of another kind.

    Args:
        encoder: Segment Anything's, whose own encoding of places is not asked.
        hints: of each prompt.
        encode_places: the one that the image's own places are encoded with.
    """
    dtype = encoder.no_mask_embed.weight.dtype
    places = encode_places((hints.points + 0.5) / encoder.input_image_size).to(dtype)
    labels = hints.labels[..., None]
    sparse = torch.where(labels == PointLabel.NONE, encoder.not_a_point_embed.weight, places)
    for label, embedding in enumerate(encoder.point_embed):
        sparse = sparse + (labels == label) * cast(nn.Embedding, embedding).weight
    without = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    dense = without.expand(len(labels), -1, *encoder.image_embedding_size)
    if hints.masks is not None and hints.has_mask is not None:
        masked = encoder.mask_embed(hints.masks[:, None].to(dtype))
        dense = torch.where(hints.has_mask[:, None, None, None], masked, dense)
    return sparse, dense
