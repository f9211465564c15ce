"""Triplets in memory on the model grid."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcmed.data.collected import CollectedSlice
from rcmed.data.controls import HealthyControl
from rcmed.data.triplets import Triplet
from rcmed.modality import Modality
from rcmed.model.processor import resized_shape, to_model_grid

VISIBLE_LIGHT = frozenset({Modality.PATHOLOGY, Modality.DERMOSCOPY, Modality.ENDOSCOPY, Modality.FUNDUS})


@dataclass(frozen=True)
class PackedTriplet:
    """A triplet on the model grid.

    Attributes:
        pixels: uint8 (3, size, size).
        masks: by name, bool (size, size), bit-packed along the last axis.
        absent: labelled names without a mask.
        shape: rows and columns of the grid that the image fills; the rest is padding.
        modality, dataset: as in the triplet.
    """

    pixels: Tensor
    masks: dict[str, NDArray[np.uint8]]
    absent: tuple[str, ...]
    shape: tuple[int, int]
    modality: Modality
    dataset: str

    def inside(self) -> Tensor:
        """Bool (1, size, size): False at padding."""
        filled = torch.zeros(1, *self.pixels.shape[1:], dtype=torch.bool)
        filled[:, : self.shape[0], : self.shape[1]] = True
        return filled

    def with_absent(self, names: tuple[str, ...]) -> PackedTriplet:
        """The same with other labelled absences."""
        return replace(self, absent=names)

    def mask(self, name: str) -> Tensor:
        """Of a target, bool (size, size); empty where it has none."""
        size = self.pixels.shape[-1]
        if name not in self.masks:
            return torch.zeros(size, size, dtype=torch.bool)
        return torch.from_numpy(np.unpackbits(self.masks[name], axis=-1, count=size).astype(bool))


def pack(triplet: Triplet, size: int) -> PackedTriplet:
    """Read a triplet and bring it onto the model grid."""
    masks = {name: _mask_on_model_grid(triplet.read_mask(name), size) for name in triplet.masks}
    absent = tuple(name for name in triplet.labelled if name not in triplet.masks)
    pixels, shape = _on_model_grid(triplet.read_pixels(), size)
    return PackedTriplet(pixels, masks, absent, shape, triplet.modality, triplet.dataset)


def pack_collected(collected: CollectedSlice, size: int) -> PackedTriplet:
    """Bring a slice of a correction onto the model grid; its data set is the annotation server's."""
    masks = {name: _mask_on_model_grid(mask, size) for name, mask in collected.masks.items()}
    pixels, shape = _on_model_grid(collected.pixels, size)
    return PackedTriplet(pixels, masks, collected.absent, shape, collected.modality, "collected")


def pack_control(control: HealthyControl, size: int) -> list[PackedTriplet]:
    """The slices of a healthy control, each without a mask."""
    packed = []
    for each in control.read_slices():
        pixels, shape = _on_model_grid(each, size)
        packed.append(PackedTriplet(pixels, {}, control.absent, shape, control.modality, control.dataset))
    return packed


def _mask_on_model_grid(mask: NDArray[np.bool_], size: int) -> NDArray[np.uint8]:
    on_grid = to_model_grid(torch.from_numpy(mask.copy()).float()[None, None], size)
    return np.packbits(on_grid[0, 0].numpy() > 0.5, axis=-1)


def _on_model_grid(pixels: NDArray[np.uint8], size: int) -> tuple[Tensor, tuple[int, int]]:
    planes = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    on_grid = to_model_grid(planes, size)[0].round().clamp(0, 255).to(torch.uint8)
    return on_grid, resized_shape(pixels.shape[0], pixels.shape[1], size)
