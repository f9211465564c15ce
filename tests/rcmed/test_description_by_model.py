"""A vision-language model as the describer: a tiny random one, loaded from local files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from rcmed.description import LONGEST_DESCRIPTION
from rcmed.description.vision_language import VisionLanguageDescriber
from rcmed.errors import CheckpointError, GridMismatchError
from rcmed.image import Grid, Image
from rcmed.modality import Modality

WORDS = [
    "<image>",
    "<pad>",
    "<s>",
    "</s>",
    "<unk>",
    "red",
    "region",
    "round",
    "This",
    "is",
    "a",
    "the",
    "optic",
    "disc",
]
CHAT = (
    "{% for part in messages[0]['content'] %}{{ '<image>' if part['type'] == 'image' else part['text'] }}{% endfor %}"
)


@pytest.fixture(scope="module", params=["chat", "plain"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that has learned nothing."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    fast.add_special_tokens({"additional_special_tokens": ["<image>"]})
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        fast,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT if request.param == "chat" else None,
    )
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(image_size=16, patch_size=8, **sizes),
            text_config=LlamaConfig(vocab_size=len(WORDS), pad_token_id=1, bos_token_id=2, eos_token_id=3, **sizes),
            image_token_index=0,
        )
    )
    model.generation_config.suppress_tokens = list(range(5))  # what it says can be read
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def scene() -> tuple[Image, np.ndarray]:
    mask = np.zeros((1, 24, 32), dtype=bool)
    mask[0, 4:14, 6:16] = True
    return Image(np.full((1, 24, 32, 3), 90, np.uint8), Grid.without_geometry(24, 32), Modality.FUNDUS), mask


@pytest.mark.slow
def test_the_model_speaks_of_each_region_and_says_the_same_again(folder: Path) -> None:
    image, mask = scene()
    describer = VisionLanguageDescriber.from_folder(folder)
    words = describer.describe(image, {"optic disc": mask, "nothing": np.zeros_like(mask)})
    assert set(words) == {"optic disc", "nothing"} and words["nothing"] == ""
    assert set(words["optic disc"].split()) <= set(WORDS) and words["optic disc"]
    assert "<" not in words["optic disc"] and len(words["optic disc"]) <= LONGEST_DESCRIPTION
    assert describer.describe(image, {"optic disc": mask})["optic disc"] == words["optic disc"]


def test_a_foreign_mask_is_refused(folder: Path) -> None:
    image, mask = scene()
    with pytest.raises(GridMismatchError):
        VisionLanguageDescriber.from_folder(folder).describe(image, {"optic disc": mask[:, 1:]})


@pytest.mark.slow
def test_a_folder_without_such_a_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        VisionLanguageDescriber.from_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="can't be loaded as a vision-language model"):
        VisionLanguageDescriber.from_folder(tmp_path)
