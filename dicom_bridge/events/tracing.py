"""Traces by the SDK of OpenTelemetry, sent by OTLP over HTTP.

Receiving, completing, finding and delivering happen at different times, in different processes, and again after a
crash; so ids of traces are not handed on but derived: whoever works on a generation of a study knows its trace.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, set_span_in_context

from dicom_bridge.events.telemetry import Telemetry
from dicom_bridge.settings import TelemetrySettings
from dicom_bridge.store.tables import JobRow
from dicom_bridge.studies.completion import Arrival, StudyProgress

_TRACES = "/v1/traces"
_EXPORT_SECONDS = 5.0


def open_tracing(settings: TelemetrySettings, worker: str) -> Tracing:
    """Tracing to the collector of the settings, else to that of the environment."""
    address = settings.endpoint
    if address is not None and not address.endswith(_TRACES):
        address = address.rstrip("/") + _TRACES
    return Tracing(OTLPSpanExporter(endpoint=address, timeout=_EXPORT_SECONDS), worker, settings.service_name)


class Tracing(Telemetry):
    """Makes spans. They are sent in the background: a collector that is away holds up nothing."""

    def __init__(self, exporter: SpanExporter, worker: str, service_name: str | None = None) -> None:
        """Prepare.

        Args:
            exporter: takes the spans.
            worker: name of this process.
            service_name: None: OTEL_SERVICE_NAME, else rcmed-gateway.
        """
        facts = {"service.version": version("rcmed"), "service.instance.id": worker}
        resource = Resource.create(facts)
        if service_name is not None or resource.attributes.get("service.name", "").startswith("unknown_service"):  # type: ignore[union-attr]
            resource = resource.merge(Resource({"service.name": service_name or "rcmed-gateway"}))
        self._ids = _DerivedIds()
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("rcmed", version("rcmed"))

    def study_completed(self, study_uid: str, progress: StudyProgress, arrivals: Sequence[Arrival], jobs: int) -> None:
        """The root of the trace, and a span for each association that brought instances of the generation."""
        came: dict[str, list[float]] = {}
        for arrival in arrivals:
            if arrival.received_at >= progress.since:
                came.setdefault(arrival.association, []).append(arrival.received_at)
        trace, root = _derived(study_uid, progress.generation)
        study: dict[str, str | int] = {"rcmed.study_uid": study_uid, "rcmed.generation": progress.generation}
        with self._ids.next_is(trace, root):
            span = self._tracer.start_span(
                "study",
                Context(),
                attributes={
                    **study,
                    "rcmed.instances": sum(len(times) for times in came.values()),
                    "rcmed.jobs": jobs,
                    "rcmed.complete_because": progress.rule,
                },
                start_time=_nanoseconds(progress.since),
            )
        span.end(None if progress.due_at is None else _nanoseconds(max(progress.due_at, progress.since)))
        for times in came.values():
            receive = self._tracer.start_span(
                "receive",
                self._below(study_uid, progress.generation),
                attributes={**study, "rcmed.instances": len(times)},
                start_time=_nanoseconds(min(times)),
            )
            receive.end(_nanoseconds(max(times)))

    @contextmanager
    def step(self, name: str, job: JobRow, facts: Mapping[str, str | int]) -> Iterator[None]:
        """A span around a step of a job; of an exception only its type, its text may hold values."""
        span = self._tracer.start_span(
            name,
            self._below(job.study_uid, job.generation),
            attributes={
                "rcmed.study_uid": job.study_uid,
                "rcmed.series_uid": job.series_uid,
                "rcmed.generation": job.generation,
                "rcmed.job_id": job.job_id,
                "rcmed.route": job.route,
                **{f"rcmed.{key}": value for key, value in facts.items()},
            },
        )
        try:
            yield
        except BaseException as error:
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
        finally:
            span.end()

    def close(self) -> None:
        """Send what was not sent yet; a collector that is away gets a moment."""
        self._provider.shutdown()

    def _below(self, study_uid: str, generation: int) -> Context:
        trace, root = _derived(study_uid, generation)
        # As the sampler decides on the root, which another process may have made.
        decision = self._provider.sampler.should_sample(None, trace, "study").decision
        flags = TraceFlags(TraceFlags.SAMPLED if decision.is_sampled() else TraceFlags.DEFAULT)
        return set_span_in_context(
            NonRecordingSpan(SpanContext(trace, root, is_remote=True, trace_flags=flags)), Context()
        )


class _DerivedIds(RandomIdGenerator):
    """Random ids, except where the next ones are told."""

    def __init__(self) -> None:
        super().__init__()
        self._next = threading.local()

    @contextmanager
    def next_is(self, trace: int, span: int) -> Iterator[None]:
        self._next.ids = (trace, span)
        try:
            yield
        finally:
            self._next.ids = None

    def generate_trace_id(self) -> int:
        ids = getattr(self._next, "ids", None)
        return super().generate_trace_id() if ids is None else int(ids[0])

    def generate_span_id(self) -> int:
        ids = getattr(self._next, "ids", None)
        return super().generate_span_id() if ids is None else int(ids[1])


def _derived(study_uid: str, generation: int) -> tuple[int, int]:
    """Ids of the trace of a generation and of its root: 128 and 64 bits of a hash, never 0 in practice."""
    digest = hashlib.sha256(f"{study_uid}/{generation}".encode()).digest()
    return int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:24], "big")


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
