"""The state-dict names of the published checkpoint, and what they are called here.

The published names are Llama's and those of the original `segment-anything` code; ours are those of `transformers`.
"""

from __future__ import annotations

import re

from rcmed.model.config import RCMedConfig

# In this order; the first that fits is taken.
_ROOTS = (
    ("model.grounding_encoder.image_encoder.", "vision.encoder."),
    ("model.grounding_encoder.prompt_encoder.", "grounding.prompt_encoder."),
    ("model.grounding_encoder.mask_decoder.", "grounding.mask_decoder."),
    ("model.mm_projector.", "language.projector."),
    ("model.text_hidden_fcs.0.", "text_hidden_fcs."),
    ("model.t2i_projection.0.", "t2i_projection."),
    ("lm_head.", "language.lm_head."),
    ("model.", "language.decoder."),
)
_IMAGE_ENCODER = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^blocks\.(\d+)\.norm([12])\.", r"layers.\1.layer_norm\2."),
    (r"^blocks\.", "layers."),
    (r"^neck\.0\.", "neck.conv1."),
    (r"^neck\.1\.", "neck.layer_norm1."),
    (r"^neck\.2\.", "neck.conv2."),
    (r"^neck\.3\.", "neck.layer_norm2."),
)
_PROMPT_ENCODER = (
    (r"^pe_layer\.positional_encoding_gaussian_matrix$", "shared_embedding.positional_embedding"),
    (r"^point_embeddings\.", "point_embed."),
    (r"^mask_downscaling\.0\.", "mask_embed.conv1."),
    (r"^mask_downscaling\.1\.", "mask_embed.layer_norm1."),
    (r"^mask_downscaling\.3\.", "mask_embed.conv2."),
    (r"^mask_downscaling\.4\.", "mask_embed.layer_norm2."),
    (r"^mask_downscaling\.6\.", "mask_embed.conv3."),
)
_MASK_DECODER = (
    (r"\.norm(\d|_final_attn)\.", r".layer_norm\1."),
    (r"^output_upscaling\.0\.", "upscale_conv1."),
    (r"^output_upscaling\.1\.", "upscale_layer_norm."),
    (r"^output_upscaling\.3\.", "upscale_conv2."),
    (r"(_mlps\.\d+|_head)\.layers\.0\.", r"\1.proj_in."),
    (r"(_mlps\.\d+|_head)\.layers\.1\.", r"\1.layers.0."),
    (r"(_mlps\.\d+|_head)\.layers\.2\.", r"\1.proj_out."),
)
_PARTS = {
    "vision.encoder.": _IMAGE_ENCODER,
    "grounding.prompt_encoder.": _PROMPT_ENCODER,
    "grounding.mask_decoder.": _MASK_DECODER,
}
# Frequencies of the rotary embedding: some releases store them, all compute them.
_COMPUTED = re.compile(r"\.rotary_emb\.inv_freq$")


def our_name(published: str) -> str | None:
    """What a tensor of the published checkpoint is called here; None for one that is computed, not loaded.

    Raises:
        KeyError: no such tensor can be in a published checkpoint.
    """
    if _COMPUTED.search(published):
        return None
    for root, ours in _ROOTS:
        if published.startswith(root):
            rest = published.removeprefix(root)
            for pattern, replacement in _PARTS.get(ours, ()):
                renamed = re.sub(pattern, replacement, rest)
                if renamed != rest:
                    return ours + renamed
            return ours + rest
    raise KeyError(published)


def published_names(config: RCMedConfig) -> set[str]:
    """Every name that a published checkpoint of a configuration holds, written out from the published structure.

    Args:
        config: with Segment Anything's parts.
    """
    assert config.segment_anything is not None
    names = {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    for layer in range(config.language["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        names |= {f"{at}.self_attn.{part}_proj.weight" for part in "qkvo"}
        names |= {f"{at}.mlp.{part}_proj.weight" for part in ("gate", "up", "down")}
        names |= {f"{at}.input_layernorm.weight", f"{at}.post_attention_layernorm.weight"}
    for module in ("mm_projector", "text_hidden_fcs.0", "t2i_projection.0"):
        names |= _both(*(f"model.{module}.{place}" for place in (0, 2)))
    sam = "model.grounding_encoder"
    names |= _image_encoder_names(f"{sam}.image_encoder", config.segment_anything["vision"]["num_hidden_layers"])
    prompts = f"{sam}.prompt_encoder"
    names |= {f"{prompts}.pe_layer.positional_encoding_gaussian_matrix"}
    names |= {f"{prompts}.{part}.weight" for part in ("not_a_point_embed", "no_mask_embed")}
    names |= {f"{prompts}.point_embeddings.{number}.weight" for number in range(4)}
    names |= _both(*(f"{prompts}.mask_downscaling.{place}" for place in (0, 1, 3, 4, 6)))
    return names | _mask_decoder_names(f"{sam}.mask_decoder")


def _both(*modules: str) -> set[str]:
    return {f"{module}.{kind}" for module in modules for kind in ("weight", "bias")}


def _image_encoder_names(root: str, blocks: int) -> set[str]:
    names = {f"{root}.pos_embed", *_both(f"{root}.patch_embed.proj")}
    for block in range(blocks):
        at = f"{root}.blocks.{block}"
        names |= _both(
            *(f"{at}.{part}" for part in ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.lin1", "mlp.lin2"))
        )
        names |= {f"{at}.attn.rel_pos_h", f"{at}.attn.rel_pos_w"}
    return names | {f"{root}.neck.0.weight", f"{root}.neck.2.weight", *_both(f"{root}.neck.1", f"{root}.neck.3")}


def _mask_decoder_names(root: str) -> set[str]:
    attention = [f"{part}_proj" for part in ("q", "k", "v", "out")]
    transformer = f"{root}.transformer"
    names = {f"{root}.iou_token.weight", f"{root}.mask_tokens.weight"}
    for layer in range(2):
        at = f"{transformer}.layers.{layer}"
        for block in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token"):
            names |= _both(*(f"{at}.{block}.{part}" for part in attention))
        names |= _both(*(f"{at}.{part}" for part in ("norm1", "norm2", "norm3", "norm4", "mlp.lin1", "mlp.lin2")))
    names |= _both(*(f"{transformer}.final_attn_token_to_image.{part}" for part in attention))
    names |= _both(f"{transformer}.norm_final_attn", *(f"{root}.output_upscaling.{place}" for place in (0, 1, 3)))
    for network in (*(f"output_hypernetworks_mlps.{number}" for number in range(4)), "iou_prediction_head"):
        names |= _both(*(f"{root}.{network}.layers.{layer}" for layer in range(3)))
    return names
