"""A web server in a thread, on a socket that is bound before it starts, so that its port is known at once."""

from __future__ import annotations

import socket
import ssl
import threading
from typing import Any

import uvicorn

from dicom_bridge.web.connections import ConnectionLimits, timed_protocol


class WebServer:
    """Serves an ASGI application."""

    def __init__(
        self,
        application: Any,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        limits: ConnectionLimits | None = None,
    ) -> None:
        """Prepare; port 0 takes a free one, `tls` makes it HTTPS, `limits` are of connections."""
        self._host = host
        self._port = port
        config = uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            http=timed_protocol(limits or ConnectionLimits()),
            ssl_context_factory=None if tls is None else lambda config, default: tls,
        )
        self._server = uvicorn.Server(config)
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port on which it listens; 0 before the start."""
        return 0 if self._socket is None else int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._host, self._port))
            listener.listen(64)
        except OSError:
            listener.close()
            raise
        self._socket = listener
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="web", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; requests in progress have a moment to end."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=5)
        if self._socket is not None:
            self._socket.close()
            self._socket = None
