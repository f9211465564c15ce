"""The folders that answers go to: one for each image, of a name of its own, and never with what belongs to another."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rcmed.errors import ConfigurationError, InputError
from rcmed.readers import suffix_of

FINDINGS_FILE = "findings.json"


class AnswerFolders:
    """Where the answers to some inputs go.

    The answer to a single image goes into the output folder itself; those to several go each into a folder below it,
    which is named after the input. Inputs of one name are told apart by their suffixes or by the folders they lie in.
    """

    def __init__(self, output: Path, inputs: Sequence[Path]) -> None:
        """Prepare; nothing is made yet.

        Args:
            output: of the command.
            inputs: in any order; one that is named twice is one.
        """
        self._output = output
        self.inputs = tuple({path.resolve(): path for path in reversed(inputs)}.values())[::-1]
        self._names = dict(zip(self.inputs, distinct_names(self.inputs), strict=True))

    def of(self, path: Path, images: int) -> list[Path]:
        """The folders of an input's images, in their order.

        Args:
            path: of `inputs`.
            images: how many the input has.
        Raises:
            InputError: the output folder holds answers to other inputs in folders below it, beside which that to a
                single one would be taken for the answer to all.
        """
        if len(self.inputs) == 1 and images == 1:
            others = self._below()
            if others:
                named = ", ".join(folder.name for folder in others[:3]) + (", ..." if len(others) > 3 else "")
                raise InputError(
                    f"--output {self._output}: holds answers to other inputs ({named}); give another folder, or remove "
                    "what is not wanted any more"
                )
            return [self._output]
        name = self._names[path]
        return [self._output / (name if images == 1 else f"{name}-{number + 1}") for number in range(images)]

    def left_over(self, path: Path, images: int) -> list[Path]:
        """Folders with answers of an earlier run that would be taken for answers of this one: the output folder itself
        where this run's lie below it, and those of an input that had more images then."""
        if len(self.inputs) == 1 and images == 1:
            return []
        now = {folder.name for folder in self.of(path, images)}
        name = re.compile(re.escape(self._names[path]) + r"(-[0-9]+)?")
        stale = [folder for folder in self._below() if name.fullmatch(folder.name) and folder.name not in now]
        return [*([self._output] if (self._output / FINDINGS_FILE).exists() else []), *stale]

    def _below(self) -> list[Path]:
        """Folders in the output folder that hold answers."""
        found = (file.parent for file in self._output.glob(f"*/{FINDINGS_FILE}"))
        return sorted(folder for folder in found if not folder.name.startswith("."))


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Names of files and folders that differ also where capitals don't count, and where a number is put behind them.

    A name without its suffix is enough where it is the only one; else the suffix is kept, then the folder is put before
    it, and the folder of the folder.

    Args:
        paths: all different.
    """
    whole = [path.resolve() for path in paths]
    levels = [0] * len(whole)
    while True:
        names = [_name(path, level) for path, level in zip(whole, levels, strict=True)]
        clashing = [
            number for number, name in enumerate(names) if any(_clash(name, other) for other in _without(names, number))
        ]
        deepest = [len(path.parts) + 1 for path in whole]
        deeper = [number for number in clashing if levels[number] < deepest[number]]
        if not deeper:
            return names if not clashing else [f"{number}-{name}" for number, name in enumerate(names, start=1)]
        for number in deeper:
            levels[number] += 1


def _name(path: Path, level: int) -> str:
    """Of a path without its suffix (0), with it (1), and with so many folders before it less one (2 and more)."""
    if level == 0 and not path.is_dir():
        suffix = suffix_of(path)
        return path.name[: len(path.name) - len(suffix)] if suffix and suffix != path.name.lower() else path.name
    parts = [part.strip("/\\:") for part in path.parts[-max(1, level) :]]
    return "-".join(part for part in parts if part) or "input"


def _clash(first: str, second: str) -> bool:
    first, second = first.casefold(), second.casefold()
    shorter, longer = sorted((first, second), key=len)
    return first == second or re.fullmatch(re.escape(shorter) + r"-[0-9]+", longer) is not None


def _without(names: Sequence[str], number: int) -> list[str]:
    return [*names[:number], *names[number + 1 :]]


def require_writable(folder: Path, option: str = "--output") -> None:
    """Whether files can be put into a folder that there may not be yet; nothing is left behind.

    Raises:
        ConfigurationError: it is a file, or lies where nothing can be written.
    """
    missing = [place for place in (folder.absolute(), *folder.absolute().parents) if not place.exists()]
    made = []
    try:
        for place in reversed(missing):
            place.mkdir()
            made.append(place)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"{option} {folder}: nothing can be written there ({error.strerror}); name a folder that can be written"
        ) from None
    finally:
        for place in reversed(made):
            with suppress(OSError):
                place.rmdir()
