"""The model through its public interface, at a tiny size with random weights."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcmed.findings import FindingStatus
from rcmed.image import UNKNOWN_UNIT, Grid, Image
from rcmed.inference.body_crop import Box
from rcmed.inference.cache import EncodedImageCache
from rcmed.inference.decision import PresenceRule, decide
from rcmed.inference.logits import SliceReader
from rcmed.inference.volume import presence_of_best, presence_window
from rcmed.modality import Modality
from rcmed.model.config import RCMedConfig
from rcmed.model.instruction import answer, prompt_to_seg, question
from rcmed.model.loop import RegionLoop
from rcmed.model.modeling import EncodedImage, RCMedModel
from rcmed.model.processor import RCMedProcessor, resized_shape, to_eight_bit, to_image_grid, to_model_grid
from rcmed.model.tokenizer import build_tokenizer

NAMES = ("liver", "left kidney", "right kidney", "optic disc")


def tiny_reader(loop_turns: int = 0) -> SliceReader:
    """A tiny random model that reads slices."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(NAMES)
    config = RCMedConfig(
        image_size=64,
        loop_turns=loop_turns,
        vision_widths=(8, 16, 16, 32, 32),
        vision_depths=(1, 1, 1, 1, 1),
        prompt_size=32,
        language={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "vocab_size": len(tokenizer),
        },
    )
    model = RCMedModel(config)
    processor = RCMedProcessor(tokenizer, config.image_size, config.pixel_mean, config.pixel_std)
    return SliceReader(model, processor, batch=3)


@pytest.fixture(scope="module")
def reader() -> SliceReader:
    return tiny_reader()


def noise(slices: int, rows: int = 40, columns: int = 56) -> np.ndarray:
    """Reproducible 8-bit slices."""
    return np.random.default_rng(1).integers(0, 256, (slices, rows, columns, 3), dtype=np.uint8)


def test_a_mask_does_not_depend_on_what_else_was_asked(reader: SliceReader) -> None:
    pixels = noise(1)
    encoded = reader.encode(pixels)
    together, presence = reader.ground(encoded, NAMES, Modality.CT)
    for index, name in enumerate(NAMES):
        alone, alone_presence = reader.ground(encoded, [name], Modality.CT)
        torch.testing.assert_close(alone[0], together[index], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(alone_presence[0], presence[index], atol=1e-5, rtol=1e-4)


def test_words_change_the_mask(reader: SliceReader) -> None:
    logits, _ = reader.ground(reader.encode(noise(1)), ["left kidney", "right kidney"], Modality.CT)
    assert (logits[0] - logits[1]).abs().max() > 1e-4


def test_a_batch_equals_its_items(reader: SliceReader) -> None:
    pixels = noise(5)
    together = [answers for answers in reader.read(pixels, NAMES, Modality.MR)]
    presence = np.concatenate([a.presence for a in together], axis=1)
    for index in range(5):
        alone = next(iter(reader.read(pixels[index : index + 1], NAMES, Modality.MR)))
        np.testing.assert_allclose(alone.presence[:, 0], presence[:, index], atol=1e-5)


def test_a_slice_that_is_cut_is_read_as_the_part_alone(reader: SliceReader) -> None:
    pixels, box = noise(4), Box(8, 16, 30, 48)
    said = list(reader.read(pixels, NAMES, Modality.CT, boxes=[box, None, box, None]))
    presence = np.concatenate([each.presence for each in said], axis=1)
    for index, seen in enumerate((pixels[:1, *box.place], pixels[1:2], pixels[2:3, *box.place], pixels[3:])):
        (alone,) = reader.read(np.ascontiguousarray(seen), NAMES, Modality.CT)
        np.testing.assert_allclose(alone.presence[:, 0], presence[:, index], atol=1e-5)
    whole = np.concatenate([each.masks for each in said], axis=1)
    assert whole.shape == (len(NAMES), 4, 40, 56)
    assert not whole[:, [0, 2], :6].any() and not whole[:, [0, 2], :, :13].any(), "nothing is shown beside the box"


def test_saved_and_loaded_gives_the_same(reader: SliceReader, tmp_path: Path) -> None:
    reader.model.save_pretrained(str(tmp_path))
    reader.processor.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    again = SliceReader(RCMedModel.from_pretrained(str(tmp_path)), RCMedProcessor.from_pretrained(tmp_path))
    first, _ = reader.ground(reader.encode(noise(1)), NAMES, Modality.CT)
    second, _ = again.ground(again.encode(noise(1)), NAMES, Modality.CT)
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)


