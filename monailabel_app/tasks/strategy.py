"""Which image comes next: the first, any, or the one that the served model knows least of.

`strategies(served)` gives the tasks for `MONAILabelApp.init_strategies`. `Next Sample` leases an image to the user who
asks (`user` or `client_id` of the request) for a time, so that nobody else is given the same.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.strategy import Strategy

from monailabel_app.tasks.collecting import ModalityOf, modality_in
from monailabel_app.tasks.scoring import DISAGREEMENT, ENTROPY, known_score, score_image
from monailabel_app.tasks.served_version import ServedAssistant
from rcmed.durable_files import write_durably
from rcmed.errors import RCMedError

LEASE_SECONDS = 1800.0
# So many images without a score are looked at when one is asked for; scoring beforehand saves the user the wait.
MOST_SCORED_AT_ONCE = 24


class Leases:
    """Who works on which image; kept in the state directory, so that a restart forgets nothing."""

    def __init__(self, path: Path, seconds: float = LEASE_SECONDS, clock: Callable[[], float] = time.time) -> None:
        """Open.

        Args:
            path: of the file.
            seconds: that a lease lasts.
            clock: seconds since whenever.
        """
        self._path, self._seconds, self._clock = path, seconds, clock
        self._lock = FileLock(str(path.with_suffix(".lock")))

    def take(self, ranked: Sequence[str], user: str) -> str | None:
        """Lease the best image that nobody holds; where there is none, the one that the user has held longest.

        Args:
            ranked: image ids, the best first.
            user: who asks; nobody's name: a user of its own each time.
        """
        with self._lock:
            held = self._held()
            free = [image for image in ranked if image not in held]
            mine = sorted(
                (held[image][1], image) for image in ranked if user and image in held and held[image][0] == user
            )
            chosen = free[0] if free else (mine[0][1] if mine else None)
            if chosen is not None:
                held[chosen] = user, self._clock()
                write_durably(self._path, json.dumps(held).encode())
        return chosen

    def _held(self) -> dict[str, tuple[str, float]]:
        try:
            kept = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        now = self._clock()
        return {image: (user, since) for image, (user, since) in kept.items() if now - since < self._seconds}


def strategies(
    served: ServedAssistant,
    modality_of: ModalityOf = modality_in,
    lease_seconds: float = LEASE_SECONDS,
    clock: Callable[[], float] = time.time,
) -> dict[str, Strategy]:
    """For `MONAILabelApp.init_strategies`; the names are what the viewer lists."""
    leases = Leases(served.versions.state / "leases.json", lease_seconds, clock)
    return {
        "first": First(leases),
        "random": Random(leases),
        "most_disagreement": LeastKnown(leases, served, DISAGREEMENT, modality_of),
        "most_uncertain": LeastKnown(leases, served, ENTROPY, modality_of),
    }


class _Leasing(Strategy):  # type: ignore[misc]
    """Ranks the images without a submitted label and leases the best."""

    def __init__(self, description: str, leases: Leases) -> None:
        super().__init__(description)
        self._leases = leases

    def rank(self, images: list[str], request: dict[str, Any], datastore: Datastore) -> list[str]:
        """The best first."""
        raise NotImplementedError

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """The next image as `{"id": ...}`; None where all are labelled or in others' hands."""
        images = sorted(datastore.get_unlabeled_images(DefaultLabelTag.FINAL.value))
        user = str(request.get("user") or request.get("client_id") or "")
        chosen = self._leases.take(self.rank(images, request, datastore), user)
        return None if chosen is None else {"id": chosen}


class First(_Leasing):
    """In the order of the ids."""

    def __init__(self, leases: Leases) -> None:
        super().__init__("The first image that nobody works on", leases)

    def rank(self, images: list[str], request: dict[str, Any], datastore: Datastore) -> list[str]:
        """The ids in their order."""
        return images


class Random(_Leasing):
    """In an order that a seed decides, the same at every server."""

    def __init__(self, leases: Leases) -> None:
        super().__init__("Any image that nobody works on", leases)

    def rank(self, images: list[str], request: dict[str, Any], datastore: Datastore) -> list[str]:
        """By a hash of seed and id."""
        seed = str(request.get("seed", 0))
        return sorted(images, key=lambda image: hashlib.sha256(f"{seed} {image}".encode()).digest())


class LeastKnown(_Leasing):
    """By a score of the served weights; images that could not be scored come last."""

    def __init__(self, leases: Leases, served: ServedAssistant, score: str, modality_of: ModalityOf) -> None:
        super().__init__(f"The image with the highest {score.replace('_', ' ')} that nobody works on", leases)
        self._served, self._score, self._modality_of = served, score, modality_of

    def rank(self, images: list[str], request: dict[str, Any], datastore: Datastore) -> list[str]:
        """The highest score first; ids decide between equal ones."""
        digest = self._served.current().identity.weights_sha256
        scores: dict[str, float] = {}
        left = MOST_SCORED_AT_ONCE
        for image in images:
            known = known_score(datastore.get_image_info(image), self._score, digest)
            if known is None and left:
                left -= 1
                try:
                    prompt = str(request.get("prompt", ""))
                    known = score_image(self._served, datastore, image, prompt, self._modality_of)[self._score]
                except RCMedError:
                    continue
            if known is not None:
                scores[image] = known
        return sorted(images, key=lambda image: (-scores.get(image, float("-inf")), image))
