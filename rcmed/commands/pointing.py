"""Clicks and boxes on the command line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from rcmed.errors import ConfigurationError
from rcmed.hints import Hint, Place

CLICK = "X,Y or X,Y,SLICE"
BOX = "X,Y,X,Y or X,Y,X,Y,SLICE"


def read_pointing(inside: Sequence[str], outside: Sequence[str], boxes: Sequence[str]) -> dict[int, Hint]:
    """Hints by slice, of places as a viewer shows them: column and row in pixels from the upper left one, which is 0,0.

    Args:
        inside, outside: clicks on the target and beside it, "X,Y" or "X,Y,SLICE"; without a slice the first one, 0.
        boxes: first and last pixel, "X,Y,X,Y" or "X,Y,X,Y,SLICE", one in a slice.
    Raises:
        ConfigurationError: names what is none of these.
    """
    on, beside = (_clicks(name, clicks) for name, clicks in (("--click", inside), ("--click-outside", outside)))
    box: dict[int, tuple[float, float, float, float]] = {}
    for text in boxes:
        (x, y, last_x, last_y), index = _numbers("--box", text, 4, BOX)
        if index in box:
            raise ConfigurationError(f"--box {text}: there is another box in slice {index}")
        if last_x < x or last_y < y:
            raise ConfigurationError(f"--box {text}: it ends before it begins; give the upper left pixel first")
        box[index] = (y, x, last_y, last_x)
    return {
        index: Hint(tuple(on[index]), tuple(beside[index]), box.get(index)) for index in sorted({*on, *beside, *box})
    }


def _clicks(option: str, clicks: Sequence[str]) -> dict[int, list[Place]]:
    places: dict[int, list[Place]] = defaultdict(list)
    for text in clicks:
        (x, y), index = _numbers(option, text, 2, CLICK)
        places[index].append((y, x))
    return places


def _numbers(option: str, text: str, count: int, form: str) -> tuple[list[float], int]:
    try:
        numbers = [float(part) for part in text.split(",")]
        index = int(text.split(",")[count]) if len(numbers) == count + 1 else 0
    except ValueError:
        numbers, index = [], 0
    if len(numbers) not in (count, count + 1) or index < 0 or not all(0 <= number < 1e6 for number in numbers):
        raise ConfigurationError(f"{option} {text}: write {form}, in pixels from the upper left one, which is 0,0")
    return numbers[:count], index
