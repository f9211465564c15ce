"""The one table of targets, read from `targets.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from rcmed.codes import Code
from rcmed.errors import ConfigurationError
from rcmed.modality import Modality
from rcmed.vocabulary.body_regions import BodyRegion


@dataclass(frozen=True)
class Target:
    """A concept that can be asked for.

    Attributes:
        name: canonical English name, lower case; the same as in the published index ("optic disc").
        synonyms: other words for it, lower case.
        category: segmented property category (DICOM CID 7150).
        type: segmented property type.
        region: anatomic region, for a lesion or a tissue.
        laterality: SCT 7771000 Left or 24028007 Right.
        colour: sRGB, 0-255 each, for display and overlays.
        modalities: in which it can be seen.
        mirror: name of the target that a mirrored image shows in its place (the other kidney); None: itself, as of
            organs that the body has once, and of heart chambers, which stay what they are in a mirrored heart.
        body_regions: all in whose images it may be seen, at their borders too (the lung in slices of the abdomen);
            empty where nothing is known of it, as for a target of the user's own.
        hounsfield: lowest and highest possible mean in HU; None where there is no bound.
        uptake: lowest and highest possible mean SUV (body weight); None where there is no bound.
        largest_ml: largest possible volume in ml; None where there is no bound.
        parts: number of connected parts in which a volume shows it at most; None where there may be any number.
        least_ml: volume in ml of the smallest part that is told; None where there is no bound.
    """

    name: str
    synonyms: tuple[str, ...]
    category: Code
    type: Code
    region: Code | None
    laterality: Code | None
    colour: tuple[int, int, int]
    modalities: tuple[Modality, ...]
    mirror: str | None = None
    body_regions: frozenset[BodyRegion] = frozenset()
    hounsfield: tuple[float, float] | None = None
    uptake: tuple[float, float] | None = None
    largest_ml: float | None = None
    parts: int | None = None
    least_ml: float | None = None


@cache
def load_targets() -> tuple[Target, ...]:
    """All targets of the table, in its order.

    Raises:
        ConfigurationError: an entry is incomplete, two entries share a name or a synonym, or a mirror does not mirror
            back; names the entry.
    """
    targets = tuple(_target(entry) for entry in _table()["targets"])
    owner: dict[str, str] = {}
    for target in targets:
        for term in (target.name, *target.synonyms):
            if owner.setdefault(term, target.name) != target.name:
                raise ConfigurationError(f"targets.yaml: `{term}` belongs to `{owner[term]}` and to `{target.name}`")
    mirrors = {target.name: target.mirror for target in targets}
    for name, mirror in mirrors.items():
        if mirror is not None and mirrors.get(mirror) != name:
            raise ConfigurationError(
                f"targets.yaml: the mirror of `{name}` is `{mirror}`, whose mirror must be `{name}`"
            )
    return targets


def target_named(name: str) -> Target:
    """The target with this canonical name.

    Raises:
        ConfigurationError: no target has this name; synonyms are for `resolve_targets`.
    """
    try:
        return _by_name()[name]
    except KeyError:
        raise ConfigurationError(f"targets.yaml: no target is named `{name}`") from None


def canonical_name(name: str) -> str:
    """The name of the target that has this name or exactly this synonym ("oesophagus"); else the name itself."""
    return _by_term().get(name, name)


@cache
def regions_imaged_by(modality: Modality) -> frozenset[BodyRegion]:
    """Body regions in which any target of a modality may be seen."""
    return frozenset(
        region for target in load_targets() if modality in target.modalities for region in target.body_regions
    )


@cache
def load_groups() -> Mapping[str, tuple[Target, ...]]:
    """Words that mean several targets at once ("adrenal gland"), with these targets."""
    return {word: tuple(target_named(name) for name in names) for word, names in _table()["groups"].items()}


@cache
def load_generic_words() -> Mapping[str, tuple[Target, ...]]:
    """Words that name a target only together with a modality ("tumor"), with all targets they could mean."""
    return {word: tuple(target_named(name) for name in names) for word, names in _table()["generic"].items()}


@cache
def load_paired_words() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Words of organs that the body has on each side, and words of the heart, which never mirrors: for other names."""
    return tuple(_table()["paired"]), tuple(_table()["unpaired"])


@cache
def _table() -> dict[str, Any]:
    text = resources.files("rcmed.vocabulary").joinpath("targets.yaml").read_text(encoding="utf-8")
    table: dict[str, Any] = yaml.safe_load(text)
    return table


@cache
def _by_name() -> Mapping[str, Target]:
    return {target.name: target for target in load_targets()}


@cache
def _by_term() -> Mapping[str, str]:
    return {term: target.name for target in load_targets() for term in (target.name, *target.synonyms)}


def _target(entry: Mapping[str, Any]) -> Target:
    try:
        red, green, blue = entry["colour"]
        return Target(
            name=entry["name"],
            synonyms=tuple(entry["synonyms"]),
            category=_code(entry["category"]),
            type=_code(entry["type"]),
            region=_code(entry["region"]) if "region" in entry else None,
            laterality=_code(entry["laterality"]) if "laterality" in entry else None,
            colour=(red, green, blue),
            modalities=tuple(Modality(modality) for modality in entry["modalities"]),
            mirror=entry.get("mirror"),
            body_regions=frozenset(BodyRegion(region) for region in entry["body_regions"]),
            hounsfield=_range(entry, "hounsfield"),
            uptake=_range(entry, "uptake"),
            largest_ml=entry.get("largest_ml"),
            parts=entry.get("parts"),
            least_ml=entry.get("least_ml"),
        )
    except (KeyError, ValueError) as error:
        raise ConfigurationError(f"targets.yaml: the entry `{entry.get('name')}` is incomplete: {error}") from error


def _range(entry: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    if name not in entry:
        return None
    low, high = entry[name]
    if low >= high:
        raise ValueError(f"`{name}` goes from the lowest to the highest, not from {low} to {high}")
    return float(low), float(high)


def _code(text: str) -> Code:
    scheme, value, meaning = text.split(" ", 2)
    return Code(value, scheme, meaning)
