"""The language decoder: reads image tokens and the instruction; its states steer the masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, LlamaModel
from transformers.cache_utils import DynamicLayer

from rcmed.model import short_reading
from rcmed.model.config import RCMedConfig
from rcmed.model.grounding.decoder import of_images


@dataclass(frozen=True)
class EncodedPrefix:
    """The image part of the conversation, computed once.

    Attributes:
        keys, values: per layer, float (image, head, position, channel).
        image_states: float (image, token, hidden): last-layer states at the image tokens.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    image_states: Tensor

    def select(self, image_index: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Keys and values with one entry per prompt, for the images named by `image_index` (prompt,)."""
        return [of_images(keys, image_index) for keys in self.keys], [
            of_images(each, image_index) for each in self.values
        ]

    def images(self, first: int, last: int) -> EncodedPrefix:
        """Images from `first` up to but without `last`; shares their memory."""
        return EncodedPrefix(
            keys=tuple(keys[first:last] for keys in self.keys),
            values=tuple(values[first:last] for values in self.values),
            image_states=self.image_states[first:last],
        )


@dataclass(frozen=True)
class Opening:
    """The text before the image, read once: it is the same for every image.

    Attributes:
        keys, values: per layer, float (1, head, position, channel).
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    @property
    def length(self) -> int:
        """Number of tokens."""
        return int(self.keys[0].shape[2])

    def before(self, images: int) -> tuple[list[Tensor], list[Tensor]]:
        """Keys and values of the text before each of some images."""
        return [keys.expand(images, -1, -1, -1) for keys in self.keys], [
            values.expand(images, -1, -1, -1) for values in self.values
        ]


def filled_cache(keys: Sequence[Tensor], values: Sequence[Tensor]) -> DynamicCache:
    """A cache that goes on behind these keys and values (batch, head, position, channel), which are not copied."""
    cache = DynamicCache()
    for layer_keys, layer_values in zip(keys, values, strict=True):
        layer = DynamicLayer()
        layer.lazy_initialization(layer_keys, layer_values)
        layer.keys, layer.values = layer_keys, layer_values
        cache.layers.append(layer)
    return cache


def _contents(cache: DynamicCache) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Keys and values of every layer."""
    layers = [cast(DynamicLayer, layer) for layer in cache.layers]
    return tuple(cast(Tensor, each.keys) for each in layers), tuple(cast(Tensor, each.values) for each in layers)


@dataclass(frozen=True, eq=False)
class ReadPrompts:
    """Prompts that were read, and where reading can go on.

    Attributes:
        state: float (prompt, hidden): the last layer's at the position that was asked for.
        keys, values: per layer, float (prompt, head, position, channel), of everything read so far.
        attended: bool (prompt, prefix and position): False at padding.
        next_position: int64 (prompt,): the place of a token that follows the last one that is no padding.
    """

    state: Tensor
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    attended: Tensor
    next_position: Tensor


class LanguageDecoder(nn.Module):
    """A Llama decoder over [text before the image, image tokens, text after it, instruction and answer]."""

    def __init__(self, config: RCMedConfig, token_size: int) -> None:
        super().__init__()
        language = config.language_config()
        self.decoder = LlamaModel(language)
        self.projector = nn.Sequential(
            nn.Linear(token_size, language.hidden_size),
            nn.GELU(),
            nn.Linear(language.hidden_size, language.hidden_size),
        )
        # Tied, the embeddings are the head.
        self.lm_head = (
            None if language.tie_word_embeddings else nn.Linear(language.hidden_size, language.vocab_size, bias=False)
        )

    def _read(
        self,
        embedded: Tensor,
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
        attended: Tensor | None = None,
        positions: Tensor | None = None,
        last: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Read tokens behind what was read before; arguments and result as of `short_reading.read_shortly`."""
        if short_reading.is_for(self.decoder, embedded):
            if positions is None:
                # Padding is behind the words, which do not see what follows them.
                attended = None
            return short_reading.read_shortly(self.decoder, embedded, keys, values, attended, positions, last)
        cache = filled_cache(keys, values)
        states = self.decoder(
            inputs_embeds=embedded,
            attention_mask=None if attended is None else attended.long(),
            position_ids=positions,
            cache=cache,
            use_cache=True,
        ).last_hidden_state
        if last is not None:
            states = states[torch.arange(len(last), device=states.device), last]
        return states, *_contents(cache)

    def read_opening(self, before: Tensor) -> Opening:
        """Read the text before the image, int64 (position,), once for all images; for weights at rest."""
        _, keys, values = self._read(self.decoder.embed_tokens(before)[None], (), ())
        return Opening(keys, values)

    def encode_prefix(self, image_tokens: Tensor, before: Tensor | Opening, after: Tensor) -> EncodedPrefix:
        """Run the part of the conversation that all prompts share.

        The decoder is causal and the image comes first, so keys, values and image states do not depend on the prompt.

        Args:
            image_tokens: float (image, token, channel).
            before: int64 (position,): token ids up to the image placeholder, or these already read.
            after: int64 (position,): token ids behind it that do not depend on the prompt.
        """
        count, length = image_tokens.shape[:2]
        embed = self.decoder.embed_tokens
        parts = [self.projector(image_tokens).to(embed.weight.dtype), embed(after).expand(count, -1, -1)]
        if isinstance(before, Opening):
            (past_keys, past_values), start = before.before(count), 0
        else:
            parts.insert(0, embed(before).expand(count, -1, -1))
            past_keys, past_values, start = [], [], len(before)
        states, keys, values = self._read(torch.cat(parts, dim=1), past_keys, past_values)
        return EncodedPrefix(keys, values, image_states=states[:, start : start + length])

    def read_prompts(
        self, prefix: EncodedPrefix, image_index: Tensor, tokens: Tensor, attended: Tensor, last: Tensor
    ) -> ReadPrompts:
        """Read prompts behind the images' prefixes.

        Args:
            prefix: the images.
            image_index: int64 (prompt,): the image that each prompt asks about.
            tokens: int64 (prompt, position), padded at the end.
            attended: bool (prompt, position): False at padding.
            last: int64 (prompt,): the position whose state is wanted.
        """
        state, keys, values, mask = self._read_behind(prefix, image_index, tokens, attended, last)
        return ReadPrompts(state, keys, values, mask, prefix.keys[0].shape[2] + attended.sum(1))

    def read_conversations(
        self, prefix: EncodedPrefix, image_index: Tensor, tokens: Tensor, attended: Tensor
    ) -> Tensor:
        """Last-layer states at all tokens of conversations, float (row, position, hidden); arguments as above."""
        return self._read_behind(prefix, image_index, tokens, attended)[0]

    def _read_behind(
        self, prefix: EncodedPrefix, image_index: Tensor, tokens: Tensor, attended: Tensor, last: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...], Tensor]:
        """Read tokens behind the images' prefixes: as `_read`, and what is attended, the prefix included."""
        mask = torch.cat([attended.new_ones(attended.shape[0], prefix.keys[0].shape[2]), attended], dim=1)
        embedded = self.decoder.embed_tokens(tokens)
        return *self._read(embedded, *prefix.select(image_index), attended=mask, last=last), mask

    def next_token_logits(self, states: Tensor) -> Tensor:
        """What may follow: float (prompt, token) of last-layer states float (prompt, hidden)."""
        head = self.decoder.embed_tokens.weight if self.lm_head is None else self.lm_head.weight
        return states @ head.T

    def read_on(self, read: ReadPrompts, token: Tensor) -> ReadPrompts:
        """Read one more token of each prompt, given as an embedding float (prompt, hidden)."""
        mask = torch.cat([read.attended, read.attended.new_ones(len(token), 1)], dim=1)
        states, keys, values = self._read(token[:, None], read.keys, read.values, mask, read.next_position[:, None])
        return ReadPrompts(states[:, -1], keys, values, mask, read.next_position + 1)
