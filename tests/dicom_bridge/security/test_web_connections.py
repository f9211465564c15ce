"""Connections to the web port that come to nothing are closed, and keep nobody out."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Request
from fastapi.responses import Response

from dicom_bridge.security.token import Token
from dicom_bridge.web.application import build_application
from dicom_bridge.web.auth import Door
from dicom_bridge.web.connections import ConnectionLimits
from dicom_bridge.web.server import WebServer

PATIENCE = 30.0
SECRET = "s" * 40
HEAD = b"HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + SECRET.encode() + b"\r\n"


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    """Starts a server whose limits a test chooses; returns its port."""
    router = APIRouter()

    @router.get("/quick")
    def quick() -> str:
        return "here"

    @router.post("/body")
    async def body(request: Request) -> int:
        return len(await request.body())

    @router.get("/large")
    def large() -> Response:
        return Response(b"x" * 50_000_000)

    with ExitStack() as running:

        def start(**limits: Any) -> int:
            application = build_application([router], Door(Token(SECRET)))
            server = WebServer(application, "127.0.0.1", 0, limits=ConnectionLimits(**limits))
            server.start()
            running.callback(server.stop)
            return server.port

        yield start


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def everything(connection: socket.socket) -> bytes:
    """What comes until the other side closes; a time-out of the socket fails the test."""
    told = b""
    while True:
        try:
            part = connection.recv(1 << 16)
        except ConnectionResetError:
            return told
        if not part:
            return told
        told += part


def is_well(port: int) -> bool:
    answer = httpx.get(
        f"http://127.0.0.1:{port}/quick", headers={"Authorization": f"Bearer {SECRET}"}, timeout=PATIENCE
    )
    return answer.status_code == 200


def drip(connection: socket.socket, byte: bytes) -> None:
    """Send a byte now and then, until the other side closes."""
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.02):
            try:
                connection.send(byte)
            except OSError:
                return

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        everything(connection)
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("begun", [b"", b"GET /quick HTTP/1.1\r\nHost: 127.0.0.1\r\nX-"], ids=["silent", "half"])
@pytest.mark.slow
def test_a_header_that_does_not_end_is_not_waited_for(serve: Callable[..., int], begun: bytes) -> None:
    port = serve(request_seconds=0.3)
    with connect(port) as connection:
        connection.sendall(begun)
        assert everything(connection) == b""
    with connect(port) as connection:
        connection.sendall(begun or b"G")
        drip(connection, b"a")
    assert is_well(port)


def test_after_an_answer_the_next_header_is_not_waited_for_either(serve: Callable[..., int]) -> None:
    port = serve(request_seconds=0.3)
    with connect(port) as connection:
        connection.sendall(b"GET /quick " + HEAD + b"\r\n" + b"GET /quick " + HEAD)
        assert everything(connection).count(b"200 OK") == 1


def test_two_requests_in_one_breath_are_answered(serve: Callable[..., int]) -> None:
    port = serve(request_seconds=0.5)
    with connect(port) as connection:
        connection.sendall((b"GET /quick " + HEAD + b"\r\n") * 2)
        assert everything(connection).count(b"200 OK") == 2


def test_a_body_of_which_nothing_comes_is_not_waited_for(serve: Callable[..., int]) -> None:
    port = serve(idle_seconds=0.3)
    with connect(port) as connection:
        connection.sendall(b"POST /body " + HEAD + b"Content-Length: 100\r\n\r\nabc")
        assert b"200" not in everything(connection)
    assert is_well(port)


@pytest.mark.slow
def test_a_body_that_comes_slowly_is_waited_for(serve: Callable[..., int]) -> None:
    port = serve(request_seconds=0.3, idle_seconds=5.0)
    with connect(port) as connection:
        connection.sendall(b"POST /body " + HEAD + b"Connection: close\r\nContent-Length: 30\r\n\r\n")
        over = threading.Event()
        for _ in range(30):
            over.wait(0.03)  # longer than request_seconds in all
            connection.sendall(b"a")
        assert everything(connection).endswith(b"30")


def test_a_body_behind_a_refusal_is_not_taken_for_ever(serve: Callable[..., int]) -> None:
    """Without the token the answer is 401 at once; what drips in afterwards must not hold the connection."""
    port = serve(request_seconds=0.5)
    with connect(port) as connection:
        connection.sendall(b"POST /body HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 401"
        drip(connection, b"a")
    assert is_well(port)


@pytest.mark.slow
def test_who_does_not_read_is_not_waited_for(serve: Callable[..., int]) -> None:
    port = serve(idle_seconds=0.3, request_seconds=0.3)
    with connect(port) as connection:
        connection.sendall(b"GET /large " + HEAD + b"\r\n")
        held = threading.Event()
        # The other side gives up meanwhile, which nobody sees who does not read; what it could send before is little.
        held.wait(1.5)
        assert len(everything(connection)) < 50_000_000
    assert is_well(port)


def test_those_who_wait_keep_nobody_out(serve: Callable[..., int]) -> None:
    port = serve(request_seconds=600.0, maximum=5)
    with ExitStack() as open_ones:
        first = open_ones.enter_context(connect(port))
        first.sendall(b"GET /quick HTTP/1.1\r\n")
        rest = [open_ones.enter_context(connect(port)) for _ in range(4)]
        for connection in rest:
            connection.sendall(b"GET /quick ")
        assert is_well(port)
        assert everything(first) == b""  # the one that waited longest
        for connection in rest[1:]:
            connection.sendall(HEAD + b"Connection: close\r\n\r\n")
            assert b"200 OK" in everything(connection)


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", b"\x00" * 4096 + b"\r\n\r\n", b"A-ASSOCIATE-RQ\r\n\r\n"],
)
def test_garbage_is_answered_and_closed(serve: Callable[..., int], garbage: bytes) -> None:
    port = serve(request_seconds=1.0)
    with connect(port) as connection:
        connection.sendall(garbage)
        assert everything(connection).startswith(b"HTTP/1.1 400")
    with connect(port) as connection:
        connection.sendall(b"GET /quick HTTP/1.1\r\nX: " + b"a" * 200_000)
        assert b"200 OK" not in everything(connection)
    assert is_well(port)
