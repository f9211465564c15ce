"""Print what becomes of each odd DICOM case, as the Markdown table of docs/dicom-corpus.md.

python benchmarks/corpus_table.py [--write docs/dicom-corpus.md]

The cases lie in the folder `dicom` of RCMED_DATA. With `--write` the table replaces the one in the page.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "dicom_bridge" / "support"))

from corpus import CASES, INDEX, table

BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


def main() -> int:
    """Print or write the table; returns 2 where there is no corpus."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--write", type=Path)
    page = arguments.parse_args().write
    if not CASES:
        print(f"no corpus: {INDEX} is missing; set RCMED_DATA", file=sys.stderr)
        return 2
    if page is None:
        print(table())
        return 0
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(f"{before}{BEGIN}{table()}\n{END}{rest.partition(END)[2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
