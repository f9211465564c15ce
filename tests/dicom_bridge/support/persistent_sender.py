"""A modality that sends its studies until every instance was acknowledged, whatever happens to those who take them."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE

_TIMEOUT_SECONDS = 20.0


class PersistentSender(threading.Thread):
    """Sends one study after another, each over an association of its own.

    Attributes:
        acknowledged: SOP Instance UIDs that were answered with success.
        statuses: how often which status was answered; None: the association was lost before an answer.
        done: how many studies were acknowledged as a whole.
    """

    def __init__(
        self, name: str, ports: Sequence[int], studies: Sequence[Sequence[Dataset]], pause: float, seed: int
    ) -> None:
        """Prepare.

        Args:
            name: AE title.
            ports: of receivers; each attempt takes one of them.
            studies: to be sent.
            pause: mean seconds between two studies.
            seed: of ports and pauses.
        """
        super().__init__(name=name, daemon=True)
        self.acknowledged: set[str] = set()
        self.statuses: dict[int | None, int] = {}
        self.done = 0
        self._ports = ports
        self._studies = studies
        self._pause = pause
        self._random = random.Random(seed)
        self._stopping = threading.Event()

    def run(self) -> None:
        for study in self._studies:
            while waiting := [one for one in study if str(one.SOPInstanceUID) not in self.acknowledged]:
                # Every so often all of it is sent, also what was acknowledged: senders do that.
                self._send(study if self._random.random() < 0.1 else waiting)
                if self._stopping.wait(self._random.uniform(0.1, 0.5)):
                    return
            self.done += 1
            if self._stopping.wait(self._random.uniform(0, 2 * self._pause)):
                return

    def stop(self) -> None:
        """Give up."""
        self._stopping.set()

    def _send(self, datasets: Sequence[Dataset]) -> None:
        entity = AE(self.name)
        entity.add_requested_context(CTImageStorage)
        entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = _TIMEOUT_SECONDS
        association = entity.associate("127.0.0.1", self._random.choice(self._ports), ae_title="RCMED")
        if not association.is_established:
            return
        for dataset in datasets:
            try:
                status = association.send_c_store(dataset).get("Status")
            except RuntimeError:  # the association is gone
                status = None
            self.statuses[status] = self.statuses.get(status, 0) + 1
            if status is None:
                break
            if status == 0x0000:
                self.acknowledged.add(str(dataset.SOPInstanceUID))
        if association.is_established:
            association.release()
