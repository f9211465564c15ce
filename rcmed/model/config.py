"""RCMedConfig: the one configuration of both sizes, saved with the weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, LlamaConfig, PretrainedConfig

from rcmed.vocabulary import load_targets

EFFICIENTNET = "efficientnet_lite0"
SMALL_LANGUAGE: dict[str, Any] = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}


# As published: Llama-7B with seven more tokens, SAM's ViT-H and its mask decoder at 1024 px.
FULL_LANGUAGE: dict[str, Any] = {
    "vocab_size": 32007,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
FULL_SEGMENT_ANYTHING: dict[str, Any] = {
    "vision": {
        "hidden_size": 1280,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "global_attn_indexes": [7, 15, 23, 31],
        "window_size": 14,
        "patch_size": 16,
        "output_channels": 256,
    },
    "mask_decoder": {},
}


@dataclass(frozen=True)
class Lesson:
    """What one training image taught of one target.

    Attributes:
        target: its name.
        modality: of the image.
        patient: of the image, unique across data sets.
        is_present: whether the image shows the target; else it was looked for and is not there.
    """

    target: str
    modality: str
    patient: str
    is_present: bool


class RCMedConfig(PretrainedConfig):
    """Configuration of an RCMedModel.

    Attributes:
        image_size: height and width of the model grid in pixels; images are resized by their longest side and padded
            at the right and bottom.
        pixel_mean, pixel_std: three values each, for 8-bit pixels in [0, 255].
        segment_anything: `transformers.SamVisionConfig` ("vision") and `SamMaskDecoderConfig` ("mask_decoder") as
            dictionaries: vision tower and mask decoder are Segment Anything's, at `image_size`. None: the
            convolutional pyramid and its decoder, which `vision_widths`, `vision_depths` and `fine_size` describe.
        vision: another tower than the convolutional pyramid, with its settings: `{"type": "efficientnet_lite0"}`, with
            `"folded": true` where its batch norms are part of its convolutions, as in weights for use.
        vision_widths: channels of the pyramid at strides 2, 4, 8, 16 and 32, whichever tower makes it.
        vision_depths: residual blocks at each of those strides; none at stride 2, where they cost most and gave least.
            Of the convolutional pyramid alone.
        token_stride: stride of the image tokens given to the language model.
        dense_stride: stride of the dense embedding that the mask decoder attends to.
        prompt_size: channels of the mask decoder.
        fine_size: channels of the decoder's finest stage (stride 2).
        language: a `transformers.LlamaConfig` as a dictionary.
        name_path: whether the words of the target also reach the `[SEG]` prompt directly, beside the language model.
        takes_hints: whether clicks, boxes and rough masks steer the masks, too; Segment Anything's decoder always does.
        hints_without_name: whether such a hint is answered where it comes without the name of a target.
        loop_turns: extra turns of the closed loop (`rcmed.model.loop`); 0 is one pass, as published.
        presence_thresholds: (absent below, found from); between them a finding is uncertain.
        recognise_from: presence from which a target is reported where everything is asked for: in an image whose body
            region is told, and in one of which nobody tells it; None: as where it is asked by name. Higher than that,
            as all targets are candidates at once.
        sure_mask_logit: an image whose mask is surer than this (mean of its hundred highest logits) is uncertain, not
            absent, when presence says no: the two disagree. None: presence alone decides.
        volumes: constants with which slices of a volume are read, joined and heard together, as
            `rcmed.inference.volume_rule.VolumeRule` names them; None: as they are there.
        body_regions: parts of the body (`rcmed.vocabulary.BodyRegion`) that the weights tell apart in an image, in the
            order of `region_logits`; none: they don't.
        region_least: probability from which a part of the body may be shown; the likeliest one always may.
        target_names: canonical names that the weights were trained on.
        positives: by such a name and modality, at least how many training "images" and "patients" showed the target.
            None did where a target was learned as absent only: of it the weights know nothing there, see
            `rcmed.model.knowledge`. Empty for weights made before they counted.
        target_modalities: of weights without `positives`: by name, modalities in which it was trained beyond those
            that the vocabulary lists for it, or all where the vocabulary has no such name.
        tiled_targets: names that are too fine for a large image at once and are read in tiles.
        tile_edge: edge of such a tile in pixels of the image.
    """

    model_type = "rcmed"

    def __init__(
        self,
        image_size: int = 256,
        pixel_mean: tuple[float, ...] = (123.675, 116.28, 103.53),
        pixel_std: tuple[float, ...] = (58.395, 57.12, 57.375),
        vision: dict[str, Any] | None = None,
        vision_widths: tuple[int, ...] = (24, 48, 96, 192, 256),
        vision_depths: tuple[int, ...] = (0, 2, 2, 2, 2),
        token_stride: int = 32,
        dense_stride: int = 16,
        prompt_size: int = 128,
        fine_size: int = 8,
        segment_anything: dict[str, Any] | None = None,
        language: dict[str, Any] | None = None,
        name_path: bool = True,
        takes_hints: bool = False,
        hints_without_name: bool = False,
        loop_turns: int = 0,
        presence_thresholds: tuple[float, float] = (0.25, 0.6),
        recognise_from: tuple[float, float] | None = None,
        sure_mask_logit: float | None = None,
        volumes: dict[str, Any] | None = None,
        body_regions: tuple[str, ...] = (),
        region_least: float = 0.05,
        target_names: tuple[str, ...] = (),
        positives: dict[str, dict[str, dict[str, int]]] | None = None,
        target_modalities: dict[str, list[str]] | None = None,
        tiled_targets: tuple[str, ...] = ("retinal vessel", "microaneurysm", "nuclei"),
        tile_edge: int = 384,
        **kwargs: Any,
    ) -> None:
        self.image_size = image_size
        self.pixel_mean = list(pixel_mean)
        self.pixel_std = list(pixel_std)
        if vision is not None and vision.get("type") != EFFICIENTNET:
            raise ValueError(f"vision: a tower of type {vision.get('type')!r} is not known; {EFFICIENTNET!r} is")
        self.vision = None if vision is None else dict(vision)
        self.vision_widths = list(vision_widths)
        self.vision_depths = list(vision_depths)
        self.token_stride = token_stride
        self.dense_stride = dense_stride
        self.prompt_size = prompt_size
        self.fine_size = fine_size
        self.segment_anything = segment_anything
        self.language = dict(SMALL_LANGUAGE if language is None else language)
        self.name_path = name_path
        self.takes_hints = takes_hints or segment_anything is not None
        self.hints_without_name = hints_without_name
        self.loop_turns = loop_turns
        self.presence_thresholds = list(presence_thresholds)
        self.recognise_from = None if recognise_from is None else list(recognise_from)
        self.sure_mask_logit = sure_mask_logit
        self.volumes = None if volumes is None else dict(volumes)
        self.body_regions = list(body_regions)
        self.region_least = region_least
        self.target_names = list(target_names)
        self.positives = {name: dict(modalities) for name, modalities in (positives or {}).items()}
        self.target_modalities = dict(target_modalities or {})
        self.tiled_targets = list(tiled_targets)
        self.tile_edge = tile_edge
        super().__init__(**kwargs)

    def teach(self, lessons: Iterable[Lesson]) -> None:
        """Note what the weights were trained on; what they were trained on before stays."""
        if not self.positives:
            self.positives = self._known_before_counting()
        images: dict[tuple[str, str], int] = defaultdict(int)
        patients: dict[tuple[str, str], set[str]] = defaultdict(set)
        for lesson in lessons:
            pair = lesson.target, lesson.modality
            images[pair] += lesson.is_present
            patients[pair] |= {lesson.patient} if lesson.is_present else set()
        for name, modality in sorted(images):
            self.target_names = sorted({*self.target_names, name})
            before = self.positives.setdefault(name, {}).get(modality, {})
            # The same patients may have taught these weights before: the larger number is surely true.
            self.positives[name][modality] = {
                "images": max(images[name, modality], before.get("images", 0)),
                "patients": max(len(patients[name, modality]), before.get("patients", 0)),
            }

    def _known_before_counting(self) -> dict[str, dict[str, dict[str, int]]]:
        """One image of one patient for each pair that weights without counts say they know."""
        listed = {target.name: [modality.value for modality in target.modalities] for target in load_targets()}
        return {
            name: {
                modality: {"images": 1, "patients": 1}
                for modality in (*listed.get(name, ()), *self.target_modalities.get(name, ()))
            }
            for name in self.target_names
        }

    @classmethod
    def full(cls, **changes: Any) -> RCMedConfig:
        """The published size, 7.4 B parameters; `changes` are arguments of the constructor.

        Not in the published model, and so left out: the name's direct path, the presence head, tiles.
        """
        published: dict[str, Any] = {
            "image_size": 1024,
            "prompt_size": 256,
            "segment_anything": FULL_SEGMENT_ANYTHING,
            "language": FULL_LANGUAGE,
            "name_path": False,
            "tiled_targets": (),
        }
        return cls(**{**published, **changes})

    @property
    def has_presence(self) -> bool:
        """Whether the weights say if a target is there; the published ones do not."""
        return self.segment_anything is None

    def language_config(self) -> LlamaConfig:
        """The language decoder's configuration."""
        return LlamaConfig(**self.language)


AutoConfig.register(RCMedConfig.model_type, RCMedConfig)
