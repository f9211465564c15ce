"""Peak memory of reading, asking and answering a volume, against the numbers of its slices and of the targets found.

python benchmarks/memory.py [--slices 100,300,500] [--targets 1,15,45] [--edge 512] [--rle-edge 4000]

Each line is a process of its own: CT instances are read from files, every target is found with a region of a large
organ's size, many of them overlapping, described and measured, and SEG and SR are built and written. In the place of
the network stands what its logits would be: its own memory is that of a batch, whatever is asked. MB above the process
with everything imported and nothing read; `estimated` is what a job of the gateway is judged by
(`jobs.memory_megabytes`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

STATUS = Path("/proc/self/status")
# Rows and columns of the mask logits of the shipped weights.
LOGIT_GRID = 128


def kilobytes(name: str) -> int:
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1])


def peak_since_last() -> int:
    """The highest resident size since this was asked before, in kB."""
    peak = kilobytes("VmHWM")
    Path("/proc/self/clear_refs").write_text("5")
    return peak


class MadeReader:
    """Says of every target that a large ellipsoid of it is there; each lies over others."""

    def read(self, pixels: Any, names: Any, modality: Any, hints: Any) -> Iterator[Any]:
        import torch

        from rcmed.inference.answers import SliceLogits
        from rcmed.inference.logits import MASK_PIXELS_AT_ONCE, PIXELS_AT_ONCE

        slices, rows, columns = pixels.shape[:3]
        batch = max(1, min(8, PIXELS_AT_ONCE // (rows * columns)))
        # As the weights answer: on a grid of half the model's, the longest side of the image as long as it.
        height, width = (LOGIT_GRID * length / max(rows, columns) for length in (rows, columns))
        down, across = np.ogrid[:LOGIT_GRID, :LOGIT_GRID]
        for first in range(0, slices, batch):
            last = min(slices, first + batch)
            at_once = max(1, MASK_PIXELS_AT_ONCE // ((last - first) * rows * columns))
            for target in range(0, len(names), at_once):
                end = min(len(names), target + at_once)
                logits = np.zeros((end - target, last - first, LOGIT_GRID, LOGIT_GRID), dtype=np.float32)
                for number in range(target, end):
                    middle = (0.3 + 0.4 * (number % 7) / 7) * width
                    for index in range(first, last):
                        size = 0.16 * height * (1 - ((index - slices / 2) / (slices / 2 + 1)) ** 2)
                        away = np.hypot(down - height / 2, across - middle)
                        logits[number - target, index - first] = 2 * (size - away)
                said = np.full(logits.shape[:2], 0.95, dtype=np.float32)
                grid = 2 * LOGIT_GRID
                yield SliceLogits(first, torch.from_numpy(logits), rows, columns, grid, said, said, target)


def assistant() -> Any:
    import torch

    from rcmed.assistant import Assistant
    from rcmed.findings import ModelIdentity
    from rcmed.model.config import RCMedConfig

    config = RCMedConfig(presence_thresholds=(0.25, 0.6), tiled_targets=())
    model: Any = SimpleNamespace(config=config, eval=lambda: model, device="cpu")
    processor: Any = SimpleNamespace(surroundings=lambda: (torch.zeros(1), torch.zeros(1)), image_size=2 * LOGIT_GRID)
    made = Assistant(model, processor, ModelIdentity("made", "1", "0" * 64))
    made._reader = MadeReader()  # type: ignore[assignment]
    return made


def measure(files: list[Path], targets: int) -> dict[str, int]:
    """Peaks of the steps in MB, in this process."""
    from dicom_bridge.jobs.loading import load_libraries
    from dicom_bridge.jobs.memory import JobMemory
    from dicom_bridge.results.dicom_writer import write_results
    from dicom_bridge.series.headers.extent import pixel_extent
    from dicom_bridge.series.images import read_series
    from rcmed.description import DeterministicDescriber, describe_findings
    from rcmed.findings import Findings
    from rcmed.modality import Modality
    from rcmed.vocabulary.named import private_target

    load_libraries()
    asked = assistant()
    # Names of nobody's anatomy: nothing of what is made up is implausible.
    wanted = [private_target(f"region {number}", list(Modality)) for number in range(targets)]
    estimated = JobMemory.of(pixel_extent(file, 2**40) for file in files).bytes
    peak_since_last()
    start = kilobytes("VmRSS")
    (image,) = read_series(files).images
    peaks = {"read": peak_since_last()}
    found = describe_findings(image, asked.find_targets(image, wanted), DeterministicDescriber())
    findings = Findings(tuple(found), asked.identity, image.grid, image.modality, "made")
    assert all(finding.is_present for finding in found)
    peaks["find"] = peak_since_last()
    with tempfile.TemporaryDirectory() as folder:
        refusals = write_results(image, findings, Path(folder))
        assert not refusals, refusals
    peaks["results"] = peak_since_last()
    return {
        "slices": image.grid.shape[0],
        "edge": image.grid.shape[1],
        "targets": targets,
        **{name: (peak - start) // 1000 for name, peak in peaks.items()},
        "estimated": estimated // 1_000_000,
    }


def large_picture(folder: Path, edge: int) -> list[Path]:
    """A radiograph of edge x edge pixels of 16 bits, as RLE."""
    import pydicom
    from ct_instances import write_study
    from pydicom.uid import DigitalXRayImageStorageForPresentation, RLELossless

    (file,) = write_study(folder, "large", 1, edge)
    dataset = pydicom.dcmread(file)
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.Modality, dataset.PixelData = "DX", bytes(edge * edge * 2)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.compress(RLELossless)
    dataset.save_as(file, enforce_file_format=True)
    return [file]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", default="100,300,500")
    parser.add_argument("--targets", default="1,15,45")
    parser.add_argument("--edge", type=int, default=512)
    parser.add_argument("--rle-edge", type=int, default=4000, help="of one large radiograph; 0: none")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        told = json.loads(options.one)
        print(json.dumps(measure([Path(file) for file in told["files"]], told["targets"])))
        return
    from ct_instances import write_study

    print("| slices | edge | targets | read, MB | find, MB | results, MB | estimated, MB |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        cases = [
            (write_study(Path(folder) / slices, "memory", int(slices), options.edge), int(targets))
            for slices in options.slices.split(",")
            for targets in options.targets.split(",")
        ]
        if options.rle_edge:
            cases.append((large_picture(Path(folder) / "large", options.rle_edge), 15))
        for files, targets in cases:
            told = json.dumps({"files": [str(file) for file in files], "targets": targets})
            command = [sys.executable, __file__, "--one", told]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            print("| " + " | ".join(str(value) for value in found.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
