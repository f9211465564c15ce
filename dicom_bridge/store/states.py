"""The states of jobs and of deliveries."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """QUEUED, RUNNING and DELIVERING go on after a restart; the others are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DELIVERING = "delivering"
    DONE = "done"
    REFUSED = "refused"  # the series holds nothing that can be looked at; its lines say why
    FAILED = "failed"
    CANCELLED = "cancelled"  # by an operator


class DeliveryState(StrEnum):
    """Where one job's results stand with one destination. WAITING: it is sick and is asked again later."""

    PENDING = "pending"
    WAITING = "waiting"
    DELIVERED = "delivered"
    REFUSED = "refused"  # answered, but at least one object was not taken
    FAILED = "failed"  # given up
    CANCELLED = "cancelled"  # with its job, by an operator


FINAL_JOB_STATES = (JobState.DONE, JobState.REFUSED, JobState.FAILED, JobState.CANCELLED)
UNFINISHED_JOB_STATES = tuple(state for state in JobState if state not in FINAL_JOB_STATES)
FINAL_DELIVERY_STATES = (
    DeliveryState.DELIVERED,
    DeliveryState.REFUSED,
    DeliveryState.FAILED,
    DeliveryState.CANCELLED,
)
