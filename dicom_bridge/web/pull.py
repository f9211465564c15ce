"""The REST API for fetching studies: POST `/api/pull` orders, GET `/api/pull` tells how the orders stand."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from dicom_bridge.ingest.pull.orders import PullOrders
from dicom_bridge.ingest.pull.source import checked_query
from dicom_bridge.store.files.instance_files import require_uid
from rcmed.errors import InputError

_MOST_STUDIES = 10_000


class PullRequest(BaseModel):
    """What is to be fetched: studies, or all that meets a query."""

    model_config = ConfigDict(extra="forbid")

    source: str
    studies: list[str] = Field(default_factory=list, max_length=_MOST_STUDIES)
    query: dict[str, str] | None = None


def pull(orders: PullOrders, sources: Collection[str], on_order: Callable[[], None]) -> APIRouter:
    """The part of the web application.

    Args:
        orders: where orders are written down; when a request is answered with 202 they are.
        sources: names of the archives.
        on_order: called after an order.
    """
    router = APIRouter(prefix="/api/pull")

    @router.post("", status_code=202)
    def order(request: PullRequest) -> dict[str, Any]:
        if request.source not in sources:
            known = ", ".join(sorted(sources)) or "none"
            raise HTTPException(404, f"no source {request.source!r} is configured, known are: {known}")
        if bool(request.studies) == (request.query is not None):
            raise HTTPException(422, "give studies or a query")
        try:
            if request.query is not None:
                answer: dict[str, Any] = {"order": orders.add_query(request.source, checked_query(request.query))}
            else:
                studies = [require_uid(uid, "Study Instance UID") for uid in dict.fromkeys(request.studies)]
                answer = {"ordered": orders.add_studies(request.source, studies)}
        except InputError as error:
            raise HTTPException(422, str(error)) from None
        on_order()
        return answer

    @router.get("")
    def state() -> dict[str, Any]:
        counts = orders.counts()  # before the rows: what is counted as done then shows its end below
        rows = [
            {
                "source": row.source,
                "study": row.study_uid,
                "query": row.query,
                "state": row.state,
                "attempts": row.attempts,
                "text": row.text,
            }
            for row in orders.latest()
        ]
        return {"orders": counts, "latest": rows}

    return router
