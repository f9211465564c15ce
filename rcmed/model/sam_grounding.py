"""`[SEG]` states become masks by Segment Anything's own prompt encoder and mask decoder, as published."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import SamConfig, SamMaskDecoderConfig, SamPromptEncoderConfig, SamVisionConfig
from transformers.models.sam.modeling_sam import SamMaskDecoder, SamPromptEncoder

from rcmed.model.config import RCMedConfig


class SamGroundingDecoder(nn.Module):
    """Each `[SEG]` embedding is one sparse prompt; no points, no boxes, the learned "no mask" embedding.

    The published model has no presence: a target is there where its mask is.
    """

    def __init__(self, config: RCMedConfig) -> None:
        super().__init__()
        assert config.segment_anything is not None
        size = config.prompt_size
        vision = SamVisionConfig(
            image_size=config.image_size, num_pos_feats=size // 2, **config.segment_anything["vision"]
        )
        prompts = SamPromptEncoderConfig(hidden_size=size, image_size=config.image_size, patch_size=vision.patch_size)
        decoder = SamMaskDecoderConfig(hidden_size=size, **config.segment_anything["mask_decoder"])
        self.prompt_encoder = SamPromptEncoder(
            SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
        )
        _hold_fixed(self.prompt_encoder.shared_embedding, "positional_embedding")
        # Only now: a configuration inside another loses it.
        decoder._attn_implementation = "sdpa"
        self.mask_decoder = SamMaskDecoder(decoder)

    def forward(
        self, dense: Tensor, fine: tuple[Tensor, ...], prompts: Tensor, image_index: Tensor
    ) -> tuple[Tensor, None]:
        """Decode one mask per prompt; prompts never see each other.

        Args:
            dense: float (image, channel, row, column), language already added.
            fine: none.
            prompts: float (prompt, prompt_size).
            image_index: int64 (prompt,).
        Returns:
            mask logits float (prompt, 4 row, 4 column), of the single-mask output; no presence.
        """
        maps = dense.index_select(0, image_index)
        _, no_mask = self.prompt_encoder(None, None, None, None)
        masks, _ = self.mask_decoder(
            image_embeddings=maps,
            image_positional_embeddings=self._positions(*dense.shape[-2:]).to(maps.dtype).expand_as(maps),
            sparse_prompt_embeddings=prompts[:, None, None].to(maps.dtype),
            dense_prompt_embeddings=no_mask,
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


def _hold_fixed(module: nn.Module, name: str) -> None:
    """A parameter becomes a buffer: the published frequencies are no weights, and are not counted as such."""
    value = getattr(module, name).detach()
    delattr(module, name)
    module.register_buffer(name, value)
