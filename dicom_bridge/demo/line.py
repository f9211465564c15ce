"""The demo's line: a modality sends, the gateway finds, a PACS receives; what came back is checked and shown."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pydicom
from PIL import Image as PillowImage
from pydicom.dataset import Dataset
from rich.console import Console

from dicom_bridge.delivery.dimse.sending import send_files
from dicom_bridge.demo.archive import Archive
from dicom_bridge.demo.returned import find_problems, is_report
from dicom_bridge.demo.studies import DESTINATION, DemoStudy
from dicom_bridge.demo.table import Row, print_table, rows_of
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.jobs.answer_writer import FINDINGS_FILE, FindsInImages, job_folder
from dicom_bridge.results.segmentations.reading import is_segmentation, read_segments
from dicom_bridge.series.images import read_series
from dicom_bridge.settings import GatewaySettings
from rcmed.errors import InputError
from rcmed.evaluation.overlays import best_slice, paint_overlay
from rcmed.findings import Finding, FindingStatus
from rcmed.image import Image
from rcmed.vocabulary import target_named

PATIENCE_SECONDS = 1800.0


def run_line(studies: Sequence[DemoStudy], assistant: FindsInImages, output: Path, console: Console) -> list[str]:
    """Take studies through the whole line and write what came back under `output`, a folder for each study.

    Returns:
        what does not hold, a line each.
    """
    rows: list[Row] = []
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="rcmed-demo-") as temporary, Archive(Path(temporary) / "pacs") as archive:
        settings = gateway_settings(Path(temporary) / "state", studies, archive.ae_title, archive.port)
        with Gateway(settings, assistant) as gateway:
            console.print(
                f"gateway on 127.0.0.1:{gateway.ports.dicom}, status page http://127.0.0.1:{gateway.ports.web}/, "
                f"PACS on 127.0.0.1:{archive.port}",
                soft_wrap=True,
            )
            for study in studies:
                folder = output / study.name
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                console.print(f"{study.name}: {len(study.files)} instances ...")
                try:
                    send_files(study.files, "127.0.0.1", gateway.ports.dicom, settings.receive.ae_title, "MODALITY")
                except InputError as error:
                    problems.append(f"{study.name}: {error}")
                    continue
                began = time.monotonic()
                jobs = gateway.wait_for_study(study.study_uid, PATIENCE_SECONDS)
                seconds = time.monotonic() - began
                for line in gateway.index.lines(study.study_uid):
                    console.print(f"  {line.level}: {line.text}", soft_wrap=True, markup=False)
                results = [r for r in archive.received() if str(r.StudyInstanceUID) == study.study_uid]
                for job in jobs:
                    for path in sorted(job_folder(gateway.root, job.job_id).glob(f"**/{FINDINGS_FILE}")):
                        rows += rows_of(study.name, json.loads(path.read_text(encoding="utf-8")), seconds)
                        name = FINDINGS_FILE if len(jobs) == 1 else f"findings-{job.job_id[:8]}-{path.parent.name}.json"
                        shutil.copyfile(path, folder / name)
                problems += [f"{study.name}: {problem}" for problem in _check_and_draw(study, results, folder)]
    print_table(rows, console)
    console.print(f"{output}/: pictures drawn from the SEGs that came back, SEG, SR, findings.json", soft_wrap=True)
    return problems


def gateway_settings(state: Path, studies: Sequence[DemoStudy], pacs_ae: str, pacs_port: int) -> GatewaySettings:
    """A gateway on free ports that asks the studies what their routes say and sends results to a PACS on loopback."""
    routes = {study.route.name: study.route.model_dump(mode="json") for study in studies}
    pacs = {"type": "c_store", "host": "127.0.0.1", "port": pacs_port, "called_ae": pacs_ae}
    return GatewaySettings.model_validate(
        {
            "state_folder": str(state),
            "receive": {"port": 0},
            "completion": {"quiet_seconds": 5.0, "released_seconds": 0.2},
            "jobs": {"polling_seconds": 0.05},
            "web": {"port": 0},
            "routing": {"routes": list(routes.values()), "destinations": {DESTINATION: pacs}},
        }
    )


def _check_and_draw(study: DemoStudy, results: Sequence[Dataset], folder: Path) -> list[str]:
    """Write SEG and SR, draw every segment on its own image, and say what does not hold."""
    sent = [pydicom.dcmread(path, stop_before_pixels=True) for path in study.files]
    images = {image.series_instance_uid: image for image in read_series(study.files).images}
    for number, result in enumerate([r for r in results if is_segmentation(r) or is_report(r)], start=1):
        kind = "segmentation" if is_segmentation(result) else "report"
        name = f"{kind}.dcm" if len(results) <= 2 else f"{number:02d}-{kind}.dcm"
        result.save_as(folder / name, enforce_file_format=True)
        if is_segmentation(result):
            source = str(result.ReferencedSeriesSequence[0].SeriesInstanceUID)
            if source in images:
                _draw(result, images[source], folder)
    return find_problems(sent, results)


def _draw(segmentation: Dataset, image: Image, folder: Path) -> None:
    for segment in read_segments(segmentation, image):
        # Two findings of one target are numbered.
        target = target_named(re.sub(r" \d+$", "", segment.label))
        finding = Finding(segment.label, target, FindingStatus.FOUND, mask=segment.mask)
        picture = paint_overlay(image, [finding], best_slice(image, finding))
        file = "".join(c if c.isalnum() else "_" for c in segment.label)
        PillowImage.fromarray(picture).save(folder / f"overlay-{file}.png")
