"""From an image and target names to logits on the image's own slices: batches, tiles, bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcmed.hints import Hint
from rcmed.inference.answers import SliceAnswers, SliceLogits
from rcmed.inference.body_crop import Box, onto_frame
from rcmed.inference.cache import EncodedImageCache
from rcmed.inference.prompt_graph import PromptGraph
from rcmed.modality import Modality
from rcmed.model.exemplar import Exemplar
from rcmed.model.grounding.hint_prompts import PlacedHints
from rcmed.model.heads.presence import mask_sureness
from rcmed.model.language import Opening
from rcmed.model.modeling import EncodedImage, PromptTokens, RCMedModel
from rcmed.model.processor import RCMedProcessor
from rcmed.model.recognition import recognise

# Prompts of several slices share a pass up to this number: enough that a pass pays, few enough for a CPU's caches.
PROMPTS_AT_ONCE = 8
# Of whatever size and number slices and targets are: pixels that are looked at together, and pixels of all their masks.
PIXELS_AT_ONCE = 2**24
MASK_PIXELS_AT_ONCE = 2**28


def _runs(slices: int, length: int, alone: Container[int]) -> Iterator[tuple[int, int]]:
    """Slices in runs (first, last + 1) of at most `length`; those of `alone` are runs of their own."""
    first = 0
    while first < slices:
        last = first + 1
        while first not in alone and last < min(slices, first + length) and last not in alone:
            last += 1
        yield first, last
        first = last


class SliceReader:
    """Runs a model over 8-bit slices; holds nothing between calls but encoded images, where it may."""

    def __init__(
        self,
        model: RCMedModel,
        processor: RCMedProcessor,
        batch: int = 8,
        cache_bytes: int = 0,
        exemplars: Mapping[str, Exemplar] = MappingProxyType({}),
        prompt_graph: PromptGraph | None = None,
    ) -> None:
        self.model = model.eval()
        self.processor = processor
        self.batch = batch
        self.cache = EncodedImageCache(cache_bytes)
        self.exemplars = exemplars
        self.prompt_graph = prompt_graph
        self.before, self.after = (ids.to(model.device) for ids in processor.surroundings())
        # The batches of a volume ask the same.
        self._prompts = lru_cache(maxsize=16)(self._prepare_prompts)
        self._opening: tuple[tuple[tuple[int, int], ...], Opening] | None = None

    def _prepare_prompts(self, names: tuple[str, ...], modality: Modality) -> PromptTokens:
        return self.processor.prepare_prompts(names, [modality] * len(names)).to(self.model.device)

    @torch.inference_mode()
    def encode(self, pixels: NDArray[np.uint8], exemplar: Exemplar | None = None) -> EncodedImage:
        """Compute the image part of uint8 slices (slice, row, column, 3) once."""
        prepared = self.processor.prepare_pixels(pixels).to(self.model.device, self.model.dtype)
        return self._encode_prepared(prepared, exemplar)

    @torch.inference_mode()
    def _encode_prepared(self, pixel_values: Tensor, exemplar: Exemplar | None) -> EncodedImage:
        return self.model.prepare(self.model.encode(pixel_values, self._read_opening(), self.after, exemplar))

    def _read_opening(self) -> Opening:
        """The text before every image, read once for these weights: other ones, or changed ones, read it anew."""
        weights = tuple((value.data_ptr(), value._version) for value in self.model.language.decoder.parameters())
        if self._opening is None or self._opening[0] != weights:
            self._opening = weights, self.model.language.read_opening(self.before)
        return self._opening[1]

    def _encode_or_recall(self, pixels: NDArray[np.uint8], exemplar: Exemplar | None) -> EncodedImage:
        return self.cache.get(pixels, self.encode) if exemplar is None else self.encode(pixels, exemplar)

    def _encode_or_recall_tiles(self, tiles: Tensor, exemplar: Exemplar | None) -> EncodedImage:
        def encode(_: NDArray[np.generic]) -> EncodedImage:
            return self._encode_prepared(tiles, exemplar)

        pixels = tiles.float().cpu().numpy()
        return self.cache.get(pixels, encode) if exemplar is None else encode(pixels)

    def _ask(
        self,
        encode: Callable[[Exemplar | None], EncodedImage],
        names: Sequence[str],
        modality: Modality,
        hints: Mapping[int, PlacedHints] = MappingProxyType({}),
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """As `ground`, and `region_logits`; targets of which examples were given see the image in their own way."""
        known = [name for name in names if name not in self.exemplars]
        answers: dict[str, tuple[Tensor, Tensor]] = {}
        regions = None
        if known:
            encoded = encode(None)
            regions = encoded.region_logits
            answers |= zip(known, zip(*self.ground(encoded, known, modality, hints=hints), strict=True), strict=True)
        for name in dict.fromkeys(name for name in names if name in self.exemplars):
            exemplar = self.exemplars[name]
            mask, there = self.ground(encode(exemplar), [name], modality, exemplar, hints)
            answers[name] = mask[0], there[0]
        masks, presence = zip(*(answers[name] for name in names), strict=True)
        return torch.stack(masks), torch.stack(presence), regions

    @torch.inference_mode()
    def ground(
        self,
        encoded: EncodedImage,
        names: Sequence[str],
        modality: Modality,
        exemplar: Exemplar | None = None,
        hints: Mapping[int, PlacedHints] = MappingProxyType({}),
    ) -> tuple[Tensor, Tensor]:
        """Mask logits float (target, slice, r, c) on the model grid and presence float (target, slice), or NaN.

        Args:
            encoded: slices.
            exemplar: of the target, where there is one with examples.
            hints: by slice, for every target.
        """
        slices, device = encoded.dense.shape[0], self.model.device
        prompts = self._prompts(tuple(names), modality)
        masks, presence = [], []
        asked_alone = slices == len(names) == 1 and exemplar is None and not hints
        for first, last in _runs(slices, max(1, PROMPTS_AT_ONCE // len(names)), hints):
            placed = hints[first].expand(len(names)).to(device) if first in hints else None
            where = torch.arange(last - first, device=device).repeat_interleave(len(names))
            if self.prompt_graph is not None and asked_alone:
                output = self.prompt_graph.ground(encoded, prompts)
            else:
                output = self.model.ground(
                    encoded.select(first, last), where, prompts.repeated(last - first), exemplar, placed
                )
            assert output.mask_logits is not None
            if output.presence_logits is None:
                known = torch.full((len(where),), torch.nan, device=device)
            else:
                known = output.presence_logits.sigmoid()
            masks.append(output.mask_logits.unflatten(0, (last - first, -1)).transpose(0, 1))
            presence.append(known.unflatten(0, (last - first, -1)).T)
        return torch.cat(masks, 1), torch.cat(presence, 1)

    def read(
        self,
        pixels: NDArray[np.uint8],
        names: Sequence[str],
        modality: Modality,
        hints: Mapping[int, Hint] = MappingProxyType({}),
        boxes: Sequence[Box | None] = (),
    ) -> Iterator[SliceLogits]:
        """Go through uint8 slices (slice, row, column, 3) in batches; memory does not grow with their number.

        Args:
            hints: by slice, for every target.
            boxes: one per slice, what is looked at of it, `rcmed.inference.body_crop`; a slice with a hint is seen
                whole. Empty: all of them are.
        Returns:
            batch after batch; of slices so large that a batch of all targets would be too much, some targets at once.
        """
        rows, columns = pixels.shape[1:3]
        placed = {index: self.processor.prepare_hint(hint, rows, columns) for index, hint in hints.items()}
        batch = max(1, min(self.batch, PIXELS_AT_ONCE // (rows * columns)))
        for first in range(0, pixels.shape[0], batch):
            batched = pixels[first : first + batch]
            here = {index - first: hint for index, hint in placed.items() if first <= index < first + batch}
            cut = [None if index in here else box for index, box in enumerate(boxes[first : first + batch])]
            if any(cut):
                encode = partial(self._encode_or_recall_tiles, self._prepare_cut(batched, cut))
            else:
                encode = partial(self._encode_or_recall, batched)
            logits, presence, regions = self._ask(encode, names, modality, here)
            seen = None if regions is None else regions.sigmoid().cpu().numpy()
            known, sure = presence.cpu().numpy(), mask_sureness(logits).cpu().numpy()
            if any(cut):
                logits = onto_frame(logits, cut, rows, columns, self.processor.image_size)
            at_once = max(1, MASK_PIXELS_AT_ONCE // (logits.shape[1] * rows * columns))
            for target in range(0, len(names), at_once):
                some = slice(target, target + at_once)
                size = self.processor.image_size
                yield SliceLogits(first, logits[some], rows, columns, size, known[some], sure[some], target, seen)

    def _prepare_cut(self, pixels: NDArray[np.uint8], boxes: Sequence[Box | None]) -> Tensor:
        """Slices cut to boxes, each on a model grid of its own."""
        prepared = [
            self.processor.prepare_pixels(each[None] if box is None else each[None, *box.place])
            for each, box in zip(pixels, boxes, strict=True)
        ]
        return torch.cat(prepared).to(self.model.device, self.model.dtype)

    def recognise(self, pixels: NDArray[np.uint8], names: Sequence[str], modality: Modality) -> list[str]:
        """The targets that the model names, of these, in answers on uint8 slices (slice, row, column, 3)."""
        seen: dict[str, None] = {}
        for index in range(len(pixels)):
            encoded = self.cache.get(pixels[index : index + 1], self.encode)
            seen |= dict.fromkeys(recognise(self.model, self.processor, encoded, 0, names, modality))
        return list(seen)

    @torch.inference_mode()
    def read_tiles(
        self, pixels: NDArray[np.uint8], names: Sequence[str], modality: Modality, edge: int
    ) -> SliceAnswers:
        """Read one slice (1, row, column, 3) in overlapping tiles, for targets too fine for the whole image at once.

        Args:
            edge: of a tile, in pixels of the image; each tile is resized to the model grid.
        """
        size = self.processor.image_size
        scale = size / edge
        tensor = torch.tensor(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float()
        resized = torch.nn.functional.interpolate(
            tensor, scale_factor=scale, mode="bilinear", align_corners=False, antialias=scale < 1
        )
        best = torch.zeros(len(names))
        surest = torch.full((len(names),), -torch.inf)

        def predict(tiles: Tensor) -> Tensor:
            nonlocal best, surest
            normalised = self.processor.normalise(tiles).to(self.model.dtype)
            encode = partial(self._encode_or_recall_tiles, normalised)
            logits, presence, _ = self._ask(encode, names, modality)
            best = torch.maximum(best, presence.amax(1).cpu())
            surest = torch.maximum(surest, mask_sureness(logits).amax(1).cpu())
            full = torch.nn.functional.interpolate(logits, size=(size, size), mode="bilinear", align_corners=False)
            return full.transpose(0, 1)

        # MONAI's inferers take seconds to import, and few targets are read in tiles.
        from monai.inferers import sliding_window_inference

        logits = sliding_window_inference(
            resized.to(self.model.device), (size, size), self.batch, predict, overlap=0.5, mode="gaussian"
        )
        assert isinstance(logits, Tensor)
        on_image = torch.nn.functional.interpolate(logits, size=pixels.shape[1:3], mode="bilinear", align_corners=False)
        masks = (on_image[0] > 0).cpu().numpy()[:, None]
        return SliceAnswers(0, masks, best.numpy()[:, None], surest.numpy()[:, None])
