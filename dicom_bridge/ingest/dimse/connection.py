"""The connection of an association: nothing on it may be too long or take too long."""

from __future__ import annotations

import errno
import socket
import ssl
import struct
import sys

from pynetdicom.transport import AssociationSocket

from dicom_bridge.security.limits import Deadline


class GuardedSocket(AssociationSocket):
    """Reads a protocol data unit within a time, and none that is longer than the limit."""

    longest_pdu: int = sys.maxsize
    seconds_per_pdu: float = 60.0
    _given_back: bytes = b""

    def recv(self, nr_bytes: int) -> bytearray:
        """Read `nr_bytes`, or what came until the peer closed.

        Raises:
            OSError: longer than the limit.
            TimeoutError: it takes too long.
        """
        self._require_allowed(nr_bytes)
        connection = self.socket
        if connection is None:
            return bytearray()
        if self._given_back:
            content, self._given_back = bytearray(self._given_back[:nr_bytes]), self._given_back[nr_bytes:]
            return content + self.recv(nr_bytes - len(content)) if len(content) < nr_bytes else content
        deadline = Deadline(self.seconds_per_pdu)
        content = bytearray(nr_bytes)
        view = memoryview(content)
        count = 0
        while count < nr_bytes:
            connection.settimeout(deadline.left())
            got = connection.recv_into(view[count:])
            if not got:
                view.release()
                del content[count:]
                break
            count += got
        return content

    def read_at_once(self, size: int) -> bytes | None:
        """Read `size` bytes, or what came until the peer closed; None where nothing is there to be read.

        Waits for the rest of what has begun to come in one call of the system, which reads while other threads work: a
        thread that asks for each piece waits for its turn at the interpreter as often.

        Raises:
            OSError: longer than the limit, or the connection broke; BlockingIOError: the rest takes too long.
        """
        connection = self.socket
        if connection is None:
            return b""
        self._wait_in_system(connection)
        try:
            content = connection.recv(size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        return content + self.read_all(size - len(content)) if 0 < len(content) < size else content

    def read_all(self, size: int) -> bytes:
        """Read `size` bytes, or what came until the peer closed or the time was over.

        Raises:
            OSError: longer than the limit, or the connection broke; BlockingIOError: nothing came in time.
        """
        self._require_allowed(size)
        connection = self.socket
        if connection is None:
            return b""
        self._wait_in_system(connection)
        return connection.recv(size, socket.MSG_WAITALL)

    def give_back(self, content: bytes) -> None:
        """Let `recv` return this first."""
        self._given_back = content

    @property
    def waits_in_system(self) -> bool:
        """Whether it can be read at once: a secured one can't."""
        return self.socket is not None and not isinstance(self.socket, ssl.SSLSocket)

    def _wait_in_system(self, connection: socket.socket) -> None:
        """Let the system keep the time; it does so for a whole call (socket(7), SO_RCVTIMEO)."""
        if connection.gettimeout() is not None:
            limit = struct.pack("ll", int(self.seconds_per_pdu), int(self.seconds_per_pdu % 1 * 1e6))
            connection.settimeout(None)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def _require_allowed(self, size: int) -> None:
        if size > self.longest_pdu:
            raise OSError(errno.EMSGSIZE, f"a protocol data unit of {size} bytes is longer than was negotiated")
