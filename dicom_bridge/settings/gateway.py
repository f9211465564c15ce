"""Everything that can be configured, and how it is read from YAML.

`configs/gateway.yaml` and `configs/routing.yaml` show the same defaults; a test compares them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from dicom_bridge.completion import CompletionRules
from dicom_bridge.settings.base import FOLDER, Settings
from dicom_bridge.settings.network import ReceiveSettings, WebSettings
from dicom_bridge.settings.retention import RetentionSettings
from dicom_bridge.settings.routing import DeliverySettings, RoutingSettings
from dicom_bridge.settings.sources import FollowedOrthancSettings, WatchedFolderSettings
from rcmed.errors import ConfigurationError


class CompletionSettings(Settings):
    """When a study is complete; see `dicom_bridge.completion`."""

    quiet_seconds: float = Field(default=30.0, gt=0)
    released_seconds: float | None = Field(default=5.0, ge=0)

    @property
    def rules(self) -> CompletionRules:
        """The same as the pure function's argument."""
        return CompletionRules(self.quiet_seconds, self.released_seconds)


class ModelSettings(Settings):
    """Which assistant looks at the images, on which device, and who describes what it finds.

    Attributes:
        name: `small`, `full` or a model folder.
        device: auto, cpu or cuda.
        describer: folder of a vision-language model; None: words by rule.
    """

    name: str = Field(default="small", min_length=1)
    device: str = Field(default="auto", min_length=1)
    describer: Path | None = None


class JobSettings(Settings):
    """The job engine: how many jobs run at the same time, and how often queues are looked at."""

    concurrency: int = Field(default=1, ge=1)
    polling_seconds: float = Field(default=0.2, gt=0)


class LogSettings(Settings):
    """The log on standard error: `text` for people, `json` for a log collector, one object a line."""

    format: Literal["text", "json"] = "text"
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


class GatewaySettings(Settings):
    """Everything that can be configured.

    Attributes:
        state_folder: where instances, index, jobs and results live; relative paths are taken from the working folder.
        routing: in YAML either the settings themselves or the path of a file with them, relative to this file.
    """

    state_folder: Path = Path("state")
    receive: ReceiveSettings = ReceiveSettings()
    folder: WatchedFolderSettings = WatchedFolderSettings()
    orthanc: FollowedOrthancSettings = FollowedOrthancSettings()
    completion: CompletionSettings = CompletionSettings()
    model: ModelSettings = ModelSettings()
    jobs: JobSettings = JobSettings()
    delivery: DeliverySettings = DeliverySettings()
    retention: RetentionSettings = RetentionSettings()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()
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
            return cls.model_validate(content, context={FOLDER: path.parent})
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
