"""The browser of whoever sits at this machine."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Mapping


def open_browser(address: str, environment: Mapping[str, str] | None = None) -> bool:
    """Open a page in a window; returns whether that was done.

    Where there is no screen nothing is opened: a browser of the terminal would take the terminal, and shows no images.
    """
    variables = os.environ if environment is None else environment
    has_screen = sys.platform in ("darwin", "win32") or variables.get("DISPLAY") or variables.get("WAYLAND_DISPLAY")
    if not has_screen and not variables.get("BROWSER"):
        return False
    try:
        return webbrowser.open(address)
    except webbrowser.Error:
        return False
