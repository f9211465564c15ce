"""Traces of studies for OpenTelemetry; nothing happens, and nothing is imported, unless a collector is configured.

Each generation of a study is one trace: when it came, when it was complete, each step of its jobs, each attempt to
deliver. Attributes are UIDs, counts and names of the configuration; no value of a data set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from dicom_bridge.settings import TelemetrySettings
from dicom_bridge.store.tables import JobRow
from dicom_bridge.studies.completion import Arrival, StudyProgress
from rcmed.errors import ConfigurationError

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Telemetry:
    """Is told what happens; this one forgets it."""

    def study_completed(self, study_uid: str, progress: StudyProgress, arrivals: Sequence[Arrival], jobs: int) -> None:
        """A generation of a study was complete and handed to the jobs.

        Args:
            study_uid: of the study.
            progress: its generation, and since when.
            arrivals: of all instances of the study.
            jobs: how many are new.
        """

    @contextmanager
    def step(self, name: str, job: JobRow, facts: Mapping[str, str | int]) -> Iterator[None]:
        """Around a step of a job."""
        yield

    def close(self) -> None:
        """Send what was not sent yet."""


def open_telemetry(settings: TelemetrySettings, worker: str, environment: Mapping[str, str] = os.environ) -> Telemetry:
    """What the settings, or OpenTelemetry's own variables in the environment, ask for.

    Args:
        settings: endpoint and name.
        worker: name of this process.
        environment: OTEL_* of it.
    Raises:
        ConfigurationError: a collector is configured and OpenTelemetry is not installed.
    """
    named = settings.endpoint is not None or any(environment.get(name) for name in _ENDPOINTS)
    if not named or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return Telemetry()
    try:
        from dicom_bridge.events.tracing import open_tracing
    except ImportError:
        raise ConfigurationError(
            "telemetry.endpoint: pip install 'rcmed[telemetry]' first, or configure no endpoint"
        ) from None
    return open_tracing(settings, worker)
