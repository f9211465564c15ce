"""/versions: the weights that were served, why, and one step back."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException

from monailabel_app.main import RCMedApp
from monailabel_app.server.routes.access import Admin, AnyUser
from monailabel_app.server.routes.serving import Served
from rcmed.errors import ConfigurationError
from rcmed.site_learning.versions import VersionStore

router = APIRouter(prefix="/versions", tags=["Versions"])


@router.get("/", summary="All versions, with the gate's verdict on each")
def versions(served: Served, user: AnyUser) -> dict[str, Any]:
    """The number that is served, and every version: its parent, weights, time, who trained it, figures."""
    store = _store(served)
    return {"served": store.served_number(), "versions": [each.model_dump(mode="json") for each in store.list()]}


@router.post("/roll-back", summary="Serve the version before")
def roll_back(served: Served, user: Admin) -> dict[str, Any]:
    """What the version had learned is not learned again; 409 where there is none before it."""
    try:
        version = _store(served).roll_back(user.username)
    except ConfigurationError as error:
        raise HTTPException(409, str(error)) from None
    return {"served": version.number}


def _store(served: RCMedApp) -> VersionStore:
    if served.versions is None:
        raise HTTPException(404, "this assistant can't learn: it has no versions")
    return served.versions
