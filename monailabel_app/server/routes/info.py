"""GET /info/: what the app can do."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from monailabel_app.server.routes.access import AnyUser
from monailabel_app.server.routes.serving import Served

router = APIRouter(prefix="/info", tags=["App"])


@router.get("/", summary="What the app can do")
def info(served: Served, user: AnyUser) -> dict[str, Any]:
    """Models with their labels and options, strategies, trainers, state of the store."""
    content: dict[str, Any] = served.info()
    # 3D Slicer takes this key for an outdated server.
    content.pop("config", None)
    return content
