"""An association of pynetdicom that waits for events instead of polling for them.

pynetdicom's two threads of an association look at their queues every millisecond. That is a wait of about a millisecond
for each message, and with many associations a processor's time for nothing. Here both sleep until something is there:
the upper layer's thread until bytes come or something is to be sent, the association's until a message is to be served.
Nothing else of pynetdicom's state machine (PS3.8 9.2) is changed.
"""

from __future__ import annotations

import queue
import select
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider

# Timers and flags that have no event are looked at this often.
_LONGEST_SLEEP_SECONDS = 0.25
# A connection that is closed waits for its association to end.
_CLOSED_SLEEP_SECONDS = 0.01


class _SignallingQueue(queue.Queue[Any]):
    """A queue that says so when something is put in."""

    def __init__(self, signal: Callable[[], None]) -> None:
        super().__init__()
        self._signal = signal

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._signal()


class _Checkpoint(threading.Event):
    """Where the association's thread passes in every round: lets it through when it is set and there is work.

    pynetdicom clears it to hold the thread while a request of ours is answered.
    """

    def __init__(self) -> None:
        super().__init__()
        self.work = threading.Event()
        self.set()

    def wait(self, timeout: float | None = None) -> bool:
        while True:
            super().wait(timeout)
            self.work.wait(_LONGEST_SLEEP_SECONDS)
            self.work.clear()
            if self.is_set():
                return True


class WaitingUpperLayer(DULServiceProvider):
    """pynetdicom's upper layer provider; between events it sleeps."""

    def __init__(self, association: Association, on_work: Callable[[], None]) -> None:
        """Prepare.

        Args:
            association: it serves.
            on_work: called when something came that the association's thread has to deal with.
        """
        super().__init__(association)
        # Sockets rather than a pipe: sending on one that was closed is an error and reaches nobody else's file.
        self._woken, self._waking = socket.socketpair()
        self._woken.setblocking(False)
        self._waking.setblocking(False)
        self.to_provider_queue = _SignallingQueue(self.wake)
        self.to_user_queue = _SignallingQueue(on_work)
        self._on_work = on_work
        self._run_loop_delay = 0

    def wake(self) -> None:
        """End its sleep."""
        try:
            self._waking.send(b"\0")
        except OSError:
            pass  # there are bytes enough to wake it, or it is gone

    def kill_dul(self) -> None:
        """End the thread."""
        super().kill_dul()
        self.wake()

    def stop_dul(self) -> bool:
        """End the thread when its state is idle; returns whether it was."""
        if self.state_machine.current_state != "Sta1":
            return False
        self.kill_dul()
        self.join()
        return True

    def run_reactor(self) -> None:
        """The thread."""
        try:
            super().run_reactor()
        finally:
            self._woken.close()
            self._waking.close()
            self._on_work()

    def _is_transport_event(self) -> bool:
        # In Sta13 pynetdicom closes a connection on which nothing is to be read at once.
        if self.event_queue.empty() and self.state_machine.current_state != "Sta13":
            self._sleep()
        return super()._is_transport_event()

    def _sleep(self) -> None:
        connection = None if self.socket is None else self.socket.socket
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return
        waiting = select.poll()
        waiting.register(self._woken, select.POLLIN)
        seconds = _LONGEST_SLEEP_SECONDS
        try:
            if connection is None:
                seconds = _CLOSED_SLEEP_SECONDS
            else:
                waiting.register(connection, select.POLLIN)
            ready = waiting.poll(seconds * 1000)
        except (OSError, ValueError):  # closed by another thread at this moment
            return
        if any(number == self._woken.fileno() for number, _ in ready):
            try:
                self._woken.recv(4096)
            except BlockingIOError:
                pass


def wait_for_events(association: Association, kind: type[WaitingUpperLayer] = WaitingUpperLayer) -> WaitingUpperLayer:
    """Give an association that has not begun its threads that sleep; returns its new upper layer, without a socket."""
    checkpoint = _Checkpoint()
    upper_layer = kind(association, checkpoint.work.set)
    association._reactor_checkpoint = checkpoint
    association.dul = upper_layer
    association.dimse.msg_queue = _SignallingQueue(checkpoint.work.set)
    # The setters pass the time-outs on to the timers of the upper layer.
    association.acse_timeout = association.acse_timeout
    association.network_timeout = association.network_timeout
    return upper_layer
