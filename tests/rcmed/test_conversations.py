"""Several targets in one answer, as published: who is asked for, what is learned word for word, which mask is whose."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rcmed.errors import ConfigurationError
from rcmed.modality import Modality
from rcmed.model.config import RCMedConfig
from rcmed.model.modeling import RCMedModel
from rcmed.model.processor import RCMedProcessor
from rcmed.model.tokenizer import build_tokenizer
from rcmed.training.batches.conversations import (
    ALL_RATE,
    DESCRIBED_RATE,
    Conversation,
    ConversationDraw,
    conversation_tokens,
    converse,
)
from rcmed.training.settings import Conversations, TrainingSettings
from rcmed.training.trainer import Trainer

NAMES = ("liver", "left kidney", "optic disc")
SIZE = 64


@pytest.fixture(scope="module")
def processor() -> RCMedProcessor:
    return RCMedProcessor(build_tokenizer(NAMES), SIZE, [0.0] * 3, [255.0] * 3)


@pytest.fixture(scope="module")
def model(processor: RCMedProcessor) -> RCMedModel:
    torch.manual_seed(0)
    language = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = RCMedConfig(
        image_size=SIZE,
        vision_widths=(8, 16, 16, 32, 32),
        prompt_size=32,
        language={**language, "num_key_value_heads": 2, "vocab_size": len(processor.tokenizer)},
    )
    return RCMedModel(config).eval()


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 6))
def test_a_part_is_in_order_and_never_empty(seed: int, count: int) -> None:
    in_view = list(range(10, 10 + count))
    draw = ConversationDraw.of(np.random.default_rng(seed), 6)
    chosen = draw.chosen(in_view)
    assert chosen and list(chosen) == sorted(set(chosen)) and set(chosen) <= set(in_view)
    assert draw.kind >= DESCRIBED_RATE + ALL_RATE or list(chosen) == in_view


def test_the_mixture_is_the_published_one() -> None:
    generator = np.random.default_rng(0)
    kinds: Counter[str] = Counter()
    sizes: Counter[int] = Counter()
    for _ in range(4000):
        draw = ConversationDraw.of(generator, 3)
        if draw.kind >= DESCRIBED_RATE + ALL_RATE:
            kinds["part"] += 1
            sizes[len(draw.chosen([0, 1, 2]))] += 1
        else:
            kinds["described" if draw.is_described else "all"] += 1
    shares = {kind: count / 4000 for kind, count in kinds.items()}
    assert shares == pytest.approx({"described": 0.4, "all": 0.4, "part": 0.2}, abs=0.03)
    assert {size: count / kinds["part"] for size, count in sizes.items()} == pytest.approx(
        dict.fromkeys((1, 2, 3), 1 / 3), abs=0.06
    )


@pytest.mark.parametrize("kind", [0.1, 0.5, 0.9])
def test_every_prompt_is_in_one_conversation_and_absence_teaches_no_words(kind: float) -> None:
    masks = torch.zeros(5, SIZE, SIZE, dtype=torch.bool)
    masks[1, 10:20, 10:20] = masks[4, 30:50, 30:60] = True  # 2 is not in view; 0 and 3 are of another image
    names = ["liver", "left kidney", "optic disc", "liver", "liver"]
    pixels = torch.full((3, SIZE, SIZE), 90.0)
    pixels[:, masks[1]] = 200.0
    inside = torch.ones(1, SIZE, SIZE, dtype=torch.bool)
    draw = ConversationDraw(kind, 0.0, (0.9, 0.1, 0.5))
    found = converse(draw, [1, 2, 4], names, masks, pixels, inside, Modality.CT)
    assert sorted(number for each in found for number in each.prompts) == [1, 2, 4]
    together, *alone = found
    assert together.is_taught and together.prompts == ((4,) if kind == 0.9 else (1, 4))
    assert all(len(each.prompts) == 1 and not each.is_taught and not each.caption for each in alone)
    if kind == 0.1:
        assert "left kidney" in together.caption.lower() and "liver" in together.caption.lower()
    else:
        assert together.caption == ""


def test_words_are_learned_from_the_answer_on_and_each_mark_knows_its_name(processor: RCMedProcessor) -> None:
    conversations = [Conversation((2, 0), "Round, bright."), Conversation((1,), is_taught=False)]
    tokens = conversation_tokens(processor, conversations, NAMES, [Modality.CT] * 3)
    assert tokens.row is not None and tokens.taught is not None
    assert tokens.row.tolist() == [0, 1, 0]
    decode = processor.tokenizer.decode
    assert [decode(tokens.tokens[row][name]).strip() for row, name in zip(tokens.row, tokens.name, strict=True)] == [
        *NAMES
    ]
    taught = decode(tokens.taught[0][tokens.taught[0] >= 0])
    assert taught.replace(" ", "") == (
        "Round,bright.Thisisa<p>computedtomography</p>image."
        "Theimagecontains<p>opticdisc</p>[SEG]and<p>liver</p>[SEG].</s>"
    )
    assert not (tokens.taught[1] >= 0).any()
    assert (tokens.taught[0][~tokens.attended[0]] < 0).all()


@torch.no_grad()
def test_one_target_in_a_conversation_gets_the_mask_that_it_gets_alone(
    model: RCMedModel, processor: RCMedProcessor
) -> None:
    pixels = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    encoded = model.encode(pixels, *processor.surroundings())
    images, modalities = torch.tensor([0, 1, 1]), [Modality.CT, Modality.FUNDUS, Modality.FUNDUS]
    alone = model.ground(encoded, images, processor.prepare_prompts(NAMES, modalities))
    single = [Conversation((number,)) for number in range(3)]
    shared = model.ground(encoded, images, conversation_tokens(processor, single, NAMES, modalities))
    torch.testing.assert_close(shared.mask_logits, alone.mask_logits)
    torch.testing.assert_close(shared.presence_logits, alone.presence_logits)
    # Asked together, the later one is read behind the earlier one.
    both = [Conversation((0,)), Conversation((1, 2))]
    together = model.ground(encoded, images, conversation_tokens(processor, both, NAMES, modalities))
    torch.testing.assert_close(together.mask_logits[0], alone.mask_logits[0])  # type: ignore[index]
    assert not torch.allclose(together.mask_logits[2], alone.mask_logits[2])  # type: ignore[index]


@pytest.mark.slow
def test_it_learns_to_answer_and_goes_on_where_it_was_stopped(tiny_index: TrainingSettings, tmp_path: Path) -> None:
    settings = tiny_index.model_copy(
        update={"conversations": Conversations.PUBLISHED, "steps": 12, "presence_steps": 0, "reflection_rate": 0.0}
    )
    whole = Trainer(settings)
    words = [whole.train_step()["words"] for _ in range(12)]
    assert np.mean(words[-3:]) < 0.85 * np.mean(words[:3])
    parted = settings.model_copy(update={"output": tmp_path / "parted"})
    first = Trainer(parted)
    for _ in range(2):
        first.train_step()
    first.save_checkpoint()
    second = Trainer(parted)
    assert second.step == 2
    while second.step < 12:
        second.train_step()
    for name, value in whole.averaged.items():
        torch.testing.assert_close(second.averaged[name], value, atol=0, rtol=0, msg=name)


def test_the_closed_loop_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "training.yaml"
    path.write_text("conversations: as published\nloop_turns: 1\n")
    with pytest.raises(ConfigurationError, match="loop_turns"):
        TrainingSettings.from_yaml(path)
