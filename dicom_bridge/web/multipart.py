"""The parts of a multipart body while it comes (RFC 2046, 5.1.1)."""

from __future__ import annotations

from enum import Enum, auto

_LONGEST_HEADERS = 65_536
_LONGEST_PADDING = 1_024
_LINE_END = b"\r\n"


class MultipartError(ValueError):
    """The body is no multipart message with this boundary; the text says why."""


class _At(Enum):
    PREAMBLE = auto()
    HEADERS = auto()
    CONTENT = auto()
    EPILOGUE = auto()


class PartSplitter:
    """Splits a body at its boundary; preamble, epilogue, headers of parts and padding after boundaries are passed over.

    Attributes:
        is_complete: whether the last boundary has come.
    """

    def __init__(self, boundary: str, maximum_bytes: int) -> None:
        """Prepare.

        Args:
            boundary: as the Content-Type names it.
            maximum_bytes: of a part; the content of a larger one is dropped while it comes.
        """
        self._delimiter = b"\r\n--" + boundary.encode("latin-1")
        self._maximum = maximum_bytes
        self._at = _At.PREAMBLE
        self._buffer = bytearray(_LINE_END)  # the line end before the first boundary may be left out
        self._content = bytearray()
        self._is_too_large = False
        self.is_complete = False

    def feed(self, chunk: bytes) -> list[bytearray | None]:
        """Take a piece of the body; returns the parts that it completed, None for one that was too large.

        Raises:
            MultipartError: the headers of a part do not end.
        """
        self._buffer += chunk
        complete: list[bytearray | None] = []
        while self._at is not _At.EPILOGUE:
            if self._at is _At.HEADERS:
                if not self._pass_headers():
                    break
                continue
            was_content = self._at is _At.CONTENT
            if not self._pass_boundary():
                break
            if was_content:
                complete.append(None if self._is_too_large else self._content)
            self._content, self._is_too_large = bytearray(), False
        if self._at is _At.EPILOGUE:
            self._buffer.clear()
        return complete

    def _pass_headers(self) -> bool:
        """Whether the headers have come; the line end of the boundary, with which they begin, is still there."""
        end = self._buffer.find(_LINE_END + _LINE_END)
        if end < 0:
            if len(self._buffer) > _LONGEST_HEADERS:
                raise MultipartError("the headers of a part do not end")
            return False
        del self._buffer[: end + 2 * len(_LINE_END)]
        self._at = _At.CONTENT
        return True

    def _pass_boundary(self) -> bool:
        """Whether a boundary has come; what is before it is kept where it is content."""
        start = 0
        while (found := self._buffer.find(self._delimiter, start)) >= 0:
            after = self._buffer[found + len(self._delimiter) :][:_LONGEST_PADDING]
            rest = after.lstrip(b" \t")
            is_last = after.startswith(b"--")
            if is_last or rest.startswith(_LINE_END):
                self._keep(found)
                del self._buffer[: len(self._delimiter) + (0 if is_last else len(after) - len(rest))]
                self._at = _At.EPILOGUE if is_last else _At.HEADERS
                self.is_complete = is_last
                return True
            if len(after) < _LONGEST_PADDING and (not rest or rest == b"\r" or after == b"-"):
                self._keep(found)  # what follows will tell
                return False
            start = found + 1  # only begins like a boundary
        self._keep(max(len(self._buffer) - len(self._delimiter) + 1, 0))
        return False

    def _keep(self, count: int) -> None:
        """Take bytes from the front of the buffer: content, or a preamble."""
        if self._at is not _At.PREAMBLE and not self._is_too_large:
            if len(self._content) + count > self._maximum:
                self._is_too_large, self._content = True, bytearray()
            else:
                self._content += self._buffer[:count]
        del self._buffer[:count]
