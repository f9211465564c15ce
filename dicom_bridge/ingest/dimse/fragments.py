"""Data transfer on the short way: fragments stay where they were read, and those of a message are read one by one.

pynetdicom asks the system three times whether there is something to be read before it reads, twice, and copies what it
read three times; and each call of the system is a turn at the interpreter given to another association.
"""

from __future__ import annotations

import logging
import struct
from typing import Any

from dicom_bridge.ingest.dimse.connection import GuardedSocket
from dicom_bridge.ingest.dimse.reactor import WaitingUpperLayer

_LOG = logging.getLogger(__name__)
_DATA_TRANSFER = 0x04
_PDU_START = 6  # type, reserved, length (PS3.8 9.3)


class Fragments:
    """The fragments of a P-DATA-TF PDU (PS3.8 9.3.5) where they were read: (context, control header, content) each."""

    def __init__(self, items: bytes | memoryview) -> None:
        """Take apart.

        Args:
            items: the PDU without its six bytes of type and length.
        Raises:
            ValueError: lengths do not add up.
        """
        view = memoryview(items)
        self.items: list[tuple[int, int, memoryview]] = []
        offset = 0
        while offset < len(view):
            if offset + 6 > len(view):
                raise ValueError("a presentation data value is cut off")
            length, context_id, control = struct.unpack_from(">LBB", view, offset)
            end = offset + 4 + length
            if length < 2 or end > len(view):
                raise ValueError("a presentation data value is longer than its protocol data unit")
            self.items.append((context_id, control, view[offset + 6 : end]))
            offset = end

    def to_primitive(self) -> Fragments:
        """Itself: what pynetdicom's state machine hands on to DIMSE."""
        return self


class FragmentsUpperLayer(WaitingUpperLayer):
    """Leaves fragments where they were read, and reads those of a message one after another."""

    def _decode_pdu(self, bytestream: bytearray) -> tuple[Any, str]:
        if bytestream[0] != _DATA_TRANSFER:
            return super()._decode_pdu(bytestream)
        return Fragments(memoryview(bytestream)[_PDU_START:]), "Evt10"

    def _is_transport_event(self) -> bool:
        connection = self.socket
        # In the state of data transfer (Sta6) a P-DATA-TF goes to DIMSE and changes nothing (PS3.8 9.2, DT-2).
        if self.state_machine.current_state != "Sta6" or not isinstance(connection, GuardedSocket):
            return super()._is_transport_event()
        if not connection.waits_in_system:
            return super()._is_transport_event()
        messages: Any = self.assoc.dimse
        has_read = False
        while self._read_data(connection, messages):
            has_read = True
            self._idle_timer.restart()
            # What the thread of the association wants comes between two messages, and nothing after an event.
            if not (messages.is_amid_request and self.event_queue.empty()) or self._kill_thread:
                return True
        if not has_read and self.event_queue.empty():
            self._sleep()
        return has_read

    def _read_data(self, connection: GuardedSocket, messages: Any) -> bool:
        """Read a P-DATA-TF and hand it on, or put the event that anything else is; False: nothing is there."""
        try:
            start = connection.read_at_once(_PDU_START)
            if start is None:
                return False
            if len(start) == _PDU_START and start[0] != _DATA_TRANSFER:
                connection.give_back(start)
                self._read_pdu_data()
                return True
            size = int.from_bytes(start[2:])
            content = connection.read_all(size) if len(start) == _PDU_START else b""
        except OSError as error:
            start, size, content = b"", 0, b""
            _LOG.error("a connection broke, or took too long, within a protocol data unit: %s", error)
        if len(start) < _PDU_START or len(content) < size:
            self.event_queue.put("Evt17")  # the connection is closed (PS3.8 9.2.3)
            return True
        try:
            fragments = Fragments(content)
        except ValueError as error:
            _LOG.error("%s: the association is aborted", error)
            self.event_queue.put("Evt19")  # an invalid PDU
            return True
        messages.receive_primitive(fragments)
        return True
