"""Each answer has a folder of its own, whole or not there, and nothing of another input's beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage

from rcmed import cli
from rcmed.answers.folders import AnswerFolders, distinct_names, require_writable
from rcmed.answers.writing import remove_answer, write_answer
from rcmed.assistant import Assistant
from rcmed.errors import ConfigurationError, InputError
from rcmed.findings import Finding, Findings, FindingStatus, ModelIdentity
from rcmed.hints import Hint
from rcmed.image import Image
from rcmed.modality import Modality
from rcmed.readers import read_images
from rcmed.vocabulary import target_named


class Boxes:
    """Finds a box in every picture that is not black."""

    asked = 0

    def find(self, image: Image, prompt: str, hints: Mapping[int, Hint] = MappingProxyType({})) -> Findings:
        self.asked += 1
        target = target_named("skin lesion")
        mask = np.zeros(image.grid.shape, dtype=bool)
        mask[:, 2:6, 3:9] = True
        finding = Finding(prompt, target, FindingStatus.FOUND, 0.9, mask)
        if not image.pixels.any():
            finding = Finding(prompt, target, FindingStatus.ABSENT, 0.01)
        return Findings((finding,), ModelIdentity("boxes", "1", "0" * 64), image.grid, image.modality, "?", "!")


@pytest.fixture
def boxes(monkeypatch: pytest.MonkeyPatch) -> Boxes:
    boxes = Boxes()
    monkeypatch.setattr(Assistant, "from_pretrained", lambda *arguments, **options: boxes)
    return boxes


def picture(path: Path, grey: int = 200) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(np.full((16, 20, 3), grey, dtype=np.uint8)).save(path)
    return path


def find(*inputs: Path, output: Path, options: tuple[str, ...] = ()) -> int:
    asked = ["--prompt", "skin lesion", "--modality", "dermoscopy", "--output", str(output), *options]
    with pytest.raises(SystemExit) as end:
        cli.main(["find", *map(str, inputs), *asked])
    return int(end.value.code or 0)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


ANSWER = ["findings.json", "mask-1-skin_lesion.png", "overlay-1-skin_lesion.png"]


def test_an_answer_takes_the_place_of_an_earlier_one(
    boxes: Boxes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert find(picture(tmp_path / "a.png"), output=output) == 0
    assert files(output) == ANSWER
    for name in ("notes.txt", "mask-of-mine.png", "segmentation.dcm", "capture-7.dcm"):
        (output / name).write_text("")
    assert find(picture(tmp_path / "b.png", 0), output=output) == 0
    # Nothing is left of the answer to a.png, whoever wrote it; what no answer is called stays.
    assert files(output) == ["findings.json", "mask-of-mine.png", "notes.txt"]
    assert f"{output}: held the answer to another input, which is replaced" in capsys.readouterr().err
    assert find(tmp_path / "b.png", output=output) == 0
    assert "another input" not in capsys.readouterr().err


def test_inputs_of_one_name_have_folders_of_their_own(boxes: Boxes, tmp_path: Path) -> None:
    inputs = [picture(tmp_path / name) for name in ("p1/x.png", "p2/x.png", "p2/x.bmp", "y.png")]
    assert find(*inputs, inputs[0], output=tmp_path / "out") == 0
    assert boxes.asked == 4
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["p1-x.png", "p2-x.png", "x.bmp", "y"]


def test_a_single_answer_does_not_go_above_others(
    boxes: Boxes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, c = (picture(tmp_path / f"{name}.png") for name in "abc")
    output = tmp_path / "out"
    assert find(a, b, output=output) == 0
    before = files(output)
    boxes.asked = 0
    assert find(c, output=output) == 2 and boxes.asked == 0
    assert capsys.readouterr().err == (
        f"rcmed: --output {output}: holds answers to other inputs (a, b); give another folder, or remove what is not "
        "wanted any more\n"
    )
    assert files(output) == before
    assert find(b, c, output=output) == 0
    assert sorted(path.name for path in output.iterdir()) == ["a", "b", "c"]


def test_an_answer_above_goes_when_others_come_below(boxes: Boxes, tmp_path: Path) -> None:
    a, b = (picture(tmp_path / f"{name}.png") for name in "ab")
    output = tmp_path / "out"
    assert find(a, output=output) == 0
    assert find(a, b, output=output) == 0
    assert files(output) == [f"{name}/{file}" for name in "ab" for file in ANSWER]


def test_what_fails_leaves_the_folder_as_it_was(boxes: Boxes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (a,), (b,) = (read_images(picture(tmp_path / f"{name}.png"), Modality.DERMOSCOPY) for name in "ab")
    output = tmp_path / "out" / "deep"

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr("rcmed.answers.writing.write_findings_json", fail)
        with pytest.raises(OSError):
            write_answer(a, boxes.find(a, "skin lesion"), output)
        assert not (tmp_path / "out").exists()
    assert write_answer(a, boxes.find(a, "skin lesion"), output) == []
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    (output / ".answer-killed.part").mkdir()
    with monkeypatch.context() as context:
        context.setattr("rcmed.answers.writing.write_findings_json", fail)
        with pytest.raises(OSError):
            write_answer(b, boxes.find(b, "skin lesion"), output)
    assert {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()} == before
    write_answer(b, boxes.find(b, "skin lesion"), output)
    assert sorted(path.name for path in output.iterdir()) == ANSWER
    remove_answer(output)
    assert not output.exists()


def test_an_input_is_never_replaced_by_its_answer(boxes: Boxes, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert find(picture(output / "overlay-1-mine.png"), output=output) == 2
    assert boxes.asked == 0 and files(output) == ["overlay-1-mine.png"]
    (image,) = read_images(output / "overlay-1-mine.png", Modality.DERMOSCOPY)
    with pytest.raises(InputError, match="is the input itself"):
        write_answer(image, boxes.find(image, "skin lesion"), output)


def test_folders_of_fewer_images_than_before_go(tmp_path: Path) -> None:
    output = tmp_path / "out"
    series = tmp_path / "CT.5"
    series.mkdir()
    folders = AnswerFolders(output, [series])
    for folder in [*folders.of(series, 3), output / "CT.5-other", output / "MR"]:
        folder.mkdir(parents=True)
        (folder / "findings.json").write_text("{}")
    assert [folder.name for folder in folders.of(series, 3)] == ["CT.5-1", "CT.5-2", "CT.5-3"]
    assert folders.left_over(series, 2) == [output / "CT.5-3"]
    assert folders.left_over(series, 3) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--results", "seg,docx"), "'docx' is no result"),
        (("--device", "cuda:99"), "torch can use"),
        (("--device", "gpu"), "there is none of this name"),
        (("--model", "nowhere"), "nowhere"),
        (("--describer", "nowhere"), "no such folder"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_done(
    boxes: Boxes, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    assert find(picture(tmp_path / "a.png"), output=tmp_path / "out", options=options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rcmed: ") and said in line
    assert boxes.asked == 0 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nowhere"])
def test_an_output_that_can_not_be_is_refused(
    boxes: Boxes, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "file").write_text("")
    assert find(picture(tmp_path / "a.png"), output=tmp_path / place) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "nothing can be written there" in line and boxes.asked == 0


def test_looking_whether_a_folder_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    require_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="--output"):
        require_writable(tmp_path / "file")


PARTS = st.text("ab-1.", min_size=1, max_size=4).filter(lambda part: part.strip("."))


@given(st.lists(st.lists(PARTS, min_size=1, max_size=3).map("/".join), min_size=1, max_size=6, unique=True))
def test_names_are_as_distinct_as_paths(paths: list[str]) -> None:
    names = distinct_names([Path("/nowhere") / path for path in paths])
    taken = {name.casefold() for name in names}
    assert len(taken) == len(names) and all(name and "/" not in name for name in names)
    numbered = {f"{name.casefold()}-{number}" for name in names for number in range(1, 12)}
    assert not numbered & taken
