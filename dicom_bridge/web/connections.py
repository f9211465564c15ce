"""Connections to the web port that come to nothing: closed in time, so that they keep nobody out.

uvicorn waits for ever for the rest of a request's header, for a body that no one reads, and for a reader that does not
read; its protocol is extended by two clocks and a limit of their number.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True)
class ConnectionLimits:
    """How long connections may keep us waiting, and how many there may be.

    Attributes:
        request_seconds: from the connection, or from the last answer, to the end of the next request's header.
        idle_seconds: without anything of a body that is waited for, or without anything being read of an answer.
        maximum: when there are more, the one closes that waits longest for its request; else the new one.
    """

    request_seconds: float = 15.0
    idle_seconds: float = 60.0
    maximum: int = 256


class _TimedProtocol(H11Protocol):
    limits: ConnectionLimits

    _deadline: asyncio.TimerHandle | None = None
    _idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_request()
        if len(self.connections) > self.limits.maximum:
            waiting = [one for one in self.connections if isinstance(one, _TimedProtocol) and one._deadline is not None]
            min(waiting, key=_TimedProtocol._due, default=self)._abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clocks()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._idle is not None:
            self._begin_idling()
        super().data_received(data)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and not self.cycle.response_complete:
            self._stop_clocks()
            self._begin_idling()

    def on_response_complete(self) -> None:
        # Armed whether or not the body was read to its end: what is left of it must come in time, too.
        self._stop_clocks()
        self._expect_request()
        super().on_response_complete()  # type: ignore[no-untyped-call]

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[no-untyped-call]
        self._begin_idling()

    def resume_writing(self) -> None:
        super().resume_writing()  # type: ignore[no-untyped-call]
        if self._idle is not None:
            self._begin_idling()

    def _expect_request(self, unread: float = float("inf")) -> None:
        self._deadline = self.loop.call_later(self.limits.request_seconds, self._is_due, unread)

    def _is_due(self, unread_before: float) -> None:
        unread = self.transport.get_write_buffer_size()
        if 0 < unread < unread_before:
            self._expect_request(unread)  # a slow line: the last answer is still being read
        else:
            self._abort()

    def _begin_idling(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = self.loop.call_later(self.limits.idle_seconds, self._has_idled)

    def _has_idled(self) -> None:
        waits_for_body = self.cycle is not None and self.cycle.more_body and not self.flow.read_paused
        if self.flow.write_paused or waits_for_body or self.transport.is_closing():
            self._abort()
        else:
            self._begin_idling()  # it is we who are at work

    def _due(self) -> float:
        return 0.0 if self._deadline is None else self._deadline.when()

    def _abort(self) -> None:
        self._stop_clocks()
        self.transport.abort()

    def _stop_clocks(self) -> None:
        for clock in (self._deadline, self._idle):
            if clock is not None:
                clock.cancel()
        self._deadline = self._idle = None


def timed_protocol(limits: ConnectionLimits) -> type[Any]:
    """The class that uvicorn makes its connections of."""
    return type("TimedProtocol", (_TimedProtocol,), {"limits": limits})
