"""From the last instance received to SEG and SR delivered, against the time of the model alone.

python benchmarks/line.py [STUDY_FOLDER] [--prompts "hippocampus; brain tumor"] [--repeats 1]

Without a folder: the MNI152 brain as an MR series of 189 slices. One gateway in this process with the packaged small
model, loaded as `rcmed serve` loads it and before the first study comes; the study comes by C-STORE and results go to a
folder. The model's time is what its `find` takes; the wait for completion is a setting (`completion.released_seconds`,
1 s here) and stated apart; everything else is overhead. Needs nothing more than what `make set-up` installs.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pydicom
import torch
from pydicom.uid import generate_uid

from dicom_bridge.delivery.dimse.sending import find_dicom_files, send_files
from dicom_bridge.demo.instances import brain_series
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.jobs.answer_writer import FindsInImages
from dicom_bridge.jobs.loading import LoadingAssistant
from dicom_bridge.settings import GatewaySettings, ModelSettings
from rcmed.findings import Findings
from rcmed.image import Image

COMPLETION_SECONDS = 1.0
PATIENCE_SECONDS = 3600.0
STEPS = ("read", "find", "results")


class TimedAssistant:
    """Measures `find`."""

    def __init__(self, assistant: FindsInImages) -> None:
        self._assistant = assistant
        self.identity = assistant.identity
        self.seconds = 0.0

    def find(self, image: Image, prompts: str | Sequence[str]) -> Findings:
        begun = time.perf_counter()
        try:
            return self._assistant.find(image, prompts)
        finally:
            self.seconds += time.perf_counter() - begun


def write_study(source: Path | None, folder: Path, repeat: int) -> list[Path]:
    """The study under UIDs of its own, so that each repeat is new work."""
    datasets = brain_series() if source is None else [pydicom.dcmread(path) for path in find_dicom_files(source)]
    folder.mkdir(parents=True)
    files = []
    for number, dataset in enumerate(datasets):
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            if keyword in dataset:
                setattr(dataset, keyword, generate_uid(entropy_srcs=[str(dataset[keyword].value), str(repeat)]))
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        files.append(folder / f"{number:04d}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    return files


def settings(state: Path, prompts: Sequence[str]) -> GatewaySettings:
    return GatewaySettings.model_validate(
        {
            "state_folder": str(state),
            "receive": {"port": 0},
            "completion": {"quiet_seconds": 60, "released_seconds": COMPLETION_SECONDS},
            "web": {"port": 0},
            "routing": {
                "routes": [{"name": "line", "prompts": list(prompts), "destinations": ["results"]}],
                "destinations": {"results": {"type": "folder", "path": "results"}},
            },
        }
    )


def step_seconds(gateway: Gateway) -> dict[str, float]:
    value = gateway.metrics.registry.get_sample_value
    return {step: value("rcmed_step_seconds_sum", {"step": step}) or 0.0 for step in STEPS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", type=Path)
    parser.add_argument("--prompts", default="hippocampus; brain tumor")
    parser.add_argument("--repeats", type=int, default=1)
    asked = parser.parse_args()
    prompts = [prompt.strip() for prompt in asked.prompts.split(";") if prompt.strip()]
    loading = LoadingAssistant.from_settings(ModelSettings(name="small"))
    assistant = TimedAssistant(loading)
    with (
        tempfile.TemporaryDirectory(prefix="rcmed-line-") as work,
        Gateway(settings(Path(work) / "state", prompts), assistant) as gateway,
    ):
        loading.begin()
        while not loading.is_loaded:
            time.sleep(0.1)
        print(f"prompts {', '.join(prompts)}; {torch.get_num_threads()} threads of {os.cpu_count()} cores; seconds")
        print(
            "| slices | results | last instance to delivery | completion's wait | model | read | SEG and SR | rest |",
            end="",
        )
        print(" overhead beyond the model |\n| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        for repeat in range(asked.repeats):
            files = write_study(asked.study, Path(work) / f"study-{repeat}", repeat)
            study_uid = str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
            before, assistant.seconds = step_seconds(gateway), 0.0
            send_files(files, "127.0.0.1", gateway.ports.dicom, "RCMED")
            [job] = gateway.wait_for_study(study_uid, PATIENCE_SECONDS)
            study = gateway.index.study(study_uid)
            assert study is not None and job.finished_at is not None, job.error
            delivered = sorted((gateway.root / "results" / study_uid).iterdir())
            kinds = " + ".join(str(pydicom.dcmread(path, stop_before_pixels=True).Modality) for path in delivered)
            took = {step: seconds - before[step] for step, seconds in step_seconds(gateway).items()}
            whole = job.finished_at - study.last_received_at
            model = assistant.seconds
            overhead = whole - COMPLETION_SECONDS - model
            rest = overhead - took["read"] - took["results"]
            print(
                f"| {len(files)} | {kinds} | {whole:.2f} | {COMPLETION_SECONDS:.2f} | {model:.2f} | {took['read']:.2f} "
                f"| {took['results']:.2f} | {rest:.2f} | {overhead:.2f} s, {overhead / model:.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
