"""The language decoder: reads image tokens and the instruction; its states steer the masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, LlamaModel
from transformers.cache_utils import DynamicLayer

from rcmed.model.config import RCMedConfig


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

    def select(self, image_index: Tensor) -> DynamicCache:
        """A cache whose batch is one entry per prompt, for the images named by `image_index` (prompt,)."""
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            cache.update(keys.index_select(0, image_index), values.index_select(0, image_index), layer)
        return cache


@dataclass(frozen=True, eq=False)
class ReadPrompts:
    """Prompts that were read, and where reading can go on.

    Attributes:
        states: float (prompt, position, hidden): last-layer states.
        cache: keys and values of everything read so far.
        attended: bool (prompt, prefix and position): False at padding.
        next_position: int64 (prompt,): the place of a token that follows the last one that is no padding.
    """

    states: Tensor
    cache: DynamicCache
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

    def encode_prefix(self, image_tokens: Tensor, before: Tensor, after: Tensor) -> EncodedPrefix:
        """Run the part of the conversation that all prompts share.

        The decoder is causal and the image comes first, so keys, values and image states do not depend on the prompt.

        Args:
            image_tokens: float (image, token, channel).
            before: int64 (position,): token ids up to the image placeholder.
            after: int64 (position,): token ids behind it that do not depend on the prompt.
        """
        count, length = image_tokens.shape[:2]
        embed = self.decoder.embed_tokens
        embeddings = torch.cat(
            [
                embed(before).expand(count, -1, -1),
                self.projector(image_tokens).to(embed.weight.dtype),
                embed(after).expand(count, -1, -1),
            ],
            dim=1,
        )
        cache = DynamicCache()
        states = self.decoder(inputs_embeds=embeddings, cache=cache, use_cache=True).last_hidden_state
        return EncodedPrefix(
            keys=tuple(cast(Tensor, cast(DynamicLayer, layer).keys) for layer in cache.layers),
            values=tuple(cast(Tensor, cast(DynamicLayer, layer).values) for layer in cache.layers),
            image_states=states[:, len(before) : len(before) + length],
        )

    def read_prompts(self, prefix: EncodedPrefix, image_index: Tensor, tokens: Tensor, attended: Tensor) -> ReadPrompts:
        """Read prompts behind the images' prefixes.

        Args:
            prefix: the images.
            image_index: int64 (prompt,): the image that each prompt asks about.
            tokens: int64 (prompt, position), padded at the end.
            attended: bool (prompt, position): False at padding.
        """
        cache = prefix.select(image_index)
        past = prefix.keys[0].shape[2]
        mask = torch.cat([attended.new_ones(attended.shape[0], past), attended], dim=1)
        states = self.decoder(
            input_ids=tokens, attention_mask=mask.long(), cache=cache, use_cache=True
        ).last_hidden_state
        return ReadPrompts(states, cache, mask, past + attended.sum(1))

    def next_token_logits(self, states: Tensor) -> Tensor:
        """What may follow: float (prompt, token) of last-layer states float (prompt, hidden)."""
        head = self.decoder.embed_tokens.weight if self.lm_head is None else self.lm_head.weight
        return states @ head.T

    def read_on(self, read: ReadPrompts, token: Tensor) -> ReadPrompts:
        """Read one more token of each prompt, given as an embedding float (prompt, hidden)."""
        mask = torch.cat([read.attended, read.attended.new_ones(len(token), 1)], dim=1)
        states = self.decoder(
            inputs_embeds=token[:, None],
            attention_mask=mask.long(),
            position_ids=read.next_position[:, None],
            cache=read.cache,
            use_cache=True,
        ).last_hidden_state
        return ReadPrompts(states, read.cache, mask, read.next_position + 1)
