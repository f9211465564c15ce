"""Clicks, boxes and rough masks reach the mask decoder as Segment Anything's own prompt encoder gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rcmed.assistant import Assistant
from rcmed.hints import Hint
from rcmed.model.grounding.sam import SamGroundingDecoder, encode_hints
from rcmed.model.processor import ROUGH_MASK_LOGIT
from rcmed.published import import_checkpoint

SIZE = 128


@pytest.mark.parametrize("kind", ["clicks", "box", "clicks and box", "rough mask"])
def test_they_equal_the_original_encoder(kind: str, checkpoints: Any, published: Any, tmp_path: Path) -> None:
    import_checkpoint(checkpoints.write(tmp_path / "checkpoint", checkpoints.state()), tmp_path / "model")
    assistant = Assistant.from_pretrained(tmp_path / "model", "cpu")
    rough = np.zeros((SIZE, SIZE), dtype=bool)
    rough[32:64, 16:80] = True
    hint = Hint(
        inside=((20.0, 30.0), (64.0, 5.0)) if "clicks" in kind else (),
        outside=((100.0, 90.0),) if "clicks" in kind else (),
        box=(10.0, 20.0, 60.0, 90.0) if "box" in kind else None,
        rough_mask=rough if "rough" in kind else None,
    )
    grounding = assistant.model.grounding
    assert isinstance(grounding, SamGroundingDecoder)
    with torch.inference_mode():
        placed = assistant.processor.prepare_hint(hint, SIZE, SIZE)
        sparse, dense = encode_hints(grounding.prompt_encoder, placed)
        points = None
        if "clicks" in kind:
            xy = torch.tensor([[[30.0, 20.0], [5.0, 64.0], [90.0, 100.0]]])
            points = (xy, torch.tensor([[1, 1, 0]]))
        boxes = torch.tensor([[20.0, 10.0, 90.0, 60.0]]) if "box" in kind else None
        masks = None
        if "rough" in kind:
            masks = (torch.from_numpy(rough[::4, ::4].copy()).float()[None, None] * 2 - 1) * ROUGH_MASK_LOGIT
        expected_sparse, expected_dense = published.prompt_encoder(points, boxes, masks)
    torch.testing.assert_close(sparse, expected_sparse, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(dense.expand_as(expected_dense), expected_dense, atol=1e-4, rtol=1e-4)
