"""A DICOM Segmentation of a slide: in tiles, in the slide's frame of reference (PS3.3 A.51, C.7.6.17.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from highdicom.seg import Segmentation, SegmentDescription
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from dicom_bridge.results.references import ImageReference
from dicom_bridge.results.segmentations.segments import label_map
from dicom_bridge.results.sources.source import Source
from rcmed.errors import InputError
from rcmed.packed_mask import PackedMask


class NoSlideSegmentationError(InputError):
    """No SEG can be built of a slide; its report stands alone."""


def make_slide(
    source: Source, masks: Sequence[PackedMask], segments: Sequence[SegmentDescription], common: dict[str, Any]
) -> Segmentation:
    """A SEG in tiles of the source's size, only those that hold something, each derived from the slide as a whole.

    Args:
        source: of a slide that a SEG may be built of.
        masks: of one slice, one for each segment.
        segments: their descriptions.
        common: further arguments of highdicom's constructor.
    Raises:
        NoSlideSegmentationError: the slide lacks what highdicom asks of one.
    """
    header, labels = source.headers[0], label_map(masks, slice(0, 1))
    if labels is None:
        labels = np.stack([mask[0] for mask in masks], axis=-1)[np.newaxis].astype(np.uint8)
    slide = Dataset()
    slide._dict = dict(header._dict)
    # One object whatever it was stored in, and of its optical paths the one that was read.
    for keyword in ("NumberOfFrames", "PerFrameFunctionalGroupsSequence"):
        if keyword in slide:
            delattr(slide, keyword)
    rows, columns = int(header.Rows), int(header.Columns)
    slide.NumberOfFrames = math.ceil(labels.shape[1] / rows) * math.ceil(labels.shape[2] / columns)
    slide.DimensionOrganizationType = "TILED_FULL"
    slide.TotalPixelMatrixFocalPlanes = slide.NumberOfOpticalPaths = 1
    try:
        segmentation = Segmentation(
            source_images=[slide],
            pixel_array=labels,
            segment_descriptions=segments,
            tile_pixel_array=True,
            tile_size=(rows, columns),
            **common,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{source.references[0].path}: no segmentation of this slide can be built: {reason}"
        ) from error
    for group in segmentation.PerFrameFunctionalGroupsSequence:
        group.DerivationImageSequence = [_derivation(source)]
    return segmentation


def _derivation(source: Source) -> Dataset:
    """How a frame came from the slide (PS3.3 C.7.6.16.2.6); no frames are named: tiles of several parts would be."""
    derivation = Dataset()
    derivation.DerivationCodeSequence = [CodedConcept.from_code(codes.cid7203.SegmentationImageDerivation)]
    derivation.SourceImageSequence = []
    for reference in ImageReference.of(source.instances):
        named = reference.item()
        named.PurposeOfReferenceCodeSequence = [
            CodedConcept.from_code(codes.cid7202.SourceImageForImageProcessingOperation)
        ]
        named.SpatialLocationsPreserved = "YES"
        derivation.SourceImageSequence.append(named)
    return derivation
