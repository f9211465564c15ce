"""`/info/` while an infer of ten seconds runs, over a real socket. Stock: the event loop waits for the infer."""

from __future__ import annotations

import http.client
import json
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient

from dicom_bridge.web.server import WebServer

pytestmark = pytest.mark.integration

INFER_SECONDS = 10.0
MOST_SECONDS = 0.2


def test_info_answers_while_an_infer_runs(make_client: Callable[..., TestClient], make_stub: Any, blocks: Any) -> None:
    assistant = make_stub(liver=blocks((1, 1, 1), (2, 2, 2)))
    assistant.busy_seconds = INFER_SECONDS
    # Authorities and hosts as in production; the stub computes in this very process.
    web = WebServer(make_client(assistant).app, "127.0.0.1", 0)
    web.start()
    try:
        statuses: list[int] = []

        def infer() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=120)
            body = urlencode({"params": json.dumps({"prompt": "liver"})})
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", "/infer/rcmed?image=ct--body&output=json", body, kind)
            statuses.append(connection.getresponse().status)

        thread = threading.Thread(target=infer)
        thread.start()
        until = time.monotonic() + 30
        while not assistant.asked and time.monotonic() < until:
            time.sleep(0.01)
        assert assistant.asked, "the infer did not begin"
        seconds = []
        for _ in range(20):
            started = time.perf_counter()
            connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=60)
            connection.request("GET", "/info/")
            reply = connection.getresponse()
            assert reply.status == 200 and reply.read()
            connection.close()
            seconds.append(time.perf_counter() - started)
        assert thread.is_alive(), "the infer ended before all was asked"
        print(f"median of 20: {statistics.median(seconds) * 1000:.0f} ms, slowest {max(seconds) * 1000:.0f} ms")
        assert statistics.median(seconds) < MOST_SECONDS
        thread.join(60)
        assert statuses == [200]
    finally:
        web.stop()
