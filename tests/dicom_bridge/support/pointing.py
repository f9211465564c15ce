"""Weights that take hints, of no training: where they point matters, not what they know."""

from __future__ import annotations

import torch

from rcmed import Assistant
from rcmed.findings import ModelIdentity
from rcmed.model.config import RCMedConfig
from rcmed.model.grounding.hint_maps import HintAddition
from rcmed.model.modeling import RCMedModel
from rcmed.model.processor import RCMedProcessor
from rcmed.model.tokenizer import build_tokenizer


def make_pointing_assistant() -> Assistant:
    """An assistant whose masks a click and a box change, each time the same one."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(("liver",))
    language = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    vocabulary = {"vocab_size": len(tokenizer), "num_key_value_heads": 4, "tie_word_embeddings": True}
    config = RCMedConfig(image_size=64, language={**language, **vocabulary}, takes_hints=True)
    model = RCMedModel(config).eval()
    for layer in model.modules():
        if isinstance(layer, HintAddition):
            torch.nn.init.normal_(layer.weight, std=3.0)
    processor = RCMedProcessor(tokenizer, 64, (0, 0, 0), (1, 1, 1))
    return Assistant(model, processor, ModelIdentity("pointing", "1", "0" * 64), 2**26)
