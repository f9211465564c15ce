"""The corpus of odd DICOM cases, and what becomes of a case by reading and by the way through the gateway."""

from __future__ import annotations

import json
import os
import re
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.uid import UID, generate_uid

from dicom_bridge.gateway.study_watch import StudyWatch
from dicom_bridge.ingest.intake import InstanceIntake, Origin, RefusedInstanceError
from dicom_bridge.jobs.answer_writer import AnswerWriter
from dicom_bridge.jobs.ledger import JobLedger
from dicom_bridge.jobs.worker import JobWorker
from dicom_bridge.results.filing import file_results
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.series.dicom_reader import read_dicom
from dicom_bridge.settings import DeliverySettings, ReceiveSettings
from dicom_bridge.store.database import Database
from dicom_bridge.store.files.instance_files import InstanceFiles
from dicom_bridge.store.index import StudyIndex
from dicom_bridge.store.states import JobState
from dicom_bridge.studies.completion import CompletionRules
from dicom_bridge.studies.routing import Route
from rcmed.errors import InputError
from rcmed.findings import Finding, Findings, FindingStatus, ModelIdentity
from rcmed.hints import Hint
from rcmed.image import Image
from rcmed.measurements import find_boxes, measure
from synthetic_study import SPLEEN, ct_slice

DATA = Path(os.environ.get("RCMED_DATA", Path(__file__).parents[4] / "shared" / "data")) / "dicom"
INDEX = DATA / "index.json"
CASES: list[dict[str, Any]] = json.loads(INDEX.read_text()) if INDEX.exists() else []
_PATIENCE = 60.0


def is_accepted(case: dict[str, Any], kind: str) -> bool:
    """Whether "image", "volume" or "refuse" is right for a case."""
    accepted = f"{case['expect']} {case['also_acceptable'] or ''}".replace("not-an-image", "refuse")
    # A regular stack of frames in one file is an image as well (docs/dicom-corpus.md).
    return kind in accepted or (kind == "volume" and "image" in accepted and len(case["files"]) == 1)


def kind_of(images: Sequence[Image]) -> str:
    """What images are together."""
    if not images:
        return "refuse"
    return "volume" if any(image.is_volume for image in images) else "image"


@dataclass
class Passage:
    """What became of a case in the gateway.

    Attributes:
        images: of its jobs.
        neighbours: images of the intact series that was sent with it.
        refused: lines that the sender got.
        lines: that the index holds for whoever looks at the study.
        results: number of files that were made for delivery.
    """

    images: list[Image] = field(default_factory=list)
    neighbours: list[Image] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    results: int = 0


class _Looking:
    """An assistant that remembers what it was shown and finds nothing."""

    identity = ModelIdentity("looking", "1", "0" * 64)

    def __init__(self) -> None:
        self.images: list[Image] = []

    def find(
        self, image: Image, prompts: str | Sequence[str], hints: Mapping[int, Hint] = MappingProxyType({})
    ) -> Findings:
        self.images.append(image)
        absent = Finding("spleen", SPLEEN, FindingStatus.ABSENT, 0.02)
        return Findings((absent,), self.identity, image.grid, image.modality, "spleen", "An answer.")


def batches() -> list[list[dict[str, Any]]]:
    """The cases, none of a batch with an instance or a series of another's: copies in other transfer syntaxes."""
    found: list[list[dict[str, Any]]] = []
    taken: list[set[str]] = []
    for case in CASES:
        uids = _series_of(case)
        place = next((number for number, used in enumerate(taken) if not uids & used), len(found))
        if place == len(found):
            found.append([])
            taken.append(set())
        found[place].append(case)
        taken[place] |= uids
    return found


def pass_through_gateway(cases: Sequence[dict[str, Any]], folder: Path) -> dict[str, Passage]:
    """Take cases in, each beside an intact series of its study, and run the jobs that come of them to their results.

    Returns:
        by path of the case.
    """
    files, database = InstanceFiles(folder), Database(folder / "index.sqlite")
    files.prepare()
    index, ledger, looking = StudyIndex(database), JobLedger(database), _Looking()
    intake = InstanceIntake(ReceiveSettings(minimum_free_megabytes=0), files, index)
    origin = Origin(index.open_association("ODD", "RCMED", "127.0.0.1"), "ODD", "RCMED")
    passages = {case["path"]: Passage() for case in cases}
    for case in cases:
        contents = [(DATA / file["path"]).read_bytes() for file in case["files"]]
        intact = _intact_series(case, folder)
        for content in (intact[0], *contents, *intact[1:]):
            try:
                intake.take([content], origin)
            except RefusedInstanceError as refusal:
                passages[case["path"]].refused.append(str(refusal))
    intake.end(origin)
    jobs: list[str] = []
    closed = threading.Event()
    route = Route(name="all", prompts=("spleen",), destinations=("nowhere",))
    watch = StudyWatch(index, CompletionRules(0, 0), (route,), lambda: "0" * 64, jobs.extend, closed.set)
    watch.start()
    try:
        while index.open_studies():
            assert closed.wait(_PATIENCE), watch.health()
            closed.clear()
    finally:
        watch.stop()
    answers = AnswerWriter(folder, index, ledger, looking)
    worker = JobWorker(index, ledger, answers, {}, DeliverySettings())
    results: Counter[str] = Counter()
    for job in jobs:
        for number in range(worker.read(job)):
            answers.find(job, number)
        results[ledger.job(job).series_uid] += len(answers.build_results(job))
        worker.finish(job, JobState.DONE)
    lines = index.lines(limit=100_000)
    for case in cases:
        passage, series, neighbour = passages[case["path"]], _series_of(case), _neighbour_of(case)
        passage.images = [image for image in looking.images if image.series_instance_uid in series]
        passage.neighbours = [image for image in looking.images if image.series_instance_uid == neighbour]
        passage.lines = [line.text for line in lines if line.series_uid in series]
        passage.results = sum(results[uid] for uid in series)
    return passages


