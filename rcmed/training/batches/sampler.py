"""Which images a step shows, and what is asked of them."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from rcmed.errors import ConfigurationError
from rcmed.modality import Modality
from rcmed.training.batches.packed import PackedTriplet
from rcmed.training.batches.true_negatives import negatives_by_dataset, require_consistent
from rcmed.training.settings import TrainingSettings

# Of the absent targets asked for: those an annotator looked for in vain, then those of other parts of the body.
_LABELLED_SHARE = 0.5
_OTHER_PART_SHARE = 0.6


class BalancedSampler:
    """Draws images so that no data set drowns, and prompts so that competing targets of an image meet in a step."""

    def __init__(self, triplets: list[PackedTriplet], settings: TrainingSettings) -> None:
        self.settings = settings
        require_consistent(triplets, settings.dataset_regions)
        self.negatives = negatives_by_dataset(triplets, settings.dataset_regions)
        # One that shows nothing, and of which nothing is known to be missing, teaches nothing.
        self.triplets = [each for each in triplets if each.masks or each.absent or any(self._negatives(each))]
        if not self.triplets:
            raise ConfigurationError("index: no image shows a target, and none is labelled as missing one")
        groups: dict[tuple[str, Modality], list[int]] = defaultdict(list)
        for index, triplet in enumerate(self.triplets):
            groups[triplet.dataset, triplet.modality].append(index)
        self.groups = [groups[key] for key in sorted(groups)]
        weights = np.array(
            [len(groups[k]) ** settings.size_exponent * settings.dataset_weights.get(k[0], 1.0) for k in sorted(groups)]
        )
        self.weights = weights / weights.sum()

    def draw(
        self, generator: np.random.Generator, absent_rate: float
    ) -> list[tuple[PackedTriplet, list[tuple[str, bool]]]]:
        """A batch: each image with its (name, present) prompts, with `absent_rate` an absent one among them."""
        batch = []
        for group in generator.choice(len(self.groups), size=self.settings.batch_images, p=self.weights):
            triplet = self.triplets[self.groups[group][generator.integers(len(self.groups[group]))]]
            present = sorted(triplet.masks)
            chosen = [present[i] for i in generator.permutation(len(present))[: self.settings.prompts_per_image]]
            prompts = [(name, True) for name in chosen]
            if not present and triplet.absent:
                missing = generator.permutation(len(triplet.absent))[: self.settings.prompts_per_image]
                prompts = [(triplet.absent[i], False) for i in missing]
            elif not prompts or generator.random() < absent_rate:
                pool = self._pool(triplet, generator)
                if pool:
                    prompts.append((pool[generator.integers(len(pool))], False))
            batch.append((triplet, prompts))
        return batch

    def _negatives(self, triplet: PackedTriplet) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self.negatives[triplet.dataset, triplet.modality]

    def _pool(self, triplet: PackedTriplet, generator: np.random.Generator) -> tuple[str, ...]:
        """Absent targets of one kind, of which one is asked for."""
        other_imaging, other_part = self._negatives(triplet)
        if triplet.absent and generator.random() < _LABELLED_SHARE:
            return triplet.absent
        if other_part and generator.random() < _OTHER_PART_SHARE:
            return other_part
        return other_imaging or other_part or triplet.absent
