"""A vision-language model of `transformers` as the describer: it is shown each region painted red, and asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage

from rcmed.description.describer import shortened
from rcmed.description.painting import PALETTE, paint_regions
from rcmed.errors import CheckpointError
from rcmed.image import Image

MOST_TOKENS = 200
"""Of an answer; about a paragraph."""

_QUESTION = (
    "This is a medical image. The {colour} region is the {name}. Describe this region in one short paragraph of plain "
    "English: its shape, size, place, border, brightness and texture against its surroundings."
)


class VisionLanguageDescriber:
    """Describes by a model's own words. Greedy: the same image and mask give the same words on the same machine."""

    def __init__(self, model: Any, processor: Any) -> None:
        self._model = model
        self._processor = processor

    @classmethod
    def from_folder(cls, folder: Path, device: str = "cpu") -> VisionLanguageDescriber:
        """Load an image-text-to-text model with its processor from local files; nothing is downloaded.

        Raises:
            CheckpointError: the folder is no such model, or incomplete.
        """
        if not (folder / "config.json").is_file():
            raise CheckpointError(f"{folder}: config.json is missing; name the folder of a vision-language model")
        # Imports every processor that there is: seconds, for a describer that few have.
        from transformers import AutoModelForImageTextToText, AutoProcessor

        try:
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModelForImageTextToText.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{folder}: can't be loaded as a vision-language model ({reason})") from error
        return cls(model.to(device).eval(), processor)

    def describe(self, image: Image, masks: Mapping[str, NDArray[np.bool_]]) -> dict[str, str]:
        """As `Describer` says; each region alone, on the slice where it is largest."""
        return {name: self._describe(image, name, mask) for name, mask in masks.items()}

    def _describe(self, image: Image, name: str, mask: NDArray[np.bool_]) -> str:
        image.grid.require_mask(mask)
        if not mask.any():
            return ""
        colour = PALETTE[0]
        index = int(np.count_nonzero(mask, axis=(1, 2)).argmax())
        picture = PillowImage.fromarray(paint_regions(image, [(mask, colour.rgb)], index))
        question = _QUESTION.format(colour=colour.name, name=name)
        message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
        if getattr(self._processor, "chat_template", None):
            text = self._processor.apply_chat_template([message], add_generation_prompt=True)
        else:
            text = f"{getattr(self._processor, 'image_token', '')}\n{question}\n"
        inputs = self._processor(images=picture, text=text, return_tensors="pt").to(self._model.device)
        with torch.inference_mode():
            tokens = self._model.generate(**inputs, do_sample=False, max_new_tokens=MOST_TOKENS)
        answer = tokens[0, inputs["input_ids"].shape[1] :]
        return shortened(self._processor.tokenizer.decode(answer, skip_special_tokens=True))
