"""The sizes of a published checkpoint, read from its tensors' shapes: any width imports, not only the published one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rcmed.errors import CheckpointError
from rcmed.model.config import RCMedConfig

Shapes = Mapping[str, tuple[int, ...]]

# What shapes do not tell, with Llama's own values where the checkpoint's config.json is silent.
_DEFAULTS = {"rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "rope_theta": 10000.0}
_HEAD_SIZE = 128


def read_config(folder: Path, shapes: Shapes) -> RCMedConfig:
    """The configuration of a checkpoint.

    Args:
        folder: holds Llama's `config.json`.
        shapes: of the tensors, by our names.
    Raises:
        CheckpointError: config.json is missing or broken, or a tensor is missing that tells a size.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: can't be read ({error}); download it with the shards") from error
    try:
        return RCMedConfig.full(
            image_size=shapes["vision.encoder.pos_embed"][1] * _patch_size(shapes),
            prompt_size=shapes["grounding.prompt_encoder.no_mask_embed.weight"][1],
            language=_language(config, shapes),
            segment_anything={"vision": _vision(shapes), "mask_decoder": _mask_decoder(shapes)},
        )
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(f"{folder}: lacks a tensor that tells the model's sizes ({error})") from error


def _language(config: dict[str, Any], shapes: Shapes) -> dict[str, Any]:
    vocabulary, hidden = shapes["language.decoder.embed_tokens.weight"]
    heads = config.get("num_attention_heads") or hidden // _HEAD_SIZE
    keys = shapes["language.decoder.layers.0.self_attn.k_proj.weight"][0]
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": shapes["language.decoder.layers.0.mlp.gate_proj.weight"][0],
        "num_hidden_layers": _count(shapes, "language.decoder.layers."),
        "num_attention_heads": heads,
        "num_key_value_heads": keys // (hidden // heads),
        "tie_word_embeddings": False,
        **{key: config.get(key) or value for key, value in _DEFAULTS.items()},
    }


def _vision(shapes: Shapes) -> dict[str, Any]:
    hidden = shapes["vision.encoder.pos_embed"][3]
    side = shapes["vision.encoder.pos_embed"][1]
    blocks = _count(shapes, "vision.encoder.layers.")
    # A relative position table has 2 n - 1 rows: n is the side of the window, or of the whole map in a global block.
    reach = [shapes[f"vision.encoder.layers.{block}.attn.rel_pos_h"] for block in range(blocks)]
    windows = {(rows + 1) // 2 for rows, _ in reach} - {side}
    if len(windows) > 1:
        raise KeyError(f"rel_pos_h of {len(windows)} window sizes")
    return {
        "hidden_size": hidden,
        "num_hidden_layers": blocks,
        "num_attention_heads": hidden // reach[0][1],
        "global_attn_indexes": [block for block, (rows, _) in enumerate(reach) if (rows + 1) // 2 == side],
        "window_size": windows.pop() if windows else side,
        "patch_size": _patch_size(shapes),
        "output_channels": shapes["vision.encoder.neck.conv1.weight"][0],
        "mlp_dim": shapes["vision.encoder.layers.0.mlp.lin1.weight"][0],
    }


def _mask_decoder(shapes: Shapes) -> dict[str, Any]:
    return {
        "mlp_dim": shapes["grounding.mask_decoder.transformer.layers.0.mlp.lin1.weight"][0],
        "num_hidden_layers": _count(shapes, "grounding.mask_decoder.transformer.layers."),
        "iou_head_hidden_dim": shapes["grounding.mask_decoder.iou_prediction_head.proj_in.weight"][0],
    }


def _patch_size(shapes: Shapes) -> int:
    return shapes["vision.encoder.patch_embed.projection.weight"][2]


def _count(shapes: Shapes, root: str) -> int:
    return len({name.removeprefix(root).split(".")[0] for name in shapes if name.startswith(root)})
