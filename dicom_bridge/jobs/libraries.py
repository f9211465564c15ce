"""What the steps of a job import: readers and writers of DICOM, which take seconds to load; receiving needs none."""

from __future__ import annotations

from importlib import import_module

_MODULES = ("dicom_bridge.series.images", "rcmed.evaluation.overlays", "dicom_bridge.results.filing")


def load_libraries() -> None:
    """Import them now, so that the first job does not wait for it."""
    for name in _MODULES:
        import_module(name)
    from dicom_bridge.results.provenance import load_tables

    load_tables()
