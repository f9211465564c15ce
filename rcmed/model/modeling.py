"""RCMedModel: image and words in, masks and presence out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from rcmed.model.config import RCMedConfig
from rcmed.model.exemplar import Exemplar
from rcmed.model.grounding.decoder import GroundingDecoder, ImageMaps
from rcmed.model.grounding.hint_maps import HintConvolution
from rcmed.model.grounding.hint_prompts import PlacedHints
from rcmed.model.grounding.sam import SamGroundingDecoder
from rcmed.model.heads.presence import PresenceHead
from rcmed.model.heads.regions import RegionHead, region_evidence
from rcmed.model.language import EncodedPrefix, LanguageDecoder, Opening
from rcmed.model.loop import RegionLoop
from rcmed.model.packaged import model_folder
from rcmed.model.vision import vision_tower


@dataclass(frozen=True)
class EncodedImage:
    """All that the model computes once per image and shares between prompts.

    Attributes:
        dense: float (image, channel, row, column): the dense embedding with the language model's states added.
        fine: float maps at strides 8, 4 and 2; none from Segment Anything's tower.
        prefix: keys, values and states of the image part of the conversation.
        prepared: what the grounding decoder makes of the maps without a prompt (`RCMedModel.prepare`); None: it is made
            anew for each call, as training must.
        region_logits: float (image, region): which of `config.body_regions` an image shows; None: not told.
    """

    dense: Tensor
    fine: tuple[Tensor, ...]
    prefix: EncodedPrefix
    prepared: ImageMaps | Tensor | None = None
    region_logits: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Size in memory; what shares memory counts once."""
        tensors = [self.dense, *self.fine, *self.prefix.keys, *self.prefix.values, self.prefix.image_states]
        if isinstance(self.prepared, ImageMaps):
            tensors += self.prepared.tensors()
        return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())

    def select(self, first: int, last: int) -> EncodedImage:
        """Images from `first` up to but without `last`; shares their memory."""
        prepared = self.prepared
        if isinstance(prepared, ImageMaps):
            prepared = prepared.images(first, last)
        elif prepared is not None:
            prepared = prepared[first:last]
        return EncodedImage(
            self.dense[first:last],
            tuple(maps[first:last] for maps in self.fine),
            self.prefix.images(first, last),
            prepared,
            None if self.region_logits is None else self.region_logits[first:last],
        )


@dataclass
class RCMedOutput(ModelOutput):
    """What a pass gives.

    Attributes:
        mask_logits: float (prompt, size / 2, size / 2), by Segment Anything's decoder size / 4; 0 is the threshold.
        presence_logits: float (prompt,): whether the target is in the image; None where the model can't tell.
        turns: masks and presence of every turn of the closed loop, the last of which are the answer.
        states: float (row, position, hidden): the language decoder's, where prompts share conversations.
    """

    mask_logits: Tensor | None = None
    presence_logits: Tensor | None = None
    turns: tuple[tuple[Tensor, Tensor | None], ...] | None = None
    states: Tensor | None = None


@dataclass(frozen=True)
class PromptTokens:
    """Prompts as tokens.

    Attributes:
        tokens: int64 (prompt, position), padded at the end.
        attended: bool (prompt, position), False at padding.
        seg_position: int64 (prompt,): the position that predicts `[SEG]`.
        name: bool (prompt, position): the words of the target.
        row: int64 (prompt,): which row of `tokens` and `attended` holds a prompt, where several share one, as in
            training; None: each has its own.
        taught: int64 (row, position): tokens that are learned word for word, -100 elsewhere; None: none are.
    """

    tokens: Tensor
    attended: Tensor
    seg_position: Tensor
    name: Tensor
    row: Tensor | None = None
    taught: Tensor | None = None

    def to(self, device: torch.device | str) -> PromptTokens:
        """The same on another device."""
        return PromptTokens(
            self.tokens.to(device),
            self.attended.to(device),
            self.seg_position.to(device),
            self.name.to(device),
            None if self.row is None else self.row.to(device),
            None if self.taught is None else self.taught.to(device),
        )

    def part(self, first: int, last: int) -> PromptTokens:
        """The prompts from `first` up to, not including, `last`, padded as they were."""
        return PromptTokens(
            self.tokens[first:last], self.attended[first:last], self.seg_position[first:last], self.name[first:last]
        )

    def repeated(self, times: int) -> PromptTokens:
        """All prompts, then all of them again, for as many images."""
        if times == 1:
            return self
        return PromptTokens(
            self.tokens.repeat(times, 1),
            self.attended.repeat(times, 1),
            self.seg_position.repeat(times),
            self.name.repeat(times, 1),
        )


