"""Clicks, boxes and rough masks: placed where the user meant, simulated for training, refused where they are wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcmed import Assistant
from rcmed.errors import ConfigurationError, InputError
from rcmed.findings import ModelIdentity
from rcmed.hints import Hint
from rcmed.image import Grid, Image
from rcmed.inference.decision import PresenceRule, decide
from rcmed.inference.viewing import ReaderView
from rcmed.inference.volume import presence_window
from rcmed.modality import Modality
from rcmed.model.config import RCMedConfig
from rcmed.model.grounding.hint_maps import HintAddition, draw_hints
from rcmed.model.grounding.hint_prompts import MASK_STRIDE, PointLabel
from rcmed.model.modeling import PromptTokens, RCMedModel
from rcmed.model.processor import RCMedProcessor
from rcmed.model.tokenizer import build_tokenizer
from rcmed.training.batches.simulated_hints import simulate_hints

SIZE = 64


@given(flags=st.tuples(st.booleans(), st.booleans(), st.booleans()), row=st.integers(0, 4), column=st.integers(0, 6))
def test_a_hint_is_turned_with_its_slice(flags: tuple[bool, bool, bool], row: int, column: int) -> None:
    view = ReaderView(*flags)
    stored = np.arange(5 * 7).reshape(1, 5, 7)
    mask = np.zeros((5, 7), dtype=bool)
    mask[row, column] = True
    hint = view.hint_to_view(Hint(((row, column),), ((0, 6),), (row, column, 4, 6), mask), 5, 7)
    shown = view.to_view(stored)[0]
    ((shown_row, shown_column),) = hint.inside
    assert shown[int(shown_row), int(shown_column)] == stored[0, row, column]
    assert hint.rough_mask is not None and hint.rough_mask[int(shown_row), int(shown_column)]
    assert hint.box is not None
    first_row, first_column, last_row, last_column = (int(value) for value in hint.box)
    inside_box = shown[first_row : last_row + 1, first_column : last_column + 1]
    assert sorted(inside_box.flat) == sorted(stored[0, row:, column:].flat)
    hint.require_inside(*shown.shape)


@pytest.fixture(scope="module")
def processor() -> RCMedProcessor:
    return RCMedProcessor(build_tokenizer(("liver",)), SIZE, (0, 0, 0), (1, 1, 1))


@settings(max_examples=30)
@given(rows=st.integers(8, 200), columns=st.integers(8, 200), share=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_click_lies_at_its_place_of_the_resized_image(
    processor: RCMedProcessor, rows: int, columns: int, share: tuple[float, float]
) -> None:
    row, column = share[0] * (rows - 1), share[1] * (columns - 1)
    placed = processor.prepare_hint(Hint(inside=((row, column),), box=(0, 0, rows - 1, columns - 1)), rows, columns)
    x, y = placed.points[0, 0].tolist()
    scale = SIZE / max(rows, columns)
    # The resized shape is whole pixels: half a pixel of rounding.
    assert x == pytest.approx((column + 0.5) * scale - 0.5, abs=0.51)
    assert y == pytest.approx((row + 0.5) * scale - 0.5, abs=0.51)
    assert placed.labels.tolist() == [[PointLabel.INSIDE, PointLabel.FIRST_CORNER, PointLabel.LAST_CORNER]]


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_simulated_users_point_at_the_target(seed: int) -> None:
    generator = np.random.default_rng(seed)
    masks = torch.zeros(4, SIZE, SIZE, dtype=torch.bool)
    masks[0, 10:30, 20:50], masks[1, 40:60, 5:9], masks[2, 30, 30] = True, True, True
    present = torch.tensor([True, True, True, False])
    hints = simulate_hints(masks, present, generator)
    assert hints.has_mask is not None and hints.masks is not None
    assert not hints.has_mask[3] and (hints.labels[3] == PointLabel.NONE).all(), "nobody points at what is not there"
    for index in range(3):
        said = hints.labels[index].tolist()
        for (x, y), label in zip(hints.points[index].tolist(), said, strict=True):
            if label in (PointLabel.INSIDE, PointLabel.OUTSIDE):
                assert bool(masks[index, int(y), int(x)]) == (label == PointLabel.INSIDE)
        drawn = bool(hints.has_mask[index])
        assert drawn != any(label != PointLabel.NONE for label in said), "one kind of hint at a time"


def test_a_model_that_takes_hints_is_steered_by_them(processor: RCMedProcessor) -> None:
    torch.manual_seed(0)
    language = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    vocabulary = {"vocab_size": len(processor.tokenizer), "num_key_value_heads": 4, "tie_word_embeddings": True}
    config = RCMedConfig(image_size=SIZE, language={**language, **vocabulary}, takes_hints=True)
    model = RCMedModel(config).eval()
    before, after = processor.surroundings()
    prompts = processor.prepare_prompts(["liver"], [Modality.CT])
    untaught = _answers(model, processor, prompts)
    assert all(torch.equal(answer, untaught[0]) for answer in untaught), "weights that know no hints answer as before"
    for layer in model.modules():
        if isinstance(layer, HintAddition):
            torch.nn.init.normal_(layer.weight)
    answers = _answers(model, processor, prompts)
    assert torch.equal(answers[0], untaught[0]), "without hints nothing is added"
    for first in range(4):
        for second in range(first):
            assert not torch.allclose(answers[first], answers[second], atol=1e-5), (first, second)


def _answers(model: RCMedModel, processor: RCMedProcessor, prompts: PromptTokens) -> list[torch.Tensor]:
    before, after = processor.surroundings()
    pixels = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        encoded = model.encode(pixels, before, after)
        answers = []
        rough = np.zeros((SIZE, SIZE), dtype=bool)
        rough[:20, :20] = True
        for hint in (None, Hint(inside=((5, 5),)), Hint(inside=((50, 50),)), Hint(rough_mask=rough)):
            placed = None if hint is None else processor.prepare_hint(hint, SIZE, SIZE)
            output = model.ground(encoded, torch.zeros(1, dtype=torch.long), prompts, hints=placed)
            answers.append(output.mask_logits)
    return answers


@settings(max_examples=30)
@given(
    rows=st.integers(16, 200),
    columns=st.integers(16, 200),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
    seed=st.integers(0, 10_000),
)
def test_hints_are_drawn_where_they_were_made(
    processor: RCMedProcessor, rows: int, columns: int, corners: tuple[float, float, float, float], seed: int
) -> None:
    generator = np.random.default_rng(seed)
    first_row, last_row = sorted(int(share * (rows - 1)) for share in corners[:2])
    first_column, last_column = sorted(int(share * (columns - 1)) for share in corners[2:])
    row, column = (int(generator.integers(edge)) for edge in (rows, columns))
    rough = np.zeros((rows, columns), dtype=bool)
    rough[first_row : last_row + 1, first_column : last_column + 1] = True
    box = Hint(box=(first_row, first_column, last_row, last_column))
    drawn = draw_hints(processor.prepare_hint(box, rows, columns), SIZE)[0]
    drawn_mask = draw_hints(processor.prepare_hint(Hint(rough_mask=rough), rows, columns), SIZE)[0]
    drawn_click = draw_hints(processor.prepare_hint(Hint(outside=((row, column),)), rows, columns), SIZE)[0]
    assert not drawn[[0, 1, 3]].any() and not drawn_mask[:3].any() and not drawn_click[[0, 2, 3]].any()
    scale = SIZE / max(rows, columns)
    area = ((drawn[2] + 1) / 2).sum() * MASK_STRIDE**2
    asked = (last_row - first_row + 1) * (last_column - first_column + 1) * scale**2
    # Each edge may move by half a pixel, as the resized shape is whole pixels.
    assert area.item() == pytest.approx(asked, abs=2 * scale * (rows + columns) + 8)
    inside = drawn_mask[3] > 0.9
    assert ((drawn[2] > -1) >= inside).all(), "the box of a mask holds it"
    place = (drawn_click[1] == drawn_click[1].max()).nonzero()[0].tolist()
    for cell, asked_at in zip(place, (row, column), strict=True):
        assert (cell + 0.5) * MASK_STRIDE - 0.5 == pytest.approx((asked_at + 0.5) * scale - 0.5, abs=MASK_STRIDE)


def test_a_slice_that_a_user_points_at_keeps_its_mask() -> None:
    masks = np.zeros((9, 6, 6), dtype=bool)
    masks[4, :3, :3] = True
    presence = np.zeros(9, dtype=np.float32)
    rule, together = PresenceRule(0.3, 0.6), presence_window(5.0)
    said = decide(masks, presence, presence, rule, together)
    assert not said.mask.any() and said.presence == 0
    said = decide(masks, presence, presence, rule, together, asserted=[4])
    assert np.array_equal(said.mask, masks) and said.presence == 1


def test_hints_that_make_no_sense_are_refused() -> None:
    for hint, said in (
        (Hint(), "holds nothing"),
        (Hint(inside=((3, 9.6),)), "outside the slice"),
        (Hint(box=(4, 4, 2, 5)), "ends before it begins"),
        (Hint(rough_mask=np.zeros((3, 3), dtype=bool)), "rough mask"),
    ):
        with pytest.raises(InputError, match=said):
            hint.require_inside(10, 10)
    assert not Hint(outside=((1, 1),)).says_present and Hint(box=(0, 0, 1, 1)).says_present


def test_weights_without_hints_say_so() -> None:
    image = Image(np.zeros((1, 32, 32), dtype=np.uint8), Grid.without_geometry(32, 32), Modality.ULTRASOUND)
    with pytest.raises(ConfigurationError, match="take no clicks"):
        Assistant.from_pretrained("small", "cpu").find(image, "fetal head", {0: Hint(inside=((4, 4),))})


def test_a_hint_without_a_name_is_answered_where_the_weights_learned_it(processor: RCMedProcessor) -> None:
    torch.manual_seed(0)
    language = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    vocabulary = {"vocab_size": len(processor.tokenizer), "num_key_value_heads": 4, "tie_word_embeddings": True}
    config = RCMedConfig(
        image_size=SIZE,
        language={**language, **vocabulary},
        takes_hints=True,
        hints_without_name=True,
        target_names=("liver",),
        positives={"liver": {"ct": {"images": 9, "patients": 9}}},
    )
    assistant = Assistant(RCMedModel(config).eval(), processor, ModelIdentity("made", "0", "0" * 64))
    image = Image(np.full((1, SIZE, SIZE), 9, dtype=np.uint8), Grid.without_geometry(SIZE, SIZE), Modality.CT)
    said = assistant.find(image, "", {0: Hint(inside=((20, 20),))})
    (finding,) = said.findings
    assert finding.target is not None and finding.target.name == "region pointed at" and finding.presence == 1
    assert "this" in said.instruction
    named = assistant.find(image, "liver", {0: Hint(inside=((20, 20),))}).findings
    assert [f.target.name for f in named if f.target is not None] == ["liver"]
    beside = assistant.find(image, "", {0: Hint(outside=((20, 20),))}).findings
    assert all(f.target is not None and f.target.name == "liver" for f in beside), "it points at nothing"
