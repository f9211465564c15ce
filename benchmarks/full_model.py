"""Time the published size on a GPU: vision, language prefix, a prompt, the way back; random weights do.

python benchmarks/full_model.py [--device cuda] [--width full|reduced]

At reduced width it runs on a CPU, to see that the script works; its figures mean nothing then.
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
BEFORE, BEHIND, PROMPT = 45, 12, 64
ROWS, COLUMNS = 448, 512
# Dense bf16, in TFLOP/s, as the makers state them.
PEAKS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0}
REDUCED = {
    "image_size": 128,
    "prompt_size": 32,
    "language": {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
    "segment_anything": {
        "vision": {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "global_attn_indexes": [1],
            "output_channels": 32,
        },
        "mask_decoder": {"mlp_dim": 64, "iou_head_hidden_dim": 32},
    },
}


def build(width: str, device: torch.device) -> RCMedModel:
    """A model with random weights, bf16, built on the device itself."""
    config = RCMedConfig.full(**(REDUCED if width == "reduced" else {}))
    with torch.device("meta"):
        model = RCMedModel(config)
    model = model.to(torch.bfloat16).to_empty(device=device).eval()
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            if value.is_floating_point():
                value.normal_(0.0, 0.02)
    return model


def milliseconds(work: Callable[[], object], device: torch.device) -> float:
    """The median of REPEATS, each from an idle device to an idle device."""
    times = []
    for number in range(REPEATS + WARM_UP):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        begin = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number >= WARM_UP:
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
    pixels = torch.randn(1, 3, size, size, dtype=torch.bfloat16, device=device)
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
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    peak = next((value for key, value in PEAKS.items() if key in name), None)
    print(f"{name}, {given.width} width, bf16, torch {torch.__version__}, median of {REPEATS}")
    print(f"encoded image: {encoded.nbytes / 2**20:.0f} MiB")
    print("| part | ms | TFLOP | of the peak |")
    print("| --- | ---: | ---: | ---: |")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for part, work in parts.items():
        spent, done = milliseconds(work, device), teraflops(work)
        share = f"{done / (spent / 1000) / peak:.0%}" if peak else "-"
        print(f"| {part} | {spent:.2f} | {done:.4f} | {share} |")
    if device.type == "cuda":
        print(f"peak memory: {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB")


if __name__ == "__main__":
    main()
