"""A receiver of HL7 v2 messages over MLLP, by asyncio alone, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

START, END = b"\x0b", b"\x1c\r"


def acknowledgement(message: str, code: str = "AA", error: str = "", of: str | None = None) -> bytes:
    """What a receiver answers; `of` names another message than the one that came."""
    header = message.split("\r", 1)[0].split("|")
    lines = ["MSH|^~\\&|RIS|WARD|RCMED||20260304050607||ACK^R01^ACK|1|P|2.5.1", f"MSA|{code}|{of or header[9]}"]
    if error:
        lines.append(f"ERR|||{error}^whatever^HL70357|E")
    return ("\r".join(lines) + "\r").encode()


class MllpListener:
    """Listens on loopback; what comes is kept, and answered by `answer` (None: the connection is broken)."""

    def __init__(self, port: int = 0, answer: Callable[[str], bytes | None] = acknowledgement) -> None:
        self.messages: list[str] = []
        self.port = port
        self._answer = answer
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    @property
    def control_ids(self) -> list[str]:
        return [message.split("|")[9] for message in self.messages]

    def __enter__(self) -> MllpListener:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *told: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._take, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                block = await reader.readuntil(END)
                assert block.startswith(START)
                message = block[1:-2].decode()
                self.messages.append(message)
                answer = self._answer(message)
                if answer is None:
                    break
                writer.write(START + answer + END)
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        writer.close()
