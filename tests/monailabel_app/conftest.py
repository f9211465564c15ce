from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image as PillowImage

from monailabel_app.main import RCMedApp
from monailabel_app.server.application import create_server
from monailabel_app.settings import AnnotateSettings
from rcmed.findings import Finding, Findings, FindingStatus, ModelIdentity
from rcmed.hints import Hint
from rcmed.image import Image
from rcmed.vocabulary import Target, load_targets, resolve_targets

MakeMask = Callable[[Image], NDArray[np.bool_]]
TARGETS = ("liver", "spleen", "liver tumor", "optic disc", "retinal vessel", "left kidney")


def block(first: tuple[int, int, int], last: tuple[int, int, int]) -> MakeMask:
    """Makes a mask that is a box of voxels (slice, row, column), `last` exclusive."""

    def make(image: Image) -> NDArray[np.bool_]:
        mask = np.zeros(image.grid.shape, dtype=bool)
        mask[tuple(slice(low, high) for low, high in zip(first, last, strict=True))] = True
        return mask

    return make


class StubAssistant:
    """Finds the boxes that it was given, and notes what it was asked."""

    identity = ModelIdentity("RCMed stub", "0", "0" * 64)

    def __init__(self, takes_hints: bool = False, **masks: MakeMask) -> None:
        self.takes_hints = takes_hints
        self.takes_hints_without_name = False
        self.trained_targets = TARGETS
        self.masks = {name.replace("_", " "): make for name, make in masks.items()}
        self.asked: list[tuple[list[str], dict[int, Hint]]] = []
        self.busy_seconds = 0.0

    def known_targets(self, image: Image) -> list[Target]:
        return [t for t in load_targets() if t.name in TARGETS and image.modality in t.modalities]

    def find(
        self, image: Image, prompts: str | Sequence[str] = "", hints: Mapping[int, Hint] | None = None
    ) -> Findings:
        self.asked.append((list(prompts), dict(hints or {})))
        # Holds the interpreter, as a part of real work does; a sleeping thread would be too easy.
        until = time.monotonic() + self.busy_seconds
        while time.monotonic() < until:
            sum(range(1000))
        findings: list[Finding] = []
        asked = [part.strip() for text in prompts for part in re.split("[;\n]", text) if part.strip()]
        for prompt in asked or [t.name for t in self.known_targets(image) if t.name in self.masks]:
            resolution = resolve_targets(prompt, image.modality)
            for target in resolution.targets:
                if target.name in self.masks:
                    mask = self.masks[target.name](image)
                    findings.append(Finding(prompt, target, FindingStatus.FOUND, 0.9, mask))
                else:
                    findings.append(Finding(prompt, target, FindingStatus.ABSENT, 0.1))
            findings += [Finding(prompt, None, FindingStatus.UNRESOLVED, reason=r) for r in resolution.unresolved]
        return Findings(tuple(findings), self.identity, image.grid, image.modality, answer="A stub's answer.")


def write_volume(path: Path, shape: tuple[int, int, int] = (5, 6, 7)) -> None:
    """A CT volume (slice, row, column) with distinct voxels, spacing and origin."""
    voxels = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((2.0, 1.5, 3.0))
    image.SetOrigin((-30.0, 20.0, -100.0))
    sitk.WriteImage(image, str(path))


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    write_volume(folder / "ct--body.nii.gz")
    rng = np.random.default_rng(0)
    PillowImage.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(folder / "fundus--eye.png")
    return folder


@pytest.fixture
def stub() -> StubAssistant:
    return StubAssistant(
        liver=block((1, 1, 1), (4, 5, 6)),
        liver_tumor=block((2, 2, 2), (3, 4, 4)),
        optic_disc=block((0, 3, 4), (1, 8, 9)),
        retinal_vessel=block((0, 7, 0), (1, 9, 30)),
    )


Make = Callable[..., TestClient]


@pytest.fixture
def make_client(tmp_path: Path, studies: Path, stub: StubAssistant) -> Iterator[Make]:
    """Makes a client of a server in this process; settings by keyword."""
    clients: list[TestClient] = []

    def make(assistant: Any = None, **given: Any) -> TestClient:
        settings = AnnotateSettings.of(**{"studies": str(studies), "state": tmp_path / "state", **given})
        folder = settings.state / "app"
        folder.mkdir(parents=True, exist_ok=True)
        settings.save(folder / "settings.json")
        served = RCMedApp(str(folder), settings.studies, {}, assistant or stub)
        client = TestClient(
            create_server(served, settings), base_url="http://127.0.0.1:8000", raise_server_exceptions=False
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        observer = getattr(client.app.state.monailabel.datastore(), "_observer", None)  # type: ignore[attr-defined]
        if observer is not None:
            observer.stop()


@pytest.fixture
def client(make_client: Make) -> TestClient:
    return make_client()


@pytest.fixture
def make_stub() -> type[StubAssistant]:
    """Makes an assistant that finds the given masks."""
    return StubAssistant


@pytest.fixture
def blocks() -> Callable[..., MakeMask]:
    """Makes a maker of masks that are a box."""
    return block


@pytest.fixture
def volume_writer() -> Callable[..., None]:
    """Writes a CT volume."""
    return write_volume
