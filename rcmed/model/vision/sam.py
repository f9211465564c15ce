"""Segment Anything's image encoder as a vision tower (Kirillov et al. 2023; arXiv 2505.03380, Methods)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from rcmed.model.config import RCMedConfig
from rcmed.model.exemplar import emphasise_place
from rcmed.model.vision.tower import VisionFeatures


class SamTower(nn.Module):
    """A ViT whose neck gives the dense embedding, and whose features before the neck become the image tokens.

    The tokens are the features at stride 16, halved bilinearly to `config.token_stride`.
    """

    def __init__(self, config: RCMedConfig) -> None:
        super().__init__()
        assert config.segment_anything is not None
        settings = SamVisionConfig(image_size=config.image_size, **config.segment_anything["vision"])
        # Not "eager": that writes a float32 matrix of all pairs of 4,096 positions for each head.
        settings._attn_implementation = "sdpa"
        self.encoder = SamVisionEncoder(settings)
        assert isinstance(settings.patch_size, int)
        self.reduction = config.token_stride // settings.patch_size
        self.token_size = settings.hidden_size
        self.dense_size = settings.output_channels

    def forward(self, pixel_values: Tensor, place: Tensor | None = None) -> VisionFeatures:
        """Normalised pixels float (image, 3, size, size) to tokens and the dense embedding at stride 16."""
        maps = self.encoder.patch_embed(pixel_values)
        if self.encoder.pos_embed is not None:
            maps = maps + self.encoder.pos_embed
        for layer in self.encoder.layers:
            maps = layer(maps)
        before_neck = maps.permute(0, 3, 1, 2)
        halved = F.interpolate(before_neck, scale_factor=1 / self.reduction, mode="bilinear", align_corners=False)
        # What the language model sees does not depend on the examples of a target.
        placed = emphasise_place(before_neck, place).permute(0, 2, 3, 1)
        return VisionFeatures(tokens=halved.flatten(2).transpose(1, 2), dense=self.encoder.neck(placed), fine=())
