"""Which series goes where: typed conditions on a few attributes give prompts and destinations.

A condition is a field, an operator and a value. It is never evaluated as text. An attribute that the series does not
have is "no match" for every operator, `not_equals` included: what is not known can't be told to be different.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dicom_bridge.results.kinds import DEFAULT_RESULTS, MessageKind, ResultKind
from dicom_bridge.studies.priority import Priority, most_urgent


class RouteField(StrEnum):
    """What a condition may look at."""

    MODALITY = "modality"
    BODY_PART = "body_part"
    STUDY_DESCRIPTION = "study_description"
    SERIES_DESCRIPTION = "series_description"
    PROTOCOL_NAME = "protocol_name"
    CALLING_AE = "calling_ae"
    CALLED_AE = "called_ae"
    PRIORITY = "priority"


class RouteOperator(StrEnum):
    """How it is compared; letters compare without regard to case, white space around is ignored."""

    EQUALS = "equals"
    NOT_EQUALS = "not_equals"
    CONTAINS = "contains"
    STARTS_WITH = "starts_with"
    ONE_OF = "one_of"


@dataclass(frozen=True)
class SeriesFacts:
    """What routing knows of a series; None where the attribute is absent or empty.

    Attributes:
        modality: (0008,0060).
        body_part: (0018,0015) Body Part Examined.
        study_description: (0008,1030).
        series_description: (0008,103E).
        protocol_name: (0018,1030).
        calling_ae: AE title of the sender.
        called_ae: AE title under which the gateway was called.
        priority: how urgent the instances say that it is; see `dicom_bridge.studies.priority`.
    """

    modality: str | None = None
    body_part: str | None = None
    study_description: str | None = None
    series_description: str | None = None
    protocol_name: str | None = None
    calling_ae: str | None = None
    called_ae: str | None = None
    priority: Priority | None = None


class Condition(BaseModel):
    """One comparison. `value` is a text, or a list of texts for `one_of`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: RouteField
    operator: RouteOperator = RouteOperator.EQUALS
    value: str | tuple[str, ...]

    @model_validator(mode="after")
    def _value_fits_operator(self) -> Condition:
        if self.operator is RouteOperator.ONE_OF and isinstance(self.value, str):
            raise ValueError("one_of needs a list of values, for example [CT, MR]")
        if self.operator is not RouteOperator.ONE_OF and not isinstance(self.value, str):
            raise ValueError(f"{self.operator} needs one text, not a list; use one_of for a list")
        return self

    def matches(self, facts: SeriesFacts) -> bool:
        """Whether the series has the attribute and it compares as asked."""
        found = _normalised(getattr(facts, self.field.value))
        if found is None:
            return False
        if not isinstance(self.value, str):
            return found in {_normalised(value) for value in self.value}
        wanted = _normalised(self.value) or ""
        match self.operator:
            case RouteOperator.EQUALS:
                return found == wanted
            case RouteOperator.NOT_EQUALS:
                return found != wanted
            case RouteOperator.CONTAINS:
                return wanted in found
            case _:
                return found.startswith(wanted)

    def explain(self, facts: SeriesFacts) -> str:
        """One line: what was asked, what the series says, and the outcome."""
        found = getattr(facts, self.field.value)
        value = self.value if isinstance(self.value, str) else ", ".join(self.value)
        state = "is absent" if _normalised(found) is None else f"is {str(found)!r}"
        outcome = "match" if self.matches(facts) else "no match"
        return f"{self.field} {self.operator} {value!r}: {self.field} {state}, {outcome}"


class Route(BaseModel):
    """A rule: series that meet every condition are asked the prompts, results go to the destinations.

    Attributes:
        name: unique among the routes; part of the identity of a job.
        conditions: all must match; none means every series.
        prompts: what is asked; none means "recognise what is there".
        destinations: names of the destinations.
        priority: its jobs are at least as urgent; None: as urgent as the series says, else routine.
        results: which objects and messages are written and delivered, each to those destinations that take its kind.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]*$")
    conditions: tuple[Condition, ...] = ()
    prompts: tuple[str, ...] = ()
    destinations: tuple[str, ...] = Field(min_length=1)
    priority: Priority | None = None
    results: tuple[ResultKind | MessageKind, ...] = Field(default=DEFAULT_RESULTS, min_length=1)

    def matches(self, facts: SeriesFacts) -> bool:
        """Whether every condition matches."""
        return all(condition.matches(facts) for condition in self.conditions)


@dataclass(frozen=True)
class RouteExplanation:
    """Why a route took a series or did not: a line for each condition."""

    route: str
    matched: bool
    lines: tuple[str, ...]


def match_routes(facts: SeriesFacts, routes: Sequence[Route]) -> tuple[Route, ...]:
    """All routes whose conditions the series meets, in the order of the configuration."""
    return tuple(route for route in routes if route.matches(facts))


def job_priority(route: Route, facts: SeriesFacts) -> Priority:
    """The more urgent of what the route and the series say; routine where neither says anything."""
    return most_urgent((route.priority, facts.priority)) or Priority.ROUTINE


def explain_routes(facts: SeriesFacts, routes: Sequence[Route]) -> tuple[RouteExplanation, ...]:
    """For each route whether it matches, and each condition with what it found."""
    return tuple(
        RouteExplanation(
            route=route.name,
            matched=route.matches(facts),
            lines=tuple(condition.explain(facts) for condition in route.conditions) or ("no conditions: match",),
        )
        for route in routes
    )


def _normalised(text: str | None) -> str | None:
    if text is None or not text.strip():
        return None
    return text.strip().casefold()
