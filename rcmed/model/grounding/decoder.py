"""`[SEG]` states become masks: a SAM-style two-way mask decoder that also sees the finer features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SamMaskDecoderConfig
from transformers.models.sam.modeling_sam import SamTwoWayTransformer

from rcmed.model.config import RCMedConfig
from rcmed.model.grounding.hint_maps import HintMaps, draw_hints
from rcmed.model.grounding.hint_prompts import PlacedHints
from rcmed.model.grounding.two_way import FirstLook, attend_both_ways, look_first
from rcmed.model.heads.presence import PresenceHead, evidence_size, presence_evidence, summarise
from rcmed.model.vision.pyramid import group_norm


class PositionEncoding(nn.Module):
    """Random Fourier features of the place in the image (Tancik 2020; as in Segment Anything's prompt encoder)."""

    frequencies: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(2, channels // 2))

    def forward(self, rows: int, columns: int) -> Tensor:
        """float (1, channel, row, column) for the centres of a map's cells."""
        y = (torch.arange(rows, device=self.frequencies.device) + 0.5) / rows
        x = (torch.arange(columns, device=self.frequencies.device) + 0.5) / columns
        places = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        angles = 2 * torch.pi * (places * 2 - 1) @ self.frequencies.float()
        return torch.cat([angles.sin(), angles.cos()], dim=-1).permute(2, 0, 1)[None]


@dataclass(frozen=True)
class ImageMaps:
    """What the decoder computes of an image before it knows a prompt; every tensor but `position` has one per image.

    Attributes:
        dense: float (image, channel, row, column): the projected dense embedding.
        position: float (1, channel, row, column): where its cells are, the same for every image.
        stride_8, stride_4: float maps that the upsampling path adds.
        stride_2: float (image, cell, channel).
        evidence_8: float (image, channel, row, column): the tower's map at stride 8.
        summary_8: float32 (image, 2 channel): `rcmed.model.heads.presence.summarise` of it.
        first_look: of the two-way attention; None: it is made for each prompt.
    """

    dense: Tensor
    position: Tensor
    stride_8: Tensor
    stride_4: Tensor
    stride_2: Tensor
    evidence_8: Tensor
    summary_8: Tensor
    first_look: FirstLook | None = None

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> ImageMaps:
        """Those whose `tensors` these are."""
        names = [each.name for each in fields(cls) if each.name != "first_look"]
        look = tensors[len(names) :]
        own = dict(zip(names, tensors, strict=False))
        return cls(**own, first_look=FirstLook(*look) if look else None)

    def select(self, image_index: Tensor) -> ImageMaps:
        """One entry per prompt, of the images named by `image_index` (prompt,)."""
        if len(self.dense) == len(image_index) == 1:
            return self
        return self._each(lambda tensor: of_images(tensor, image_index))

    def images(self, first: int, last: int) -> ImageMaps:
        """Images from `first` up to but without `last`; shares their memory."""
        return self._each(lambda tensor: tensor if len(tensor) == 1 else tensor[first:last])

    def tensors(self) -> list[Tensor]:
        """All of them."""
        look = [] if self.first_look is None else list(vars(self.first_look).values())
        return [*(tensor for tensor in vars(self).values() if isinstance(tensor, Tensor)), *look]

    def _each(self, choose: Callable[[Tensor], Tensor]) -> ImageMaps:
        chosen = {name: choose(tensor) for name, tensor in vars(self).items() if isinstance(tensor, Tensor)}
        look = self.first_look
        if look is not None:
            look = FirstLook(**{name: choose(tensor) for name, tensor in vars(look).items()})
        return ImageMaps(**chosen, first_look=look)


def of_images(values: Tensor, image_index: Tensor) -> Tensor:
    """One entry per prompt of values (image, ...), of the images named by `image_index` (prompt,).

    All prompts on one image share its memory: no value may be changed in place.
    """
    if values.shape[0] == 1:
        if len(image_index) == 1:
            return values
        return values.expand(len(image_index), *values.shape[1:])
    return values.index_select(0, image_index)


class GroundingDecoder(nn.Module):
    """Turns one prompt embedding per target into mask logits and a presence logit.

    The two-way attention says where (with a dense position encoding: left and right need it), an upsampling path adds
    features of strides 8 and 4, and a head whose weights come from the prompt reads the features of stride 2.
    """

    def __init__(self, config: RCMedConfig) -> None:
        super().__init__()
        size, fine = config.prompt_size, config.fine_size
        stride_2, stride_4, stride_8, dense, _ = config.vision_widths
        self.dense_projection = nn.Conv2d(dense, size, 1)
        self.position = PositionEncoding(size)
        self.mask_token = nn.Parameter(torch.randn(size))
        self.presence_token = nn.Parameter(torch.randn(size))
        self.transformer = SamTwoWayTransformer(
            SamMaskDecoderConfig(
                hidden_size=size,
                mlp_dim=4 * size,
                num_attention_heads=8,
                num_hidden_layers=2,
                attn_implementation="sdpa",  # type: ignore[call-arg]
            )
        )
        self.reduce = nn.Conv2d(size, 32, 1)
        self.lateral_8 = nn.Conv2d(stride_8, 32, 1)
        self.merge_8 = nn.Sequential(nn.Conv2d(32, 32, 3, 1, 1), group_norm(32), nn.ReLU(inplace=True))
        self.lateral_4 = nn.Conv2d(stride_4, 32, 1)
        self.merge_4 = nn.Sequential(nn.Conv2d(32, 24, 3, 1, 1), group_norm(24), nn.ReLU(inplace=True))
        self.coarse_weights = nn.Sequential(nn.Linear(2 * size, size), nn.ReLU(), nn.Linear(size, 24))
        self.fine_weights = nn.Sequential(nn.Linear(2 * size, size), nn.ReLU(), nn.Linear(size, fine * stride_2))
        self.place_weights = nn.Sequential(nn.Linear(2 * size, size), nn.ReLU(), nn.Linear(size, size))
        self.fine_lift = nn.Conv2d(24, fine, 1)
        self.fine_head = nn.Sequential(
            nn.ReLU(inplace=True),
            nn.Conv2d(fine, fine, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(fine, 1, 3, 1, 1),
        )
        self.presence = PresenceHead(evidence_size(size, (24, stride_8, size)), size)
        self.fine_size = fine
        self.hint_maps = HintMaps(size, 32) if config.takes_hints else None
        self.image_size = config.image_size

    def prepare(self, dense: Tensor, fine: tuple[Tensor, ...]) -> ImageMaps:
        """Compute what does not depend on the prompt.

        Args:
            dense: float (image, channel, row, column), language already added.
            fine: maps at strides 8, 4 and 2.
        """
        stride_8, stride_4, stride_2 = fine
        projected = self.dense_projection(dense)
        position = self.position(*dense.shape[-2:]).to(projected.dtype)
        # With a gradient `transformers` attends, and makes it itself.
        look = None
        if not torch.is_grad_enabled():
            look = look_first(self.transformer, _cells(projected), _cells(position))
        return ImageMaps(
            dense=projected,
            position=position,
            stride_8=self.lateral_8(stride_8),
            stride_4=self.lateral_4(stride_4),
            # No copy where the memory is in this order already, and then a plain one for each prompt.
            stride_2=stride_2.permute(0, 2, 3, 1).flatten(1, 2),
            evidence_8=stride_8,
            summary_8=summarise(stride_8),
            first_look=look,
        )

    def _attend(self, tokens: Tensor, maps: Tensor, position: Tensor, first: FirstLook | None) -> tuple[Tensor, Tensor]:
        """The two-way attention: tokens (prompt, token, channel) and cells (prompt, cell, channel) afterwards.

        In training by `transformers`' own passes: what sums in another order learns otherwise, if no worse.
        """
        if not torch.is_grad_enabled():
            return attend_both_ways(self.transformer, tokens, _cells(maps), _cells(position), first)
        attended, places = self.transformer(
            point_embeddings=tokens[:, None],
            image_embeddings=maps,
            image_positional_embeddings=position,
            attention_similarity=None,
            target_embedding=None,
        )[:2]
        return attended[:, 0], places[:, 0]

    def forward(
        self,
        images: ImageMaps,
        prompts: Tensor,
        image_index: Tensor,
        hints: PlacedHints | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Decode one mask per prompt; prompts never see each other.

        Args:
            images: of `prepare`.
            prompts: float (prompt, prompt_size).
            image_index: int64 (prompt,).
            hints: where the user points at; only for a configuration that takes them.
        Returns:
            mask logits float (prompt, size / 2, size / 2); presence logits float (prompt,).
        """
        count = prompts.shape[0]
        seen = images.select(image_index)
        maps, position, first = seen.dense, seen.position, seen.first_look
        tokens = torch.stack(
            [self.mask_token.expand(count, -1), self.presence_token.expand(count, -1), prompts], dim=1
        ).to(maps.dtype)
        fine_hints = None
        if hints is not None:
            assert self.hint_maps is not None
            dense_hints, fine_hints = self.hint_maps(draw_hints(hints, self.image_size).to(maps.dtype))
            maps = maps + dense_hints
            first = None
        tokens, places = self._attend(tokens, maps, position, first)
        mask_token, presence_token = tokens[:, 0], tokens[:, 1]
        located = places.transpose(1, 2).reshape_as(maps)

        coarse = self.merge_8(double(each_cell(self.reduce, located)).add_(seen.stride_8))
        coarse = double(coarse).add_(seen.stride_4)
        if fine_hints is not None:
            coarse = coarse + fine_hints
        coarse = self.merge_4(coarse)
        # The prompt reaches the weights beside the attention, too: without it names were told apart only late
        # (left lung from right, nucleus from cytoplasm).
        steering = torch.cat([mask_token, prompts.to(mask_token.dtype)], dim=1)
        coarse_logits = weighted_sum(self.coarse_weights(steering), coarse)

        # Where the target usually lies, as a function of the place alone: what tells left from right.
        place = weighted_sum(self.place_weights(steering), position) / position.shape[1] ** 0.5
        coarse_logits = coarse_logits + double(double(place[:, None]))[:, 0]

        weights = self.fine_weights(steering).view(count, self.fine_size, -1) / seen.stride_2.shape[-1] ** 0.5
        lifted = double(each_cell(self.fine_lift, coarse))
        detail = lifted.add_(torch.bmm(weights, seen.stride_2.transpose(1, 2)).view_as(lifted))
        logits = self.fine_head(detail)[:, 0] + double(coarse_logits[:, None])[:, 0]

        evidence = presence_evidence(
            (presence_token, mask_token, prompts),
            coarse_logits,
            (coarse, seen.evidence_8, located),
            (None, seen.summary_8, None),
        )
        return logits, self.presence(evidence)


def _cells(maps: Tensor) -> Tensor:
    """(image, channel, row, column) to (image, cell, channel)."""
    return maps.flatten(2).transpose(1, 2)


def each_cell(layer: nn.Conv2d, maps: Tensor) -> Tensor:
    """A 1 x 1 convolution of float (prompt, channel, row, column), fast where channels lie side by side in memory."""
    if torch.is_grad_enabled():
        return layer(maps)  # type: ignore[no-any-return]
    weights = layer.weight.flatten(1)
    return F.linear(maps.permute(0, 2, 3, 1), weights, layer.bias).permute(0, 3, 1, 2)


def weighted_sum(weights: Tensor, maps: Tensor) -> Tensor:
    """Of the channels of maps (prompt or 1, channel, row, column) with weights (prompt, channel)."""
    maps = maps.expand(len(weights), -1, -1, -1)
    if torch.is_grad_enabled():
        return torch.einsum("pc,pchw->phw", weights, maps)
    cells = maps.flatten(2)
    return torch.bmm(weights[:, None], cells).view(-1, *maps.shape[2:])


def double(maps: Tensor) -> Tensor:
    """Twice the rows and columns, bilinear, cell centres kept (align_corners=False)."""
    return F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
