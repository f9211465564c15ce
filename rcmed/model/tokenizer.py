"""A small tokenizer for the small model: byte-level pairs, learned from the vocabulary and the text format."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from rcmed.modality import Modality
from rcmed.model.instruction import AFTER_IMAGE, BEFORE_IMAGE, SPECIAL_TOKENS, prompt_to_seg


def build_tokenizer(names: Iterable[str], size: int = 1024) -> PreTrainedTokenizerFast:
    """Learn a tokenizer; the same names give the same tokenizer. Any text can be encoded (bytes are the fallback)."""
    texts = [BEFORE_IMAGE, AFTER_IMAGE]
    for name in sorted(set(names)):
        texts += [prompt_to_seg(name, modality) for modality in Modality]
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<s>", "</s>", "<unk>", *SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<unk>",
        additional_special_tokens=list(SPECIAL_TOKENS),
    )
