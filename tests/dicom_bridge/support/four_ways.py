"""One input in four ways: as a file or files, as a folder, by C-STORE and by STOW; what is found each time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pydicom

from dicom_bridge.delivery.dimse.c_store import store_files
from dicom_bridge.delivery.dimse.outgoing import read_outgoing
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.jobs.answer_writer import FindsInImages
from dicom_bridge.settings import GatewaySettings
from rcmed.findings import Findings, ModelIdentity
from rcmed.image import Image
from rcmed.readers import read_images

_PATIENCE = 300.0
Answer = tuple[Any, ...]
"""Of one image: its instances, where it lies, its modality, and each finding with a digest of its mask."""


class Recording:
    """An assistant that keeps what it answered, whoever asks."""

    def __init__(self, assistant: FindsInImages) -> None:
        self._assistant = assistant
        self.answers: list[Answer] = []

    @property
    def identity(self) -> ModelIdentity:
        return self._assistant.identity

    def find(self, image: Image, prompts: str | Sequence[str]) -> Findings:
        findings = self._assistant.find(image, prompts)
        self.answers.append(_answer(image, findings))
        return findings

    def take(self) -> list[Answer]:
        """What was answered since it was asked before, in the order of the instances."""
        answers, self.answers = self.answers, []
        return sorted(answers, key=lambda answer: answer[0])


def found_by_file(assistant: Recording, file: Path, prompts: Sequence[str]) -> list[Answer]:
    """As `rcmed find FILE` does."""
    for image in read_images(file):
        assistant.find(image, prompts)
    return assistant.take()


def found_in_folder(assistant: Recording, files: Sequence[Path], folder: Path, prompts: Sequence[str]) -> list[Answer]:
    """As `rcmed find FOLDER` does, of a folder that holds these files."""
    folder.mkdir(parents=True)
    for number, file in enumerate(files):
        (folder / f"{number}.dcm").write_bytes(file.read_bytes())
    return found_by_file(assistant, folder, prompts)


def found_by_gateway(
    assistant: Recording, inputs: Sequence[Sequence[Path]], state: Path, prompts: Sequence[str], by_stow: bool
) -> list[list[Answer]]:
    """What a gateway finds in each of these inputs, which it gets one after another."""
    settings = GatewaySettings.model_validate(
        {
            "state_folder": str(state),
            "receive": {"port": 0, "minimum_free_megabytes": 0},
            "completion": {"quiet_seconds": 5, "released_seconds": 0.1},
            "jobs": {"polling_seconds": 0.05},
            "web": {"port": 0},
            "routing": {
                "routes": [{"name": "all", "prompts": list(prompts), "destinations": ["results"]}],
                "destinations": {"results": {"type": "folder", "path": "results"}},
            },
        }
    )
    found = []
    with Gateway(settings, assistant) as gateway:
        for files in inputs:
            if by_stow:
                _post(gateway, files)
            else:
                _store(gateway, files)
            gateway.wait_for_study(str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID), _PATIENCE)
            found.append(assistant.take())
    return found


def _store(gateway: Gateway, files: Sequence[Path]) -> None:
    outcomes = store_files(
        [read_outgoing(file) for file in files],
        host="127.0.0.1",
        port=gateway.ports.dicom,
        called_ae="RCMED",
        calling_ae="CT01",
        timeout_seconds=60,
    )
    assert [outcome.status for outcome in outcomes] == [0] * len(files)


def _post(gateway: Gateway, files: Sequence[Path]) -> None:
    parts = b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + file.read_bytes() + b"\r\n" for file in files)
    kind = 'multipart/related; type="application/dicom"; boundary=b'
    url = f"http://127.0.0.1:{gateway.ports.web}/dicom-web/studies"
    answer = httpx.post(url, content=parts + b"--b--\r\n", headers={"Content-Type": kind}, timeout=60)
    assert answer.status_code == 200, answer.text


def _answer(image: Image, findings: Findings) -> Answer:
    told = tuple(
        (
            finding.prompt,
            finding.status,
            finding.presence,
            None if finding.mask is None else hashlib.sha256(finding.mask.tobytes()).hexdigest(),
            finding.boxes,
            finding.measurements,
            finding.description,
            finding.reason,
        )
        for finding in findings.findings
    )
    instances = tuple((source.sop_instance_uid, source.frame_number) for source in image.sources)
    where = (image.grid.shape, image.grid.affine.tobytes(), image.grid.in_millimetres, image.is_volume)
    return (str(instances), where, image.modality, image.unit, told)
