"""What weights know is one rule, in use and in training."""

import numpy as np
import torch

from rcmed.assistant import Assistant
from rcmed.findings import ModelIdentity
from rcmed.image import Grid, Image
from rcmed.modality import Modality
from rcmed.model.config import Lesson, RCMedConfig
from rcmed.model.knowledge import known_targets, modalities_of, unknown_because
from rcmed.model.modeling import RCMedModel
from rcmed.model.processor import RCMedProcessor
from rcmed.model.tokenizer import build_tokenizer
from rcmed.site_learning.judging import other_targets
from rcmed.training.batches.packed import PackedTriplet
from rcmed.vocabulary import target_named


def test_what_was_taught_beyond_the_vocabulary_is_known_in_use_and_in_training() -> None:
    names = ("liver", "pedicle screw", "polyp", "skin lesion")
    tokenizer = build_tokenizer(list(names))
    config = RCMedConfig(image_size=64)
    config.language["vocab_size"] = len(tokenizer)
    taught = [("pedicle screw", "endoscopy"), ("skin lesion", "endoscopy"), ("polyp", "endoscopy"), ("liver", "ct")]
    config.teach(Lesson(name, modality, "p1", True) for name, modality in taught)
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


def test_weights_that_do_not_say_are_asked_for_anything() -> None:
    assert unknown_because(RCMedConfig(), target_named("liver"), Modality.ULTRASOUND) is None


def counted(*lessons: tuple[str, str, str, bool]) -> RCMedConfig:
    config = RCMedConfig()
    config.teach(Lesson(*lesson) for lesson in lessons)
    return config


def test_what_was_only_ever_absent_is_not_known() -> None:
    config = counted(
        ("pneumothorax", "x_ray", "p1", False),
        ("heart", "ct", "p1", False),
        ("heart", "mr", "p2", True),
        ("lung", "x_ray", "p1", True),
        ("lung", "x_ray", "p1", True),
        ("lung", "x_ray", "p2", True),
        ("lung", "x_ray", "p3", False),
    )
    assert config.positives["lung"] == {"x_ray": {"images": 3, "patients": 2}}
    assert config.positives["pneumothorax"] == {"x_ray": {"images": 0, "patients": 0}}
    assert [target.name for target in known_targets(config)] == ["heart", "lung"]
    assert [target.name for target in known_targets(config, Modality.CT)] == []
    assert modalities_of(config, target_named("heart")) == (Modality.MR,)
    reasons = {
        name: unknown_because(config, target_named(name), modality) or ""
        for name, modality in (("pneumothorax", Modality.X_RAY), ("heart", Modality.CT), ("spleen", Modality.CT))
    }
    assert "in none of the images" in reasons["pneumothorax"]
    assert "known to this model in magnetic resonance images only" in reasons["heart"]
    assert "not among what this model learned" in reasons["spleen"]
    assert all(reason.endswith("it was not looked for") for reason in reasons.values())
    assert unknown_because(config, target_named("lung"), Modality.X_RAY) is None


def test_training_again_forgets_nothing_and_counts_nobody_twice() -> None:
    config = counted(("lung", "x_ray", "p1", True), ("lung", "x_ray", "p2", True), ("lung", "ct", "p1", True))
    config.teach(
        [Lesson("lung", "x_ray", "p1", True), Lesson("lung", "ct", "p1", False), Lesson("rib", "ct", "p1", True)]
    )
    assert config.positives["lung"] == {
        "x_ray": {"images": 2, "patients": 2},
        "ct": {"images": 1, "patients": 1},
    }
    loaded = RCMedConfig.from_dict(config.to_dict())
    assert loaded.positives == config.positives and [t.name for t in known_targets(loaded)] == ["lung", "rib"]


def test_weights_made_before_counting_keep_what_they_said_that_they_know() -> None:
    config = RCMedConfig(target_names=("liver", "pedicle screw"), target_modalities={"pedicle screw": ["x_ray"]})
    before = {name: modalities_of(config, target) for name, target in ((t.name, t) for t in known_targets(config))}
    config.teach([Lesson("liver", "ct", "p1", True)])
    assert {t.name: modalities_of(config, t) for t in known_targets(config)} == before
    assert before == {"liver": (Modality.CT, Modality.MR), "pedicle screw": (Modality.X_RAY,)}


def test_what_is_not_known_is_not_looked_for() -> None:
    assistant = Assistant.from_pretrained("small", "cpu")
    config = assistant.model.config
    image = Image(np.zeros((1, 64, 64), dtype=np.uint8), Grid.without_geometry(64, 64), Modality.X_RAY)
    for name in ("pneumothorax", "central venous line"):
        (finding,) = assistant.find(image, name).findings
        assert finding.target is None and "it was not looked for" in (finding.reason or "")
    never = {(name, m) for name, counts in config.positives.items() for m in counts if not counts[m]["patients"]}
    assert len(never) == 16 and ("heart", "ct") in never and "pneumothorax" not in assistant.trained_targets
    for modality in Modality:
        known = {target.name for target in known_targets(config, modality)}
        assert known == {n for n, counts in config.positives.items() if counts.get(modality.value, {}).get("patients")}
