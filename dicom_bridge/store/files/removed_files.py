"""Files that are taken away: first moved aside as a whole, so that nothing that comes meanwhile is touched.

An instance that arrives while its study is cleaned lands either in the folder that was moved aside, where it is found
as a file that is not to go and brought back, or in a new folder, where nobody looks.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from rcmed.durable_files import sync_folder


class RemovedFiles:
    """The folder `removed` in the state folder; each removal has a folder of its own in it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def move_aside(self, removal: str, folders: Iterable[Path]) -> None:
        """Move folders of the state folder aside; durable on return.

        Args:
            removal: the removal's id.
            folders: relative to the state folder; those that are not there are passed over.
        Raises:
            OSError: the disk is full or failing.
        """
        for folder in folders:
            source, aside = self._root / folder, self._aside(removal) / folder
            if not source.exists():
                continue
            aside.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, aside)
            for changed in (aside.parent, aside.parent.parent, self._root / "removed", self._root, source.parent):
                sync_folder(changed)

    def delete(self, removal: str, files: Collection[str], folders: Iterable[Path] = ()) -> None:
        """Delete files and folders that were moved aside, and bring everything else back.

        Args:
            removal: the removal's id.
            files, folders: relative to the state folder.
        Raises:
            OSError: the disk is failing; it can be tried again.
        """
        aside = self._aside(removal)
        for folder in folders:
            if (aside / folder).exists():
                shutil.rmtree(aside / folder)
        for file in files:
            (aside / file).unlink(missing_ok=True)
        self.bring_back(removal)

    def bring_back(self, removal: str) -> None:
        """Bring back what was moved aside.

        Raises:
            OSError: the disk is full or failing; it can be tried again.
        """
        aside = self._aside(removal)
        if not aside.exists():
            return
        for path in sorted(aside.rglob("*")):
            if path.is_dir():
                continue
            place = self._root / path.relative_to(aside)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, place)
            except FileExistsError:
                continue  # it came once more meanwhile, and that one counts
            for folder in (place.parent, place.parent.parent, place.parent.parent.parent):
                sync_folder(folder)
        shutil.rmtree(aside)

    def _aside(self, removal: str) -> Path:
        return self._root / "removed" / removal
