"""A checkpoint of reduced width in the published names, and a plain composition of the original parts that runs it.

The composition shares nothing with the product but the tokenizer and the sentences: the vision parts are those of the
`segment-anything` package, the decoder is `transformers`' Llama, nothing is cached, and the steps are written out as
the publication describes them.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image as PillowImage
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from rcmed.modality import Modality
from rcmed.model.instruction import AFTER_IMAGE, BEFORE_IMAGE, prompt_to_seg
from rcmed.model.tokenizer import build_tokenizer
from rcmed.published import import_checkpoint
from rcmed.training.settings import TrainingSettings

NAMES = ("liver", "left kidney", "right kidney", "optic disc")
SIZE, PATCH, WIDTH, HIDDEN = 128, 16, 32, 64
SAM = "model.grounding_encoder"


def original_modeling() -> types.ModuleType:
    """`segment_anything.modeling`, without the rest of its package, which imports torchvision."""
    if "segment_anything" not in sys.modules:
        spec = importlib.util.find_spec("segment_anything")
        assert spec is not None and spec.submodule_search_locations is not None
        package = types.ModuleType("segment_anything")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["segment_anything"] = package
    return importlib.import_module("segment_anything.modeling")


class Published(nn.Module):
    """The published composition, slow and plain."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        # Biases and the places' frequencies keep what they start with.
        torch.manual_seed(0)
        sam = original_modeling()
        side = SIZE // PATCH
        self.image_encoder = sam.ImageEncoderViT(
            img_size=SIZE,
            patch_size=PATCH,
            embed_dim=32,
            depth=3,
            num_heads=4,
            out_chans=WIDTH,
            norm_layer=lambda width: nn.LayerNorm(width, eps=1e-6),
            use_rel_pos=True,
            window_size=5,
            global_attn_indexes=(1,),
        )
        self.prompt_encoder = sam.PromptEncoder(WIDTH, (side, side), (SIZE, SIZE), 16)
        self.mask_decoder = sam.MaskDecoder(
            transformer_dim=WIDTH,
            transformer=sam.TwoWayTransformer(depth=2, embedding_dim=WIDTH, num_heads=8, mlp_dim=48),
            iou_head_hidden_dim=24,
        )
        self.llama = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary,
                hidden_size=HIDDEN,
                intermediate_size=96,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=4,
                rms_norm_eps=1e-5,
                tie_word_embeddings=False,
            )
        )
        self.mm_projector = nn.Sequential(nn.Linear(32, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN))
        self.text_hidden_fcs = nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH))
        self.t2i_projection = nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH))
        generator = torch.Generator().manual_seed(0)
        for name, value in sorted(self.named_parameters()):
            if "norm" not in name and value.ndim > 1:
                value.data.normal_(0.0, 1.5 / math.sqrt(value.shape[-1]), generator=generator)

    def published_state(self) -> dict[str, Tensor]:
        """Its tensors in the published names."""
        roots = {
            "image_encoder.": f"{SAM}.image_encoder.",
            "prompt_encoder.": f"{SAM}.prompt_encoder.",
            "mask_decoder.": f"{SAM}.mask_decoder.",
            "llama.": "",
            "mm_projector.": "model.mm_projector.",
            "text_hidden_fcs.": "model.text_hidden_fcs.0.",
            "t2i_projection.": "model.t2i_projection.0.",
        }
        state = {}
        for name, value in self.state_dict().items():
            root = next(root for root in roots if name.startswith(root))
            state[roots[root] + name.removeprefix(root)] = value.detach().clone()
        return state

    @torch.inference_mode()
    def see(self, pixels: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Neck output and image tokens of an RGB image (row, column, 3) whose longest side is `SIZE`."""
        rows, columns = pixels.shape[:2]
        assert max(rows, columns) == SIZE, "the composition does not resize"
        bgr = torch.from_numpy(pixels[:, :, ::-1].astype(np.float32).transpose(2, 0, 1))
        mean, deviation = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
        normal = (bgr - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
        maps = self.image_encoder.patch_embed(F.pad(normal, (0, SIZE - columns, 0, SIZE - rows))[None])
        maps = maps + self.image_encoder.pos_embed
        for block in self.image_encoder.blocks:
            maps = block(maps)
        maps = maps.permute(0, 3, 1, 2)
        neck = self.image_encoder.neck(maps)
        halved = F.interpolate(maps, scale_factor=0.5, mode="bilinear", align_corners=False)
        return neck, self.mm_projector(halved.flatten(2).transpose(1, 2))

    @torch.inference_mode()
    def read(self, image_tokens: Tensor, behind: list[int], tokenizer: Any) -> tuple[Tensor, int]:
        """Last-layer states of the conversation, and the position of the first image token."""
        before = [tokenizer.bos_token_id, *tokenizer(BEFORE_IMAGE, add_special_tokens=False)["input_ids"]]
        embed = self.llama.get_input_embeddings()
        embedded = torch.cat([embed(torch.tensor([before])), image_tokens, embed(torch.tensor([behind]))], dim=1)
        return self.llama.model(inputs_embeds=embedded, use_cache=False).last_hidden_state, len(before)

    @torch.inference_mode()
    def mask_logits(self, pixels: NDArray[np.uint8], name: str, modality: Modality, tokenizer: Any) -> Tensor:
        """Logits float (row, column) of one target in an RGB image (row, column, 3) whose longest side is `SIZE`."""
        rows, columns = pixels.shape[:2]
        neck, image_tokens = self.see(pixels)
        text = AFTER_IMAGE + prompt_to_seg(name, modality) + " [SEG]"
        behind = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        states, first = self.read(image_tokens, behind[0].tolist(), tokenizer)
        count = image_tokens.shape[1]
        steered = self.t2i_projection(states[:, first : first + count])
        side = math.isqrt(count)
        steered = steered.transpose(1, 2).reshape(1, WIDTH, side, side)
        neck = neck + F.interpolate(steered, scale_factor=2, mode="bilinear", align_corners=False)
        seg = (behind[0] == tokenizer.convert_tokens_to_ids("[SEG]")).nonzero().flatten()[-1]
        query = self.text_hidden_fcs(states[:, first + count + int(seg) - 1])
        no_mask = self.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand_as(neck)
        low, _ = self.mask_decoder(
            image_embeddings=neck,
            image_pe=self.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=query[:, None],
            dense_prompt_embeddings=no_mask,
            multimask_output=False,
        )
        full = F.interpolate(low, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        return full[0, 0, :rows, :columns]


@pytest.fixture(scope="session")
def segment_anything() -> types.ModuleType:
    return original_modeling()


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return build_tokenizer(NAMES)


@pytest.fixture(scope="session")
def published(tokenizer: Any) -> Published:
    return Published(len(tokenizer)).eval()


class CheckpointWriter:
    """Writes a checkpoint as its authors do: shards, index, Llama's config.json, the tokenizer."""

    def __init__(self, composition: Published, tokenizer: Any) -> None:
        self.composition = composition
        self.tokenizer = tokenizer

    def state(self, mixed: bool = False) -> dict[str, Tensor]:
        """Tensors by published name; `mixed`: in the three storage types of a release."""
        types_by_turn = (torch.float32, torch.bfloat16, torch.float16) if mixed else (torch.float32,)
        state = self.composition.published_state()
        return {name: state[name].to(types_by_turn[i % len(types_by_turn)]) for i, name in enumerate(sorted(state))}

    def write(self, folder: Path, state: dict[str, Tensor], suffix: str = ".bin", shards: int = 3) -> Path:
        folder.mkdir(parents=True)
        stem = "pytorch_model" if suffix == ".bin" else "model"
        weight_map: dict[str, str] = {}
        names = sorted(state)
        for number in range(shards):
            file = f"{stem}-{number + 1:05d}-of-{shards:05d}{suffix}"
            part = {name: state[name].contiguous() for name in names[number::shards]}
            if suffix == ".bin":
                torch.save(part, folder / file)
            else:
                save_file(part, folder / file)
            weight_map |= dict.fromkeys(part, file)
        index = folder / f"{stem}{suffix}.index.json"
        index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        self.composition.llama.config.save_pretrained(str(folder))
        self.tokenizer.save_pretrained(str(folder))
        return folder

    def composition_of(self, state: dict[str, Tensor]) -> Published:
        """The composition with other tensors, in float32."""
        other = Published(len(self.tokenizer)).eval()
        own = dict(zip(other.published_state(), other.state_dict(), strict=True))
        other.load_state_dict({own[name]: value.float() for name, value in state.items()})
        return other


@pytest.fixture(scope="session")
def checkpoints(published: Published, tokenizer: Any) -> CheckpointWriter:
    return CheckpointWriter(published, tokenizer)


@pytest.fixture(scope="session")
def pixels() -> NDArray[np.uint8]:
    """An RGB image (row, column, 3) that is padded at the right."""
    return np.random.default_rng(2).integers(0, 256, (SIZE, 96, 3), dtype=np.uint8)


@pytest.fixture
def settings(checkpoints: Any, tmp_path: Path) -> TrainingSettings:
    """A bright square called liver, in images that are padded at the right."""
    generator = np.random.default_rng(0)
    index: dict[str, list[dict[str, str]]] = {}
    for number in range(3):
        pixels = generator.integers(80, 120, (SIZE, 96, 3), dtype=np.uint8)
        mask = np.zeros((SIZE, 96), dtype=np.uint8)
        mask[30:80, 10 + number : 60 + number] = 255
        pixels[mask > 0] += 100
        PillowImage.fromarray(pixels).save(tmp_path / f"ct--made--{number}.png")
        PillowImage.fromarray(mask).save(tmp_path / f"mask{number}.png")
        index[f"ct--made--{number}.png"] = [{f"mask{number}.png": "liver"}]
    (tmp_path / "index.json").write_text(json.dumps(index))
    import_checkpoint(checkpoints.write(tmp_path / "checkpoint", checkpoints.state()), tmp_path / "model")
    return TrainingSettings(
        index=tmp_path / "index.json",
        root=tmp_path,
        output=tmp_path / "run",
        start_from=tmp_path / "model",
        lora_rank=4,
        learning_rate=1e-3,
        weight_decay=0.0,
        ema_decay=0.0,
        steps=4,
        batch_images=2,
        image_size=SIZE,
        warmup_steps=1,
        checkpoint_every=2,
        presence_steps=0,
        fill_rate=0.0,
        close_up_rate=0.0,
        threads=1,
        precision="fp32",
    )
