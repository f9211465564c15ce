"""`[SEG]` states become masks by Segment Anything's own prompt encoder and mask decoder, as published."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from transformers import SamConfig, SamMaskDecoderConfig, SamPromptEncoderConfig, SamVisionConfig
from transformers.models.sam.modeling_sam import SamMaskDecoder, SamPromptEncoder

from rcmed.model.config import RCMedConfig
from rcmed.model.grounding.decoder import of_images
from rcmed.model.grounding.hint_prompts import PlacedHints, PointLabel


class SamGroundingDecoder(nn.Module):
    """Each `[SEG]` embedding is one sparse prompt; without hints no points, no boxes, the "no mask" embedding.

    The published model has no presence: a target is there where its mask is.
    """

    def __init__(self, config: RCMedConfig) -> None:
        super().__init__()
        assert config.segment_anything is not None
        decoder = SamMaskDecoderConfig(hidden_size=config.prompt_size, **config.segment_anything["mask_decoder"])
        self.prompt_encoder = sam_prompt_encoder(config, decoder)
        # Only now: a configuration inside another loses it.
        decoder._attn_implementation = "sdpa"
        self.mask_decoder = SamMaskDecoder(decoder)

    def prepare(self, dense: Tensor, fine: tuple[Tensor, ...]) -> Tensor:
        """What does not depend on the prompt: the dense embedding, language already added; there are no fine maps."""
        return dense

    def forward(
        self,
        images: Tensor,
        prompts: Tensor,
        image_index: Tensor,
        hints: PlacedHints | None = None,
    ) -> tuple[Tensor, None]:
        """Decode one mask per prompt; prompts never see each other.

        Args:
            images: of `prepare`, float (image, channel, row, column).
            prompts: float (prompt, prompt_size).
            image_index: int64 (prompt,).
            hints: where the user points at.
        Returns:
            mask logits float (prompt, 4 row, 4 column), of the single-mask output; no presence.
        """
        maps = of_images(images, image_index)
        sparse = prompts[:, None].to(maps.dtype)
        if hints is None:
            _, dense_prompts = self.prompt_encoder(None, None, None, None)
        else:
            points, dense_prompts = encode_hints(self.prompt_encoder, hints)
            sparse = torch.cat([points.to(maps.dtype), sparse], dim=1)
        masks, _ = self.mask_decoder(
            image_embeddings=maps,
            image_positional_embeddings=self._positions(*maps.shape[-2:]).to(maps.dtype).expand_as(maps),
            sparse_prompt_embeddings=sparse[:, None],
            dense_prompt_embeddings=dense_prompts,
            multimask_output=False,
        )
        return masks[:, 0, 0], None

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Encodings of the cells' centres, float (1, channel, row, column)."""
        embedding = self.prompt_encoder.shared_embedding
        device = embedding.positional_embedding.device
        y = (torch.arange(rows, device=device) + 0.5) / rows
        x = (torch.arange(columns, device=device) + 0.5) / columns
        place = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        encoded: Tensor = embedding(place[None])
        return encoded.permute(0, 3, 1, 2)


def sam_prompt_encoder(config: RCMedConfig, decoder: SamMaskDecoderConfig) -> SamPromptEncoder:
    """Segment Anything's prompt encoder at the size of a configuration; its frequencies are a buffer, no weights."""
    assert config.segment_anything is not None
    settings = {"patch_size": config.dense_stride, **config.segment_anything["vision"]}
    vision = SamVisionConfig(image_size=config.image_size, num_pos_feats=config.prompt_size // 2, **settings)
    prompts = SamPromptEncoderConfig(
        hidden_size=config.prompt_size, image_size=config.image_size, patch_size=vision.patch_size
    )
    encoder = SamPromptEncoder(
        SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    )
    frequencies = encoder.shared_embedding.positional_embedding.detach()
    del encoder.shared_embedding.positional_embedding
    encoder.shared_embedding.register_buffer("positional_embedding", frequencies)
    return encoder


def encode_hints(encoder: SamPromptEncoder, hints: PlacedHints) -> tuple[Tensor, Tensor]:
    """Sparse embeddings float (prompt, point, channel) and dense ones (prompt, channel, row, column).

    The same as the encoder's own forward pass, but that each prompt of a batch may have hints of another kind.

    Args:
        encoder: Segment Anything's.
        hints: of each prompt.
    """
    dtype = encoder.no_mask_embed.weight.dtype
    places = encoder.shared_embedding((hints.points + 0.5) / encoder.input_image_size).to(dtype)
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
