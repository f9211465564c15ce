"""What a caller may cost: connections that ask for nothing have a time and a number, and reading has an end."""

from __future__ import annotations

import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable


class WaitingRoom:
    """Connections that have not asked for an association yet.

    Each has `seconds`; then it is shut, wherever it is in its handshake. When there are more than `places`, the oldest
    is shut, so that connections that only wait never keep others out.
    """

    def __init__(self, seconds: float, places: int, on_shut: Callable[[str], None] = lambda reason: None) -> None:
        self._seconds = seconds
        self._places = places
        self._on_shut = on_shut
        self._waiting: OrderedDict[int, tuple[socket.socket, threading.Timer]] = OrderedDict()
        self._lock = threading.Lock()

    def enter(self, connection: socket.socket) -> None:
        """A new connection waits."""
        timer = threading.Timer(self._seconds, self._expire, args=(connection,))
        timer.daemon = True
        crowded_out = None
        with self._lock:
            if len(self._waiting) >= self._places:
                _, crowded_out = self._waiting.popitem(last=False)
            self._waiting[id(connection)] = (connection, timer)
        timer.start()
        if crowded_out is not None:
            crowded_out[1].cancel()
            self._shut(crowded_out[0], "too many connections wait")

    def leave(self, connection: socket.socket | None) -> None:
        """A connection asked for an association, or is gone."""
        with self._lock:
            entry = self._waiting.pop(id(connection), None)
        if entry is not None:
            entry[1].cancel()

    def __len__(self) -> int:
        return len(self._waiting)

    def _expire(self, connection: socket.socket) -> None:
        with self._lock:
            entry = self._waiting.pop(id(connection), None)
        if entry is not None:
            self._shut(connection, f"no association was asked for within {self._seconds:g} s")

    def _shut(self, connection: socket.socket, reason: str) -> None:
        self._on_shut(reason)
        try:
            # Not the TLS socket's own way of shutting: its owner may be reading, and must get an end of file.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
        except OSError:
            pass  # gone already


class Deadline:
    """A point in time that reading must not pass."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left.

        Raises:
            TimeoutError: none.
        """
        seconds = self._at - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the peer is too slow")
        return seconds
