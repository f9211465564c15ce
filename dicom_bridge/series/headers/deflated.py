"""Deflated data sets (PS3.5 A.5), inflated so far as is asked and no further: a few kB can stand for gigabytes."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

_PIECE_BYTES, _GIVEN_BYTES = 1 << 20, 1 << 16


def inflated(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """The data set behind the file meta information, piece by piece, each of at most a MB.

    Args:
        pieces: of the deflated data set.
    Raises:
        zlib.error: it is damaged.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    for piece in pieces:
        view = memoryview(piece)
        for place in range(0, len(view), _GIVEN_BYTES):  # what is left of what is given is copied each time
            pending: bytes | memoryview = view[place : place + _GIVEN_BYTES]
            while len(pending) and not inflater.eof:
                yield inflater.decompress(pending, _PIECE_BYTES)
                pending = inflater.unconsumed_tail
    yield inflater.flush()


class InflatedStart:
    """The beginning of a deflated data set, which grows when more of it is asked for."""

    def __init__(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Nothing is inflated yet."""
        self._rest = inflated(pieces)
        self._start = bytearray()
        self.is_whole = False

    def first(self, size: int) -> bytes:
        """The first bytes, up to a MB more than `size`; fewer where the data set is shorter.

        Raises:
            zlib.error: it is damaged before.
        """
        while len(self._start) < size and not self.is_whole:
            piece = next(self._rest, None)
            if piece is None:
                self.is_whole = True
            else:
                self._start += piece
        return bytes(self._start)
