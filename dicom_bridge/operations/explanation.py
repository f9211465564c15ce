"""Why a study goes where it goes: the series of a study, each with what every route says to it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pydicom

from dicom_bridge.delivery.dimse.sending import find_dicom_files
from dicom_bridge.settings import GatewaySettings
from dicom_bridge.store.database import index_address, open_database
from dicom_bridge.store.index import StudyIndex
from dicom_bridge.studies.facts import FACT_ATTRIBUTES, series_facts
from dicom_bridge.studies.routing import Route, SeriesFacts, explain_routes, job_priority
from rcmed.errors import InputError

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID")


@dataclass(frozen=True)
class KnownSeries:
    """A series and what routing knows of it."""

    study_uid: str
    series_uid: str
    instances: int
    facts: SeriesFacts


def series_in_index(settings: GatewaySettings, study_uid: str) -> list[KnownSeries]:
    """The series of a study that the gateway received, in SQLite or PostgreSQL; it may run meanwhile.

    Raises:
        InputError: it received none of this study.
        ConfigurationError: the database can't be used, or the gateway has not made its tables yet.
    """
    address = index_address(settings.database, settings.state_folder.resolve())
    database = open_database(address, only_to_look=True)
    try:
        index = StudyIndex(database)
        series = [
            KnownSeries(study_uid, uid, len(index.instances_of(study_uid, uid)), facts)
            for uid, facts in index.series_of(study_uid)
        ]
    finally:
        database.close()
    if not series:
        raise InputError(f"no study {study_uid} in {address}: give the settings of the gateway that received it")
    return series


def series_in_folder(folder: Path, calling_ae: str | None, called_ae: str) -> tuple[list[KnownSeries], list[str]]:
    """The series in a folder, as if they came from `calling_ae` to `called_ae`; facts are those of the first file.

    Returns:
        the series, and a line for each file that can't be read.
    Raises:
        InputError: no DICOM file in it.
    """
    found: dict[tuple[str, str], KnownSeries] = {}
    unreadable = []
    for path in find_dicom_files(folder):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[*_UIDS, *FACT_ATTRIBUTES])
            study_uid, series_uid = (str(header[name].value) for name in _UIDS)
            facts = series_facts(header, calling_ae, called_ae)
        except Exception as error:  # pydicom raises whatever its parser met
            unreadable.append(f"{path}: can't be read ({type(error).__name__})")
            continue
        known = found.get((study_uid, series_uid)) or KnownSeries(study_uid, series_uid, 0, facts)
        found[study_uid, series_uid] = replace(known, instances=known.instances + 1)
    return [known for _, known in sorted(found.items())], unreadable


def explain_series(series: KnownSeries, routes: Sequence[Route], skipped_modalities: Collection[str] = ()) -> list[str]:
    """Lines: the series, every route with every condition, and what is done."""
    facts = series.facts
    known = ", ".join(text for text in (facts.modality, facts.body_part, facts.series_description) if text)
    lines = [
        f"study {series.study_uid}",
        f"series {series.series_uid}: {known or 'nothing known'}, {series.instances} instances",
    ]
    if facts.modality in skipped_modalities:
        return [*lines, f"  => nothing is asked: {facts.modality} is among receive.skipped_modalities"]
    explained = explain_routes(facts, routes)
    for route, why in zip(routes, explained, strict=True):
        lines.append(f"  route {route.name}: {'match' if why.matched else 'no match'}")
        lines += [f"    {line}" for line in why.lines]
        if why.matched:
            asked = "; ".join(route.prompts) or "what is there"
            priority = job_priority(route, facts)
            lines.append(f"    => asks: {asked}; priority {priority}; results to {', '.join(route.destinations)}")
    if not any(why.matched for why in explained):
        lines.append("  => nothing is asked: no route matches")
    return lines
