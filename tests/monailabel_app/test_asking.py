from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monailabel_app.tasks.labels import LARGEST_VALUE, PROMPT_SLOTS, AdvertisedLabels
from monailabel_app.tasks.question import Asked, read_question
from rcmed.errors import InputError
from rcmed.modality import Modality

LABELS = AdvertisedLabels(["liver", "spleen"])
LIVER, SPLEEN = LABELS.targets["liver"], LABELS.targets["spleen"]


def test_a_prompt_goes_before_label_prompt_and_label() -> None:
    question = read_question({"prompt": "left lung", "label_prompt": [LIVER], "label": "spleen"}, LABELS, False)
    assert (question.asked, question.words) == (Asked.PROMPT, ("left lung",))
    question = read_question({"prompt": " ", "label_prompt": [LIVER], "label": "spleen"}, LABELS, False)
    assert (question.asked, question.words) == (Asked.CLASSES, ("liver",))
    question = read_question({"label_prompt": [], "label": "spleen"}, LABELS, False)
    assert (question.asked, question.words) == (Asked.LABEL, ("spleen",))
    assert read_question({}, LABELS, False).asked is Asked.NOTHING


def test_a_preset_counts_where_nothing_was_typed() -> None:
    assert read_question({"prompt": "", "preset": "liver; spleen"}, LABELS, False).words == ("liver; spleen",)
    assert read_question({"prompt": "aorta", "preset": "liver; spleen"}, LABELS, False).words == ("aorta",)


def test_ohif_is_known_by_its_key_alone() -> None:
    assert read_question({"restore_label_idx": False}, LABELS, False).for_ohif
    assert not read_question({"result_extension": ".nrrd", "client_id": None}, LABELS, False).for_ohif


def test_a_class_kept_from_an_earlier_run_does_not_leak_into_a_prompt() -> None:
    """OHIF mutates its saved options; a class of another server, even, must not stop a prompt."""
    question = read_question({"prompt": "aorta", "label_prompt": [LIVER, 250, 2]}, LABELS, False)
    assert question.words == ("aorta",)
    assert question.slots == (2,)


def test_a_ticked_slot_without_a_prompt_is_told() -> None:
    with pytest.raises(InputError, match="prompt 3.*no prompt was typed"):
        read_question({"label_prompt": [3]}, LABELS, False)


def test_points_count_for_tasks_that_take_them_and_for_one_class_only() -> None:
    params = {"points": [[1, 2, 3], [4, 5, 6]], "point_labels": [1, 0], "label_prompt": [LIVER]}
    assert not read_question(params, LABELS, takes_points=False).pointing
    pointing = read_question(params, LABELS, takes_points=True).pointing
    assert (pointing.inside, pointing.outside) == (((1, 2, 3),), ((4, 5, 6),))
    # A run by classes, with points that were kept.
    assert not read_question({**params, "label_prompt": [LIVER, SPLEEN]}, LABELS, takes_points=True).pointing


def test_slicers_clicks_and_box() -> None:
    params = {"label": "liver", "foreground": [[1, 2, 3]], "background": [], "roi": [5, 1, 2, 6, 3, 3]}
    pointing = read_question(params, LABELS, takes_points=True).pointing
    assert pointing.inside == ((1, 2, 3),)
    assert pointing.box == ((1, 5), (2, 6), (3, 3))


@pytest.mark.parametrize(
    "params",
    [
        {"prompt": 7},
        {"prompt": "x" * 5000},
        {"label_prompt": "liver"},
        {"label_prompt": [True]},
        {"label_prompt": [255]},
        {"label": {"a": 1}},
        {"modality": "smell"},
        {"points": [[1, 2]], "point_labels": [1]},
        {"points": [[1, 2, 3]]},
        {"points": [[1, 2, float("nan")]], "point_labels": [1]},
        {"foreground": "here"},
        {"roi": [1, 2, 3]},
    ],
)
def test_what_is_of_the_wrong_kind_is_refused_with_its_key(params: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(params))[:5]):
        read_question(params, LABELS, takes_points=True)


def test_modality() -> None:
    assert read_question({"modality": "auto"}, LABELS, False).modality is None
    assert read_question({"modality": "CT"}, LABELS, False).modality is Modality.CT


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("aB .;/\n", max_size=20),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text("ab", max_size=5), inner, max_size=3),
    max_leaves=20,
)
KEYS = ("prompt", "preset", "label", "label_prompt", "points", "point_labels", "foreground", "background", "roi")


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from((*KEYS, "modality", "restore_label_idx")), JSON))
@pytest.mark.slow
def test_whatever_comes_is_a_question_or_an_input_error(params: dict[str, object]) -> None:
    try:
        question = read_question(params, LABELS, takes_points=True)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert all(isinstance(word, str) and word for word in question.words)


def test_labels_fit_a_byte_and_leave_what_ohif_keeps() -> None:
    labels = AdvertisedLabels(f"target {number}" for number in range(400)).as_dict()
    assert list(labels.values()) == list(range(1, LARGEST_VALUE + 1))
    assert [labels[f"prompt {number}"] for number in range(1, PROMPT_SLOTS + 1)] == list(range(1, PROMPT_SLOTS + 1))
