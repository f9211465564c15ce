"""Routing: typed conditions, absent attributes, explanations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydicom.dataset import Dataset

from dicom_bridge.studies.facts import series_facts
from dicom_bridge.studies.priority import Priority, most_urgent
from dicom_bridge.studies.routing import (
    Condition,
    Route,
    RouteField,
    RouteOperator,
    SeriesFacts,
    explain_routes,
    job_priority,
    match_routes,
)

CT_ABDOMEN = SeriesFacts(modality="CT", body_part="ABDOMEN", series_description="Abdomen 3.0 B30f ", calling_ae="CT01")


@pytest.mark.parametrize(
    ("field", "operator", "value", "expected"),
    [
        ("modality", "equals", "ct", True),
        ("modality", "equals", "MR", False),
        ("modality", "not_equals", "MR", True),
        ("body_part", "one_of", ["LIVER", "abdomen"], True),
        ("body_part", "one_of", [], False),
        ("series_description", "contains", "b30", True),
        ("series_description", "starts_with", "3.0", False),
        ("series_description", "equals", "abdomen 3.0 b30f", True),
        ("calling_ae", "starts_with", "CT", True),
    ],
)
def test_operators(field: str, operator: str, value: str | list[str], expected: bool) -> None:
    condition = Condition.model_validate({"field": field, "operator": operator, "value": value})
    assert condition.matches(CT_ABDOMEN) is expected


@given(
    st.sampled_from(RouteField), st.sampled_from(RouteOperator), st.text(max_size=5), st.sampled_from([None, "", " "])
)
def test_an_absent_attribute_never_matches(
    field: RouteField, operator: RouteOperator, text: str, absent: str | None
) -> None:
    value = (text,) if operator is RouteOperator.ONE_OF else text
    condition = Condition(field=field, operator=operator, value=value)
    assert not condition.matches(SeriesFacts(**{field.value: absent}))
    assert "absent" in condition.explain(SeriesFacts())


@pytest.mark.parametrize("condition", [{"operator": "one_of", "value": "CT"}, {"operator": "equals", "value": ["CT"]}])
def test_operator_and_value_must_fit(condition: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Condition.model_validate({"field": "modality", **condition})


def test_all_conditions_must_match_and_all_matching_routes_are_taken() -> None:
    modality = Condition(field=RouteField.MODALITY, value="CT")
    sender = Condition(field=RouteField.CALLING_AE, value="MR01")
    every = Route(name="every", destinations=("a",))
    ct = Route(name="ct", conditions=(modality,), prompts=("liver",), destinations=("a",))
    both = Route(name="both", conditions=(modality, sender), destinations=("a",))
    assert match_routes(CT_ABDOMEN, (every, ct, both)) == (every, ct)
    explained = explain_routes(CT_ABDOMEN, (every, ct, both))
    assert [entry.matched for entry in explained] == [True, True, False]
    assert explained[2].lines[1] == "calling_ae equals 'MR01': calling_ae is 'CT01', no match"


def requested(priority: str) -> Dataset:
    item = Dataset()
    item.RequestedProcedurePriority = priority
    return item


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, None),
        ({"RequestedProcedurePriority": "STAT"}, Priority.STAT),
        ({"RequestedProcedurePriority": " medium "}, Priority.ROUTINE),
        ({"RequestedProcedurePriority": "URGENT"}, None),
        ({"StudyPriorityID": "HIGH"}, Priority.HIGH),
        ({"RequestAttributesSequence": []}, None),
        ({"RequestAttributesSequence": [requested("LOW"), Dataset(), requested("STAT")]}, Priority.STAT),
        ({"RequestedProcedurePriority": "LOW", "RequestAttributesSequence": [requested("HIGH")]}, Priority.HIGH),
    ],
)
def test_the_priority_that_instances_tell(attributes: dict[str, object], expected: Priority | None) -> None:
    header = Dataset()
    for name, value in attributes.items():
        setattr(header, name, value)
    assert series_facts(header, None, None).priority is expected


def test_the_more_urgent_of_route_and_series_counts() -> None:
    assert most_urgent(()) is None
    assert most_urgent(reversed(Priority)) is Priority.STAT
    high = Route(name="r", destinations=("a",), priority=Priority.HIGH)
    assert job_priority(high, SeriesFacts()) is Priority.HIGH
    assert job_priority(high, SeriesFacts(priority=Priority.LOW)) is Priority.HIGH
    assert job_priority(high, SeriesFacts(priority=Priority.STAT)) is Priority.STAT
    route = Route(name="r", destinations=("a",))
    assert job_priority(route, SeriesFacts()) is Priority.ROUTINE
    assert job_priority(route, SeriesFacts(priority=Priority.LOW)) is Priority.LOW
    stat = Condition(field=RouteField.PRIORITY, value="STAT")
    assert stat.matches(SeriesFacts(priority=Priority.STAT)) and not stat.matches(SeriesFacts(priority=Priority.HIGH))
    assert "priority is 'stat'" in stat.explain(SeriesFacts(priority=Priority.STAT))
