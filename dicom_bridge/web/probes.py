"""What machines ask: `/healthz` and `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from dicom_bridge.events.metrics import CONTENT_TYPE, Metrics


def operations(
    health: Callable[[], dict[str, str]],
    metrics: Metrics,
    attention: Callable[[], Mapping[str, str]] = lambda: {},
) -> APIRouter:
    """The part of the web application.

    Args:
        health: name of a part -> "ok" or what is wrong with it; told only to those who brought the token.
        metrics: for Prometheus.
        attention: what an operator should look at though the gateway itself is sound, by name; told like the parts.
    """
    router = APIRouter()

    @router.get("/healthz")
    def healthz(request: Request) -> JSONResponse:
        parts = health()
        sound = all(status == "ok" for status in parts.values())
        content: dict[str, object] = {"status": "ok" if sound else "sick"}
        if request.state.is_known:
            content["parts"] = parts
            waiting = attention()
            if waiting:
                content["attention"] = dict(waiting)
        return JSONResponse(content, status_code=200 if sound else 503)

    @router.get("/metrics")
    def prometheus() -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE)

    return router
