"""Whether slices of a volume's patient are among training images, whose names are seldom those of the volume."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import takewhile

from rcmed.data.labelled_volumes import LabelledVolume
from rcmed.data.triplets import Triplet

_TOKEN = re.compile(r"[A-Za-z0-9]+")


def trained_on(cases: Iterable[LabelledVolume], triplets: Iterable[Triplet]) -> set[str]:
    """Folders of the volumes whose patients are among the images of an index.

    In an index a patient often has a longer name than elsewhere ("openkbp_test_pt_247" for "test_pt_247",
    "ts_example_ct" for the volume "example_ct_sm"). A volume counts as trained on where, in its data set, a patient's
    name, without what all patients of the data set begin with, stands in the volume's or its patient's: rather one too
    many than one too few.
    """
    patients: dict[str, set[str]] = defaultdict(set)
    for triplet in triplets:
        patients[triplet.dataset].add(triplet.patient)
    seen = set()
    for case in cases:
        named = [_tokens(case.name), _tokens(case.patient)]
        if any(_stands_in(wanted, name) for wanted in _own_parts(patients[case.dataset]) for name in named):
            seen.add(str(case.folder))
    return seen


def _tokens(name: str) -> list[str]:
    return _TOKEN.findall(name.lower())


def _own_parts(patients: Iterable[str]) -> list[list[str]]:
    """The parts of patients' names that are theirs alone, and the whole names."""
    names = [_tokens(name) for name in patients]
    shared = 0
    if len(names) > 1:
        shared = sum(1 for _ in takewhile(lambda words: len(set(words)) == 1, zip(*names, strict=False)))
    return [part for name in names for part in (name, name[shared:]) if part]


def _stands_in(wanted: Sequence[str], name: Sequence[str]) -> bool:
    return any(list(name[first : first + len(wanted)]) == list(wanted) for first in range(len(name)))
