"""The workstation as a user starts it, in a process of its own, and a browser that opens it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rcmed.model.packaged import model_folder

PATIENCE = 240.0


def need(name: str, package: str) -> str:
    """The path of a program; without it the test is skipped, and fails where everything must be tested."""
    path = shutil.which(name, path=f"/usr/bin:/usr/sbin:/usr/local/bin:{os.environ.get('PATH', '')}")
    if path is None:
        reason = f"{name} is not installed: install {package} (make debian-packages)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@dataclass(frozen=True)
class StartedWorkstation:
    """What `rcmed viewer` printed.

    Attributes:
        ohif: address of OHIF's list of studies.
        status_page: of the gateway.
        dicomweb: of the PACS.
        studies: folder with the studies that are in it.
    """

    ohif: str
    status_page: str
    dicomweb: str
    studies: Path

    @property
    def server(self) -> str:
        """Of MONAI Label."""
        return self.ohif.removesuffix("ohif/")


@pytest.fixture(scope="module")
def eager_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped weights, but whatever they are asked for they draw: what is in the demo's pictures matters less."""
    folder = tmp_path_factory.mktemp("eager") / "small"
    shutil.copytree(model_folder("small"), folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["presence_thresholds"][0] = 0.0
    path.write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def workstation(tmp_path_factory: pytest.TempPathFactory, eager_weights: Path) -> Iterator[StartedWorkstation]:
    need("Orthanc", "orthanc and orthanc-dicomweb")
    state = tmp_path_factory.mktemp("workstation")
    log = state / "viewer.log"
    command = [str(Path(sys.executable).with_name("rcmed")), "viewer", "--state", str(state), "--port", "0"]
    command += ["--model", str(eager_weights)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + PATIENCE
        while "OHIF: " not in log.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"rcmed viewer does not start: {log.read_text(errors='replace')}")
            time.sleep(0.1)
        said = log.read_text(errors="replace")

        def address(behind: str) -> str:
            found = re.search(rf"{behind}: (http://127\.0\.0\.1:\d+/[^\s,]*)", said)
            assert found is not None, said
            return found.group(1)

        yield StartedWorkstation(
            address("OHIF"), address("status page"), address(r"PACS \(Orthanc\)"), state / "studies"
        )
    finally:
        process.terminate()
        assert process.wait(60) == 0, log.read_text(errors="replace")


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    """A page of a headless Chromium that can draw volumes without a graphics card."""
    from playwright.sync_api import sync_playwright

    chromium = need("chromium", "chromium")
    drawing = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*drawing, "--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1600, "height": 950})
        opened.set_default_timeout(PATIENCE * 1000)
        yield opened
        browser.close()


@pytest.fixture(scope="module")
def take_picture(page: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Writes a screenshot: into the folder that RCMED_PICTURES names, as for the documentation, or a temporary one."""
    folder = Path(os.environ.get("RCMED_PICTURES") or tmp_path_factory.mktemp("pictures"))

    def take(name: str) -> Path:
        path = folder / f"{name}.png"
        page.screenshot(path=str(path))
        return path

    return take
