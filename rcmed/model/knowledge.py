"""What weights know: the targets that training showed them, and in which modalities.

A target that was only ever absent in a modality's training images was learned as "absent" there. Weights say so of any
image then, also of one that shows it, and so know nothing of it. Everything that tells what can be asked reads this.
"""

from __future__ import annotations

from rcmed.modality import Modality
from rcmed.model.config import RCMedConfig
from rcmed.model.instruction import modality_words
from rcmed.vocabulary import Target, load_targets
from rcmed.vocabulary.named import private_target


def own_targets(config: RCMedConfig) -> dict[str, Target]:
    """Targets of the weights that the vocabulary does not have, by name."""
    listed = {target.name for target in load_targets()}
    return {name: private_target(name, _taught(config, name)) for name in config.target_names if name not in listed}


def modalities_of(config: RCMedConfig, target: Target) -> tuple[Modality, ...]:
    """Modalities in which the weights know a target, in the order of the vocabulary's; none where it is unknown.

    Of weights that do not say what they were trained on: those in which it can be seen.
    """
    if config.target_names and target.name not in config.target_names:
        return ()
    if target.name in config.positives:
        taught = set(_taught(config, target.name))
        return tuple(modality for modality in dict.fromkeys((*target.modalities, *Modality)) if modality in taught)
    return tuple(dict.fromkeys((*target.modalities, *_taught(config, target.name))))


def unknown_because(config: RCMedConfig, target: Target, modality: Modality) -> str | None:
    """Why the weights can't tell of a target in a modality; None where they can, or do not say what they learned.

    What they learned of a target in one modality says nothing of another: they would find something anyway.
    """
    known = modalities_of(config, target)
    if modality in known or not config.target_names:
        return None
    if known:
        shown = " and ".join(modality_words(each) for each in known)
        return (
            f"`{target.name}` is known to this model in {shown} images only, and this is a {modality_words(modality)} "
            f"image; it was not looked for"
        )
    if target.name in config.target_names:
        return (
            f"`{target.name}` was looked for, but in none of the images that this model learned from; it was not "
            f"looked for"
        )
    return f"`{target.name}` is not among what this model learned; it was not looked for"


def _taught(config: RCMedConfig, name: str) -> tuple[Modality, ...]:
    if name in config.positives:
        return tuple(Modality(value) for value, counts in config.positives[name].items() if counts["patients"] > 0)
    return tuple(Modality(value) for value in config.target_modalities.get(name, ()))


def known_targets(config: RCMedConfig, modality: Modality | None = None) -> list[Target]:
    """Targets that the weights know in a modality, those of the vocabulary first.

    Args:
        config: of the weights; where it does not say what they were trained on, they may know any target.
        modality: None: any.
    """
    everything = [(each, modalities_of(config, each)) for each in (*load_targets(), *own_targets(config).values())]
    return [each for each, known in everything if (known if modality is None else modality in known)]
