"""Targets that an image can't show: of another kind of imaging, or of a part of the body that it does not show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from rcmed.errors import ConfigurationError
from rcmed.modality import Modality
from rcmed.training.batches.packed import VISIBLE_LIGHT, PackedTriplet
from rcmed.training.batches.shown_regions import ShownRegions
from rcmed.vocabulary import load_targets


def with_learnable_absences(triplets: Sequence[PackedTriplet], known: Collection[str]) -> list[PackedTriplet]:
    """The triplets without labelled absences of targets that none of them shows in that modality.

    What was only ever absent would be learned as a rule that says no, and not what the target looks like.

    Args:
        triplets: all that is trained on.
        known: targets that the weights have seen before; their absence may be taught alone.
    """
    shown = Counter((name, triplet.modality) for triplet in triplets for name in triplet.masks)
    return [
        triplet.with_absent(tuple(name for name in triplet.absent if name in known or shown[name, triplet.modality]))
        for triplet in triplets
    ]


def negatives_by_dataset(
    triplets: Sequence[PackedTriplet], regions: Mapping[str, ShownRegions]
) -> dict[tuple[str, Modality], tuple[tuple[str, ...], tuple[str, ...]]]:
    """For each (data set, modality): targets of other kinds of imaging, and those of other parts of the body.

    The first belong to visible light where the images are radiological, or the other way round: a photograph shows no
    liver, a CT no skin lesion. The second are of the same side and lie where the images show nothing; a data set
    whose regions are not told has none. A target that was merely not labelled is unknown, never a negative.
    """
    seen: dict[bool, set[str]] = {True: set(), False: set()}
    for triplet in triplets:
        seen[triplet.modality in VISIBLE_LIGHT].update(triplet.masks)
    both = seen[True] & seen[False]
    places = {target.name: target.body_regions for target in load_targets()}
    negatives = {}
    for dataset, modality in {(triplet.dataset, triplet.modality) for triplet in triplets}:
        is_light = modality in VISIBLE_LIGHT
        other_parts: list[str] = []
        if dataset in regions:
            there = {*regions[dataset].shown, *regions[dataset].possible}
            other_parts = [n for n in sorted(seen[is_light]) if places.get(n) and not places[n] & there]
        negatives[dataset, modality] = (tuple(sorted(seen[not is_light] - both)), tuple(other_parts))
    return negatives


def require_consistent(triplets: Sequence[PackedTriplet], regions: Mapping[str, ShownRegions]) -> None:
    """Check that no data set shows a target that its regions rule out.

    Raises:
        ConfigurationError: names the data set and the target.
    """
    places = {target.name: target.body_regions for target in load_targets()}
    for dataset, name in sorted({(t.dataset, name) for t in triplets for name in t.masks if t.dataset in regions}):
        there = {*regions[dataset].shown, *regions[dataset].possible}
        if places.get(name) and not places[name] & there:
            raise ConfigurationError(
                f"dataset_regions: {dataset} has masks of `{name}`, which lies in {', '.join(sorted(places[name]))}; "
                f"add one of them to what the data set shows"
            )
