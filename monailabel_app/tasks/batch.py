"""Infer over many images: one after the other by the resident assistant, on any device, results kept as labels."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.tasks.batch_infer import BatchInferTask

from rcmed.errors import RCMedError

logger = logging.getLogger(__name__)

Infer = Callable[..., dict[str, Any]]
Progress = Callable[[int, int, str], None]


class BatchFind(BatchInferTask):  # type: ignore[misc]
    """Runs a task on images of a store; an image that can't be used is said so and the others go on.

    MONAI Label's own spreads the images over GPUs and divides by their number, which is zero on a CPU.
    """

    def __call__(
        self,
        request: Mapping[str, Any],
        datastore: Datastore,
        infer: Infer,
        report: Progress = lambda done, total, line: None,
        stop: threading.Event | None = None,
    ) -> dict[str, Any]:
        """Infer and save.

        Args:
            request: `model`, `images` ("all", "labeled", "unlabeled" or a list of ids), `label_tag`,
                `max_batch_size` (0: no limit), and the task's params, such as `prompt`.
            report: is called after each image with how many are done, of how many, and a line about it.
            stop: ends the run before the next image.
        Returns:
            by image id: `{"label": id, "tag", "params"}`, or `{"error": line}`.
        """
        images = sorted(self.get_images(request, datastore))
        most = int(request.get("max_batch_size") or 0)
        images = images[:most] if most > 0 else images
        tag = request.get("label_tag") or DefaultLabelTag.ORIGINAL.value
        tag = getattr(tag, "value", tag)
        results: dict[str, Any] = {}
        for number, image in enumerate(images, start=1):
            if stop is not None and stop.is_set():
                break
            try:
                result = infer({**request, "image": image, "save_label": True, "label_tag": tag}, datastore)
                results[image] = {"label": result["label"], "tag": tag, "params": result["params"]}
                line = f"{image}: {result['params'].get('answer', '')}"
            except (RCMedError, MONAILabelException, OSError) as error:
                reason = " ".join(str(getattr(error, "msg", None) or error).split())
                results[image] = {"error": reason}
                line = f"{image}: {reason}"
            logger.info("batch: %d of %d done", number, len(images))
            report(number, len(images), line)
        return results


class BatchRuns:
    """Batch runs in a thread of the server, one at a time, described as MONAI Label describes its tasks."""

    def __init__(self, run: Callable[..., dict[str, Any]]) -> None:
        """Prepare.

        Args:
            run: called as run(request, report=..., stop=...); gives the results.
        """
        self._run = run
        self._lock = threading.Lock()
        self._tasks: list[dict[str, Any]] = []
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def is_running(self) -> bool:
        """Whether a run is in progress."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """All runs since the start, the newest last."""
        return [dict(task) for task in self._tasks]

    def start(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Start a run; None while another one is in progress."""
        with self._lock:
            if self.is_running:
                return None
            task = {
                "id": str(uuid.uuid4()),
                "status": "RUNNING",
                "request": request,
                "start_ts": _now(),
                "details": [],
            }
            self._tasks.append(task)
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._work, args=(task, self._stop), name="batch infer", daemon=True)
            self._thread.start()
            return dict(task)

    def stop(self) -> dict[str, Any] | None:
        """End the run after the image in progress; None where none is."""
        if not self.is_running:
            return None
        self._stop.set()
        return dict(self._tasks[-1])

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the run in progress to end."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _work(self, task: dict[str, Any], stop: threading.Event) -> None:
        def report(done: int, total: int, line: str) -> None:
            task["details"] = [*task["details"], f"{done} / {total}: {line}"][-20:]

        try:
            results = self._run(task["request"], report=report, stop=stop)
            task["result"] = results
            task["status"] = "STOPPED" if stop.is_set() else "DONE"
        except Exception as error:
            logger.exception("batch infer failed")
            task["details"] = [*task["details"], f"{type(error).__name__}: {error}"][-20:]
            task["status"] = "ERROR"
        task["end_ts"] = _now()


def _now() -> str:
    return datetime.now().strftime("%Y-%m-%d %H:%M:%S")
