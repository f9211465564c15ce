"""The assistant: ask an image in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from rcmed.description import Describer, DeterministicDescriber, describe_findings
from rcmed.description.summary import summarise
from rcmed.description.vision_language import VisionLanguageDescriber
from rcmed.devices import ONNX, usable_device
from rcmed.errors import CheckpointError, ConfigurationError, InputError
from rcmed.examples import example_slices, learnable_target
from rcmed.findings import Finding, Findings, FindingStatus, ModelIdentity
from rcmed.hints import Hint
from rcmed.image import Image
from rcmed.inference.answers import SliceAnswers, VolumeAnswers
from rcmed.inference.body_crop import body_boxes
from rcmed.inference.decision import PresenceRule, decide, decide_volume, judged_together
from rcmed.inference.judgement import judge
from rcmed.inference.logits import SliceReader
from rcmed.inference.packed_logits import PackedLogits
from rcmed.inference.plausibility import regions_shown
from rcmed.inference.prompt_graph import PromptGraph
from rcmed.inference.viewing import ReaderView
from rcmed.inference.volume_masks import volume_mask
from rcmed.inference.volume_rule import Joining
from rcmed.modality import Modality
from rcmed.model.config import RCMedConfig
from rcmed.model.exemplar import Exemplar
from rcmed.model.heads.regions import likely_regions
from rcmed.model.instruction import question
from rcmed.model.knowledge import known_targets, own_targets, unknown_because
from rcmed.model.modeling import EncodedImage, RCMedModel
from rcmed.model.packaged import model_identity, require_complete
from rcmed.model.processor import RCMedProcessor, to_eight_bit
from rcmed.prompts import POINTED_AT, Wanted, read_prompts, split_prompts, words_for_model
from rcmed.vocabulary import Target
from rcmed.vocabulary.table import regions_imaged_by

# DICOM's algorithm name is a long string (VR LO, 64 characters).
LONGEST_IDENTITY = 64
# An answer is written for each of so many slices of a volume, evenly spaced; every slice would take hours on a CPU.
MOST_ANSWERED_SLICES = 9


class Assistant:
    """Finds what is asked for in an image.

    Runs in float32 on the CPU or one GPU, the published size in bf16 on a GPU; the same image and words give the same
    findings.
    """

    def __init__(
        self,
        model: RCMedModel,
        processor: RCMedProcessor,
        identity: ModelIdentity,
        cache_bytes: int = 0,
        learned: Mapping[str, tuple[Target, Exemplar]] = MappingProxyType({}),
        describer: Describer | None = None,
        prompt_graph: PromptGraph | None = None,
    ) -> None:
        self.model = model
        self.processor = processor
        self.identity = identity
        self.describer = describer or DeterministicDescriber()
        self._learned = learned
        self._config = cast(RCMedConfig, model.config)
        self.own_targets = own_targets(self._config)
        exemplars = {name: exemplar for name, (_, exemplar) in learned.items()}
        self._reader = SliceReader(
            model, processor, cache_bytes=cache_bytes, exemplars=exemplars, prompt_graph=prompt_graph
        )

    @property
    def takes_hints(self) -> bool:
        """Whether the weights take clicks, boxes and rough masks."""
        return bool(self.model.config.takes_hints)

    @property
    def takes_hints_without_name(self) -> bool:
        """Whether a hint is answered where nobody names what it points at."""
        return bool(self.model.config.hints_without_name)

    @property
    def trained_targets(self) -> tuple[str, ...]:
        """Names of the targets that the weights know in any modality; empty where they do not say."""
        names = {target.name for target in known_targets(self._config)}
        return tuple(name for name in self._config.target_names if name in names)

    @classmethod
    def from_pretrained(
        cls, name: str | Path = "small", device: str = "auto", cache_bytes: int = 0, describer: Path | None = None
    ) -> Assistant:
        """Load a model.

        Args:
            name: "small" for the packaged weights, or a model folder.
            device: "auto" (a GPU if there is one), "cpu", "cuda", or "onnx": a CPU, where ONNX Runtime answers a prompt
                that is asked alone; needs `rcmed[onnx]`, and half a minute once for new weights.
            cache_bytes: of encoded images that are kept, so that further prompts on an image are fast; 0: none.
            describer: folder of a vision-language model that describes what is found; None: words by rule.
        Raises:
            CheckpointError: the folder is missing, incomplete or of another architecture.
            ConfigurationError: this machine has no such device; "onnx" is not installed, or not for this model.
        """
        folder = require_complete(name)
        by_graph, device = device == ONNX, usable_device(device)
        try:
            config = RCMedConfig.from_pretrained(str(folder))
            # Half of the published size's 30 GB: bf16 is what it was trained in, and what a GPU is fast in.
            is_half = device == "cuda" and config.segment_anything is not None
            dtype = torch.bfloat16 if is_half else torch.float32
            model = RCMedModel.from_pretrained(str(folder), config=config, dtype=dtype)
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{folder}: can't be loaded as an RCMed model ({error})") from error
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, arg-type]
        words = None if describer is None else VisionLanguageDescriber.from_folder(describer, device)
        processor, identity = RCMedProcessor.from_pretrained(folder), model_identity(folder)
        graph = PromptGraph.of(model) if by_graph else None
        return cls(model, processor, identity, cache_bytes, describer=words, prompt_graph=graph)

    def with_examples(self, name: str, images: Sequence[Image], masks: Sequence[NDArray[np.bool_]]) -> Assistant:
        """An assistant that also knows a target from a few annotated images; the weights stay as they are.

        Ask for the target by this name alone. Of what a volume shows, the slices with the largest masks are examples.

        Args:
            name: of the target; one of the vocabulary keeps its codes and is answered from the examples from then on.
            images: of one modality.
            masks: bool (slice, row, column) each, on the images' grids.
        Raises:
            InputError: there is no image, the modalities differ, or no mask holds anything.
            GridMismatchError: a mask does not lie on its image's grid.
        """
        from rcmed.site_learning.few_shot import learn_from_examples

        target = learnable_target(name, images)
        pixels, shown = example_slices(images, masks)
        exemplar = learn_from_examples(self.model, self.processor, target.name, images[0].modality, pixels, shown)
        named = replace(self.identity, name=f"{self.identity.name}, examples of {target.name}"[:LONGEST_IDENTITY])
        learned = {**self._learned, target.name: (target, exemplar)}
        limit, graph = self._reader.cache.limit_bytes, self._reader.prompt_graph
        return Assistant(self.model, self.processor, named, limit, learned, self.describer, graph)

    def encode(self, image: Image) -> EncodedImage:
        """All that is computed once per image, as a value with its size in bytes; for images of few slices."""
        return self._reader.encode(ReaderView.of(image.grid).to_view(to_eight_bit(image)))

    def answer_words(self, image: Image, words: Sequence[str]) -> SliceAnswers:
        """What the weights say to words as they stand, without the vocabulary; masks lie on the slices as shown."""
        pixels = ReaderView.of(image.grid).to_view(to_eight_bit(image))
        shape = (len(words), pixels.shape[0])
        masks = np.zeros((*shape, *pixels.shape[1:3]), dtype=bool)
        presence, sureness = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
        for part in self._reader.read(pixels, list(words), image.modality):
            masks[part.place] = part.masks
            presence[part.place], sureness[part.place] = part.presence, part.sureness
        return SliceAnswers(0, masks, presence, sureness)

    def find(
        self,
        image: Image,
        prompts: str | Sequence[str] = "",
        hints: Mapping[int, Hint] = MappingProxyType({}),
        progress: Callable[[float], None] = lambda done: None,
    ) -> Findings:
        """Find targets named in free text.

        Args:
            image: what to look at.
            prompts: free text each; a `;` separates prompts within a text. Empty asks for every target that the
                weights know in this modality, and reports those that are surely there and those that can't be; it asks
                for nothing where the modality is a guess.
            hints: by slice (0 in a 2D image): clicks, a box or a rough mask that steer the masks of every target asked
                for. A slice with a click on the target, a box or a rough mask shows it, whatever the weights say. With
                no words beside them they ask for what they point at, whatever it is, where the weights learned that.
            progress: takes the share of the slices that are answered, in (0, 1], now and then; what it raises ends the
                asking and comes out of here.
        Returns:
            one finding per target asked for, in that order; words that name no target come back unresolved with a
            reason. Masks lie on `image.grid`.
        Raises:
            InputError: a hint lies outside the image.
            ConfigurationError: the weights take no hints.
        """
        started = time.perf_counter()
        asked = split_prompts(prompts)
        wanted = self._wanted(image, asked, any(hint.says_present for hint in hints.values()))
        targets = list({each.target.name: each.target for each in wanted if each.target is not None}.values())
        found = {f.target.name: f for f in self.find_targets(image, targets, hints, progress) if f.target is not None}
        findings = []
        for each in wanted:
            if each.target is None:
                findings.append(Finding(each.prompt, None, FindingStatus.UNRESOLVED, reason=each.reason))
            elif asked or each.target == POINTED_AT or self._is_recognised(found[each.target.name], image):
                findings.append(found[each.target.name].reworded(prompt=each.prompt or each.target.name))
        return Findings(
            findings=tuple(describe_findings(image, findings, self.describer)),
            model=self.identity,
            grid=image.grid,
            modality=image.modality,
            instruction=question([words_for_model(t) for t in targets], image.modality).strip() if targets else "",
            answer=summarise(image, findings),
            seconds={"find": round(time.perf_counter() - started, 3)},
        )

    def _wanted(self, image: Image, prompts: Sequence[str], is_pointed_at: bool) -> list[Wanted]:
        if image.unlearned is not None and not is_pointed_at:
            return [Wanted(prompt, None, f"{image.unlearned}; it was not looked for") for prompt in prompts]
        if not prompts:
            if is_pointed_at and self.takes_hints_without_name:
                return [Wanted("", POINTED_AT)]
            return [Wanted("", target) for target in self._recognise(image)]
        return read_prompts(
            prompts,
            image.modality,
            {name: target for name, (target, _) in self._learned.items()},
            self.own_targets,
            lambda target: None if is_pointed_at else self.unknown_because(target, image.modality),
        )

    def _is_recognised(self, finding: Finding, image: Image) -> bool:
        """Whether a finding that nobody asked for by name is told: surely found, or found where it can't be."""
        least = PresenceRule.of(self._config).found_from
        if self._config.recognise_from is not None:
            with_region, without_region = self._config.recognise_from
            least = with_region if image.body_regions else without_region
        is_sure = finding.presence is None or finding.presence >= least
        return is_sure and finding.status in (FindingStatus.FOUND, FindingStatus.IMPLAUSIBLE)

    def _recognise(self, image: Image) -> list[Target]:
        """Targets that may be there: where the weights have presence all that they know, else those of an answer.

        None in an image of unknown kind: the weights would see the targets of the kind that they were told.
        """
        if image.is_modality_assumed:
            return []
        known = self.known_targets(image)
        if self.model.config.has_presence:
            return known
        view = ReaderView.of(image.grid).to_view(to_eight_bit(image))
        slices = np.unique(np.linspace(0, len(view) - 1, MOST_ANSWERED_SLICES).round().astype(int))
        names = [target.name for target in known]
        seen = self._reader.recognise(view[slices], names, image.modality)
        return [target for target in known if target.name in seen]

    def known_targets(self, image: Image) -> list[Target]:
        """Targets that the weights know in the image's modality, those of the vocabulary first."""
        return known_targets(self._config, image.modality)

    def unknown_because(self, target: Target, modality: Modality) -> str | None:
        """Why the assistant can't tell of a target in a modality; None where it can."""
        return None if target.name in self._learned else unknown_because(self._config, target, modality)

    def find_targets(
        self,
        image: Image,
        targets: Sequence[Target],
        hints: Mapping[int, Hint] = MappingProxyType({}),
        progress: Callable[[float], None] = lambda done: None,
    ) -> list[Finding]:
        """One finding per target, undescribed; every target alone, none depends on the others. The rest as `find`."""
        if hints and not self.model.config.takes_hints:
            raise ConfigurationError(f"{self.identity.name}: its weights take no clicks, boxes or rough masks")
        if not all(0 <= index < image.grid.shape[0] for index in hints):
            raise InputError(f"hints: slices {sorted(hints)} are not all among the image's {image.grid.shape[0]}")
        if not targets:
            return []
        view = ReaderView.of(image.grid)
        shown_hints = {index: view.hint_to_view(hint, *image.grid.shape[1:]) for index, hint in hints.items()}
        asserted = [index for index, hint in sorted(hints.items()) if hint.says_present]
        pixels = view.to_view(to_eight_bit(image))
        names = [words_for_model(target) for target in targets]
        slices, rows, columns = pixels.shape[:3]
        whole = VolumeAnswers.empty(len(targets), slices, rows, columns, image.is_volume, asserted)
        rule, seen = PresenceRule.of(self._config), []
        boxes = body_boxes(image, rule.volumes.largest_share)
        for answers in self._reader.read(pixels, names, image.modality, shown_hints, boxes):
            whole.put(answers)
            if answers.regions is not None and not answers.first_target:
                seen.append(answers.regions)
            progress(answers.place[1].stop / len(pixels))
        if not hints:
            # A hint is for the whole image at once; a tile knows nothing of it.
            self._refine_fine_targets(pixels, names, image, whole)
        as_seen = whole.presence.copy()
        whole.presence[:, asserted] = np.where(np.isnan(whole.presence[:, asserted]), np.nan, 1.0)
        together, regions = judged_together(image), regions_shown(image)
        are_seen = regions is None and bool(seen)
        if are_seen:
            likely, region_names = np.concatenate(seen), self._config.body_regions
            imaged = regions_imaged_by(image.modality)
            regions = likely_regions(likely, region_names, self._config.region_least, imaged)
        findings = []
        for number, target in enumerate(targets):
            presence, sureness = whole.presence[number], whole.sureness[number]
            if whole.has_logits:
                mask = partial(
                    self._volume_mask, image, target, whole.logits[number], as_seen[number], rule.volumes.joining
                )
                said = decide_volume(mask, whole.masks[number], presence, sureness, rule, together, asserted)
                said = replace(said, mask=view.from_view(said.mask))
            else:
                masks = view.from_view(whole.masks[number].unpack())
                said = decide(masks, presence, sureness, rule, together, asserted)
            findings.append(judge(image, target, said, regions, bool(asserted), are_seen))
        return findings

    def _volume_mask(
        self,
        image: Image,
        target: Target,
        logits: PackedLogits,
        presence: NDArray[np.float32],
        joining: Joining,
        is_kept: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """The mask of a target in a volume, on the slices as they are shown."""
        view, size = ReaderView.of(image.grid), self.processor.image_size
        spacing = view.lengths(image.grid.spacing) if image.grid.in_millimetres else None
        return volume_mask(logits, presence, is_kept, target, view.lengths(image.grid.shape), size, spacing, joining)

    def _refine_fine_targets(
        self, pixels: NDArray[np.uint8], names: list[str], image: Image, whole: VolumeAnswers
    ) -> None:
        """Read targets too fine for the whole image again in tiles, where the image is much larger than one."""
        config = self.model.config
        fine = [i for i, name in enumerate(names) if name in config.tiled_targets]
        if not fine or image.is_volume or max(image.grid.shape[1:]) < 1.5 * config.tile_edge:
            return
        for index in range(image.grid.shape[0]):
            answers = self._reader.read_tiles(
                pixels[index : index + 1], [names[i] for i in fine], image.modality, config.tile_edge
            )
            for place, target in enumerate(fine):
                whole.masks[target].put(index, answers.masks[place])
            whole.presence[fine, index] = answers.presence[:, 0]
            whole.sureness[fine, index] = answers.sureness[:, 0]
