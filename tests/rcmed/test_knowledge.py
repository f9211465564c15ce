"""What weights know is one rule, in use and in training."""

import numpy as np
import torch

from rcmed.assistant import Assistant
from rcmed.findings import ModelIdentity
from rcmed.image import Grid, Image, Modality
from rcmed.model.config import RCMedConfig
from rcmed.model.knowledge import known_targets
from rcmed.model.modeling import RCMedModel
from rcmed.model.processor import RCMedProcessor
from rcmed.model.tokenizer import build_tokenizer
from rcmed.training.judging import other_targets
from rcmed.training.packed import PackedTriplet


def test_what_was_taught_beyond_the_vocabulary_is_known_in_use_and_in_training() -> None:
    names = ("liver", "pedicle screw", "polyp", "skin lesion")
    tokenizer = build_tokenizer(list(names))
    config = RCMedConfig(image_size=64)
    config.language["vocab_size"] = len(tokenizer)
    config.teach(
        [("pedicle screw", "endoscopy"), ("skin lesion", "endoscopy"), ("polyp", "endoscopy"), ("liver", "ct")]
    )
    model = RCMedModel(config)
    processor = RCMedProcessor(tokenizer, 64, config.pixel_mean, config.pixel_std)
    image = Image(np.zeros((1, 64, 64), dtype=np.uint8), Grid.without_geometry(64, 64), Modality.ENDOSCOPY)
    in_use = [t.name for t in Assistant(model, processor, ModelIdentity("made", "", "")).known_targets(image)]
    assert sorted(in_use) == ["pedicle screw", "polyp", "skin lesion"]
    packed = PackedTriplet(torch.zeros(3, 64, 64, dtype=torch.uint8), {}, (), (64, 64), Modality.ENDOSCOPY, "made")
    assert other_targets(model, packed, ["polyp"]) == [name for name in in_use if name != "polyp"]
    assert sorted(target.name for target in known_targets(config)) == sorted(names)


def test_weights_that_do_not_say_may_know_any() -> None:
    assert {"liver", "spleen"} <= {target.name for target in known_targets(RCMedConfig(), Modality.CT)}
