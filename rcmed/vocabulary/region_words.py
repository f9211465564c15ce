"""From the words of a body part, a protocol or a description to body regions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from importlib import resources

import yaml

from rcmed.vocabulary.body_regions import BodyRegion

_LETTER = r"[^\W\d_]"
# Scripts without spaces between words.
_UNSPACED = re.compile(r"[぀-ヿ㐀-鿿가-힯]")


def regions_named(text: str) -> frozenset[BodyRegion]:
    """All body regions that words of a text name; none where no word names one.

    Args:
        text: free text of any language of `region_words.yaml`, or a defined term such as "CHESTABDPELVIS".
    """
    plain = _plain(text)
    return frozenset(region for pattern, regions in _patterns().items() if pattern.search(plain) for region in regions)


@cache
def _patterns() -> Mapping[re.Pattern[str], frozenset[BodyRegion]]:
    text = resources.files("rcmed.vocabulary").joinpath("region_words.yaml").read_text(encoding="utf-8")
    return {
        re.compile("|".join(_pattern(word) for word in entry["words"])): frozenset(map(BodyRegion, entry["regions"]))
        for entry in yaml.safe_load(text)
    }


def _pattern(word: str) -> str:
    core = re.escape(_plain(word.strip("-")))
    if _UNSPACED.search(word):
        return core
    before = "" if word.startswith("-") else f"(?<!{_LETTER})"
    after = "" if word.endswith("-") else f"(?!{_LETTER})"
    return f"{before}{core}{after}"


def _plain(text: str) -> str:
    """Lower case without accents; runs of what is no letter become one space."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    letters = "".join(mark for mark in decomposed if not unicodedata.combining(mark))
    return re.sub(r"[\W\d_]+", " ", unicodedata.normalize("NFC", letters)).strip()
