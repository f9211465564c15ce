"""HL7 v2 messages over MLLP (HL7 v2 Transport Specification), each acknowledged before the next one goes out."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import hl7
from hl7.exceptions import HL7Exception
from hl7.mllp import HL7StreamReader, HL7StreamWriter, InvalidBlockError, open_hl7_connection

from dicom_bridge.delivery.destination import DeliveryReceipt, DestinationUnavailableError, RefusedObject
from dicom_bridge.delivery.message import OutgoingMessage, read_message
from dicom_bridge.security.tls import client_context
from dicom_bridge.settings import MllpDestination

_LOG = logging.getLogger(__name__)
_ACCEPTED = ("AA", "CA")
_ERROR = ("AE", "CE")
_REJECTED = ("AR", "CR")
# Table 0357: what is wrong with the message itself, and what is wrong with the receiver at this moment.
_UNSUPPORTED = ("200", "201", "202", "203")
_PASSING = ("206", "207")
_MOST_BYTES = 1 << 20


class MllpTarget:
    """An information system that takes HL7 v2 messages."""

    takes = MllpDestination.takes

    def __init__(self, settings: MllpDestination, timeout_seconds: float) -> None:
        """Prepare; nothing is connected yet.

        Args:
            settings: of the destination.
            timeout_seconds: for connecting and for each acknowledgement.
        Raises:
            ConfigurationError: a file of the TLS settings can't be used.
        """
        self._settings = settings
        self._timeout = timeout_seconds
        self._name = f"{settings.host}:{settings.port}"
        self._tls = None if settings.tls is None else client_context(settings.tls, "tls of an mllp destination")
        # Of deliveries that are not whole yet, what was accepted: it is not sent a second time.
        self._accepted: set[str] = set()
        self._lock = threading.Lock()

    def deliver(self, files: Sequence[Path]) -> DeliveryReceipt:
        """Send each message and wait for its acknowledgement; a refused one does not hold up the others.

        Raises:
            DestinationUnavailableError: it is not reachable, does not answer, or can't take the message now.
        """
        messages = [read_message(file) for file in files]
        with self._lock:
            waiting = [message for message in messages if message.identifier not in self._accepted]
        refused = asyncio.run(self._send(waiting)) if waiting else ()
        refusals = {refusal.instance_uid for refusal in refused}
        identifiers = [message.identifier for message in messages]
        with self._lock:
            self._accepted.difference_update(identifiers)
        delivered = tuple(identifier for identifier in identifiers if identifier not in refusals)
        return DeliveryReceipt(delivered, refused, "HL7 acknowledgement")

    def check(self) -> str:
        """Connect, and send nothing: HL7 has no question that a receiver would have to answer.

        Raises:
            DestinationUnavailableError: nobody takes the connection.
        """
        asyncio.run(self._send(()))
        return f"{self._name} takes connections{' over TLS' if self._tls else ''}"

    async def _send(self, messages: Sequence[OutgoingMessage]) -> tuple[RefusedObject, ...]:
        """Send them over one connection; returns what was refused."""
        refused: list[RefusedObject] = []
        try:
            async with asyncio.timeout(self._timeout):
                reader, writer = await open_hl7_connection(
                    self._settings.host, self._settings.port, encoding="utf-8", limit=_MOST_BYTES, ssl=self._tls
                )
        except TimeoutError:
            raise DestinationUnavailableError(f"{self._name} does not answer in time") from None
        except OSError as error:
            raise DestinationUnavailableError(f"{self._name} does not answer: {_in_words(error)}") from None
        try:
            for message in messages:
                refusal = await self._exchange(reader, writer, message)
                if refusal is not None:
                    refused.append(refusal)
                    continue
                with self._lock:
                    self._accepted.add(message.identifier)
            return tuple(refused)
        finally:
            writer.close()
            try:
                async with asyncio.timeout(self._timeout):
                    await writer.wait_closed()
            except (OSError, TimeoutError):
                _LOG.debug("%s did not close in good order", self._name)

    async def _exchange(
        self, reader: HL7StreamReader, writer: HL7StreamWriter, message: OutgoingMessage
    ) -> RefusedObject | None:
        """Send one; None: taken."""
        try:
            async with asyncio.timeout(self._timeout):
                writer.writeblock(addressed(message.content, self._settings))
                await writer.drain()
                answer = await reader.readblock()
        except TimeoutError:
            raise DestinationUnavailableError(f"{self._name} sent no acknowledgement in time") from None
        except (OSError, EOFError) as error:
            raise DestinationUnavailableError(f"{self._name} broke the connection: {_in_words(error)}") from None
        except (InvalidBlockError, ValueError):
            raise DestinationUnavailableError(f"{self._name} answers with what is no MLLP") from None
        return self._judge(answer, message.identifier)

    def _judge(self, answer: bytes, identifier: str) -> RefusedObject | None:
        """What an acknowledgement says (HL7 v2.5.1, 2.9.2): AA taken, AE the content is wrong, AR not now or never."""
        try:
            parsed = hl7.parse(answer.decode("utf-8", "replace"))
            code, acknowledged = str(parsed["MSA"][0][1]).strip(), str(parsed["MSA"][0][2]).strip()
        except (HL7Exception, LookupError, ValueError):
            raise DestinationUnavailableError(f"{self._name} answers with what is no acknowledgement") from None
        if acknowledged != identifier:
            raise DestinationUnavailableError(f"{self._name} acknowledged another message than it was sent")
        if code in _ACCEPTED:
            return None
        errors = _error_codes(parsed)
        reason = f"acknowledgement {code}" + (f", error {', '.join(errors)}" if errors else "")
        refused = (code in _ERROR and not set(errors) & set(_PASSING)) or bool(set(errors) & set(_UNSUPPORTED))
        if code not in _ERROR + _REJECTED or not refused:
            raise DestinationUnavailableError(f"{self._name}: {reason or 'an acknowledgement without a code'}")
        return RefusedObject(identifier, reason)


def addressed(content: bytes, settings: MllpDestination) -> bytes:
    """A message with sender and receiver (MSH-3 to 6) and the processing ID (MSH-11) of a destination; nothing else."""
    header, end, others = content.partition(b"\r")
    fields = header.decode().split("|")
    fields[2:6] = (
        *(settings.sending_application, settings.sending_facility),
        *(settings.receiving_application, settings.receiving_facility),
    )
    fields[10] = settings.processing
    return "|".join(fields).encode() + end + others


def _error_codes(parsed: hl7.Message) -> list[str]:
    """Codes of ERR-3 (from v2.5 on), numbers of table 0357; its words are left out, they may name the patient."""
    codes = []
    for segment in parsed:
        if str(segment[0]) == "ERR" and len(segment) > 3:
            code = str(segment[3]).split("^")[0].strip()
            if code.isdigit():
                codes.append(code)
    return codes


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__ if not isinstance(error, EOFError) else "no acknowledgement came"
