"""The secret that whoever uses the status page, the REST API and the metrics must bring."""

from __future__ import annotations

import base64
import binascii
import hmac
from pathlib import Path

from rcmed.errors import ConfigurationError

LEAST_LENGTH = 32


def user_in(authorization: str | None) -> str | None:
    """The user name that an Authorization header claims, for the audit trail; nobody checks it."""
    kind, _, value = (authorization or "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        name = base64.b64decode(value.strip(), validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return None
    return name[:64] or None


class Token:
    """Compares what a request brings with the secret, in a time that does not depend on where they differ."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    @classmethod
    def from_file(cls, path: Path) -> Token:
        """Read the secret; blanks around it do not count.

        Raises:
            ConfigurationError: unreadable, shorter than 32 characters, or no printable ASCII.
        """
        try:
            secret = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise ConfigurationError(
                f"web.token_file: {path} can't be read ({reason}): make one with `openssl rand -hex 32`"
            ) from None
        wrong = f"fewer than {LEAST_LENGTH} characters" if len(secret) < LEAST_LENGTH else None
        if not (secret.isascii() and secret.isprintable()) or " " in secret:
            wrong = "more than printable ASCII"
        if wrong is not None:
            raise ConfigurationError(f"web.token_file: {path} holds {wrong}: make one with `openssl rand -hex 32`")
        return cls(secret)

    def is_in(self, authorization: str | None) -> bool:
        """Whether an Authorization header brings the secret.

        Args:
            authorization: `Bearer SECRET` (RFC 6750), or `Basic` with the secret as the password and any user name
                (RFC 7617), which browsers ask their users for.
        """
        kind, _, value = (authorization or "").partition(" ")
        value = value.strip()
        if kind.lower() == "basic":
            try:
                value = base64.b64decode(value, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return False
        elif kind.lower() != "bearer":
            return False
        return hmac.compare_digest(value.encode(), self._secret)
