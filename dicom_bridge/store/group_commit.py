"""What several threads ask for at the same time is done in one go, and each waits for its own outcome.

Making something durable costs about the same for one as for many. While one group is at the disk the next one gathers;
nobody waits for others to come, so a single thread is not slowed down.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class _Waiting(Generic[Item, Outcome]):
    def __init__(self, item: Item) -> None:
        self.item = item
        self.outcome: Outcome
        self.error: BaseException | None = None
        self.is_done = False
        self.turn = threading.Lock()
        self.turn.acquire()


class GroupCommit(Generic[Item, Outcome]):
    """Gathers items. Safe to call from any thread."""

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Outcome]],
        everyones: tuple[type[BaseException], ...] = (),
        most: int = 64,
    ) -> None:
        """Prepare.

        Args:
            work: does a group, wholly or not at all; returns an outcome for each item, in their order. It is never
                called by two threads at once.
            everyones: errors that hit every item alike; after any other one each item of the group is tried by
                itself, so that one that can't be done takes no other with it.
            most: items in a group.
        """
        self._work = work
        self._everyones = everyones
        self._most = most
        self._lock = threading.Lock()
        self._gathered: list[_Waiting[Item, Outcome]] = []
        self._is_working = False

    def submit(self, item: Item) -> Outcome:
        """Do an item, with those of others; returns when it is done.

        Raises:
            BaseException: what `work` raised for this item.
        """
        mine: _Waiting[Item, Outcome] = _Waiting(item)
        with self._lock:
            self._gathered.append(mine)
            leads, self._is_working = not self._is_working, True
        if not leads:
            mine.turn.acquire()
        if not mine.is_done:
            self._lead()
        if mine.error is not None:
            raise mine.error
        return mine.outcome

    def _lead(self) -> None:
        """Do the group that has gathered, the caller's item first, and let the next one's first thread lead."""
        with self._lock:
            group, self._gathered = self._gathered[: self._most], self._gathered[self._most :]
        self._do(group)
        with self._lock:
            following = self._gathered[0] if self._gathered else None
            self._is_working = following is not None
        for done in group[1:]:
            done.turn.release()
        if following is not None:
            following.turn.release()

    def _do(self, group: Sequence[_Waiting[Item, Outcome]]) -> None:
        try:
            outcomes = self._work([waiting.item for waiting in group])
            for waiting, outcome in zip(group, outcomes, strict=True):
                waiting.outcome = outcome
        except BaseException as error:
            if len(group) > 1 and not isinstance(error, self._everyones):
                for waiting in group:
                    self._do([waiting])
                return
            for waiting in group:
                waiting.error = error
        for waiting in group:
            waiting.is_done = True
