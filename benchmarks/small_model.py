"""Time the small model's parts on a CPU: encode an image once, ask prompts, bring their masks back; and a volume.

python benchmarks/small_model.py [MODEL_FOLDER] [--device onnx] [--repeats 15] [--slices 64, 0 for no volume]

Threads and parts take turns, so that what else the machine does meets all of them alike; every figure is the median of
the repeats. Each part is what a user waits for: "encode" begins with 8-bit pixels, "prompt" with the target's name.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch

from rcmed.assistant import Assistant
from rcmed.image import Grid, Image
from rcmed.inference.logits import SliceReader
from rcmed.inference.prompt_graph import PromptGraph
from rcmed.modality import Modality
from rcmed.model.processor import to_image_grid

ROWS, COLUMNS = 256, 256
NAMES = ("liver", "spleen", "stomach", "aorta", "pancreas", "left kidney", "right kidney", "gallbladder")
PARTS = ("encode", "1 prompt", "8 prompts", "decode", "image and prompt", "volume, 1 prompt", "volume, 4 prompts")


def blobs(slices: int, rows: int, columns: int) -> Image:
    """A made CT volume: smooth noise, so that masks are neither empty nor salt and pepper."""
    coarse = torch.randn(1, 1, max(2, slices // 8), 12, 12, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, size=(slices, rows, columns), mode="trilinear")[0, 0]
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 0.8], [0, 0.8, 0], [2.0, 0, 0]])
    return Image((smooth.numpy() * 150).astype(np.int16), Grid((slices, rows, columns), affine), Modality.CT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="small")
    parser.add_argument("--device", choices=["cpu", "onnx"], default="cpu")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--slices", type=int, default=64)
    asked = parser.parse_args()
    assistant = Assistant.from_pretrained(asked.model, "cpu")
    # Made for the threads of the last row.
    torch.set_num_threads(2)
    graph = PromptGraph.of(assistant.model) if asked.device == "onnx" else None
    reader = SliceReader(assistant.model, assistant.processor, prompt_graph=graph)
    size = assistant.processor.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (1, ROWS, COLUMNS, 3), dtype=np.uint8)
    encoded = reader.encode(pixels)
    logits, _ = reader.ground(encoded, NAMES[:1], Modality.CT)
    volume = blobs(max(1, asked.slices), ROWS, COLUMNS)
    work: dict[str, Callable[[], object]] = {
        "encode": lambda: reader.encode(pixels),
        "1 prompt": lambda: reader.ground(encoded, NAMES[:1], Modality.CT),
        "8 prompts": lambda: reader.ground(encoded, NAMES, Modality.CT),
        "decode": lambda: (to_image_grid(logits[0], ROWS, COLUMNS, size) > 0).numpy(),
        "image and prompt": lambda: list(reader.read(pixels, NAMES[:1], Modality.CT)),
        "volume, 1 prompt": lambda: assistant.find(volume, "liver"),
        "volume, 4 prompts": lambda: assistant.find(volume, list(NAMES[:4])),
    }
    times: dict[tuple[int, str], list[float]] = defaultdict(list)
    for repeat in range(asked.repeats + 1):
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for part, run in work.items():
                # Volumes take seconds: a few are enough.
                if part.startswith("volume") and (repeat > 3 or not asked.slices):
                    continue
                if not part.startswith("volume"):
                    # A further prompt follows a prompt: the first run brings its weights into the caches.
                    run()
                begin = time.perf_counter()
                run()
                if repeat:
                    times[threads, part].append(time.perf_counter() - begin)
    print(f"{ROWS} x {COLUMNS} pixels, float32, torch {torch.__version__}, median of {asked.repeats}, ms (share)")
    print("| threads | encode | one prompt | mask to image grid | image and prompt ", end="")
    print("| a further prompt | each of 8 prompts |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for threads in (1, 2):
        took = {part: statistics.median(times[threads, part]) * 1000 for part in PARTS if times[threads, part]}
        whole = took["encode"] + took["1 prompt"] + took["decode"]
        shares = [f"{took[part]:.1f} ({took[part] / whole:.0%})" for part in ("encode", "1 prompt", "decode")]
        print(
            f"| {threads} | {' | '.join(shares)} | {took['image and prompt']:.1f} "
            f"| {took['1 prompt'] + took['decode']:.1f} | {took['8 prompts'] / 8:.1f} |"
        )
    if asked.slices:
        print(
            f"\n{asked.slices} slices of {ROWS} x {COLUMNS}, all of `find`\n| threads | prompts | seconds | slices/s |"
        )
        print("| ---: | ---: | ---: | ---: |")
        for threads in (1, 2):
            for part, count in (("volume, 1 prompt", 1), ("volume, 4 prompts", 4)):
                seconds = statistics.median(times[threads, part])
                print(f"| {threads} | {count} | {seconds:.2f} | {asked.slices / seconds:.1f} |")


if __name__ == "__main__":
    main()
