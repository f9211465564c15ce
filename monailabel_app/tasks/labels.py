"""The labels that viewers are told of: free slots for prompts, and the targets that the weights know.

OHIF draws only values that were advertised in `/info/` before; a slot is such a value for any prompt. 3D Slicer takes
values 1..N with the names that come with them.
"""

from __future__ import annotations

from collections.abc import Iterable

PROMPT_SLOTS = 8
LARGEST_VALUE = 254
"""OHIF keeps 255 for "not seen"."""


class AdvertisedLabels:
    """Names with the values 1..N that they have in a mask for OHIF."""

    def __init__(self, targets: Iterable[str]) -> None:
        """Advertise the slots "prompt 1" ... and these targets, as many as values are left."""
        self.slots = {f"prompt {number}": number for number in range(1, PROMPT_SLOTS + 1)}
        names = [name for name in dict.fromkeys(targets) if name not in self.slots]
        first = PROMPT_SLOTS + 1
        self.targets = {name: first + index for index, name in enumerate(names[: LARGEST_VALUE - PROMPT_SLOTS])}
        self._names = {value: name for name, value in {**self.slots, **self.targets}.items()}

    def as_dict(self) -> dict[str, int]:
        """Name to value, as `/info/` shows it."""
        return {**self.slots, **self.targets}

    def name_of(self, value: int) -> str | None:
        """The label with this value."""
        return self._names.get(value)

    def is_slot(self, value: int) -> bool:
        """Whether a value is a prompt's slot."""
        return 1 <= value <= PROMPT_SLOTS
