"""The train task: learns from what was submitted, in a process of its own, with progress in the viewer.

MONAI Label runs it in a child process, which shares nothing with the server but the state directory: `trainers(served)`
gives the tasks in either. The child promotes a version on disk; the server's `ServedAssistant` serves it from its next
use on. The viewer polls `/info/`, whose `train_stats` are read from the state directory.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask
from pydantic import ValidationError

from monailabel_app.tasks.collecting import ModalityOf, collect, modality_in
from monailabel_app.tasks.served_version import ServedAssistant
from rcmed.durable_files import write_durably
from rcmed.errors import ConfigurationError
from rcmed.site_learning.corrections import CorrectionSettings, LearningProgress, Part
from rcmed.site_learning.learning import learn
from rcmed.site_learning.verdict import Kind

logger = logging.getLogger(__name__)

MOST_STEPS = 2000
_SETTABLE = ("part", "steps", "learning_rate", "seed")


def trainers(
    served: ServedAssistant,
    settings: CorrectionSettings | None = None,
    references: Path | None = None,
    modality_of: ModalityOf = modality_in,
) -> dict[str, TrainTask]:
    """For `MONAILabelApp.init_trainers`; arguments as of `CorrectionTrainer`."""
    return {"rcmed": CorrectionTrainer(served, settings or CorrectionSettings(), references, modality_of)}


class CorrectionTrainer(TrainTask):  # type: ignore[misc]
    """Learns from the submitted labels, and serves the result if the gate accepts it."""

    def __init__(
        self,
        served: ServedAssistant,
        settings: CorrectionSettings,
        references: Path | None = None,
        modality_of: ModalityOf = modality_in,
    ) -> None:
        """Keep what a run needs.

        Args:
            served: holds the state directory; corrections are kept in its `corrections/`.
            settings: what a request does not set.
            references: corrections that the site vouches for; they guard every promotion.
            modality_of: an image's modality by its id and record.
        """
        super().__init__("Learn from submitted labels; a held-out gate decides whether the result is served")
        self._served, self._settings, self._references, self._modality_of = served, settings, references, modality_of
        self._state = served.versions.state

    def config(self) -> dict[str, Any]:
        """What the viewer offers; `confirmed`: a person vouches for a batch that was called suspicious."""
        first = self._settings.part
        parts = [first.value, *(part.value for part in Part if part is not first)]
        return {
            "part": parts,
            "steps": self._settings.steps,
            "learning_rate": self._settings.learning_rate,
            "confirmed": False,
        }

    def stats(self) -> dict[str, Any]:
        """Of the latest run, as viewers read them: `epoch` of `total_epochs`, `best_metric`, `total_time` when done."""
        try:
            stats = json.loads((self._state / "train_stats.json").read_text())
        except (OSError, ValueError):
            return {}
        return stats if isinstance(stats, dict) else {}

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Collect, learn, judge; returns the version with its verdict.

        Raises:
            ConfigurationError: a setting of the request is out of range.
            InputError: nothing new was submitted.
        """
        settings = self._requested(request)
        started = time.monotonic()
        collected = self._state / "corrections"
        for line in collect(datastore, collected, self._modality_of):
            logger.warning(line)

        def report(progress: LearningProgress) -> None:
            self._write_stats(
                {"epoch": progress.step, "total_epochs": progress.steps, "best_metric": progress.best or 0.0}
            )
            if progress.step % 10 == 0 or progress.step == progress.steps:
                best = "" if progress.best is None else f", best Dice so far {progress.best:.3f}"
                logger.info(f"step {progress.step} of {progress.steps}: loss {progress.loss:.3f}{best}")

        self._write_stats({"epoch": 0, "total_epochs": settings.steps, "best_metric": 0.0})
        learned = learn(
            collected,
            self._served.versions,
            settings,
            by=str(request.get("user") or request.get("client_id") or "")[:64],
            device="cuda" if str(request.get("device", "")).startswith("cuda") else "cpu",
            references=self._references,
            confirmed=request.get("confirmed") is True,
            report=report,
            tell=logger.info,
        )
        version = learned.version
        assert version.verdict is not None
        corrected = [each for each in version.verdict.figures if each.kind is Kind.CORRECTED]
        pairs = max(sum(each.pairs for each in corrected), 1)
        result = {
            "version": version.number,
            "status": version.status.value,
            "weights_sha256": version.weights_sha256,
            "reasons": list(version.verdict.reasons),
            "served": self._served.versions.served_number(),
        }
        self._write_stats(
            {
                **self.stats(),
                "best_metric": sum(each.after * each.pairs for each in corrected) / pairs,
                "total_time": round(time.monotonic() - started, 1),
                **result,
            }
        )
        return result

    def _requested(self, request: dict[str, Any]) -> CorrectionSettings:
        asked = {key: request[key] for key in _SETTABLE if key in request}
        if isinstance(asked.get("part"), list):
            asked["part"] = asked["part"][0]
        try:
            settings = CorrectionSettings.model_validate({**self._settings.model_dump(), **asked})
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigurationError(f"train: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        if settings.steps > MOST_STEPS:
            raise ConfigurationError(f"train: steps: at most {MOST_STEPS}")
        return settings

    def _write_stats(self, stats: dict[str, Any]) -> None:
        write_durably(self._state / "train_stats.json", json.dumps(stats).encode())
