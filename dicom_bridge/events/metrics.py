"""What Prometheus is told: counts of what happened, and the state of queue, destinations and disk when it asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STEP_BUCKETS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)

State = Callable[[], Mapping[tuple[str, ...], float]]
"""Values by the labels of a gauge, read when Prometheus asks."""


class Metrics:
    """Counters and gauges of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._gauges = _Gauges()
        self.registry.register(self._gauges)
        self.associations = Counter(
            "rcmed_associations", "Associations asked for.", ("peer", "outcome"), registry=self.registry
        )
        self.connections_refused = Counter(
            "rcmed_connections_refused", "Connections closed before an association came about.", registry=self.registry
        )
        self.instances = Counter(
            "rcmed_instances", "Instances that came.", ("source", "outcome"), registry=self.registry
        )
        self.received_bytes = Counter(
            "rcmed_received_bytes", "Bytes of instances that were acknowledged.", ("source",), registry=self.registry
        )
        self.delivery_attempts = Counter(
            "rcmed_delivery_attempts", "Attempts to deliver.", ("destination", "outcome"), registry=self.registry
        )
        self.removals = Counter(
            "rcmed_removals", "Studies of which retention deleted something.", ("kind",), registry=self.registry
        )
        self.http_refused = Counter("rcmed_http_refused", "Requests without the token.", registry=self.registry)
        self.step_seconds = Histogram(
            "rcmed_step_seconds", "Time of a job's step.", ("step",), buckets=_STEP_BUCKETS, registry=self.registry
        )

    def show(self, name: str, text: str, labels: tuple[str, ...], state: State) -> None:
        """Add a gauge whose values are read when Prometheus asks."""
        self._gauges.add(name, text, labels, state)

    def exposition(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self.registry)


class _Gauges(Collector):
    def __init__(self) -> None:
        self._shown: list[tuple[str, str, tuple[str, ...], State]] = []

    def add(self, name: str, text: str, labels: tuple[str, ...], state: State) -> None:
        self._shown.append((name, text, labels, state))

    def describe(self) -> Iterable[Metric]:
        # Without this the registry would ask for the values when the collector is registered.
        return []

    def collect(self) -> Iterable[Metric]:
        for name, text, labels, state in self._shown:
            family = GaugeMetricFamily(name, text, labels=labels)
            for values, value in state().items():
                family.add_metric(values, value)
            yield family
