"""/auth: whether tokens are needed, a token for a user, and whether a token holds."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.security import OAuth2PasswordRequestForm

from monailabel_app.server.routes.access import User, current_user

router = APIRouter(prefix="/auth", tags=["Auth"])


@router.get("/", summary="Check if authentication is on")
def is_enabled(request: Request) -> dict[str, Any]:
    """What 3D Slicer asks before it shows the login."""
    authenticator = request.app.state.authenticator
    settings = authenticator.settings
    return {"enabled": authenticator.is_on, "client_id": settings.client_id, "realm": settings.issuer}


@router.post("/token", summary="Fetch a token")
def token(request: Request, form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> dict[str, Any]:
    """A token of the identity provider."""
    if not request.app.state.authenticator.is_on:
        return {"access_token": None, "token_type": None}
    content: dict[str, Any] = request.app.state.authenticator.fetch_token(form.username, form.password)
    return content


@router.get("/token/valid", summary="Check if the token holds")
def is_valid(user: Annotated[User, Depends(current_user)]) -> User:
    """The user whom the token names."""
    return user
