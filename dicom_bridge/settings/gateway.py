"""Everything that can be configured, and how it is read from YAML.

`configs/gateway.yaml` and `configs/routing.yaml` show the same defaults; a test compares them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from dicom_bridge.settings.base import FOLDER, READS_FILES, Settings
from dicom_bridge.settings.database import DatabaseSettings, WorkerSettings
from dicom_bridge.settings.network import ReceiveSettings, WebSettings
from dicom_bridge.settings.pulling import PullSettings, SourceName, SourceSettings
from dicom_bridge.settings.reading import SettingsFile, validate
from dicom_bridge.settings.retention import RetentionSettings
from dicom_bridge.settings.routing import DeliverySettings, RoutingSettings, Url
from dicom_bridge.settings.sources import FollowedOrthancSettings, WatchedFolderSettings
from dicom_bridge.studies.completion import CompletionRules


class CompletionSettings(Settings):
    """When a study is complete; see `dicom_bridge.studies.completion`."""

    quiet_seconds: float = Field(default=30.0, gt=0)
    released_seconds: float | None = Field(default=5.0, ge=0)
    expected: bool = True

    @property
    def rules(self) -> CompletionRules:
        """The same as the pure function's argument."""
        return CompletionRules(self.quiet_seconds, self.released_seconds, self.expected)


class ModelSettings(Settings):
    """Which assistant looks at the images, on which device, and who describes what it finds.

    Attributes:
        name: `small`, `full` or a model folder.
        device: auto, cpu, cuda or onnx (`rcmed.Assistant.from_pretrained`).
        describer: folder of a vision-language model; None: words by rule.
        load: when it is loaded: in the background as soon as the ports listen, or when the first job asks for it.
    """

    name: str = Field(default="small", min_length=1)
    device: str = Field(default="auto", min_length=1)
    describer: Path | None = None
    load: Literal["at start", "at the first job"] = "at start"


class JobSettings(Settings):
    """The job engine.

    Attributes:
        concurrency: jobs of the model that run at the same time in one process.
        global_concurrency: in all processes that share a database; None: only `concurrency` limits.
        polling_seconds: between two looks at a queue; a job waits for one in its own and one in each destination's.
        time_limit_seconds: that a job may work, not counted what it waits for; one that takes longer fails, and the
            process starts anew, since what is stuck in a decoder can't be called back.
        maximum_attempts: a job during which the process died so often, whatever killed it, fails.
        memory_megabytes: that a job may take beside the model, as estimated from its headers; one that would take more
            is refused. None: a third of the machine's memory (or of what the process may have), for all jobs together.
        reading_ahead_megabytes: a study of at most so many is read while it is waited whether it is complete, where
            nothing else is to be done; 0: none. Not where several processes share a database.
    """

    concurrency: int = Field(default=1, ge=1)
    global_concurrency: int | None = Field(default=None, ge=1)
    polling_seconds: float = Field(default=0.1, gt=0)
    time_limit_seconds: float = Field(default=3600.0, gt=0)
    maximum_attempts: int = Field(default=3, ge=1)
    memory_megabytes: int | None = Field(default=None, ge=1)
    reading_ahead_megabytes: int = Field(default=1024, ge=0)


class LogSettings(Settings):
    """The log on standard error: `text` for people, `json` for a log collector, one object a line."""

    format: Literal["text", "json"] = "text"
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


class TelemetrySettings(Settings):
    """Traces for OpenTelemetry; needs `pip install 'rcmed[telemetry]'`.

    Attributes:
        endpoint: of a collector that takes OTLP over HTTP, e.g. `http://collector:4318`; None: that of
            OTEL_EXPORTER_OTLP_ENDPOINT, else no traces. The other OTEL_* variables hold, too.
        service_name: None: OTEL_SERVICE_NAME, else rcmed-gateway.
    """

    endpoint: Url | None = None
    service_name: str | None = Field(default=None, min_length=1)


class GatewaySettings(Settings):
    """Everything that can be configured.

    Attributes:
        state_folder: where instances, index, jobs and results live; relative paths are taken from the working folder.
        sources: archives by name, that studies are fetched from when someone asks.
        routing: in YAML either the settings themselves or the path of a file with them, relative to this file.
    """

    state_folder: Path = Path("state")
    database: DatabaseSettings = DatabaseSettings()
    workers: WorkerSettings = WorkerSettings()
    receive: ReceiveSettings = ReceiveSettings()
    folder: WatchedFolderSettings = WatchedFolderSettings()
    orthanc: FollowedOrthancSettings = FollowedOrthancSettings()
    sources: dict[SourceName, SourceSettings] = Field(default_factory=dict)
    pull: PullSettings = PullSettings()
    completion: CompletionSettings = CompletionSettings()
    model: ModelSettings = ModelSettings()
    jobs: JobSettings = JobSettings()
    delivery: DeliverySettings = DeliverySettings()
    retention: RetentionSettings = RetentionSettings()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    routing: RoutingSettings = Field(default_factory=RoutingSettings)

    @classmethod
    def from_yaml(cls, path: Path, reads_files: bool = False) -> GatewaySettings:
        """Read a YAML file.

        Args:
            path: of the file.
            reads_files: the files that it names (secrets, certificates) must be there.
        Raises:
            ConfigurationError: unreadable, unknown key or bad value, a file that is not there; for each mistake a line
                that names the file, the line in it, the key and the mend.
        """
        file = SettingsFile.read(path)
        content, files = dict(file.content), {"": file}
        routing = content.get("routing")
        if isinstance(routing, str):
            files["routing"] = SettingsFile.read(path.parent / routing)
            content["routing"] = files["routing"].content
        return validate(cls, content, files, {FOLDER: path.parent, READS_FILES: reads_files})