def test_tiles_cover_the_whole_image(reader: SliceReader) -> None:
    answers = reader.read_tiles(noise(1, 150, 190), ["optic disc"], Modality.FUNDUS, edge=80)
    assert answers.masks.shape == (1, 1, 150, 190)
    assert 0 <= float(answers.presence[0, 0]) <= 1


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(20, 300), columns=st.integers(20, 300), data=st.data())
def test_the_way_to_the_model_grid_and_back_keeps_places(rows: int, columns: int, data: st.DataObject) -> None:
    """A rectangle comes back where it was, within one cell of the coarser grid; never flipped or shifted."""
    top = data.draw(st.integers(0, rows // 2))
    left = data.draw(st.integers(0, columns // 2))
    mask = torch.zeros(1, 1, rows, columns)
    mask[..., top : top + rows // 3 + 2, left : left + columns // 3 + 2] = 1
    back = to_image_grid(to_model_grid(mask, 128)[:, 0] - 0.5, rows, columns, 128)[0] > 0
    truth = mask[0, 0] > 0
    cell = max(rows, columns) / 128
    for axis in (0, 1):
        found, true = back.any(1 - axis).nonzero().flatten(), truth.any(1 - axis).nonzero().flatten()
        assert abs(int(found[0]) - int(true[0])) <= cell + 1
        assert abs(int(found[-1]) - int(true[-1])) <= cell + 1


def test_the_longest_side_fills_the_grid() -> None:
    assert resized_shape(512, 256, 256) == (256, 128)
    assert resized_shape(1, 1000, 256) == (1, 256)


@given(tint=st.tuples(*[st.integers(-40, 40)] * 3), seed=st.integers(0, 1000))
def test_a_photographed_film_is_read_in_grey_and_a_fundus_in_colour(tint: tuple[int, int, int], seed: int) -> None:
    grey = np.random.default_rng(seed).integers(40, 215, (1, 8, 6), dtype=np.uint8)
    tinted = (grey[..., None].astype(int) + tint).astype(np.uint8)
    grid = Grid.without_geometry(8, 6)
    film = to_eight_bit(Image(tinted, grid, Modality.X_RAY))
    assert film.shape == (1, 8, 6, 3) and (film == film[..., :1]).all()
    assert abs(film[..., 0].astype(float) - grey - np.mean(tint)).max() <= 0.5
    plain = np.repeat(grey[..., None], 3, axis=-1)
    assert (to_eight_bit(Image(plain, grid, Modality.X_RAY)) == plain).all()
    assert (to_eight_bit(Image(tinted, grid, Modality.FUNDUS)) == tinted).all()


def test_stored_numbers_of_a_ct_are_not_shown_as_if_they_were_hounsfield_units() -> None:
    attenuation = np.linspace(-1000, 1000, 48, dtype=np.int16).reshape(1, 8, 6)
    grid = Grid(attenuation.shape, np.eye(4))
    windowed = to_eight_bit(Image(attenuation, grid, Modality.CT))
    assert (to_eight_bit(Image(attenuation, grid, Modality.CT, unit=UNKNOWN_UNIT)) == windowed).all()
    stored = to_eight_bit(Image(attenuation + 1024, grid, Modality.CT, unit=UNKNOWN_UNIT))[..., 0]
    assert stored.min() == 0 and stored.max() == 255 and len(np.unique(stored)) > 40
    assert len(np.unique(windowed)) < 15


def test_text_format_is_the_published_one() -> None:
    assert (
        question(["liver", "spleen"], Modality.CT) == "Please segment liver, spleen in this computed tomography image. "
    )
    assert answer(["liver", "spleen"], Modality.CT) == (
        "This is a <p> computed tomography </p> image. "
        "The image contains <p> liver </p> [SEG] and <p> spleen </p> [SEG]."
    )
    assert prompt_to_seg("liver", Modality.MR).endswith("The image contains <p> liver </p>")


@pytest.mark.parametrize("distance_mm", [None, 5.0, 2.5])
def test_a_lone_slice_does_not_make_a_volume_finding(distance_mm: float | None) -> None:
    masks = np.ones((20, 4, 4), dtype=bool)
    presence = np.zeros(20, dtype=np.float32)
    presence[7] = 1.0
    rule, together, unsure = PresenceRule(0.4, 0.6), presence_window(distance_mm), np.zeros(20, dtype=np.float32)
    said = decide(masks, presence, unsure, rule, together)
    assert said.status is FindingStatus.ABSENT and said.presence is not None
    assert said.presence < 0.4 and not said.mask.any()
    presence[5:12] = 0.97
    said = decide(masks, presence, unsure, rule, together)
    assert said.status is FindingStatus.FOUND and said.presence is not None
    assert said.presence > 0.8 and said.mask[8].all() and not said.mask[0].any()


@given(
    presence=st.floats(0, 1, width=32),
    sureness=st.floats(-20, 20, width=32),
    together=st.sampled_from([None, 3, 5, 21]),
    is_marked=st.booleans(),
)
def test_a_slice_is_decided_the_same_alone_and_as_a_volume_of_one(
    presence: float, sureness: float, together: int | None, is_marked: bool
) -> None:
    masks = np.zeros((1, 4, 4), dtype=bool)
    masks[0, 1:3, 1:3] = is_marked
    numbers = np.float32([presence]), np.float32([sureness])
    said = decide(masks, *numbers, PresenceRule(0.25, 0.6, 10.0), together)
    if presence < np.float32(0.25) and sureness < 10:
        assert said.status is FindingStatus.ABSENT and not said.mask.any()
    else:
        is_found = is_marked and presence >= 0.6
        assert said.status is (FindingStatus.FOUND if is_found else FindingStatus.UNCERTAIN)
        assert np.array_equal(said.mask, masks)
    assert said.presence == pytest.approx(presence)


def test_a_sure_mask_through_a_volume_is_not_absent_and_one_in_a_lone_slice_is() -> None:
    masks = np.zeros((12, 4, 4), dtype=bool)
    masks[3:6, 1:3] = True
    presence, sureness = np.full(12, 0.05, dtype=np.float32), np.zeros(12, dtype=np.float32)
    rule = PresenceRule(0.25, 0.6, 10.0)
    sureness[4] = 12.0
    assert decide(masks, presence, sureness, rule, 3).status is FindingStatus.ABSENT
    sureness[3:6] = 12.0
    said = decide(masks, presence, sureness, rule, 3)
    assert said.status is FindingStatus.UNCERTAIN and said.mask[4, 1:3].all() and not said.mask[[3, 5]].any()


def test_weights_without_presence_find_what_they_mark() -> None:
    masks = np.zeros((3, 4, 4), dtype=bool)
    unknown = np.full(3, np.nan, dtype=np.float32)
    assert decide(masks, unknown, unknown, PresenceRule(0.25, 0.6)).status is FindingStatus.ABSENT
    masks[1, 2] = True
    said = decide(masks, unknown, unknown, PresenceRule(0.25, 0.6))
    assert said.status is FindingStatus.FOUND and said.presence is None and np.array_equal(said.mask, masks)


@given(best=st.floats(0, 1), windows=st.floats(1, 500))
def test_the_more_windows_a_volume_has_the_surer_its_best_one_must_be(best: float, windows: float) -> None:
    presence = presence_of_best(best, windows)
    assert 0 <= presence <= best + 1e-9
    assert presence_of_best(best, 1.0) == pytest.approx(best)
    assert presence_of_best(best, windows + 1) <= presence
    assert presence_of_best(1.0, windows) == 1.0


@pytest.mark.parametrize(("distance_mm", "slices"), [(None, 5), (0.5, 21), (1.0, 11), (2.5, 5), (5.0, 3), (10.0, 3)])
def test_the_window_of_a_volume_is_of_one_length_in_the_patient(distance_mm: float | None, slices: int) -> None:
    assert presence_window(distance_mm) == slices


def test_kept_images_give_the_same_masks_without_being_encoded_again(reader: SliceReader) -> None:
    keeping = SliceReader(reader.model, reader.processor, batch=3, cache_bytes=1 << 30)
    pixels = noise(5)
    asked = []
    for name in ("liver", "left kidney", "liver"):
        plain = [answers.masks for answers in reader.read(pixels, [name], Modality.CT)]
        kept = [answers.masks for answers in keeping.read(pixels.copy(), [name], Modality.CT)]
        assert all(np.array_equal(a, b) for a, b in zip(plain, kept, strict=True))
        asked.append(len(keeping.cache))
    assert asked == [2, 2, 2], "two batches, encoded once"


def test_kept_images_stay_below_the_limit_and_the_oldest_goes_first(reader: SliceReader) -> None:
    images = [noise(1, rows=40 + number) for number in range(3)]
    encoded: list[int] = []

    def encode(pixels: np.ndarray) -> EncodedImage:
        encoded.append(pixels.shape[1])
        return reader.encode(pixels)

    size = reader.encode(images[0]).nbytes
    cache = EncodedImageCache(2 * size)
    for number in (0, 1, 0, 2, 0, 1):
        cache.get(images[number], encode)
        assert cache.nbytes <= 2 * size
    assert encoded == [40, 41, 42, 41], "0 was used again and stayed; 1 was the oldest when 2 came"
    nothing = EncodedImageCache(size - 1)
    nothing.get(images[0], encode)
    assert len(nothing) == 0 and nothing.nbytes == 0


def turns_of(reader: SliceReader, names: Sequence[str]) -> list[torch.Tensor]:
    prompts = reader.processor.prepare_prompts(names, [Modality.CT] * len(names))
    with torch.inference_mode():
        where = torch.zeros(len(names), dtype=torch.long)
        output = reader.model.ground(reader.encode(noise(1)), where, prompts)
    assert output.turns is not None and output.mask_logits is output.turns[-1][0]
    return [mask_logits for mask_logits, _ in output.turns]


def test_an_untrained_loop_changes_nothing_and_a_trained_one_sees_its_own_mask() -> None:
    looped = tiny_reader(loop_turns=2)
    plain = tiny_reader()
    looped.model.load_state_dict(plain.model.state_dict(), strict=False)
    first, second, third = turns_of(looped, NAMES)
    torch.testing.assert_close(first, turns_of(plain, NAMES)[0])
    torch.testing.assert_close(second, first)
    torch.testing.assert_close(third, first)
    assert looped.model.loop is not None
    torch.nn.init.constant_(looped.model.loop.gate, 1.0)
    first, second, third = turns_of(looped, NAMES)
    assert not torch.allclose(second, first, atol=1e-3) and not torch.allclose(third, second, atol=1e-4)


def test_a_looped_prompt_does_not_depend_on_what_else_was_asked() -> None:
    """Names of other lengths pad the sequence; the region's token follows the last word all the same."""
    looped = tiny_reader(loop_turns=2)
    assert looped.model.loop is not None
    torch.nn.init.constant_(looped.model.loop.gate, 1.0)
    together = turns_of(looped, NAMES)[-1]
    for index, name in enumerate(NAMES):
        torch.testing.assert_close(turns_of(looped, [name])[-1][0], together[index], atol=1e-4, rtol=1e-4)


def test_the_region_token_tells_what_lies_under_the_mask() -> None:
    loop = RegionLoop(8, 16, 4)
    dense = torch.zeros(2, 8, 4, 4)
    dense[1, :4, :2] = 5.0
    dense[1, 4:, 2:] = 5.0
    above = torch.full((1, 16, 16), -20.0)
    above[:, :8] = 20.0
    tokens = [loop.region_token(dense, torch.tensor([1]), mask) for mask in (above, above.flip(1), above)]
    torch.testing.assert_close(tokens[0], tokens[2])
    assert not torch.allclose(tokens[0], tokens[1], atol=1e-2)
