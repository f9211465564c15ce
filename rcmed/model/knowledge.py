"""What weights say that they know: which targets, and in which modalities."""

from __future__ import annotations

from rcmed.image import Modality
from rcmed.model.config import RCMedConfig
from rcmed.vocabulary import Target, load_targets
from rcmed.vocabulary.named import private_target


def own_targets(config: RCMedConfig) -> dict[str, Target]:
    """Targets of the weights that the vocabulary does not have, by name."""
    listed = {target.name for target in load_targets()}
    return {
        name: private_target(name, [Modality(value) for value in config.target_modalities.get(name, ())])
        for name in config.target_names
        if name not in listed
    }


def modalities_of(config: RCMedConfig, target: Target) -> tuple[Modality, ...]:
    """Modalities that show a target: those of the vocabulary, then those in which it was trained beyond them."""
    taught = config.target_modalities.get(target.name, ())
    return tuple(dict.fromkeys((*target.modalities, *(Modality(value) for value in taught))))


def known_targets(config: RCMedConfig, modality: Modality | None = None) -> list[Target]:
    """Targets that the weights were trained on in a modality, those of the vocabulary first.

    Args:
        config: of the weights; where it does not say what they were trained on, they may know any target.
        modality: that shows them; None: any.
    """
    trained = set(config.target_names)
    known = [target for target in load_targets() if not trained or target.name in trained]
    everything = [*known, *own_targets(config).values()]
    return [each for each in everything if modality is None or modality in modalities_of(config, each)]
