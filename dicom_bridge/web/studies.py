"""The list of studies: its search, its filters and its pages, all of them in the address, to be linked to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlencode

from fastapi import HTTPException

from dicom_bridge.operations.study_listing import ListedStudy, StudyFilter, StudyListing, StudyState
from dicom_bridge.store.states import DeliveryState, JobState

PAGE = 50
_Choice = TypeVar("_Choice", bound=StrEnum)
_DELIVERIES = {
    "delivered": (DeliveryState.DELIVERED,),
    "waiting": (DeliveryState.PENDING, DeliveryState.WAITING),
    "failed": (DeliveryState.FAILED, DeliveryState.REFUSED),
}
_NAMES = ("q", "from", "to", "state", "jobs", "destination", "delivery", "association")


@dataclass(frozen=True)
class AskedStudies:
    """What an address of the list asks for.

    Attributes:
        asked: its parameters but the page, as far as they say something.
        which: the same for the index.
        page: from 1.
    """

    asked: Mapping[str, str]
    which: StudyFilter
    page: int

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> AskedStudies:
        """Read the parameters of an address.

        Raises:
            HTTPException: 422; one has a value that it can't have.
        """
        # PostgreSQL knows no text with NUL in it.
        told = {name: query.get(name, "").replace("\0", "").strip() for name in _NAMES}
        asked = {name: value for name, value in told.items() if value}
        which = StudyFilter(
            text=asked.get("q", "")[:200],
            since=_begin(asked, "from"),
            before=_begin(asked, "to", later=1),
            state=_choice(StudyState, asked, "state"),
            job_state=_choice(JobState, asked, "jobs"),
            destination=asked.get("destination"),
            delivery_states=_DELIVERIES[_one_of(list(_DELIVERIES), asked, "delivery")] if "delivery" in asked else (),
            association=asked.get("association"),
        )
        page = query.get("page", "1")
        if not (page.isascii() and page.isdecimal() and 1 <= int(page[:9]) < 1_000_000):
            raise HTTPException(422, "page: must be a number from 1")
        return cls(asked, which, int(page))

    def address(self, page: int) -> str:
        """Of another page of the same list."""
        return "/studies?" + urlencode({**self.asked, **({"page": str(page)} if page > 1 else {})})


@dataclass(frozen=True)
class StudiesPage:
    """A page of the list.

    Attributes:
        rows: the studies.
        total: how many there are on all pages.
        first, last: the numbers of those on this page, from 1; 0 where there are none.
        before, after: addresses of the pages around it; None: there is none.
    """

    rows: list[ListedStudy]
    total: int
    first: int
    last: int
    before: str | None
    after: str | None


def studies_page(listing: StudyListing, asked: AskedStudies) -> StudiesPage:
    """Look the page up."""
    offset = (asked.page - 1) * PAGE
    total = listing.count(asked.which)
    rows = listing.page(asked.which, PAGE, offset) if offset < total else []
    return StudiesPage(
        rows,
        total,
        offset + 1 if rows else 0,
        offset + len(rows) if rows else 0,
        asked.address(min(asked.page - 1, -(-total // PAGE) or 1)) if asked.page > 1 else None,
        asked.address(asked.page + 1) if offset + PAGE < total else None,
    )


def _begin(asked: Mapping[str, str], name: str, later: int = 0) -> float | None:
    """When a day, or one so many days later, begins here, in seconds since the epoch; None: no day is asked for."""
    if name not in asked:
        return None
    try:
        day = date.fromisoformat(asked[name]) + timedelta(days=later)
        return datetime(day.year, day.month, day.day).timestamp()
    except (ValueError, OverflowError, OSError):
        raise HTTPException(422, f"{name}: must be a date such as 2026-01-31") from None


def _choice(choices: type[_Choice], asked: Mapping[str, str], name: str) -> _Choice | None:
    return choices(_one_of([str(one) for one in choices], asked, name)) if name in asked else None


def _one_of(choices: list[str], asked: Mapping[str, str], name: str) -> str:
    if asked[name] not in choices:
        raise HTTPException(422, f"{name}: must be one of {', '.join(choices)}")
    return asked[name]
