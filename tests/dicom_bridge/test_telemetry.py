"""Traces: one for each generation of a study, from what came to what was delivered, and no patient in them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response

from dicom_bridge.delivery.dimse.c_store import store_files
from dicom_bridge.delivery.dimse.outgoing import read_outgoing
from dicom_bridge.events.telemetry import Telemetry, open_telemetry
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.settings import GatewaySettings, TelemetrySettings
from dicom_bridge.store.tables import JobRow
from dicom_bridge.studies.completion import Arrival, CompletionRules, study_progress
from dicom_bridge.web.server import WebServer
from rcmed.errors import ConfigurationError

tracing = pytest.importorskip("dicom_bridge.events.tracing", reason="OpenTelemetry is not installed")
PATIENCE = 60.0


class Collector:
    """Takes OTLP over HTTP (protobuf), as a real one does."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.raw = b""
        app = FastAPI()

        @app.post("/v1/traces")
        async def take(request: Request) -> Response:
            from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

            body = await request.body()
            self.raw += body
            told = ExportTraceServiceRequest.FromString(body)
            for one in told.resource_spans:
                self.resources.append({item.key: item.value.string_value for item in one.resource.attributes})
                self.spans += [span for scope in one.scope_spans for span in scope.spans]
            return Response(b"", media_type="application/x-protobuf")

        self.server = WebServer(app, "127.0.0.1", 0)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    made.server.start()
    yield made
    made.server.stop()


def gateway_settings(root: Path, endpoint: str) -> GatewaySettings:
    return GatewaySettings.model_validate(
        {
            "state_folder": str(root),
            "receive": {"port": 0, "minimum_free_megabytes": 0},
            "completion": {"quiet_seconds": 5, "released_seconds": 0.1},
            "jobs": {"polling_seconds": 0.05},
            "telemetry": {"endpoint": endpoint},
            "web": {"enabled": False},
        }
    )


def attributes(span: Any) -> dict[str, Any]:
    return {
        item.key.removeprefix("rcmed."): item.value.string_value or item.value.int_value for item in span.attributes
    }


@pytest.mark.slow
def test_a_study_is_one_trace(
    collector: Collector, tmp_path: Path, make_ct_series: Any, threshold_assistant: Any
) -> None:
    files = make_ct_series(3)
    study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    with Gateway(gateway_settings(tmp_path / "state", collector.address), threshold_assistant) as gateway:
        store_files(
            [read_outgoing(file) for file in files],
            host="127.0.0.1",
            port=gateway.ports.dicom,
            called_ae="RCMED",
            calling_ae="CT01",
            timeout_seconds=30,
        )
        (job,) = gateway.wait_for_study(study, PATIENCE)
    spans = {span.name: span for span in collector.spans}
    assert sorted(span.name for span in collector.spans) == ["deliver", "find", "read", "receive", "results", "study"]
    assert len({span.trace_id for span in collector.spans}) == 1
    root = spans["study"]
    assert root.parent_span_id == b"" and attributes(root)["instances"] == 3
    assert attributes(root)["complete_because"].startswith("the last association was released")
    assert {spans[name].parent_span_id for name in spans if name != "study"} == {root.span_id}
    for span in collector.spans:
        assert attributes(span)["study_uid"] == study and span.end_time_unix_nano >= span.start_time_unix_nano
    assert attributes(spans["deliver"])["job_id"] == job.job_id
    assert attributes(spans["deliver"])["destination"] == "results"
    order = [spans[name].start_time_unix_nano for name in ("study", "read", "find", "results", "deliver")]
    assert order == sorted(order)
    assert {resource["service.name"] for resource in collector.resources} == {"rcmed-gateway"}
    for value in (b"SYNTHETIC", b"SYN-1", b"Square 2.5", b"CT01"):
        assert value not in collector.raw


@pytest.mark.slow
def test_a_collector_that_is_away_holds_up_nothing(
    tmp_path: Path, make_ct_series: Any, threshold_assistant: Any
) -> None:
    files = make_ct_series(1)
    study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    with Gateway(gateway_settings(tmp_path / "state", "http://127.0.0.1:1"), threshold_assistant) as gateway:
        store_files(
            [read_outgoing(file) for file in files],
            host="127.0.0.1",
            port=gateway.ports.dicom,
            called_ae="RCMED",
            calling_ae="CT01",
            timeout_seconds=30,
        )
        assert [job.state for job in gateway.wait_for_study(study, PATIENCE)] == ["done"]


