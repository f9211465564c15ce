"""Regions in words, from geometry and pixels alone: the same masks always give the same words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rcmed.description.appearance import appearance
from rcmed.description.describer import shortened
from rcmed.description.place import body_side, image_place, slice_range
from rcmed.description.region import Region
from rcmed.description.relations import listed, relations
from rcmed.description.shape import ShapeFactors, outline_word, shape_factors, shape_word
from rcmed.image import Image
from rcmed.measurements import find_parts, is_three_dimensional, longest_diameter

_CUBIC_MILLIMETRES_PER_MILLILITRE = 1000.0


class DeterministicDescriber:
    """The default describer: name, parts, shape, size, place; border, brightness, texture; relations."""

    def describe(self, image: Image, masks: Mapping[str, NDArray[np.bool_]]) -> dict[str, str]:
        """As `Describer` says; lengths in mm, areas in mm2, volumes in ml, pixels where the grid has no millimetres.

        Shape, border, brightness and texture are those of the slice where the region is largest.
        """
        found = {name: Region.of(name, mask, image) for name, mask in masks.items()}
        regions = [region for region in found.values() if region is not None]
        return {name: "" if region is None else _paragraph(region, regions) for name, region in found.items()}


def _paragraph(region: Region, regions: Sequence[Region]) -> str:
    parts = find_parts(region.crop)
    factors = shape_factors(region, parts)
    name = f"{region.name[:1].upper()}{region.name[1:]}"
    sentences = [f"{name}: {', '.join(_geometry(region, factors, len(parts.sizes)))}."]
    looks = _looks(region, factors)
    if looks:
        sentences.append(looks)
    lies = relations(region, regions)
    if lies:
        sentences.append(f"It {listed(lies)}.")
    return shortened(" ".join(sentences))


def _geometry(region: Region, factors: ShapeFactors, count: int) -> list[str]:
    word = shape_word(factors)
    if count == 1:
        phrases = [f"one {word} region"]
    else:
        phrases = [f"{count} regions, the largest {word}"]
    phrases += [_size(region, count), image_place(region)]
    side = body_side(region)
    if side:
        phrases.append(f"towards the patient's {side}")
    slices = slice_range(region)
    if slices:
        phrases.append(slices)
    return phrases


def _size(region: Region, count: int) -> str:
    image = region.image
    largest = region.packed[region.largest_slice]
    unit = "mm" if image.grid.in_millimetres else "pixels"
    extent = f"{_number(longest_diameter(largest, image))} {unit}"
    across = f"up to {extent} across" if count == 1 else f"spread over {extent}"
    pixels = int(np.count_nonzero(largest))
    if is_three_dimensional(image):
        if image.grid.in_millimetres:
            volume = region.voxels * image.grid.voxel_volume / _CUBIC_MILLIMETRES_PER_MILLILITRE
            return f"{_number(volume)} ml, {across} in a slice"
        share = 100 * region.voxels / float(np.prod(image.grid.shape))
        return f"{region.voxels} voxels ({_number(share)}% of the volume)"
    if image.grid.in_millimetres:
        return f"{_number(pixels * image.grid.pixel_area)} mm2, {across}"
    share = 100 * pixels / float(np.prod(image.grid.shape[1:]))
    return f"{pixels} pixels ({_number(share)}% of the image), {across}"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _looks(region: Region, factors: ShapeFactors) -> str | None:
    seen = appearance(region)
    outline = outline_word(factors)
    if seen is None:
        return None if outline is None else f"Its outline is {outline}."
    border = seen.border if outline is None else f"{seen.border} and {outline}"
    texture = "" if seen.texture is None else f", with {seen.texture}"
    return f"Its border is {border}. It is {seen.brightness} its surroundings{texture}."