def two_layers(inputs: int, outputs: int) -> nn.Sequential:
    """Linear, ReLU, Linear: the shape of the published `text_hidden_fcs` and `t2i_projection`."""
    return nn.Sequential(nn.Linear(inputs, inputs), nn.ReLU(), nn.Linear(inputs, outputs))


class RCMedModel(PreTrainedModel):
    """Vision tower, language decoder and grounding decoder in one (arXiv 2505.03380, Methods)."""

    config_class = RCMedConfig
    base_model_prefix = "rcmed"
    main_input_name = "pixel_values"

    def __init__(self, config: RCMedConfig) -> None:
        super().__init__(config)
        self.vision = vision_tower(config)
        self.language = LanguageDecoder(config, self.vision.token_size)
        hidden = config.language_config().hidden_size
        self.text_hidden_fcs = two_layers(hidden, config.prompt_size)
        self.t2i_projection = two_layers(hidden, self.vision.dense_size)
        # Normalised, so that names differ from the first step on: a mean of small embeddings would drown in the state.
        self.name_path = (
            nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, config.prompt_size)) if config.name_path else None
        )
        self.loop = RegionLoop(self.vision.dense_size, hidden, config.prompt_size) if config.loop_turns else None
        self.grounding = SamGroundingDecoder(config) if config.segment_anything else GroundingDecoder(config)
        self.region_head = None
        if config.body_regions:
            fine = () if config.segment_anything else config.vision_widths[:3]
            channels = sum((self.vision.token_size, self.vision.dense_size, *fine))
            self.region_head = RegionHead(channels, len(config.body_regions))
        self.post_init()

    @classmethod
    def from_pretrained(cls, name: str | Path, *arguments: Any, **options: Any) -> Self:  # type: ignore[override]
        """Load weights as `transformers` does; "small" names those that come with the package."""
        loaded = super().from_pretrained(str(model_folder(name)), *arguments, **options)
        assert isinstance(loaded, cls)
        return loaded

    def _init_weights(self, module: nn.Module) -> None:
        """Keep each part's own initialisation, but for embeddings, which start small, and what older weights lack."""
        if isinstance(module, nn.Embedding):
            module.weight.data.normal_(0.0, 0.02)
        elif isinstance(module, RegionLoop | PresenceHead | RegionHead):
            module.reset()
        elif isinstance(module, HintConvolution):
            module.reset_parameters()

    def encode(
        self,
        pixel_values: Tensor,
        before: Tensor | Opening,
        after: Tensor,
        exemplar: Exemplar | None = None,
    ) -> EncodedImage:
        """Compute the image part once.

        Args:
            pixel_values: float (image, 3, size, size), normalised and padded at the right and bottom.
            before, after: int64 (position,): the shared text around the image; what comes before it may have been read
                once for all images (`LanguageDecoder.read_opening`).
            exemplar: of the target that will be asked for, where examples of it were given.
        """
        features = self.vision(pixel_values, None if exemplar is None else exemplar.place)
        dense = features.dense if exemplar is None else exemplar.emphasise(features.dense)
        encoded = self.steer(dense, features.fine, self.language.encode_prefix(features.tokens, before, after))
        if self.region_head is None:
            return encoded
        return replace(encoded, region_logits=self.region_head(region_evidence(features)))

    def steer(self, dense: Tensor, fine: tuple[Tensor, ...], prefix: EncodedPrefix) -> EncodedImage:
        """The last step of `encode`: the language model's states at the image tokens are added to the dense embedding.

        Args:
            dense: float (image, channel, row, column), of the vision tower.
            fine: its finer maps.
            prefix: the image part of the conversation.
        """
        rows, columns = (side * self.config.dense_stride // self.config.token_stride for side in dense.shape[-2:])
        steered = self.t2i_projection(prefix.image_states).transpose(1, 2).unflatten(2, (rows, columns))
        steered = nn.functional.interpolate(steered, size=dense.shape[-2:], mode="bilinear", align_corners=False)
        return EncodedImage(dense=dense + steered, fine=fine, prefix=prefix)

    def prepare(self, encoded: EncodedImage) -> EncodedImage:
        """The same images with all that prompts share, so that a further prompt costs less; for weights at rest."""
        return replace(encoded, prepared=self.grounding.prepare(encoded.dense, encoded.fine))

    def ground(
        self,
        encoded: EncodedImage,
        image_index: Tensor,
        prompts: PromptTokens,
        exemplar: Exemplar | None = None,
        hints: PlacedHints | None = None,
    ) -> RCMedOutput:
        """Answer prompts about encoded images; each prompt alone, so its mask does not depend on the others.

        Args:
            encoded: the images.
            image_index: int64 (prompt,): which image each prompt asks about.
            prompts: the words.
            exemplar: of the one target that the prompts ask for, where examples of it were given.
            hints: where the user points at, for each prompt.
        """
        if prompts.row is not None:
            return self._ground_conversations(encoded, image_index, prompts, prompts.row, hints)
        read = self.language.read_prompts(
            encoded.prefix, image_index, prompts.tokens, prompts.attended, prompts.seg_position
        )
        queries = self.text_hidden_fcs(read.state)
        if self.name_path is not None:
            queries = queries + self._words(prompts.tokens, prompts.name)
        if exemplar is not None and exemplar.correction is not None:
            queries = queries + exemplar.correction
        prepared = self._prepared(encoded)
        turns = [self._decode(prepared, queries, image_index, hints)]
        if self.loop is not None:
            for _ in range(self.config.loop_turns):
                token = self.loop.region_token(encoded.dense, image_index, turns[-1][0])
                read = self.language.read_on(read, token.to(read.state.dtype))
                queries = self.loop.refine(queries, self.text_hidden_fcs(read.state))
                turns.append(self._decode(prepared, queries, image_index, hints))
        if exemplar is not None:
            # The presence that the weights learned says nothing of a target that they were not trained on.
            turns = [(exemplar.add_place(mask_logits), None) for mask_logits, _ in turns]
        return RCMedOutput(mask_logits=turns[-1][0], presence_logits=turns[-1][1], turns=tuple(turns))

    def _ground_conversations(
        self, encoded: EncodedImage, image_index: Tensor, prompts: PromptTokens, row: Tensor, hints: PlacedHints | None
    ) -> RCMedOutput:
        """As `ground`, in one turn, of prompts that share conversations: their masks depend on what was said before."""
        images = image_index.new_zeros(len(prompts.tokens)).scatter_(0, row, image_index)
        states = self.language.read_conversations(encoded.prefix, images, prompts.tokens, prompts.attended)
        queries = self.text_hidden_fcs(states[row, prompts.seg_position])
        if self.name_path is not None:
            queries = queries + self._words(prompts.tokens[row], prompts.name)
        prepared = self._prepared(encoded)
        turns = (self._decode(prepared, queries, image_index, hints),)
        return RCMedOutput(mask_logits=turns[0][0], presence_logits=turns[0][1], turns=turns, states=states)

    def _prepared(self, encoded: EncodedImage) -> ImageMaps | Tensor:
        """What the grounding decoder makes of the images without a prompt; made now where it was not made before."""
        if encoded.prepared is not None:
            return encoded.prepared
        return self.grounding.prepare(encoded.dense, encoded.fine)

    def _words(self, tokens: Tensor, name: Tensor) -> Tensor:
        """What the words of the targets say by themselves, float (prompt, prompt_size)."""
        assert self.name_path is not None
        words = self.language.decoder.embed_tokens(tokens)
        weight = name.to(words.dtype)[..., None]
        return self.name_path((words * weight).sum(1) / weight.sum(1).clamp(min=1))  # type: ignore[no-any-return]

    def _decode(
        self, prepared: ImageMaps | Tensor, queries: Tensor, image_index: Tensor, hints: PlacedHints | None
    ) -> tuple[Tensor, Tensor | None]:
        mask_logits, presence_logits = self.grounding(prepared, queries, image_index, hints)
        return mask_logits.float(), None if presence_logits is None else presence_logits.float()

    def forward(
        self,
        pixel_values: Tensor,
        before: Tensor,
        after: Tensor,
        image_index: Tensor,
        prompts: PromptTokens,
        hints: PlacedHints | None = None,
    ) -> RCMedOutput:
        """Encode and ground in one pass; shapes as in `encode` and `ground`."""
        return self.ground(self.encode(pixel_values, before, after), image_index, prompts, hints=hints)