@pytest.fixture
def traced() -> Iterator[tuple[Any, Any]]:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    made = tracing.Tracing(exporter, "worker-1")
    yield made, exporter
    made.close()


def job(generation: int = 1) -> JobRow:
    return JobRow(job_id="a" * 64, study_uid="1.2", series_uid="1.2.3", generation=generation, route="r")


def test_a_step_that_fails_says_so_without_the_text(traced: tuple[Any, Any]) -> None:
    made, exporter = traced
    with pytest.raises(ValueError), made.step("find", job(), {}):
        raise ValueError("MUELLER^ANNA")
    made.close()
    (span,) = exporter.get_finished_spans()
    assert (span.status.status_code.name, span.status.description) == ("ERROR", "ValueError")
    assert span.events == () and "MUELLER" not in span.to_json()


def test_a_late_generation_is_a_trace_of_its_own_with_its_own_arrivals(traced: tuple[Any, Any]) -> None:
    made, exporter = traced
    arrivals = [Arrival(100.0, "a", 101.0), Arrival(100.5, "a", 101.0), Arrival(900.0, "b", 901.0)]
    progress = study_progress(arrivals, CompletionRules(60, 5), 1000.0)
    made.study_completed("1.2", progress, arrivals, 1)
    with made.step("find", job(generation=2), {}):
        pass
    with made.step("find", job(generation=1), {}):
        pass
    made.close()
    spans = exporter.get_finished_spans()
    (root,), (receive,) = ([span for span in spans if span.name == name] for name in ("study", "receive"))
    late, early = (span for span in spans if span.name == "find")
    assert (root.start_time, root.end_time) == (900 * 10**9, 906 * 10**9)
    assert root.attributes["rcmed.instances"] == receive.attributes["rcmed.instances"] == 1
    assert late.context.trace_id == root.context.trace_id != early.context.trace_id
    assert late.parent.span_id == receive.parent.span_id == root.context.span_id


def test_two_processes_that_know_nothing_of_each_other_make_one_trace(traced: tuple[Any, Any]) -> None:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    made, exporter = traced
    other_exporter = InMemorySpanExporter()
    other = tracing.Tracing(other_exporter, "worker-2")
    with made.step("find", job(), {}):
        pass
    with other.step("deliver", job(), {"destination": "pacs", "attempt": 2}):
        pass
    made.close()
    other.close()
    (find,) = exporter.get_finished_spans()
    deliver = other_exporter.get_finished_spans()[-1]
    assert find.context.trace_id == deliver.context.trace_id and find.parent.span_id == deliver.parent.span_id
    assert find.context.span_id != deliver.context.span_id


# what is configured


def test_without_a_collector_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    assert type(open_telemetry(TelemetrySettings(), "w", {})) is Telemetry
    off = {**endpoint, "OTEL_SDK_DISABLED": "true"}
    assert type(open_telemetry(TelemetrySettings(), "w", off)) is Telemetry
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint["OTEL_EXPORTER_OTLP_ENDPOINT"])
    made = open_telemetry(TelemetrySettings(), "w", endpoint)
    assert isinstance(made, tracing.Tracing)
    made.close()


def test_a_collector_without_the_package_is_told_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dicom_bridge.events.tracing", None)
    with pytest.raises(ConfigurationError, match=r"telemetry\.endpoint: .*rcmed\[telemetry\]"):
        open_telemetry(TelemetrySettings(endpoint="http://127.0.0.1:1"), "w", {})


@pytest.mark.slow
def test_nothing_of_it_is_imported_unless_it_is_configured() -> None:
    script = (
        "import sys, dicom_bridge.gateway.composition\n"
        "from dicom_bridge.settings import TelemetrySettings\n"
        "dicom_bridge.events.telemetry.open_telemetry(TelemetrySettings(), 'w', {})\n"
        "names = ('opentelemetry.exporter', 'dicom_bridge.events.tracing')\n"
        "assert not [name for name in sys.modules if name.startswith(names)]"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
