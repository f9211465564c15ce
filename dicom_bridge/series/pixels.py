"""Stored pixels to values: decoded, unused bits cleared, rescaled, RGB where coloured."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.dataelem import RawDataElement
from pydicom.pixels import apply_color_lut, apply_modality_lut, get_decoder
from pydicom.tag import Tag
from pydicom.uid import UID

from dicom_bridge.errors import TransferSyntaxError
from dicom_bridge.series.headers.instance import Instance, functional_group, numbers, shown, text, value
from dicom_bridge.series.headers.streams import require_true_streams
from dicom_bridge.series.quantities.rescaling import rescale
from rcmed.errors import UnreadableFileError
from rcmed.modality import Modality

# Modalities whose numbers mean something in themselves: MONOCHROME1 is then a wish about display, not an inversion.
_MEASURED = (Modality.CT, Modality.PET)

_PIXEL_DATA = Tag("PixelData")

AIR_HU = -1000
"""What padding of a CT becomes: it was not imaged, and is neither measured nor taken for something darker than air."""


def decode_frames(instance: Instance) -> Iterator[NDArray[Any]]:
    """Yield every frame as decoded: (row, column) grey or palette index, or (row, column, 3) RGB of the stored depth.

    Raises:
        TransferSyntaxError: nothing decodes this transfer syntax.
        UnreadableFileError: the pixel data is too short, too large or damaged.
    """
    path, header = instance.path, instance.header
    syntax = UID(text(header.file_meta, "TransferSyntaxUID"))
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise TransferSyntaxError(
            f"{path}: pixels in transfer syntax {shown(syntax.name)} ({shown(syntax)}) can't be decoded"
        ) from error
    bits, samples = (int((numbers(header, keyword, 1) or (0,))[0]) for keyword in ("BitsAllocated", "SamplesPerPixel"))
    wanted = (instance.rows * instance.columns * samples * instance.frames * bits + 7) // 8
    if instance.pixel_bytes is not None and not syntax.is_encapsulated:
        stored = wanted * 2 // 3 if text(header, "PhotometricInterpretation") == "YBR_FULL_422" else wanted
        if instance.pixel_bytes < stored:
            raise UnreadableFileError(
                f"{path}: Pixel Data (7FE0,0010) holds {instance.pixel_bytes} bytes where {stored} are needed"
            )
    count = 0
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        try:
            dataset = _with_pixels(instance)
            if dataset.PixelData is None or len(dataset.PixelData) == 0:
                raise UnreadableFileError(f"{path}: Pixel Data (7FE0,0010) is empty")
            if syntax.is_encapsulated:
                require_true_streams(instance, dataset.PixelData, syntax)
            for frame, _ in decoder.iter_array(dataset, raw=False):
                count += 1
                yield frame
        except (UnreadableFileError, GeneratorExit, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # decoders of damaged streams raise nearly anything, a panic of Rust included
            reason = shown(" ".join(str(error).split()))
            raise UnreadableFileError(f"{path}: pixels can't be decoded as {shown(syntax.name)} ({reason})") from error
    if count != instance.frames:
        raise UnreadableFileError(f"{path}: {count} frames are stored where Number of Frames says {instance.frames}")


def _with_pixels(instance: Instance) -> Dataset:
    """The whole data set; the header is not parsed again where the place of the pixels is known."""
    place, header = instance.pixel_data, instance.header
    if place is None:
        dataset: Dataset = dcmread(instance.path, force=True)
    else:
        implicit, little_endian = header.original_encoding
        with open(instance.path, "rb") as file:
            file.seek(place.offset)
            stored = file.read(place.length)
        element = RawDataElement(
            _PIXEL_DATA, place.vr, len(stored), stored, place.offset, bool(implicit), bool(little_endian)
        )
        dataset = Dataset({**dict(header.items()), _PIXEL_DATA: element})
    dataset.file_meta = header.file_meta
    return dataset


def frame_values(instance: Instance, frame: NDArray[Any], index: int, modality: Modality) -> NDArray[Any]:
    """A decoded frame (index from 0) to (row, column) values in the modality's unit, or (row, column, 3) RGB uint8."""
    header = instance.header
    photometric = text(header, "PhotometricInterpretation")
    if frame.ndim == 3:
        return _to_uint8(frame, _stored_bits(header, frame))
    padding = _padding(frame, header) if modality is Modality.CT else None
    frame = _clear_unused_bits(frame, header, UID(text(header.file_meta, "TransferSyntaxUID")))
    if photometric == "PALETTE COLOR":
        colour = apply_color_lut(frame, header)[..., :3]
        return _to_uint8(colour, 8 * colour.dtype.itemsize)
    if value(header, "ModalityLUTSequence"):
        values: NDArray[Any] = apply_modality_lut(frame, header)
        bounds = [float(values.min()), float(values.max())]
    else:
        slope, intercept = rescale(header, index)
        values = _rescaled(frame, slope, intercept)
        bounds = [bound * slope + intercept for bound in _stored_range(header, frame)]
    if padding is not None:
        # Some writers give a value of real tissue as padding; only what is darker than air is surely none.
        values = np.where(padding & (values < AIR_HU), np.asarray(AIR_HU, dtype=values.dtype), values)
    if photometric == "MONOCHROME1" and modality not in _MEASURED:
        values = _rescaled(values, -1.0, sum(bounds))
    return values


