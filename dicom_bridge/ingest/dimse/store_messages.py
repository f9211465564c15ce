"""C-STORE requests on the short way: from the connection to the intake and back in one thread, without copies.

pynetdicom would copy each fragment five times, hand the message to another thread and build request, answer and file
meta information as data sets: four fifths of what receiving an instance cost. Here fragments stay where they were read
(PS3.8 E.2), and the answer and the file meta information are encoded by pynetdicom once for each kind and then only
differ in UID and message ID. Every other message, and every request that looks odd, goes pynetdicom's own way.
"""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from typing import Any

from pydicom.filereader import data_element_generator
from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import create_file_meta, encode_file_meta
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

_LOG = logging.getLogger(__name__)
SUCCESS = 0x0000
_FAULT_OF_OURS = 0xC211
_IS_COMMAND, _IS_LAST = 1, 2  # bits of a fragment's message control header
_C_STORE_RQ = 0x0001
_NO_DATA_SET = 0x0101
_PLAIN_UID = re.compile(r"[0-9.]{1,64}")
_NOT_FOR_STORAGE = (Verification, StorageCommitmentPushModel)
_META_INSTANCE_UID = b"\x02\x00\x03\x00UI"  # (0002,0003), explicit VR; its length and value follow
_MESSAGE_ID = b"\x00\x00\x20\x01\x02\x00\x00\x00"  # (0000,0120) Message ID Being Responded To, US, implicit VR
_CLASS, _FIELD, _MESSAGE, _HAS_DATA, _INSTANCE = 0x00000002, 0x00000100, 0x00000110, 0x00000800, 0x00001000


@dataclass
class StoreRequest:
    """A C-STORE request (PS3.7 9.3.1.1).

    Attributes:
        context_id: of the presentation context.
        message_id: of the request.
        sop_class_uid, instance_uid: that it names.
        transfer_syntax_uid: that was agreed upon.
        fragments: of the data set; empty where it was too large.
        size: of the data set in bytes.
        is_too_large: more than the limit; what came was dropped.
    """

    context_id: int
    message_id: int
    sop_class_uid: str
    instance_uid: str
    transfer_syntax_uid: str
    fragments: list[memoryview] = field(default_factory=list)
    size: int = 0
    is_too_large: bool = False

    @property
    def file_start(self) -> bytes:
        """Preamble and file meta information (PS3.10 7.1) of the instance."""
        before, after = _file_meta(self.sop_class_uid, self.transfer_syntax_uid, len(self.instance_uid))
        return b"".join((before, self.instance_uid.encode("ascii"), after))


@dataclass(frozen=True)
class StoreAnswer:
    """What is said to a C-STORE request: a status (PS3.4 B.2.3), and a comment of at most 64 characters of ASCII."""

    status: int
    comment: str = ""


