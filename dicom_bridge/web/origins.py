"""Which page a request comes from, and under which name it asks: what browsers say of it."""

from __future__ import annotations

from collections.abc import Mapping

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
"""Requests under another name come from a page that had its own name point to loopback (DNS rebinding)."""


def is_from_another_page(headers: Mapping[str, str]) -> bool:
    """Whether a page of another origin asks, by the headers of a request, their names in lower case.

    Browsers bring the password to whatever a page of someone else makes them send; they also say which page.
    """
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")
