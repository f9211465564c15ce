"""Time the small model's parts on a CPU: encode an image once, ground a prompt, bring its mask back.

python benchmarks/small_model.py [MODEL_FOLDER]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from rcmed.assistant import Assistant
from rcmed.image import Modality
from rcmed.model.inference import SliceReader
from rcmed.model.processor import to_image_grid

REPEATS = 20
ROWS, COLUMNS = 448, 512


def milliseconds(work: Callable[[], object]) -> float:
    """The median of REPEATS, after three that are thrown away."""
    times = []
    for number in range(REPEATS + 3):
        begin = time.perf_counter()
        work()
        if number >= 3:
            times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)


def main(model: str) -> None:
    assistant = Assistant.from_pretrained(model, "cpu")
    reader = SliceReader(assistant.model, assistant.processor)
    pixels = np.random.default_rng(0).integers(0, 256, (1, ROWS, COLUMNS, 3), dtype=np.uint8)
    print(f"{ROWS} x {COLUMNS} pixels, float32, torch {torch.__version__}, median of {REPEATS}, ms")
    print("| threads | encode | 1 prompt | 8 prompts | mask to image grid | all, 1 prompt | encode's share |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        encoded = reader.encode(pixels)
        logits, _ = reader.ground(encoded, ["liver"], Modality.CT)
        encode = milliseconds(lambda: reader.encode(pixels))
        one = milliseconds(lambda: reader.ground(encoded, ["liver"], Modality.CT))  # noqa: B023
        eight = milliseconds(lambda: reader.ground(encoded, ["liver"] * 8, Modality.CT))  # noqa: B023
        back = milliseconds(lambda: to_image_grid(logits[0], ROWS, COLUMNS, reader.processor.image_size))  # noqa: B023
        whole = encode + one + back
        print(
            f"| {threads} | {encode:.1f} | {one:.1f} | {eight:.1f} | {back:.1f} | {whole:.1f} | {encode / whole:.0%} |"
        )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "small")
