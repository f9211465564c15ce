"""LoRA on the language decoder: without effect at first, alone trained, merged without a trace; in both sizes."""

import copy
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rcmed.errors import CheckpointError, ConfigurationError
from rcmed.modality import Modality
from rcmed.model.config import RCMedConfig
from rcmed.model.modeling import RCMedModel
from rcmed.model.processor import RCMedProcessor
from rcmed.model.tokenizer import build_tokenizer
from rcmed.training.adapters import LanguageAdapters

NAMES = ("liver", "spleen")
LANGUAGE = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
}


def small_config(vocabulary: int) -> RCMedConfig:
    language = {**LANGUAGE, "vocab_size": vocabulary, "tie_word_embeddings": True}
    return RCMedConfig(
        image_size=64, vision_widths=(8, 16, 16, 24, 32), prompt_size=32, language=language, target_names=NAMES
    )


def published_config(vocabulary: int) -> RCMedConfig:
    """The published architecture at reduced width."""
    vision = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "global_attn_indexes": [1],
        "window_size": 2,
        "patch_size": 16,
        "output_channels": 32,
    }
    return RCMedConfig.full(
        image_size=64,
        prompt_size=32,
        segment_anything={"vision": vision, "mask_decoder": {"mlp_dim": 48, "iou_head_hidden_dim": 24}},
        language={**LANGUAGE, "vocab_size": vocabulary, "tie_word_embeddings": False},
    )


@pytest.fixture(params=["small", "published"])
def parts(request: pytest.FixtureRequest) -> tuple[RCMedModel, RCMedProcessor]:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(NAMES)
    config = (small_config if request.param == "small" else published_config)(len(tokenizer))
    processor = RCMedProcessor(tokenizer, config.image_size, config.pixel_mean, config.pixel_std)
    return RCMedModel(config).eval(), processor


def masks(model: RCMedModel, processor: RCMedProcessor) -> Tensor:
    pixels = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    before, after = processor.surroundings()
    prompts = processor.prepare_prompts(NAMES, [Modality.CT] * 2)
    which = torch.zeros(2, dtype=torch.long)
    logits = model(processor.prepare_pixels(pixels), before, after, which, prompts).mask_logits
    assert isinstance(logits, Tensor)
    return logits


def train_once(model: RCMedModel, processor: RCMedProcessor, adapters: LanguageAdapters) -> None:
    optimiser = torch.optim.Adam(adapters.parameters(), lr=0.05)
    for _ in range(4):
        optimiser.zero_grad()
        masks(model, processor).square().mean().backward()
        optimiser.step()


def test_adapters_start_without_effect_and_are_all_that_trains_in_the_decoder(
    parts: tuple[RCMedModel, RCMedProcessor],
) -> None:
    model, processor = parts
    with torch.no_grad():
        plain = masks(model, processor)
    adapters = LanguageAdapters(model)
    with torch.no_grad():
        torch.testing.assert_close(masks(model, processor), plain, atol=1e-6, rtol=0)
    trained = [name for name, value in model.language.decoder.named_parameters() if value.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    # Two factors of 16 x 48 at four places of two layers.
    assert adapters.parameter_count() == 2 * 16 * 48 * 4 * 2


def test_merged_weights_answer_as_the_adapted_ones_and_keep_no_trace(
    parts: tuple[RCMedModel, RCMedProcessor], tmp_path: Path
) -> None:
    model, processor = parts
    names = set(model.state_dict())
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        plain = masks(model, processor)
    adapters = LanguageAdapters(model)
    train_once(model, processor, adapters)
    with torch.no_grad():
        adapted = masks(model, processor)
    assert float((adapted - plain).abs().max()) > 1e-2, "they learned something"
    merged = adapters.merge()
    assert merged is model and set(model.state_dict()) == names
    assert all(value.requires_grad for value in model.language.decoder.parameters())
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(name.split(".")[-2] in ("q_proj", "k_proj", "v_proj", "o_proj") for name in moved)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save_pretrained(str(tmp_path))
    again = RCMedModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(masks(model, processor), adapted, atol=1e-3, rtol=0)
        torch.testing.assert_close(masks(again, processor), masks(model, processor), atol=1e-4, rtol=0)


def test_saved_adapters_can_be_gone_on_with(parts: tuple[RCMedModel, RCMedProcessor], tmp_path: Path) -> None:
    model, processor = parts
    other = copy.deepcopy(model)
    adapters = LanguageAdapters(model)
    train_once(model, processor, adapters)
    adapters.save(tmp_path / "adapters")
    assert {path.suffix for path in (tmp_path / "adapters").iterdir()} <= {".json", ".safetensors", ".md"}
    restored = LanguageAdapters(other)
    restored.load(tmp_path / "adapters")
    with torch.no_grad():
        torch.testing.assert_close(masks(other, processor), masks(model, processor), atol=1e-3, rtol=0)
    with pytest.raises(CheckpointError, match="adapter_model"):
        restored.load(tmp_path)


def test_a_second_set_of_adapters_is_refused_until_the_first_is_merged(
    parts: tuple[RCMedModel, RCMedProcessor],
) -> None:
    model, _ = parts
    adapters = LanguageAdapters(model, rank=4)
    with pytest.raises(ConfigurationError, match="merge"):
        LanguageAdapters(model)
    adapters.merge()
    assert LanguageAdapters(model, rank=2).parameter_count() == 2 * 2 * 48 * 4 * 2


def test_the_published_size_gets_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = RCMedModel(RCMedConfig.full())
        adapters = LanguageAdapters(model)
    assert adapters.parameter_count() == 16_777_216
