"""Settings of where results go: destinations, the routes that name them, and patience with those that are sick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from dicom_bridge.routing import Route
from dicom_bridge.settings.base import AeTitle, PeerPort, Settings
from dicom_bridge.settings.network import ClientTlsSettings


class DeliverySettings(Settings):
    """Patience with a destination that does not answer.

    Attributes:
        maximum_attempts: then the delivery is given up and said so.
        first_wait_seconds: between the first and the second attempt; doubles from then on.
        maximum_wait_seconds: no wait is longer.
        timeout_seconds: for connecting and for each answer.
    """

    maximum_attempts: int = Field(default=200, ge=1)
    first_wait_seconds: float = Field(default=2.0, gt=0)
    maximum_wait_seconds: float = Field(default=300.0, gt=0)
    timeout_seconds: float = Field(default=30.0, gt=0)

    def wait_before(self, attempt: int) -> float:
        """Seconds to wait after attempt number `attempt` (from 1) failed."""
        return min(self.first_wait_seconds * 2.0 ** min(attempt - 1, 30), self.maximum_wait_seconds)


class CStoreDestination(Settings):
    """An application entity that takes results by C-STORE."""

    type: Literal["c_store"]
    host: str = Field(min_length=1)
    port: PeerPort
    called_ae: AeTitle
    calling_ae: AeTitle = "RCMED"
    tls: ClientTlsSettings | None = None


class FolderDestination(Settings):
    """A folder; relative paths are taken from the state folder. Files lie in `<study>/<SOP Instance UID>.dcm`."""

    type: Literal["folder"]
    path: Path


DestinationSettings = Annotated[CStoreDestination | FolderDestination, Field(discriminator="type")]


def _results_folder() -> dict[str, CStoreDestination | FolderDestination]:
    return {"results": FolderDestination(type="folder", path=Path("results"))}


class RoutingSettings(Settings):
    """Routes and the destinations they name."""

    routes: tuple[Route, ...] = (Route(name="everything", destinations=("results",)),)
    destinations: dict[str, DestinationSettings] = Field(default_factory=_results_folder)

    @field_validator("destinations")
    @classmethod
    def _names_are_plain(cls, value: dict[str, DestinationSettings]) -> dict[str, DestinationSettings]:
        for name in value:
            if not name or len(name) > 64 or not all(c.isalnum() or c in "-_." for c in name):
                raise ValueError(f"the destination name {name!r} may hold letters, digits, '-', '_' and '.' only")
        return value

    @model_validator(mode="after")
    def _routes_are_consistent(self) -> RoutingSettings:
        names = [route.name for route in self.routes]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two routes are called {name!r}; give each its own name")
        for route in self.routes:
            for destination in route.destinations:
                if destination not in self.destinations:
                    known = ", ".join(sorted(self.destinations)) or "none"
                    raise ValueError(f"route {route.name!r} names destination {destination!r}, known are: {known}")
        return self
