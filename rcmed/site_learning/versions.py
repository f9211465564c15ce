"""The versions of a model that learns on site: which there are, which is served, and the way back.

    STATE/
        served.json           {"number": 2}
        versions/0000/        version.json; the weights that everything started from stay where they are
        versions/0001/        version.json, and a model folder (safetensors) beside it where it was accepted

A version appears whole or not at all, and which one is served changes by one rename: nobody reads half of either.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from tempfile import mkdtemp

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from rcmed.durable_files import sync_file, write_durably
from rcmed.errors import CheckpointError, ConfigurationError
from rcmed.model.packaged import model_folder, weight_files, weights_sha256
from rcmed.site_learning.verdict import Verdict

_MODEL_SUFFIXES = frozenset({".safetensors", ".json", ".md", ".txt", ".model"})


class VersionStatus(StrEnum):
    """What became of a version."""

    BASE = "base"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    ROLLED_BACK = "rolled back"


class Version(BaseModel):
    """What is known of a version.

    Attributes:
        number: from 0, the weights that everything started from.
        parent: the version that it was trained from.
        weights_sha256: of its weights; of a refused one those of the candidate, empty where none was trained.
        time: when it was made.
        by: who asked for it.
        status: what became of it.
        verdict: of the gate; the base has none.
        corrections: identifiers of the corrections that were new in it.
        quarantined: those of them that are not learned from again.
        base: of version 0, the name or folder of its weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    parent: int | None
    weights_sha256: str
    time: datetime
    by: str
    status: VersionStatus
    verdict: Verdict | None = None
    corrections: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()
    base: str | None = None


