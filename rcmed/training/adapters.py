"""LoRA on the language decoder: a few parameters are trained beside weights that stand still, and merged at the end.

The decoder is adapted where it is, by `peft`, so the model works as before while it trains, in both sizes; once merged
it is an ordinary model again, with the same parameter names and no trace of the adapters.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn

from rcmed.errors import CheckpointError, ConfigurationError
from rcmed.model.modeling import RCMedModel

# As the published model was trained (arXiv 2505.03380): 16,777,216 more parameters at full size, merged for release.
RANK = 16
ALPHA = 16
DROPOUT = 0.05
ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj")


class LanguageAdapters:
    """Adapters in the language decoder of a model, until they are merged.

    Adding them freezes the decoder's own weights; what else of the model is trained is the caller's choice. They start
    without effect: the model answers as before until they are trained.
    """

    def __init__(self, model: RCMedModel, rank: int = RANK, alpha: int = ALPHA, dropout: float = DROPOUT) -> None:
        """Put adapters in.

        Args:
            model: is changed in place.
            rank: of the two factors of each adapter.
            alpha: their product counts by alpha / rank.
            dropout: of their input, in training.
        Raises:
            ConfigurationError: the decoder has adapters already.
        """
        if any("lora_" in name for name, _ in model.language.decoder.named_parameters()):
            raise ConfigurationError("adapters: the language decoder has some already; merge them first")
        settings = LoraConfig(
            r=rank,
            lora_alpha=alpha,
            lora_dropout=dropout,
            target_modules=list(ADAPTED),  # type: ignore[arg-type]
        )
        self._model = model
        adapted = get_peft_model(model.language.decoder, settings)  # type: ignore[arg-type]
        assert isinstance(adapted, PeftModel)
        self._adapted = adapted
        # What peft puts in would otherwise drop out in a model that is in use.
        adapted.train(model.training)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those that adapters add, and that are trained."""
        return (value for name, value in self._adapted.named_parameters() if "lora_" in name)

    def parameter_count(self) -> int:
        """Of the adapters alone."""
        return sum(value.numel() for value in self.parameters())

    def save(self, folder: Path) -> None:
        """Write the adapters alone (safetensors), to go on with them or to keep them beside the merged weights."""
        self._adapted.save_pretrained(str(folder), safe_serialization=True)

    def load(self, folder: Path) -> None:
        """Read adapters that `save` wrote into these.

        Raises:
            CheckpointError: the folder holds none, or they are of another shape.
        """
        path = folder / "adapter_model.safetensors"
        if not path.is_file():
            raise CheckpointError(f"{folder}: {path.name} is missing; name a folder of saved adapters")
        try:
            result: Any = set_peft_model_state_dict(self._adapted, load_file(path))
        except RuntimeError as error:
            raise CheckpointError(f"{path}: does not fit this model's adapters ({error})") from error
        unknown = [*result.unexpected_keys, *(name for name in result.missing_keys if "lora_" in name)]
        if unknown:
            raise CheckpointError(f"{path}: does not fit this model's adapters ({unknown[0]})")

    def merge(self) -> RCMedModel:
        """Add what was learned to the decoder's own weights and take the adapters out; returns the model.

        The merged model answers as the adapted one did, but for rounding.
        """
        decoder = self._adapted.merge_and_unload()  # type: ignore[operator]
        # What peft leaves behind would make a later adaptation think that there is one already.
        if hasattr(decoder, "peft_config"):
            del decoder.peft_config
        assert decoder is self._model.language.decoder
        self._model.language.decoder.requires_grad_(True)
        return self._model
