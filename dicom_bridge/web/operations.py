"""What machines ask: `/healthz` and `/metrics`."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from dicom_bridge.metrics import CONTENT_TYPE, Metrics


def operations(health: Callable[[], dict[str, str]], metrics: Metrics) -> APIRouter:
    """The part of the web application.

    Args:
        health: name of a part -> "ok" or what is wrong with it; told only to those who brought the token.
        metrics: for Prometheus.
    """
    router = APIRouter()

    @router.get("/healthz")
    def healthz(request: Request) -> JSONResponse:
        parts = health()
        sound = all(told == "ok" for told in parts.values())
        content: dict[str, object] = {"status": "ok" if sound else "sick"}
        if request.state.is_known:
            content["parts"] = parts
        return JSONResponse(content, status_code=200 if sound else 503)

    @router.get("/metrics")
    def prometheus() -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE)

    return router
