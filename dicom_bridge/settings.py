"""The gateway's settings: typed, frozen, and the one place of every default.

`configs/gateway.yaml` and `configs/routing.yaml` show the same defaults; a test compares them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dicom_bridge.completion import CompletionRules
from dicom_bridge.routing import Route
from rcmed.errors import ConfigurationError

Port = Annotated[int, Field(ge=0, le=65535)]
AeTitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[^\\\x00-\x1f\s][^\\\x00-\x1f]*$")]
Loopback = Literal["127.0.0.1", "::1", "localhost"]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReceiveSettings(_Settings):
    """The storage SCP.

    Attributes:
        host: address to listen on. Only loopback: the gateway has no authentication of its own yet.
        port: 0 takes a free port.
        ae_title: our name; peers that call another one are answered all the same unless `require_called_ae`.
        require_called_ae: refuse associations that call another AE title.
        maximum_associations: at the same time.
        maximum_pdu: bytes of a protocol data unit that we accept; 0 means no limit (PS3.8 D.1).
        minimum_free_megabytes: with less free disk than this a C-STORE is answered 0xA700, out of resources.
        idle_seconds: an association on which nothing comes for this long is aborted.
    """

    host: Loopback = "127.0.0.1"
    port: Port = 11112
    ae_title: AeTitle = "RCMED"
    require_called_ae: bool = False
    maximum_associations: int = Field(default=16, ge=1)
    maximum_pdu: int = Field(default=131072, ge=0)
    minimum_free_megabytes: int = Field(default=512, ge=0)
    idle_seconds: float = Field(default=60.0, gt=0)


class CompletionSettings(_Settings):
    """When a study is complete; see `dicom_bridge.completion`."""

    quiet_seconds: float = Field(default=30.0, gt=0)
    released_seconds: float | None = Field(default=5.0, ge=0)

    @property
    def rules(self) -> CompletionRules:
        """The same as the pure function's argument."""
        return CompletionRules(self.quiet_seconds, self.released_seconds)


class ModelSettings(_Settings):
    """Which assistant looks at the images: `small`, `full` or a model folder, and the device."""

    name: str = Field(default="small", min_length=1)
    device: str = Field(default="auto", min_length=1)


class JobSettings(_Settings):
    """The job engine: how many jobs run at the same time, and how often queues are looked at."""

    concurrency: int = Field(default=1, ge=1)
    polling_seconds: float = Field(default=0.2, gt=0)


class DeliverySettings(_Settings):
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


class WebSettings(_Settings):
    """The status page, on loopback only. Port 0 takes a free port."""

    enabled: bool = True
    host: Loopback = "127.0.0.1"
    port: Port = 8042


class CStoreDestination(_Settings):
    """An application entity that takes results by C-STORE."""

    type: Literal["c_store"]
    host: str = Field(min_length=1)
    port: Annotated[int, Field(ge=1, le=65535)]
    called_ae: AeTitle
    calling_ae: AeTitle = "RCMED"


class FolderDestination(_Settings):
    """A folder; relative paths are taken from the state folder. Files lie in `<study>/<SOP Instance UID>.dcm`."""

    type: Literal["folder"]
    path: Path


DestinationSettings = Annotated[CStoreDestination | FolderDestination, Field(discriminator="type")]


def _results_folder() -> dict[str, CStoreDestination | FolderDestination]:
    return {"results": FolderDestination(type="folder", path=Path("results"))}


class RoutingSettings(_Settings):
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


class GatewaySettings(_Settings):
    """Everything that can be configured.

    Attributes:
        state_folder: where instances, index, jobs and results live; relative paths are taken from the working folder.
        routing: in YAML either the settings themselves or the path of a file with them, relative to this file.
    """

    state_folder: Path = Path("state")
    receive: ReceiveSettings = ReceiveSettings()
    completion: CompletionSettings = CompletionSettings()
    model: ModelSettings = ModelSettings()
    jobs: JobSettings = JobSettings()
    delivery: DeliverySettings = DeliverySettings()
    web: WebSettings = WebSettings()
    routing: RoutingSettings = Field(default_factory=RoutingSettings)

    @classmethod
    def from_yaml(cls, path: Path) -> GatewaySettings:
        """Read a YAML file.

        Raises:
            ConfigurationError: unreadable, unknown key or bad value; one line that names the file, the key, the mend.
        """
        content = _mapping(path)
        routing = content.get("routing")
        routing_path = path
        if isinstance(routing, str):
            routing_path = path.parent / routing
            content["routing"] = _mapping(routing_path)
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            source = path
            if key.startswith("routing.") and routing_path != path:
                source, key = routing_path, key.removeprefix("routing.")
            raise ConfigurationError(_one_line(source, key, dict(first))) from None


def _one_line(path: Path, key: str, error: dict[str, Any]) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return f"{path}: unknown key '{key}': remove it or mend its spelling"
    if error["type"] == "missing":
        return f"{path}: key '{key}' is missing: add it"
    told = repr(error.get("input"))
    shown = f" (it is {told})" if len(told) <= 60 else ""
    return f"{path}: key '{key}': {message}{shown}"


def _mapping(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: can't be read ({error.strerror}): give the path of a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        place = f" in line {where.line + 1}" if where is not None else ""
        raise ConfigurationError(f"{path}: not valid YAML{place}: mend the syntax") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: must hold keys and values, not {type(content).__name__}")
    return content