def window_of(instance: Instance, index: int, modality: Modality) -> tuple[float, float] | None:
    """Window centre and width of a frame, first of several; None where absent, or where the pixels were inverted."""
    if text(instance.header, "PhotometricInterpretation") == "MONOCHROME1" and modality not in _MEASURED:
        return None
    for item in (functional_group(instance.header, index, "FrameVOILUTSequence"), instance.header):
        centre, width = numbers(item, "WindowCenter"), numbers(item, "WindowWidth")
        if centre and width and width[0] > 0:
            return centre[0], width[0]
    return None


def _padding(frame: NDArray[Any], header: Dataset) -> NDArray[np.bool_] | None:
    """Where stored values are padding (PS3.3 C.7.5.1.1.2); None where there is none."""
    first, limit = numbers(header, "PixelPaddingValue", 1), numbers(header, "PixelPaddingRangeLimit", 1)
    if first is None or frame.dtype.kind not in "iu":
        return None
    size = 2 ** (8 * frame.dtype.itemsize)
    low, high = sorted((int(first[0]), int((limit or first)[0])))
    if high - low >= size:
        return None
    # Both may be written signed where the pixels are not, and the other way round: the bits are compared.
    padding: NDArray[np.bool_] = (frame.astype(np.int64) - low) % size <= high - low
    return padding if padding.any() else None


def _stored_bits(header: Dataset, frame: NDArray[Any]) -> int:
    found = numbers(header, "BitsStored", 1)
    allocated = 8 * frame.dtype.itemsize
    return int(found[0]) if found and 1 <= found[0] <= allocated else allocated


def _stored_range(header: Dataset, frame: NDArray[Any]) -> tuple[int, int]:
    bits = _stored_bits(header, frame)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if frame.dtype.kind == "i" else (0, 2**bits - 1)


def _clear_unused_bits(frame: NDArray[Any], header: Dataset, syntax: UID) -> NDArray[Any]:
    """Bits outside Bits Stored hold overlays or garbage (PS3.5 8.1.1): cleared, or filled with the sign."""
    allocated, stored = 8 * frame.dtype.itemsize, _stored_bits(header, frame)
    if frame.dtype.kind not in "iu" or stored == allocated:
        return frame
    high = numbers(header, "HighBit", 1)
    above = allocated - 1 - int(high[0]) if high and stored - 1 <= high[0] < allocated else allocated - stored
    if syntax.is_encapsulated:
        above = allocated - stored  # decoders deliver right-aligned samples
    cleared: NDArray[Any] = np.right_shift(np.left_shift(frame, above), allocated - stored)
    return cleared


def _rescaled(frame: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    if slope == 1 and intercept == 0:
        return frame
    if abs(slope) == 1 and intercept == int(intercept) and frame.dtype.kind in "iu" and frame.dtype.itemsize < 4:
        whole = frame.astype(np.int32) * int(slope) + int(intercept)
        fits = -(2**15) <= whole.min() and whole.max() < 2**15
        return whole.astype(np.int16) if fits else whole
    return (frame.astype(np.float64) * slope + intercept).astype(np.float32)


def _to_uint8(colour: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    if colour.dtype == np.uint8 and bits == 8:
        return np.ascontiguousarray(colour)
    top = 2**bits - 1
    clipped = np.clip(colour.astype(np.int64), 0, top)
    return ((clipped * 255 + top // 2) // top).astype(np.uint8)
