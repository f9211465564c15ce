"""Between images and the model grid: 8-bit pixels, resizing, padding, words, and masks back again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rcmed.errors import CheckpointError
from rcmed.hints import Hint
from rcmed.image import Image
from rcmed.modality import Modality
from rcmed.model.grounding.hint_prompts import MASK_STRIDE, PlacedHints, PointLabel
from rcmed.model.instruction import AFTER_IMAGE, BEFORE_IMAGE, SEGMENTATION_MARK, prompt_to_seg
from rcmed.model.modeling import PromptTokens
from rcmed.model.packaged import model_folder
from rcmed.readers.pixel_values import hounsfield_doubt

# A window that shows soft tissue, as the training slices do: centre and width in HU.
SOFT_TISSUE_WINDOW = (40.0, 400.0)
# What colour their pictures have is of the film, the screen or the camera; the weights never saw any.
WITHOUT_COLOUR = frozenset({Modality.CT, Modality.MR, Modality.PET, Modality.X_RAY})
# A rough mask is given to the model as logits: so sure is the user of it.
ROUGH_MASK_LOGIT = 6.0


def to_eight_bit(image: Image, percentiles: tuple[float, float] = (0.5, 99.5)) -> NDArray[np.uint8]:
    """8-bit RGB pixels as the model was trained on, uint8 (slice, row, column, 3), which may be read-only.

    8-bit grey stays as it is, and so does colour where the modality has some: what a photograph of a film or a screen
    added becomes grey. CT is windowed (HU); everything else, and CT of an unknown unit that can't be HU, is
    stretched between percentiles of the whole image, so that the slices of a volume keep their relation.
    """
    grey = image.pixels
    if image.is_colour:
        if image.modality not in WITHOUT_COLOUR:
            return image.pixels.astype(np.uint8, copy=False)
        # The rounded mean, so that grey in three channels stays what it is.
        grey = ((image.pixels.sum(-1, dtype=np.uint16) + 1) // 3).astype(np.uint8)
    if grey.dtype != np.uint8:
        if image.modality is Modality.CT and (image.unit is None or hounsfield_doubt(grey) is None):
            centre, width = SOFT_TISSUE_WINDOW
            low, high = centre - width / 2, centre + width / 2
        else:
            low, high = np.percentile(grey.astype(np.float32), percentiles)
        stretched = np.empty(grey.shape, dtype=np.uint8)
        for place, values in enumerate(grey):
            # Slice by slice: numbers of a whole volume in between would take many times its memory.
            scaled = (values.astype(np.float32) - low) / max(high - low, 1e-6) * 255.0 + 0.5
            stretched[place] = np.clip(scaled, 0, 255)
        grey = stretched
    # Three equal channels in the memory of one, which `RCMedProcessor.prepare_pixels` knows.
    return np.broadcast_to(grey[..., None], (*grey.shape, 3))


def resized_shape(rows: int, columns: int, size: int) -> tuple[int, int]:
    """Rows and columns after the longest side became `size`."""
    scale = size / max(rows, columns)
    return max(1, round(rows * scale)), max(1, round(columns * scale))


def resize_longest_side(pixels: Tensor, size: int) -> Tensor:
    """Resize so that the longest side is `size` (bilinear, antialiased).

    Args:
        pixels: float (image, channel, row, column).
        size: of the longest side.
    """
    shape = resized_shape(pixels.shape[-2], pixels.shape[-1], size)
    return F.interpolate(pixels, size=shape, mode="bilinear", align_corners=False, antialias=True)


def pad_to_square(pixels: Tensor, size: int) -> Tensor:
    """Pad with zeros at the right and bottom to (image, channel, size, size)."""
    return F.pad(pixels, (0, size - pixels.shape[-1], 0, size - pixels.shape[-2]))


def to_model_grid(pixels: Tensor, size: int) -> Tensor:
    """Resize by the longest side (bilinear, antialiased), then pad with zeros at the right and bottom.

    Args:
        pixels: float (image, channel, row, column).
        size: of the model grid.
    Returns:
        float (image, channel, size, size).
    """
    return pad_to_square(resize_longest_side(pixels, size), size)


def to_image_grid(logits: Tensor, rows: int, columns: int, size: int) -> Tensor:
    """Bring logits from the padded model grid back onto the image: upsample, crop, resize; threshold last.

    Args:
        logits: float (mask, r, c) on the model grid at any stride.
        rows, columns: of the image.
        size: of the model grid.
    Returns:
        float (mask, rows, columns).
    """
    full = F.interpolate(logits[:, None], size=(size, size), mode="bilinear", align_corners=False)
    height, width = resized_shape(rows, columns, size)
    cropped = full[..., :height, :width]
    return F.interpolate(cropped, size=(rows, columns), mode="bilinear", align_corners=False)[:, 0]


def to_masks(logits: Tensor, rows: int, columns: int, size: int) -> NDArray[np.bool_]:
    """Masks on the image: `to_image_grid`, then the threshold, 0.

    Args:
        logits: float (target, slice, r, c) on the model grid at any stride.
        rows, columns: of the image.
        size: of the model grid.
    Returns:
        bool (target, slice, row, column).
    """
    masks = np.zeros((*logits.shape[:2], rows, columns), dtype=bool)
    # Bilinear values lie between those around them: where no logit is above 0, none becomes so.
    is_shown = (logits.amax((-2, -1)) > 0).cpu().numpy()
    for target, shown in enumerate(is_shown):
        if shown.any():
            chosen = logits[target][torch.from_numpy(shown).to(logits.device)]
            masks[target, shown] = (to_image_grid(chosen, rows, columns, size) > 0).cpu().numpy()
    return masks


class ChannelOrder(StrEnum):
    """The order in which a model was given the colours of its training images."""

    RGB = "RGB"
    BGR = "BGR"


class RCMedProcessor:
    """Tokenizer and image preprocessing in one, in the manner of `transformers` processors.

    Attributes:
        channel_order: of the pixels that the model sees; mean and deviation are of that order. The published model
            was trained on BGR.
        pads_before_normalising: whether the padding is black (0 before it is normalised) or, as published, the mean.
        reads_up_to_mark: whether the state of a `[SEG]` is that of the token right before it, as published, whatever a
            tokenizer makes of the space there; else that of the name's `</p>`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_size: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        channel_order: ChannelOrder = ChannelOrder.RGB,
        pads_before_normalising: bool = True,
        reads_up_to_mark: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.image_size = image_size
        self.pixel_mean = list(pixel_mean)
        self.pixel_std = list(pixel_std)
        self.channel_order = channel_order
        self.pads_before_normalising = pads_before_normalising
        self.reads_up_to_mark = reads_up_to_mark

    @classmethod
    def from_pretrained(cls, name: str | Path) -> RCMedProcessor:
        """Read the processor that lies beside the weights; "small" names those that come with the package."""
        folder = model_folder(name)
        settings = json.loads((Path(folder) / "preprocessor_config.json").read_text())
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        return cls(
            tokenizer,
            settings["image_size"],
            settings["pixel_mean"],
            settings["pixel_std"],
            ChannelOrder(settings.get("channel_order", "RGB")),
            settings.get("pads_before_normalising", True),
            settings.get("reads_up_to_mark", False),
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write tokenizer and settings beside the weights."""
        self.tokenizer.save_pretrained(str(folder))
        settings = {
            "image_size": self.image_size,
            "pixel_mean": self.pixel_mean,
            "pixel_std": self.pixel_std,
            "channel_order": self.channel_order.value,
            "pads_before_normalising": self.pads_before_normalising,
            "reads_up_to_mark": self.reads_up_to_mark,
        }
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")

    def surroundings(self) -> tuple[Tensor, Tensor]:
        """Token ids int64 (position,) before and behind the image that all prompts share."""
        before = self.tokenizer(BEFORE_IMAGE, add_special_tokens=False)["input_ids"]
        after = self.tokenizer(AFTER_IMAGE, add_special_tokens=False)["input_ids"]
        return torch.tensor([self.tokenizer.bos_token_id, *before]), torch.tensor(after)

    def normalise(self, pixels: Tensor) -> Tensor:
        """8-bit RGB values (image, 3, row, column) to zero mean and unit deviation in the model's order; float32."""
        if self.channel_order is ChannelOrder.BGR:
            pixels = pixels.flip(1)
        mean = torch.tensor(self.pixel_mean, device=pixels.device).view(1, 3, 1, 1)
        std = torch.tensor(self.pixel_std, device=pixels.device).view(1, 3, 1, 1)
        return (pixels.float() - mean) / std

    def prepare_pixels(self, pixels: NDArray[np.uint8]) -> Tensor:
        """uint8 (image, row, column, 3) to normalised float32 (image, 3, size, size)."""
        if pixels.strides[3] == 0:
            # Grey: one channel is resized for all three.
            pixels = pixels[..., :1]
        # A copy: pixels may be read-only, and what torch shares with them must not be.
        tensor = torch.tensor(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float()
        if self.pads_before_normalising:
            return self.normalise(to_model_grid(tensor, self.image_size).expand(-1, 3, -1, -1))
        resized = resize_longest_side(tensor, self.image_size).expand(-1, 3, -1, -1)
        return pad_to_square(self.normalise(resized), self.image_size)

    @cached_property
    def _ids_after_image(self) -> list[int]:
        ids: list[int] = self.tokenizer(AFTER_IMAGE, add_special_tokens=False)["input_ids"]
        return ids

    def ids_behind_image(self, text: str) -> list[int]:
        """Token ids of a text behind the image part; the words before it decide how a tokenizer cuts its first."""
        shared = self._ids_after_image
        ids: list[int] = self.tokenizer(AFTER_IMAGE + text, add_special_tokens=False)["input_ids"]
        if ids[: len(shared)] != shared:
            raise CheckpointError("the tokenizer joins the image part with what follows: it is not the model's own")
        return ids[len(shared) :]

    def prepare_prompts(self, names: Sequence[str], modalities: Sequence[Modality]) -> PromptTokens:
        """One prompt per (name, modality): the conversation behind the image up to its `[SEG]`."""
        rows, marks = [], []
        marks_of_text: Any = self.tokenizer.convert_tokens_to_ids(["<p>", "</p>", SEGMENTATION_MARK])
        opening, close, mark = marks_of_text
        for name, modality in zip(names, modalities, strict=True):
            ids = self.ids_behind_image(f"{prompt_to_seg(name, modality)} {SEGMENTATION_MARK}")
            ids = ids[: ids.index(mark)]
            start = len(ids) - 1 - ids[::-1].index(opening)
            end = len(ids) - 1 - ids[::-1].index(close)
            ids = ids if self.reads_up_to_mark else ids[: end + 1]
            rows.append(ids)
            marks.append((start + 1, end))
        length = max(len(row) for row in rows)
        tokens = torch.full((len(rows), length), self.tokenizer.pad_token_id, dtype=torch.long)
        attended = torch.zeros(len(rows), length, dtype=torch.bool)
        name_mask = torch.zeros(len(rows), length, dtype=torch.bool)
        for index, (row, (start, end)) in enumerate(zip(rows, marks, strict=True)):
            tokens[index, : len(row)] = torch.tensor(row)
            attended[index, : len(row)] = True
            name_mask[index, start:end] = True
        return PromptTokens(
            tokens=tokens,
            attended=attended,
            seg_position=torch.tensor([len(row) - 1 for row in rows]),
            name=name_mask,
        )

    def prepare_hint(self, hint: Hint, rows: int, columns: int) -> PlacedHints:
        """A hint on a slice of this size as a prompt on the model grid, for one prompt.

        Raises:
            InputError: something lies outside the slice.
        """
        hint.require_inside(rows, columns)
        height, width = resized_shape(rows, columns, self.image_size)

        def placed(row: float, column: float) -> list[float]:
            return [(column + 0.5) * width / columns - 0.5, (row + 0.5) * height / rows - 0.5]

        points = [placed(*place) for place in (*hint.inside, *hint.outside)]
        labels = [PointLabel.INSIDE] * len(hint.inside) + [PointLabel.OUTSIDE] * len(hint.outside)
        if hint.box is not None:
            points += [placed(*hint.box[:2]), placed(*hint.box[2:])]
            labels += [PointLabel.FIRST_CORNER, PointLabel.LAST_CORNER]
        elif points:
            # Segment Anything's own: where there is no box, a point that says nothing stands for it.
            points.append([0.0, 0.0])
            labels.append(PointLabel.NONE)
        masks = has_mask = None
        if hint.rough_mask is not None:
            on_grid = to_model_grid(torch.from_numpy(hint.rough_mask.copy())[None, None].float(), self.image_size)
            masks = (F.avg_pool2d(on_grid, MASK_STRIDE)[0] * 2 - 1) * ROUGH_MASK_LOGIT
            has_mask = torch.ones(1, dtype=torch.bool)
        return PlacedHints(
            torch.tensor(points, dtype=torch.float32).reshape(1, len(points), 2),
            torch.tensor(labels, dtype=torch.long).reshape(1, len(points)),
            masks,
            has_mask,
        )