class StoreMessages(DIMSEServiceProvider):
    """DIMSE with the short way for C-STORE requests."""

    def __init__(
        self, association: Association, store: Callable[[Association, StoreRequest], StoreAnswer], maximum_bytes: int
    ) -> None:
        """Prepare.

        Args:
            association: it serves.
            store: takes a request that is complete, in the thread of the upper layer.
            maximum_bytes: of a data set.
        """
        super().__init__(association)
        self._store = store
        self._maximum_bytes = maximum_bytes
        self._command: list[memoryview] = []
        self._request: StoreRequest | None = None

    @property
    def is_amid_request(self) -> bool:
        """Whether more of a C-STORE request must come."""
        return self._request is not None or bool(self._command)

    def receive_primitive(self, primitive: Any) -> None:
        """Take the fragments of a PDU."""
        for context_id, control, content in primitive.items:
            if self._request is not None:
                self._add(self._request, context_id, control, content)
            elif self.message is not None or not control & _IS_COMMAND:
                self._go_the_long_way(context_id, control, content)
            else:
                self._command.append(content)
                if control & _IS_LAST:
                    self._begin(context_id)

    def _begin(self, context_id: int) -> None:
        command = b"".join(self._command)
        self._command = []
        self._request = self._store_request(context_id, command)
        if self._request is None:
            self._go_the_long_way(context_id, _IS_COMMAND | _IS_LAST, command)

    def _store_request(self, context_id: int, command: bytes) -> StoreRequest | None:
        """None: it is something else, or odd."""
        context = self.assoc._accepted_cx.get(context_id)
        if context is None or context.abstract_syntax in _NOT_FOR_STORAGE:
            return None
        try:
            elements = {int(raw.tag): raw.value for raw in data_element_generator(BytesIO(command), True, True)}
            number, has_data, message = (_short(elements[tag]) for tag in (_FIELD, _HAS_DATA, _MESSAGE))
            sop_class, instance = (_uid(elements[tag]) for tag in (_CLASS, _INSTANCE))
        except Exception:  # whatever the parser met in what the peer sent; the long way tells what is wrong
            return None
        is_plain = _PLAIN_UID.fullmatch(sop_class) and _PLAIN_UID.fullmatch(instance)
        if number != _C_STORE_RQ or has_data == _NO_DATA_SET or not is_plain:
            return None
        return StoreRequest(context_id, message, sop_class, instance, str(context.transfer_syntax[0]))

    def _add(self, request: StoreRequest, context_id: int, control: int, content: memoryview) -> None:
        if control & _IS_COMMAND or context_id != request.context_id:
            _LOG.error("a fragment of another message within a C-STORE request: the association is aborted")
            self._request = None
            self.dul.event_queue.put("Evt19")  # an invalid PDU (PS3.8 9.2.3)
            return
        request.size += len(content)
        if request.size > self._maximum_bytes:
            request.is_too_large = True
            request.fragments.clear()
        else:
            request.fragments.append(content)
        if control & _IS_LAST:
            self._request = None
            self._answer(request)

    def _answer(self, request: StoreRequest) -> None:
        try:
            answer = self._store(self.assoc, request)
        except Exception:
            _LOG.exception("an instance can't be taken, a fault of ours")
            answer = StoreAnswer(_FAULT_OF_OURS)
        # The time that it took is not the peer's.
        self.dul._idle_timer.restart()
        if answer.status == SUCCESS and self.dul.to_provider_queue.empty() and self.dul.socket is not None:
            # This is the thread of the upper layer, in the state of data transfer, and nobody else is sending.
            self.dul.socket.send(_success(request))
            return
        response = _response(
            request.context_id, request.sop_class_uid, request.instance_uid, request.message_id, answer
        )
        self.dul.send_pdu(response)

    def _go_the_long_way(self, context_id: int, control: int, content: bytes | memoryview) -> None:
        primitive: Any = P_DATA()
        primitive.presentation_data_value_list = [[context_id, bytes([control]) + bytes(content)]]
        message = self.message
        if message is not None and message.data_set is not None and message.data_set.tell() > self._maximum_bytes:
            message.data_set.seek(0)
            message.data_set.truncate()
        super().receive_primitive(primitive)


def _short(value: Any) -> int:
    return int(struct.unpack("<H", value)[0])


def _uid(value: Any) -> str:
    return bytes(value).decode("ascii").rstrip("\0 ")


def _response(context_id: int, sop_class_uid: str, instance_uid: str, message_id: int, answer: StoreAnswer) -> P_DATA:
    response: Any = C_STORE()
    response.MessageID = response.MessageIDBeingRespondedTo = message_id
    response.AffectedSOPClassUID = UID(sop_class_uid)
    response.AffectedSOPInstanceUID = UID(instance_uid)
    response.Status = answer.status
    if answer.comment:
        response.ErrorComment = answer.comment
    message = C_STORE_RSP()  # type: ignore[no-untyped-call]
    message.primitive_to_message(response)
    fragments: Sequence[P_DATA] = list(message.encode_msg(context_id, 0))
    return fragments[0]


def _success(request: StoreRequest) -> bytes:
    """The PDU that answers a request with success."""
    uid = request.instance_uid
    before, between, after = _success_parts(request.context_id, request.sop_class_uid, len(uid))
    return b"".join((before, struct.pack("<H", request.message_id), between, uid.encode("ascii"), after))


def _placeholder(length: int) -> str:
    return "9" * length


@lru_cache(maxsize=1024)
def _success_parts(context_id: int, sop_class_uid: str, uid_length: int) -> tuple[bytes, bytes, bytes]:
    """Before the message ID, between it and the instance's UID, after that."""
    placeholder = _placeholder(uid_length)
    response = _response(context_id, sop_class_uid, placeholder, 0, StoreAnswer(SUCCESS))
    encoded = bytes(P_DATA_TF(response).encode())
    before, _, rest = encoded.partition(_MESSAGE_ID)
    between, _, after = rest[2:].rpartition(placeholder.encode("ascii"))
    return before + _MESSAGE_ID, between, after


@lru_cache(maxsize=1024)
def _file_meta(sop_class_uid: str, transfer_syntax_uid: str, uid_length: int) -> tuple[bytes, bytes]:
    """Preamble and file meta information before and after the instance's UID, which has this length."""
    meta = create_file_meta(
        sop_class_uid=UID(sop_class_uid),
        sop_instance_uid=UID(_placeholder(uid_length)),
        transfer_syntax=UID(transfer_syntax_uid),
    )
    start = b"\0" * 128 + b"DICM" + encode_file_meta(meta)
    place = start.index(_META_INSTANCE_UID) + len(_META_INSTANCE_UID) + 2
    return start[:place], start[place + uid_length :]
