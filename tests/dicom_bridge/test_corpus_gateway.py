"""Every odd DICOM case through the gateway: taken or refused with a line, read, asked about, turned into results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from corpus import CASES, batches, is_accepted, kind_of, pass_through_gateway, table

PAGE = Path(__file__).parents[2] / "docs" / "dicom-corpus.md"
pytestmark = pytest.mark.skipif(not CASES, reason="no DICOM corpus at RCMED_DATA")


# Images that `rcmed find` reads, but that no study or no folder of a store can be named after.
NOT_TAKEN = {
    "ct-single/ct-mono2-8-abdo-3-spacings.dcm": "Series Instance UID (0020,000E) is not a valid UID",
    "mr-single/decimal-slope.dcm": "Study Instance UID (0020,000D) is missing",
}


@pytest.mark.parametrize("batch", batches(), ids=lambda batch: f"{len(batch)} cases")
@pytest.mark.slow
def test_cases_through_the_gateway(batch: list[dict[str, Any]], tmp_path: Path) -> None:
    passages = pass_through_gateway(batch, tmp_path)
    assert len(passages) == len(batch)
    for case in batch:
        passage, path = passages[case["path"]], case["path"]
        kind = kind_of(passage.images)
        said = passage.refused + passage.lines
        assert is_accepted(case, kind) or NOT_TAKEN[path] in passage.refused[0], (path, kind, said)
        assert all(len(line.splitlines()) == 1 for line in said), path
        assert said or kind != "refuse", path
        # Tiles of a slide, and an instance without Modality, are read; that nothing can be filed for them is said.
        no_results = [line for line in said if "no SEG and SR are written" in line]
        assert passage.results == 0 if not passage.images else passage.results >= 1 or no_results, path
        (neighbour,) = passage.neighbours
        assert neighbour.is_volume and neighbour.grid.shape[0] == 3, path
    assert not list((tmp_path / "incoming").iterdir())


@pytest.mark.slow
def test_the_page_says_what_the_code_does() -> None:
    found = table()
    assert found.count("\n") == len(CASES) + 1
    assert found in PAGE.read_text(), "python benchmarks/corpus_table.py --write docs/dicom-corpus.md"
