"""Time the published size on a GPU: vision, language prefix, a prompt, the way back; random weights do.

python benchmarks/full_model.py [--device cuda|cpu|meta] [--width full|reduced]

On the device "meta" nothing is computed and only the operations are counted. At reduced width (an eighth; depth and
shapes as published) it runs on a CPU in float32, to see that the script works and that a further prompt is cheap.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from rcmed.model.config import RCMedConfig
from rcmed.model.modeling import EncodedImage, PromptTokens, RCMedModel
from rcmed.model.processor import to_image_grid

REPEATS, WARM_UP = 20, 5
REPEATS_ON_CPU, WARM_UP_ON_CPU = 3, 1
BEFORE, BEHIND, PROMPT = 45, 12, 64
ROWS, COLUMNS = 448, 512
# Dense bf16, in TFLOP/s, as the makers state them.
PEAKS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0}
# An eighth of every width; depth, picture and text as published.
REDUCED = {
    "prompt_size": 32,
    "language": {
        "vocab_size": 32007,
        "hidden_size": 512,
        "intermediate_size": 1376,
        "num_hidden_layers": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
    "segment_anything": {
        "vision": {
            "hidden_size": 160,
            "num_hidden_layers": 32,
            "num_attention_heads": 2,
            "global_attn_indexes": [7, 15, 23, 31],
            "window_size": 14,
            "output_channels": 32,
        },
        "mask_decoder": {"mlp_dim": 256, "iou_head_hidden_dim": 32},
    },
}


def build(width: str, device: torch.device) -> RCMedModel:
    """A model with random weights, bf16 but on a CPU, built on the device itself."""
    config = RCMedConfig.full(**(REDUCED if width == "reduced" else {}))
    with torch.device("meta"):
        model = RCMedModel(config)
    model = model.to(data_type(device)).to_empty(device=device).eval()
    if device.type == "meta":
        return model
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            if value.is_floating_point():
                value.normal_(0.0, 0.02)
    return model


def data_type(device: torch.device) -> torch.dtype:
    """Many a CPU computes bf16 an order of magnitude slower than float32."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def milliseconds(work: Callable[[], object], device: torch.device) -> float:
    """The median of some repeats, each from an idle device to an idle device."""
    repeats, warm_up = (REPEATS, WARM_UP) if device.type == "cuda" else (REPEATS_ON_CPU, WARM_UP_ON_CPU)
    times = []
    for number in range(repeats + warm_up):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        begin = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number >= warm_up:
            times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)


def teraflops(work: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counted:
        work()
    return counted.get_total_flops() / 1e12


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--width", choices=("full", "reduced"), default="full")
    given = parser.parse_args()
    device = torch.device(given.device)
    model = build(given.width, device)
    size = model.config.image_size
    pixels = torch.randn(1, 3, size, size, dtype=data_type(device), device=device)
    before = torch.ones(BEFORE, dtype=torch.long, device=device)
    behind = torch.ones(BEHIND, dtype=torch.long, device=device)
    which = torch.zeros(1, dtype=torch.long, device=device)
    prompt = PromptTokens(
        torch.ones(1, PROMPT, dtype=torch.long, device=device),
        torch.ones(1, PROMPT, dtype=torch.bool, device=device),
        torch.tensor([PROMPT - 1], device=device),
        torch.zeros(1, PROMPT, dtype=torch.bool, device=device),
    )
    features = model.vision(pixels)
    encoded: EncodedImage = model.encode(pixels, before, behind)
    logits = model.ground(encoded, which, prompt).mask_logits
    assert logits is not None

    def back() -> torch.Tensor:
        return to_image_grid(logits, ROWS, COLUMNS, size) > 0

    parts: dict[str, Callable[[], object]] = {
        "vision": lambda: model.vision(pixels),
        "language prefix": lambda: model.language.encode_prefix(features.tokens, before, behind),
        "one prompt": lambda: model.ground(encoded, which, prompt),
        "mask to image grid": back,
        "image and one prompt": lambda: (
            to_image_grid(model(pixels, before, behind, which, prompt).mask_logits, ROWS, COLUMNS, size) > 0
        ),
    }
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    peak = next((value for key, value in PEAKS.items() if key in name), None)
    how = f"{data_type(device)}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    print(f"{name}, {given.width} width, {how}")
    print(f"encoded image: {encoded.nbytes / 2**20:.0f} MiB")
    print("| part | ms | TFLOP | of the peak |")
    print("| --- | ---: | ---: | ---: |")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for part, work in parts.items():
        done = teraflops(work)
        if device.type == "meta":
            print(f"| {part} | - | {done:.4f} | - |")
            continue
        spent = milliseconds(work, device)
        share = f"{done / (spent / 1000) / peak:.0%}" if peak else "-"
        print(f"| {part} | {spent:.2f} | {done:.4f} | {share} |")
    if device.type == "cuda":
        print(f"peak memory: {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB")


if __name__ == "__main__":
    main()
