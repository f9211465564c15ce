"""Where a model computes: the words for it, and whether it is there; asked before any weights are read."""

from __future__ import annotations

from rcmed.errors import ConfigurationError

ONNX = "onnx"


def usable_device(name: str) -> str:
    """What torch calls the device of a name: "auto" is a GPU if there is one, "onnx" a CPU.

    Raises:
        ConfigurationError: no device has this name, or this machine has none.
    """
    import torch

    if name == ONNX:
        return "cpu"
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigurationError(f"device {name!r}: there is none of this name; use auto, cpu, cuda or onnx") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ConfigurationError(f"device {name}: torch can use {count} GPUs of this machine; use cpu or auto")
    if device.type not in ("cpu", "cuda") and not torch.get_device_module(device).is_available():
        raise ConfigurationError(f"device {name}: this machine has none that torch can use; use cpu or auto")
    return name