def _series_of(case: dict[str, Any]) -> set[str]:
    return {file.get("series_uid") or file["path"] for file in case["files"]}


def _neighbour_of(case: dict[str, Any]) -> str:
    return str(generate_uid(entropy_srcs=[case["path"]]))


def _intact_series(case: dict[str, Any], folder: Path) -> list[bytes]:
    study, neighbour = case["files"][0].get("study_uid"), _neighbour_of(case)
    if not study or not UID(study).is_valid:
        study = generate_uid(entropy_srcs=[case["path"], "study"])
    path, contents = folder / "intact.dcm", []
    for number in range(3):
        dataset = ct_slice(number, study, neighbour, generate_uid(entropy_srcs=[study]))
        dataset.save_as(path, enforce_file_format=True)
        contents.append(path.read_bytes())
    path.unlink()
    return contents


def results_of(case: dict[str, Any], folder: Path) -> list[Path]:
    """Write SEG and SR of every image of a case, in which one target is found and one is not; returns the files."""
    try:
        images = read_dicom(DATA / case["path"])
    except InputError:
        return []
    files: list[Path] = []
    for number, image in enumerate(images):
        slices, rows, columns = image.grid.shape
        mask = np.zeros(image.grid.shape, dtype=bool)
        mask[slices // 4 : max(slices - slices // 3, 1), rows // 4 : rows // 2 + 1, columns // 8 : columns // 3 + 1] = (
            True
        )
        found = Finding("spleen", SPLEEN, FindingStatus.FOUND, 0.9, mask, find_boxes(mask), measure(mask, image))
        absent = Finding("spleen", SPLEEN, FindingStatus.ABSENT, 0.02)
        findings = Findings((found, absent), _Looking.identity, image.grid, image.modality, "spleen", "An answer.")
        identifiers = ResultIdentifiers.derive(f"{case['path']}/{number}")
        files += file_results(image, findings, identifiers, folder / str(number)).files
    return files


def uids_of(case: dict[str, Any]) -> set[str]:
    """UIDs of a case's instances, as they are in the files."""
    uids = set()
    for file in case["files"]:
        header = dcmread(DATA / file["path"], stop_before_pixels=True, force=True)
        uids |= {str(element.value) for element in header if element.VR == "UI"}
    return uids


def table_row(case: dict[str, Any]) -> str:
    """A case as a row of the Markdown table: name, what is odd, what is expected, what it becomes, what is said."""
    expected = case["expect"] + (f" ({case['also_acceptable']})" if case["also_acceptable"] else "")
    try:
        images = read_dicom(DATA / case["path"])
    except InputError as error:
        becomes, said = "refused", [str(error)]
    else:
        shapes = [" x ".join(map(str, image.grid.shape[0 if image.grid.shape[0] > 1 else 1 :])) for image in images]
        kinds = ["volume" if image.is_volume else "image" for image in images]
        named = [f"{kind} {shape}" for kind, shape in zip(kinds, shapes, strict=True)]
        becomes = ", ".join(
            f"{named.count(name)} of {name}" if named.count(name) > 1 else name for name in dict.fromkeys(named)
        )
        said = list(dict.fromkeys(warning for image in images for warning in image.warnings))
    cells = (case["path"], case["why_odd"], expected, becomes, "; ".join(_without_paths(line) for line in said))
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def table() -> str:
    """All cases as a Markdown table."""
    head = ("case", "what is odd", "expected", "becomes", "what is said")
    rows = (f"| {' | '.join(head)} |", "| " + " | ".join("---" for _ in head) + " |", *map(table_row, CASES))
    return "\n".join(rows)


def _without_paths(line: str) -> str:
    line = re.sub(r"series [\d.]* \(\S*\): ", "", line.replace(f"{DATA}/", ""))
    return re.sub(r"^(left out: )?\S+/\S+: ", r"\1", line)
