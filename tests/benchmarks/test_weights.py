"""`benchmarks/weights.py`: what it writes into a card, and what it takes the mean of."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("weights")


def test_a_table_takes_the_place_of_the_one_before(weights: ModuleType) -> None:
    card = "before\n<!-- targets -->\n| old |\n<!-- end of targets -->\nafter\n"
    assert weights.fill(card, "targets", "| new |\n") == card.replace("old", "new")
    with pytest.raises(ValueError, match="not enough values"):
        weights.fill(card, "data sets", "| new |")


def test_data_sets_are_told_with_their_licences_and_controls_stay(weights: ModuleType, tmp_path: Path) -> None:
    one = {
        "modality": "ct",
        "dataset": "spleens",
        "split": "train",
        "patient": "1",
        "source": "a/b:c",
        "licence": "CC0",
    }
    rows = [one, {**one, "patient": "2"}, {**one, "patient": "3", "split": "test"}]
    (tmp_path / "provenance.jsonl").write_text("\n".join(map(json.dumps, rows)))
    control = "| mr | twin (healthy control) | x | MIT | 1 | 5 |"
    table = weights.data_sets(tmp_path, f"# Card\n{control}\n").splitlines()
    assert table[2:] == ["| ct | spleens | a/b | CC0 | 2 | 2 |", control]


def test_pairs_count_alike_however_many_images_they_have(weights: ModuleType) -> None:
    def row(target: str, dice: str, present: str = "True") -> dict[str, str]:
        return {"dataset": "d", "target": target, "present": present, "dice": dice, "click_dice": ""}

    rows = [row("liver", "1.0"), row("liver", "0.8"), row("spleen", "0.1"), row("spleen", "0.0", "False")]
    assert weights.mean_of_pairs(rows, "dice") == pytest.approx(0.5)
    assert weights.mean_of_pairs(rows, "click_dice") != weights.mean_of_pairs(rows, "click_dice"), "nothing, so no mean"


def test_the_card_that_ships_has_the_marks(weights: ModuleType) -> None:
    card = (weights.model_folder("small") / "README.md").read_text()
    for mark in ("targets", "data sets"):
        assert "| new |" in weights.fill(card, mark, "| new |")
