"""Clicks and boxes on the command line become hints at the places that were meant."""

from __future__ import annotations

import pytest

from rcmed.commands.pointing import read_pointing
from rcmed.errors import ConfigurationError


def test_columns_come_first_as_a_viewer_shows_them() -> None:
    hints = read_pointing(["30,4", "7,8.5,12"], ["1,2"], ["5,6,9,10,12"])
    assert list(hints) == [0, 12]
    assert hints[0].inside == ((4.0, 30.0),) and hints[0].outside == ((2.0, 1.0),) and hints[0].box is None
    assert hints[12].inside == ((8.5, 7.0),) and hints[12].box == (6.0, 5.0, 10.0, 9.0)
    assert read_pointing([], [], []) == {}


@pytest.mark.parametrize(
    ("inside", "boxes", "said"),
    [
        (["3"], [], "--click 3: write X,Y"),
        (["3,x"], [], "--click 3,x: write X,Y"),
        (["3,4,0.5"], [], "--click 3,4,0.5: write X,Y"),
        (["3,nan"], [], "--click 3,nan: write X,Y"),
        (["-3,4"], [], "--click -3,4: write X,Y"),
        ([], ["1,2,3"], "--box 1,2,3: write X,Y,X,Y"),
        ([], ["9,9,3,3"], "--box 9,9,3,3: it ends before it begins"),
        ([], ["1,1,3,3", "2,2,4,4,0"], "--box 2,2,4,4,0: there is another box in slice 0"),
    ],
)
def test_what_is_no_place_is_named(inside: list[str], boxes: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_pointing(inside, [], boxes)
    assert str(refused.value).startswith(said)
