"""Training the published architecture at reduced width: LoRA in the language decoder, everything else as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rcmed.assistant import Assistant
from rcmed.errors import ConfigurationError
from rcmed.image import Grid, Image
from rcmed.modality import Modality
from rcmed.training.settings import Conversations, TrainingSettings
from rcmed.training.trainer import Trainer

SIZE = 128


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


@pytest.mark.slow
def test_the_decoder_is_trained_by_adapters_alone_and_merged(settings: TrainingSettings, tmp_path: Path) -> None:
    trainer = Trainer(settings)
    trainer.run(show_progress=False)
    before, after = tensors(tmp_path / "model"), tensors(settings.output / "model")
    assert before.keys() == after.keys()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    decoder = {name for name in before if name.startswith("language.decoder.layers.")}
    adapted = {name for name in decoder if name.split(".")[-2] in ("q_proj", "k_proj", "v_proj", "o_proj")}
    assert changed & decoder == adapted
    assert "language.decoder.embed_tokens.weight" in changed
    for part in ("vision.", "grounding.mask_decoder.", "text_hidden_fcs.", "t2i_projection.", "language.projector."):
        assert any(name.startswith(part) for name in changed), part

    image = Image(
        np.random.default_rng(1).integers(0, 255, (1, SIZE, 96), dtype=np.uint8),
        Grid.without_geometry(SIZE, 96),
        Modality.CT,
    )
    merged = Assistant.from_pretrained(settings.output / "model", "cpu")
    adapted_model = Assistant(trainer.model, trainer.processor, merged.identity)
    logits = [a._reader.ground(a.encode(image), ["liver"], Modality.CT)[0] for a in (merged, adapted_model)]
    torch.testing.assert_close(logits[0], logits[1], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_resumed_run_with_adapters_equals_an_unbroken_one(settings: TrainingSettings, tmp_path: Path) -> None:
    whole = Trainer(settings)
    whole.run(show_progress=False)
    parted = settings.model_copy(update={"output": tmp_path / "parted"})
    first = Trainer(parted)
    for _ in range(2):
        first.train_step()
    first.save_checkpoint()
    second = Trainer(parted)
    assert second.step == 2
    second.run(show_progress=False)
    for name, value in whole.averaged.items():
        torch.testing.assert_close(second.averaged[name], value, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("conversations", list(Conversations))
@pytest.mark.slow
def test_it_learns(settings: TrainingSettings, conversations: Conversations) -> None:
    changes = {"steps": 80, "learning_rate": 3e-3, "reflection_rate": 0.0, "conversations": conversations}
    trainer = Trainer(settings.model_copy(update=changes))
    losses = [trainer.train_step() for _ in range(80)]
    # What is learned word for word takes its part of the few steps.
    limits = {"dice": 0.6} if conversations is Conversations.ALONE else {"dice": 0.75, "words": 0.6}
    for term, limit in limits.items():
        assert np.mean([each[term] for each in losses[-10:]]) < limit * np.mean([each[term] for each in losses[:10]])


def test_the_padding_is_the_mean_as_in_use(settings: TrainingSettings) -> None:
    """The published order: normalise, then pad with zeros; black padding is something else."""
    trainer = Trainer(settings.model_copy(update={"reflection_rate": 0.0}))
    seen: list[torch.Tensor] = []
    trainer.model.vision.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    trainer.train_step()
    black = trainer.processor.normalise(torch.zeros(1, 3, 1, 1))
    padded = float((seen[0] == 0).all(1).float().mean())
    blackened = float((abs(seen[0] - black) < 1e-6).all(1).float().mean())
    assert padded > 0.05
    assert blackened < 0.01, "but for the outermost pixels the pictures hold nothing black"


def test_presence_can_not_be_trained(settings: TrainingSettings) -> None:
    trainer = Trainer(settings.model_copy(update={"presence_steps": 2, "steps": 0}))
    with pytest.raises(ConfigurationError, match="presence_steps"):
        trainer.run(show_progress=False)
