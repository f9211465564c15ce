"""Queues are looked at often while something is about to come, and only then."""

from __future__ import annotations

import threading

from sqlalchemy.exc import OperationalError

from dicom_bridge.jobs.pace import QueuePace


class Queue:
    """Remembers how often it is looked at."""

    def __init__(self) -> None:
        self.set: list[float] = []
        self.is_at_rest = threading.Event()

    def set_polling_interval_sec(self, value: float) -> None:
        self.set.append(value)
        if value == 1.0:
            self.is_at_rest.set()


def paced(while_seconds: float = 60.0, rest_seconds: float = 1.0) -> tuple[QueuePace, Queue]:
    pace, queue = QueuePace(rest_seconds, 0.1, while_seconds), Queue()
    pace.register("jobs", queue)
    return pace, queue


def test_a_queue_is_hastened_until_what_was_expected_came() -> None:
    pace, queue = paced()
    pace.hasten("jobs")
    pace.hasten("jobs")
    assert queue.set == [0.1]
    pace.rest("jobs")
    pace.rest("jobs")
    assert queue.set == [0.1, 1.0]
    pace.hasten("jobs")
    assert queue.set == [0.1, 1.0, 0.1]
    pace.stop()


def test_what_never_comes_is_not_waited_for_hastily_for_ever() -> None:
    pace, queue = paced(while_seconds=0.05)
    pace.hasten("jobs")
    assert queue.is_at_rest.wait(30)
    assert queue.set == [0.1, 1.0]
    pace.rest("jobs")
    assert queue.set == [0.1, 1.0]


def test_a_queue_that_is_looked_at_as_often_anyway_or_is_not_known_stays_as_it_is() -> None:
    pace, queue = paced(rest_seconds=0.1)
    pace.hasten("jobs")
    pace.hasten("deliver-archive")
    pace.rest("deliver-archive")
    assert queue.set == []


def test_a_database_that_is_away_hinders_nobody() -> None:
    class Away(Queue):
        def set_polling_interval_sec(self, value: float) -> None:
            super().set_polling_interval_sec(value)
            raise OperationalError("UPDATE", {}, Exception("away"))

    pace, queue = QueuePace(1.0, 0.1), Away()
    pace.register("jobs", queue)
    pace.hasten("jobs")
    pace.rest("jobs")
    assert queue.set == [0.1, 1.0]


def test_nothing_is_set_after_the_end() -> None:
    pace, queue = paced(while_seconds=0.05)
    pace.hasten("jobs")
    pace.stop()
    pace.hasten("jobs")
    assert not queue.is_at_rest.wait(0.3)
    assert queue.set == [0.1]
