"""The published architecture: its size, its names, and that ours computes what the original parts compute."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from rcmed.assistant import Assistant
from rcmed.findings import FindingStatus
from rcmed.image import Grid, Image
from rcmed.modality import Modality
from rcmed.model.config import FULL_LANGUAGE, RCMedConfig
from rcmed.model.instruction import AFTER_IMAGE, open_answer
from rcmed.model.modeling import PromptTokens, RCMedModel
from rcmed.model.processor import to_image_grid
from rcmed.published import import_checkpoint
from rcmed.published.names import our_name, published_names

NAMES = ("liver", "left kidney", "optic disc")


def full_on_meta() -> RCMedModel:
    with torch.device("meta"):
        return RCMedModel(RCMedConfig.full())


def test_the_published_number_of_parameters() -> None:
    model = full_on_meta()
    count = sum(value.numel() for value in model.parameters())
    assert count == 7_437_252_144
    settings = LoraConfig(
        r=16, lora_alpha=16, lora_dropout=0.05, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]
    )
    with torch.device("meta"):
        adapted = get_peft_model(model.language.decoder, settings)  # type: ignore[arg-type]
    assert sum(value.numel() for name, value in adapted.named_parameters() if "lora_" in name) == 16_777_216


def test_every_published_name_is_one_of_ours(segment_anything: Any) -> None:
    """The names come from the original code at full size, not from the product's own list."""
    with torch.device("meta"):
        llama = LlamaForCausalLM(LlamaConfig(**FULL_LANGUAGE))
        parts = {
            "image_encoder": segment_anything.ImageEncoderViT(
                embed_dim=1280,
                depth=32,
                num_heads=16,
                use_rel_pos=True,
                window_size=14,
                global_attn_indexes=(7, 15, 23, 31),
            ),
            "prompt_encoder": segment_anything.PromptEncoder(256, (64, 64), (1024, 1024), 16),
            "mask_decoder": segment_anything.MaskDecoder(
                transformer_dim=256,
                transformer=segment_anything.TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=2048),
            ),
        }
    shapes = {name: tuple(value.shape) for name, value in llama.state_dict().items()}
    for part, module in parts.items():
        shapes |= {f"model.grounding_encoder.{part}.{n}": tuple(v.shape) for n, v in module.state_dict().items()}
    for module, (inputs, inner, outputs) in {
        "mm_projector": (1280, 4096, 4096),
        "text_hidden_fcs.0": (4096, 4096, 256),
        "t2i_projection.0": (4096, 4096, 256),
    }.items():
        shapes |= {f"model.{module}.0.weight": (inner, inputs), f"model.{module}.0.bias": (inner,)}
        shapes |= {f"model.{module}.2.weight": (outputs, inner), f"model.{module}.2.bias": (outputs,)}
    ours = {name: tuple(value.shape) for name, value in full_on_meta().state_dict().items()}
    assert {our_name(name): shape for name, shape in shapes.items()} == ours
    assert published_names(RCMedConfig.full()) == set(shapes)


