from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcmed.errors import InputError
from rcmed.modality import Modality
from rcmed.vocabulary import load_targets, target_called, target_named


@pytest.mark.parametrize(
    ("name", "meant"),
    [("Liver", "liver"), ("left kidney", "left kidney"), ("Kidney  left", "left kidney"), ("SPLEEN", "spleen")],
)
def test_a_name_of_the_table_has_its_codes_and_stays_as_it_was_written(name: str, meant: str) -> None:
    target = target_called(name, Modality.CT)
    assert target.name == " ".join(name.split())
    assert (target.type, target.laterality) == (target_named(meant).type, target_named(meant).laterality)


OTHERS = [
    "Segment_1",
    "liver and spleen",
    "not the liver",
    "odd shadow",
    "liver margin at risk",
    "tissue",
    "both kidneys",
]


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_name_has_a_code_of_its_own(name: str) -> None:
    target = target_called(name, Modality.CT)
    assert target.name == name and target.type.scheme == "99RCMED" and target.type.meaning == name
    assert target.type.value == target_called(name.upper(), Modality.CT).type.value
    assert target.type.value != target_called(f"{name} 2", Modality.CT).type.value


def test_every_target_is_found_by_its_own_name() -> None:
    for target in load_targets():
        assert target_called(target.name, target.modalities[0]).type == target.type


@given(name=st.text(st.characters(categories=("L", "N", "P", "Zs")), max_size=80), modality=st.sampled_from(Modality))
def test_names_are_free_text(name: str, modality: Modality) -> None:
    if name.strip() and len(" ".join(name.split())) <= 64:
        assert target_called(name, modality).name == " ".join(name.split())
    else:
        with pytest.raises(InputError, match="characters"):
            target_called(name, modality)
