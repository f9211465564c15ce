"""What MONAI Label 0.8.5 needs to be imported beside pydicom 3, in this process and in those that it starts.

MONAI Label imports `pydicom_seg`, which imports `pydicom._storage_sopclass_uids`; pydicom 3 moved its content to
`pydicom.uid`. A finder answers for the old name, so that nothing of pydicom is loaded before it is asked for.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

MOVED = {"pydicom._storage_sopclass_uids": "pydicom.uid"}


class _MovedModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in MOVED:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        module.__dict__.update(vars(importlib.import_module(MOVED[spec.name])))
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run: the content is another module's."""


def install() -> None:
    """Answer for the moved modules from now on; modules that are still where they were come first."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())
