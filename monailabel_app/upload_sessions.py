"""Uploaded images that are asked about without being stored: sessions that end, also those of an earlier run."""

from __future__ import annotations

import json
import logging
import re
import shutil
import time
import uuid
from pathlib import Path

from monailabel.utils.sessions import SessionInfo, Sessions

logger = logging.getLogger(__name__)

_SESSION = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
META = "meta.info"


class ExpiringSessions(Sessions):  # type: ignore[misc]
    """Sessions whose state is their folder: what is expired is not given, and `remove_expired` removes it.

    An id is a UUID that this class made; nothing else becomes part of a path.
    """

    def __init__(self, store_path: Path, expiry_seconds: int) -> None:
        """Use a folder.

        Args:
            expiry_seconds: a session that is not used for so long ends; a client may ask for less, never more.
        """
        super().__init__(str(store_path), expiry_seconds)
        self.expiry = max(1, expiry_seconds)
        self._root = Path(self.store_path)
        self._root.mkdir(parents=True, exist_ok=True)

    def __bool__(self) -> bool:
        """MONAI Label takes an empty dictionary of sessions for "no sessions at all"."""
        return True

    def get_session(self, session_id: str, update_ts: bool = True, fetch_cache: bool = True) -> SessionInfo | None:
        """The session, or None where there is none, or it is expired or damaged."""
        session = self._read(session_id)
        if session is None or self._is_expired(session):
            return None
        if update_ts:
            session.last_access_ts = int(time.time())
            self._write_meta_info(session_id, session)
        return session

    def add_session(
        self, data_file: str, expiry: int = 0, uncompress: bool = False, session_id: str | None = None
    ) -> tuple[str, SessionInfo]:
        """Keep a file or a folder as a session; it is moved. Archives are not unpacked."""
        if uncompress:
            raise ValueError("archives are not unpacked")
        name = str(uuid.uuid4())
        folder = self._root / name
        folder.mkdir()
        image = folder / Path(data_file).name
        shutil.move(data_file, image)
        now = int(time.time())
        session = SessionInfo()
        session.name, session.path, session.image, session.meta = name, str(folder), str(image), {}
        session.create_ts = session.last_access_ts = now
        session.expiry = min(expiry, self.expiry) if expiry > 0 else self.expiry
        self._write_meta_info(name, session)
        return name, session

    def remove_session(self, session_id: str) -> None:
        """Remove it with its image."""
        if _SESSION.fullmatch(session_id):
            shutil.rmtree(self._root / session_id, ignore_errors=True)

    def remove_expired(self) -> int:
        """Remove what is expired or damaged.

        Returns:
            how many.
        """
        count = 0
        for folder in self._root.iterdir():
            if not folder.is_dir() or not _SESSION.fullmatch(folder.name):
                continue
            session = self._read(folder.name)
            # One that is being made has no description yet.
            is_new = session is None and time.time() - folder.stat().st_mtime < self.expiry
            if not is_new and (session is None or self._is_expired(session)):
                self.remove_session(folder.name)
                count += 1
        return count

    def _read(self, session_id: str) -> SessionInfo | None:
        if not _SESSION.fullmatch(session_id):
            return None
        folder = self._root / session_id
        try:
            session = SessionInfo(json.loads((folder / META).read_text()))
        except (OSError, ValueError, AttributeError):
            return None
        # The description tells the image's name only; it lies in the session's folder and nowhere else.
        session.path = str(folder)
        session.image = str(folder / Path(session.image or "").name)
        return session if session.image != str(folder) and Path(session.image).exists() else None

    def _is_expired(self, session: SessionInfo) -> bool:
        return bool(session.last_access_ts + min(session.expiry or self.expiry, self.expiry) < time.time())
