"""What every group of settings is built of: frozen, no unknown keys, and the kinds of values that occur often."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

FOLDER = "folder"
"""Key of the validation context: the folder of the file that the settings are read from."""


READS_FILES = "reads files"
"""Key of the validation context: whether the files that settings name must be there, as for a gateway that starts."""


class MisplacedError(ValueError):
    """Mistakes that show only when several settings are looked at together; each names the key that is to be mended.

    Attributes:
        mistakes: (location of the key below the settings that were looked at, what is wrong with it).
    """

    def __init__(self, mistakes: Sequence[tuple[tuple[str | int, ...], str]]) -> None:
        super().__init__("; ".join(text for _, text in mistakes))
        self.mistakes = tuple(mistakes)


class Settings(BaseModel):
    """Frozen; an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    context = info.context or {}
    if context.get(FOLDER) is not None:
        path = context[FOLDER] / path
    if context.get(READS_FILES):
        try:
            path.open("rb").close()
        except OSError as error:
            raise ValueError(f"{path} can't be read ({error.strerror})") from None
    return path


ConfiguredFile = Annotated[Path, AfterValidator(_beside_the_file)]
"""A file that the settings name; a relative path is taken from the folder of the settings' file."""

Port = Annotated[int, Field(ge=0, le=65535)]
PeerPort = Annotated[int, Field(ge=1, le=65535)]
WITHOUT_IMAGES = ("SEG", "SR", "PR", "KO", "DOC", "RTSTRUCT")
"""Modalities of series that hold no image to look at; our own results are among them."""
AeTitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[^\\\x00-\x1f\s][^\\\x00-\x1f]*$")]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address to listen on."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _address_to_listen_on(host: str) -> str:
    if host != "localhost":
        try:
            ip_address(host)
        except ValueError:
            raise ValueError("must be an IP address of this machine, for example 127.0.0.1 or 0.0.0.0") from None
    return host


ListeningHost = Annotated[str, AfterValidator(_address_to_listen_on)]
