"""The worst, median and best answers, chosen, drawn and shown on a page."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image as PillowImage

from rcmed import cli
from rcmed.evaluation.page import write_page
from rcmed.evaluation.pictures import KeptMasks, choose_extremes
from rcmed.evaluation.rows import ScoreRow
from rcmed.evaluation.tables import summarise
from rcmed.findings import ModelIdentity


def row(image: str, dice: float, target: str = "liver", present: bool = True, found: bool = True) -> ScoreRow:
    return ScoreRow(image, "ct", "made", target, dice, dice, dice, 0.5, present, found)


def test_worst_median_and_best_are_chosen() -> None:
    rows = [row(f"{n}.png", n / 10) for n in (7, 3, 9, 1, 5)]
    assert [(kind, chosen.dice) for kind, chosen in choose_extremes(rows, 1)] == [
        ("worst", 0.1),
        ("median", 0.5),
        ("best", 0.9),
    ]
    assert [kind for kind, _ in choose_extremes(rows, 2)] == ["worst", "worst", "median", "best", "best"]
    assert len(choose_extremes(rows[:1], 2)) == 1, "one answer is shown once"


def test_false_positives_are_shown_and_correct_refusals_are_not() -> None:
    nothing = float("nan")
    rows = [row("a", nothing, present=False), row("b", nothing, present=False, found=False)]
    assert [(kind, chosen.image) for kind, chosen in choose_extremes(rows, 3)] == [("false positive", "a")]


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_kept_masks_come_back(mask: np.ndarray) -> None:
    kept = KeptMasks()
    kept.keep(row("a", 0.1), mask)
    assert np.array_equal(kept.mask(row("a", 0.1)), mask)


class Page(HTMLParser):
    """What a reader sees of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.images: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(unquote(dict(attrs)["src"] or ""))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_names_are_text_on_the_page(tmp_path: Path) -> None:
    rows = [row("a.png", 0.5, "<script>alert(1)</script>")]
    path = tmp_path / "summary.html"
    write_page(summarise(rows), [], ModelIdentity("made & <b>", "1", "0" * 64), Path("index.json"), 1, path)
    assert "<script>" not in path.read_text()
    assert "<script>alert(1)</script>" in Page(path).text


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Three images with an optic disc, and one where nobody saw a hard exudate."""
    entries = {}
    lines = []
    for number in range(3):
        image, mask = f"fundus--made--{number}.png", f"mask {number}.png"
        pixels = np.full((64, 64, 3), 60 + 40 * number, np.uint8)
        pixels[20:30, 20:34] = 230
        PillowImage.fromarray(pixels).save(tmp_path / image)
        PillowImage.fromarray(pixels[..., 0] == 230).save(tmp_path / mask)
        entries[image] = [{mask: "optic disc"}]
        labelled = ["optic disc", "hard exudate"]
        lines.append({"image": image, "dataset": "made", "patient": f"p{number}", "labelled": labelled})
    (tmp_path / "index.json").write_text(json.dumps(entries))
    (tmp_path / "provenance.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path / "index.json"


def test_evaluate_writes_tables_and_a_page_with_its_pictures(index: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(SystemExit) as end:
        cli.main(["evaluate", str(index), "--root", str(tmp_path), "--output", str(output), "--prompts", "labelled"])
    assert not end.value.code
    summary = (output / "summary.md").read_text()
    assert "| fundus | made | optic disc | 3 | 3 |" in summary and "| target hard exudate | 3 | 3 |" in summary
    page = Page(output / "summary.html")
    assert page.images and all((output / source).is_file() for source in page.images)
    assert sorted(output.joinpath("overlays").iterdir()) == sorted(output / source for source in page.images)
    for words in ("optic disc", "worst", "median", "best", "Dice", "RCMed small", "calibration error"):
        assert words in page.text
    header, *lines = (output / "metrics.csv").read_text().splitlines()
    assert header.endswith("status,patient,foreign,click_dice,box_dice") and len(lines) == 6


def evaluate(index: Path, *options: str) -> int:
    output = index.parent / "out"
    with pytest.raises(SystemExit) as end:
        cli.main(["evaluate", str(index), "--root", str(index.parent), "--output", str(output), *options])
    return int(end.value.code or 0)


def test_names_that_no_target_has_are_counted(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = json.loads(index.read_text())
    for number, masks in enumerate(entries.values()):
        masks.append({"mask 0.png": "flux capacitor"})
        if number:
            masks.append({"mask 0.png": "warp core"})
    index.write_text(json.dumps(entries))
    assert evaluate(index) == 0
    told = "Left out, for no target has the name: flux capacitor (3 images), warp core (2 images)"
    assert told in (index.parent / "out" / "summary.md").read_text()
    assert told in Page(index.parent / "out" / "summary.html").text
    assert "| fundus | made | optic disc | 3 | 3 |" in capsys.readouterr().out
    _, *lines = (index.parent / "out" / "metrics.csv").read_text().splitlines()
    assert len(lines) == 3 and all(",optic disc," in line for line in lines)


def test_nothing_but_unknown_names_is_told_as_well(index: Path) -> None:
    index.write_text(json.dumps({image: [{"mask 0.png": "warp core"}] for image in json.loads(index.read_text())}))
    assert evaluate(index) == 0
    assert "warp core (3 images)" in (index.parent / "out" / "summary.md").read_text()


def test_an_image_that_can_not_be_read_costs_itself_alone(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (index.parent / "fundus--made--1.png").write_text("no picture")
    PillowImage.new("L", (9, 9)).save(index.parent / "mask 2.png")
    assert evaluate(index, "--overlays", "0") == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rcmed: ")]
    assert len(said) == 2 and "fundus--made--1.png: can't be read" in said[0]
    assert said[1].endswith(
        "fundus--made--2.png: the mask of optic disc is 9 x 9, the image 64 x 64; one of them belongs to another"
    )
    _, *lines = (index.parent / "out" / "metrics.csv").read_text().splitlines()
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1, 2]", "must map images to lists of masks"),
        ("{}", "one of no image"),
        ('{"fundus--a.png": {"m.png": "optic disc"}}', "fundus--a.png has no list of masks"),
        ('{"fundus--a.png": ["m.png"]}', "fundus--a.png has no list of masks"),
        ('{"fundus--a.png": [{"m.png": 1}]}', "fundus--a.png has no list of masks"),
        ('{"a.png": []}', "must start with a modality"),
        ("no JSON", "can't be read as an index"),
    ],
)
def test_an_index_of_another_shape_is_refused_before_the_model_is_loaded(
    content: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rcmed.assistant.Assistant.from_pretrained", None)
    index = tmp_path / "index.json"
    index.write_text(content)
    assert evaluate(index) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rcmed: ") and said in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "line", ["no JSON", "[1]", '{"dataset": "x"}', '{"image": "fundus--made--0.png", "labelled": 3}']
)
def test_a_provenance_of_another_shape_is_refused(index: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    (index.parent / "provenance.jsonl").write_text(line)
    assert evaluate(index) == 2
    assert "provenance.jsonl" in capsys.readouterr().err