@pytest.fixture(scope="module")
def imported(checkpoints: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    checkpoints.write(folder / "checkpoint", checkpoints.state())
    return import_checkpoint(folder / "checkpoint", folder / "model")


@pytest.fixture(scope="module")
def assistant(imported: Path) -> Assistant:
    return Assistant.from_pretrained(imported, "cpu")


def test_the_whole_pass_equals_the_plain_composition(
    assistant: Assistant, published: Any, tokenizer: Any, pixels: NDArray[np.uint8]
) -> None:
    reader = assistant._reader
    encoded = reader.encode(pixels[None])
    logits, presence = reader.ground(encoded, NAMES, Modality.CT)
    ours = to_image_grid(logits[:, 0], *pixels.shape[:2], assistant.processor.image_size)
    assert bool(presence.isnan().all()), "the published model has no presence"
    for number, name in enumerate(NAMES):
        plain = published.mask_logits(pixels, name, Modality.CT, tokenizer)
        assert float(plain.std()) > 0.05, "a flat map would agree with anything"
        torch.testing.assert_close(ours[number], plain, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(ours[0], ours[1], atol=1e-2), "the words steer the mask"


def test_a_further_prompt_equals_a_fresh_pass(assistant: Assistant, pixels: NDArray[np.uint8]) -> None:
    reader = assistant._reader
    encoded = reader.encode(pixels[None])
    reader.ground(encoded, [NAMES[0]], Modality.CT)
    again, _ = reader.ground(encoded, [NAMES[1]], Modality.CT)
    fresh, _ = reader.ground(reader.encode(pixels[None]), [NAMES[1]], Modality.CT)
    torch.testing.assert_close(again, fresh, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_further_prompt_costs_a_tenth_at_most_at_full_shapes() -> None:
    """In floating-point operations: at full size nothing else decides."""
    count = 64
    tokens = PromptTokens(
        torch.zeros(1, count, dtype=torch.long, device="meta"),
        torch.ones(1, count, dtype=torch.bool, device="meta"),
        torch.tensor([count - 1], device="meta"),
        torch.zeros(1, count, dtype=torch.bool, device="meta"),
    )
    ids = torch.zeros(count, dtype=torch.long, device="meta")
    pixel_values = torch.empty(1, 3, 1024, 1024, device="meta")
    model = full_on_meta().eval()
    with torch.inference_mode():
        with FlopCounterMode(display=False) as image_part:
            encoded = model.encode(pixel_values, ids, ids)
        with FlopCounterMode(display=False) as prompt_part:
            output = model.ground(encoded, torch.zeros(1, dtype=torch.long, device="meta"), tokens)
    assert output.mask_logits is not None and output.mask_logits.shape == (1, 256, 256)
    first = image_part.get_total_flops() + prompt_part.get_total_flops()
    assert first > 10 * prompt_part.get_total_flops()
    # The publication's own count: about 3 TFLOP of vision (multiply-adds) and 16 of language.
    assert 15e12 < first < 25e12


def test_what_a_model_without_presence_marks_is_found_and_the_rest_absent(
    assistant: Assistant, published: Any, tokenizer: Any, pixels: NDArray[np.uint8]
) -> None:
    image = Image(pixels[None], Grid.without_geometry(*pixels.shape[:2]), Modality.ULTRASOUND)
    findings = assistant.find(image, "liver; left kidney").findings
    assert len(findings) == 2
    for finding, name in zip(findings, NAMES, strict=False):
        plain = (published.mask_logits(pixels, name, Modality.ULTRASOUND, tokenizer) > 0).numpy()
        assert finding.presence is None
        if finding.status is FindingStatus.ABSENT:
            assert not plain.any() and finding.mask is None
        else:
            assert finding.status is FindingStatus.FOUND and finding.mask is not None
            assert np.array_equal(finding.mask[0], plain)


def all_answers(names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Every answer that can be read, behind its first "<p>", with the names that it says."""
    answers = {}
    for count in range(1, len(names) + 1):
        for chosen in permutations(names, count):
            for last in (", ", " and ")[: 1 if count == 1 else 2]:
                phrases = [f"<p> {name} </p> [SEG]" for name in chosen]
                listed = ", ".join(phrases[:-1]) + last + phrases[-1] if count > 1 else phrases[0]
                answers[listed.removeprefix("<p>") + "."] = chosen
    return answers


@pytest.mark.parametrize(("modality", "seed"), list(product((Modality.CT, Modality.FUNDUS), range(3))))
def test_the_written_answer_is_the_one_the_original_parts_prefer_among_all_that_can_be_read(
    assistant: Assistant, published: Any, tokenizer: Any, modality: Modality, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    opening = AFTER_IMAGE + open_answer(modality)

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    left = {tuple(ids(opening + answer)): names for answer, names in all_answers(NAMES).items()}
    written = ids(opening)
    _, image_tokens = published.see(pixels)
    while len(left) > 1:
        states, _ = published.read(image_tokens, written, tokenizer)
        logits = states[0, -1] @ published.llama.lm_head.weight.detach().T
        allowed = sorted({tokens[len(written)] for tokens in left})
        written.append(max(allowed, key=lambda token: float(logits[token])))
        left = {tokens: names for tokens, names in left.items() if list(tokens[: len(written)]) == written}
    (expected,) = left.values()
    assert assistant._reader.recognise(pixels[None], NAMES, modality) == list(expected)


def test_with_nothing_named_the_answer_decides_what_is_looked_for(
    assistant: Assistant, pixels: NDArray[np.uint8]
) -> None:
    image = Image(pixels[None], Grid.without_geometry(*pixels.shape[:2]), Modality.ULTRASOUND)
    named = assistant._reader.recognise(
        pixels[None], [t.name for t in assistant.known_targets(image)], Modality.ULTRASOUND
    )
    recognised = [f.target.name for f in assistant.find(image).findings if f.target is not None]
    asked = {f.target.name: f for f in assistant.find(image, "; ".join(named)).findings if f.target is not None}
    assert set(recognised) == {name for name in named if asked[name].status is FindingStatus.FOUND}
    assert named and len(named) == len(set(named))