class VersionStore:
    """The versions in a state directory; several processes may use it at once."""

    def __init__(self, state: Path, base: str | Path = "small") -> None:
        """Open, or begin with the base weights as version 0.

        Raises:
            CheckpointError: the base weights are missing, or are no longer those that the versions started from.
        """
        self.state = state
        self._lock = FileLock(str(state / "versions.lock"))
        (state / "versions").mkdir(parents=True, exist_ok=True)
        digest = weights_sha256(weight_files(model_folder(base)))
        with self._lock:
            if not self._record(0).exists():
                named = str(base) if model_folder(base) != Path(base) else str(Path(base).resolve())
                self._write(
                    Version(
                        number=0,
                        parent=None,
                        weights_sha256=digest,
                        time=datetime.now(UTC),
                        by="",
                        status=VersionStatus.BASE,
                        base=named,
                    )
                )
                self._serve(0)
        began = self.get(0)
        if began.weights_sha256 != digest:
            raise CheckpointError(
                f"{state}: its versions started from weights {began.weights_sha256[:12]}, not from {digest[:12]} of "
                f"{base}; name the old weights, or begin a new state directory"
            )

    def list(self) -> list[Version]:
        """All versions by number."""
        numbers = sorted(int(path.parent.name) for path in (self.state / "versions").glob("[0-9]*/version.json"))
        return [self.get(number) for number in numbers]

    def get(self, number: int) -> Version:
        """A version.

        Raises:
            ConfigurationError: there is no such version, or its record is damaged.
        """
        try:
            return Version.model_validate_json(self._record(number).read_text())
        except (OSError, ValidationError) as error:
            raise ConfigurationError(
                f"{self._record(number)}: is no version ({error}); name one that is listed"
            ) from error

    def served_number(self) -> int:
        """Number of the version that is served."""
        return int(json.loads((self.state / "served.json").read_text())["number"])

    def served(self) -> Version:
        """The version that is served."""
        return self.get(self.served_number())

    def folder(self, number: int) -> Path:
        """The model folder of a version.

        Raises:
            ConfigurationError: its weights are not kept.
        """
        version = self.get(number)
        if version.base is not None:
            return model_folder(version.base)
        folder = self._record(number).parent / self._model_name(number)
        if not folder.is_dir():
            raise ConfigurationError(f"{folder}: version {number} was {version.status.value}; its weights are not kept")
        return folder

    def lineage(self) -> Iterator[Version]:
        """The version that is served, the one that it was trained from, and so on to the base."""
        number: int | None = self.served_number()
        while number is not None:
            version = self.get(number)
            yield version
            number = version.parent

    def learned(self) -> set[str]:
        """Identifiers of the corrections that the served version has learned from."""
        return {identifier for version in self.lineage() for identifier in version.corrections}

    def quarantined(self) -> set[str]:
        """Identifiers of the corrections that are not learned from again."""
        return {identifier for version in self.list() for identifier in version.quarantined}

    def promote(
        self, model: Path, verdict: Verdict, *, parent: int, by: str, corrections: Sequence[str] = ()
    ) -> Version:
        """Keep an accepted candidate and serve it from now on.

        Args:
            model: the candidate's model folder; is moved.
            parent: the version that it was trained from.
        Raises:
            ConfigurationError: the verdict is a refusal, or another version is served by now.
            CheckpointError: the folder is incomplete or holds anything but safetensors and text.
        """
        if not verdict.accepted:
            raise ConfigurationError(f"version of {parent}: the gate refused it ({verdict.reasons[0]})")
        for path in model.rglob("*"):
            if path.is_file() and path.suffix not in _MODEL_SUFFIXES:
                raise CheckpointError(f"{path}: weights are kept as safetensors only; remove it")
        digest = weights_sha256(weight_files(model))
        with self._lock:
            if self.served_number() != parent:
                raise ConfigurationError(
                    f"version {self.served_number()} is served by now, not the candidate's parent {parent}: train again"
                )
            version = Version(
                number=self._next(),
                parent=parent,
                weights_sha256=digest,
                time=datetime.now(UTC),
                by=by,
                status=VersionStatus.ACCEPTED,
                verdict=verdict,
                corrections=tuple(corrections),
            )
            self._write(version, model)
            self._serve(version.number)
        return version

    def refuse(
        self,
        verdict: Verdict,
        *,
        parent: int,
        by: str,
        sha256: str = "",
        corrections: Sequence[str] = (),
        quarantined: Sequence[str] = (),
    ) -> Version:
        """Record a candidate that was refused; its weights are not kept."""
        with self._lock:
            version = Version(
                number=self._next(),
                parent=parent,
                weights_sha256=sha256,
                time=datetime.now(UTC),
                by=by,
                status=VersionStatus.REFUSED,
                verdict=verdict,
                corrections=tuple(corrections),
                quarantined=tuple(quarantined),
            )
            self._write(version)
        return version

    def roll_back(self, by: str) -> Version:
        """Serve the version that the served one was trained from; what it had learned is not learned again.

        Raises:
            ConfigurationError: the base is served: there is nothing before it.
        """
        with self._lock:
            served = self.served()
            if served.parent is None:
                raise ConfigurationError("version 0 is served: there is none before it")
            self._serve(served.parent)
            left = served.model_copy(update={"status": VersionStatus.ROLLED_BACK, "quarantined": served.corrections})
            write_durably(self._record(served.number), left.model_dump_json(indent=2).encode())
            with (self.state / "history.jsonl").open("a") as history:
                line = {"time": datetime.now(UTC).isoformat(), "rolled_back": served.number, "by": by}
                history.write(json.dumps(line) + "\n")
        return self.get(served.parent)

    def _next(self) -> int:
        return self.list()[-1].number + 1

    def _record(self, number: int) -> Path:
        return self.state / "versions" / f"{number:04d}" / "version.json"

    def _model_name(self, number: int) -> str:
        """Of a version's model folder: an assistant tells its name in every finding."""
        return f"{model_folder(self.get(0).base or '').name}-{number:04d}"

    def _write(self, version: Version, model: Path | None = None) -> None:
        with self._partial() as partial:
            if model is not None:
                folder = partial / self._model_name(version.number)
                shutil.move(str(model), folder)
                for path in folder.iterdir():
                    sync_file(path)
            write_durably(partial / "version.json", version.model_dump_json(indent=2).encode())
            os.replace(partial, self._record(version.number).parent)

    @contextmanager
    def _partial(self) -> Iterator[Path]:
        partial = Path(mkdtemp(prefix=".partial-", dir=self.state / "versions"))
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _serve(self, number: int) -> None:
        write_durably(self.state / "served.json", json.dumps({"number": number}).encode())
