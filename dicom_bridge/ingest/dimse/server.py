"""The DICOM port: a server of pynetdicom whose connections can't hold up, crowd out or exhaust one another.

Four things differ from `ThreadedAssociationServer`: the TLS handshake is made in the connection's own thread (there,
the accepting thread waits for it, and with it everyone else); a connection that asks for nothing is closed after a
while (PS3.8 9.1.5 has the ARTIM timer for it, which a slow peer can stretch byte by byte); and a protocol data unit
has a longest length and a longest time; and its associations wait for events and take instances on the short way
(`dicom_bridge.ingest.dimse.reactor`, `dicom_bridge.ingest.dimse.store_messages`).
"""

from __future__ import annotations

import logging
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Sequence
from socketserver import BaseServer
from typing import Any

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from dicom_bridge.ingest.dimse.connection import GuardedSocket
from dicom_bridge.ingest.dimse.fragments import FragmentsUpperLayer
from dicom_bridge.ingest.dimse.reactor import wait_for_events
from dicom_bridge.ingest.dimse.store_messages import StoreAnswer, StoreMessages, StoreRequest
from dicom_bridge.security.limits import WaitingRoom

LEAST_PDU_LIMIT = 1 << 20
"""A protocol data unit of up to so many bytes is always read: A-ASSOCIATE-RQ have no negotiated length."""

_LOG = logging.getLogger(__name__)


class _Handler(RequestHandler):
    """One connection, in a thread of its own."""

    server: GuardedServer

    def setup(self) -> None:
        connection: socket.socket = self.request
        connection.settimeout(self.server.ae.network_timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = self.server.tls
        if context is None:
            self.server.waiting.enter(connection)
            return
        secured = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self.request = secured
        self.server.waiting.enter(secured)
        try:
            secured.do_handshake()
        except BaseException:
            self.server.waiting.leave(secured)
            secured.close()
            raise

    def _create_association(self) -> Association:
        association = super()._create_association()
        wait_for_events(association, FragmentsUpperLayer)
        messages = StoreMessages(association, self.server.store, self.server.longest_message)
        messages.msg_queue = association.dimse.msg_queue
        association.dimse = messages
        guarded = GuardedSocket(association, client_socket=self.request)
        longest = self.server.ae.maximum_pdu_size
        guarded.longest_pdu = max(longest + 6, LEAST_PDU_LIMIT) if longest else self.server.longest_message
        guarded.seconds_per_pdu = self.server.ae.network_timeout or guarded.seconds_per_pdu
        association.dul.socket = guarded
        association.daemon = association.dul.daemon = True
        return association


class GuardedServer(ThreadedAssociationServer):
    """Accepts connections.

    Attributes:
        tls: None for plain DICOM.
        waiting: connections that have not asked for an association yet.
        longest_message: bytes of a data set, and of a protocol data unit where none was negotiated.
        store: takes the instances.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        ae: AE,
        address: tuple[str, int],
        ae_title: str,
        contexts: list[Any],
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: Sequence[Any] | None = None,
        request_handler: Any = None,
        *,
        waiting: WaitingRoom,
        may_connect: Callable[[str], bool],
        on_refused: Callable[[str, str], None],
        longest_message: int,
        store: Callable[[Any, StoreRequest], StoreAnswer],
    ) -> None:
        """Listen.

        Args:
            waiting: for connections that have not asked for an association yet.
            may_connect: whether anyone may come from an address.
            on_refused: takes the address and the reason of each connection that was closed at once.
            longest_message: bytes of a data set, and of a protocol data unit where `ae.maximum_pdu_size` is 0.
            store: takes the instances, with the association that brings them.
        Raises:
            OSError: the address is taken.
        """
        self.waiting = waiting
        self.tls = ssl_context
        self.longest_message = longest_message
        self.store = store
        self._may_connect = may_connect
        self._on_refused = on_refused
        # Without the context: pynetdicom would make the handshake in the accepting thread.
        super().__init__(ae, address, ae_title, contexts, None, list(evt_handlers or ()), _Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether a connection is answered at all."""
        if self._may_connect(client_address[0]):
            return True
        self._on_refused(client_address[0], "no known peer has this address")
        return False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection ended before it could ask for anything: no traceback, one line."""
        error = sys.exc_info()[1]
        if isinstance(error, (ssl.SSLEOFError, ConnectionResetError)):
            _LOG.debug("a connection from %s said nothing and ended, as probes of load balancers do", client_address[0])
            return
        expected = isinstance(error, OSError)  # TLS errors, resets and time-outs are OSErrors
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        if not expected:
            _LOG.error("a connection could not be served", exc_info=True)
        self._on_refused(client_address[0], f"no TLS connection came about ({reason})" if self.tls else reason)

    def start(self) -> None:
        """Accept connections, in a thread of its own."""
        threading.Thread(target=self.serve_forever, name="dicom-port", daemon=True).start()

    def stop(self) -> None:
        """Stop accepting, and abort what is still associated."""
        # Not `AssociationServer.shutdown`, which takes itself from a list that only `AE.start_server` puts it on.
        BaseServer.shutdown(self)
        self.server_close()
        for association in self.active_associations:
            association.abort()
