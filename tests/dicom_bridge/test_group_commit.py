"""What is asked for at the same time is done together, and each gets its own outcome."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from dicom_bridge.store.group_commit import GroupCommit

PATIENCE = 30.0


class Work:
    """Doubles numbers, the first group when it may; refuses negative ones."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.began = threading.Event()
        self.may_go = threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.groups.append(list(items))
        self.began.set()
        assert self.may_go.wait(PATIENCE)
        if any(item < 0 for item in items):
            raise ValueError(f"negative among {len(items)}")
        if 13 in items:
            raise OSError("the disk is full")
        return [2 * item for item in items]


def submit_together(items: Sequence[int], most: int = 64) -> tuple[Work, dict[int, int | BaseException]]:
    """Submit item 0, and the others while its group is at work."""
    work = Work()
    commit = GroupCommit(work, (OSError,), most)
    outcomes: dict[int, int | BaseException] = {}

    def submit(item: int) -> None:
        try:
            outcomes[item] = commit.submit(item)
        except Exception as error:
            outcomes[item] = error

    threads = [threading.Thread(target=submit, args=(item,)) for item in (0, *items)]
    threads[0].start()
    assert work.began.wait(PATIENCE)
    for number, thread in enumerate(threads[1:], start=1):
        thread.start()
        while len(commit._gathered) < number:
            assert thread.is_alive()
    work.may_go.set()
    for thread in threads:
        thread.join(PATIENCE)
    return work, outcomes


def test_what_gathers_while_a_group_is_at_work_is_one_group() -> None:
    work, outcomes = submit_together([1, 2, 3, 4])
    assert work.groups == [[0], [1, 2, 3, 4]]
    assert outcomes == {item: 2 * item for item in range(5)}


def test_a_group_has_a_largest_size() -> None:
    work, outcomes = submit_together([1, 2, 3, 4, 5], most=2)
    assert work.groups == [[0], [1, 2], [3, 4], [5]]
    assert outcomes == {item: 2 * item for item in range(6)}


def test_one_that_can_not_be_done_takes_no_other_with_it() -> None:
    work, outcomes = submit_together([1, -2, 3])
    assert work.groups == [[0], [1, -2, 3], [1], [-2], [3]]
    assert isinstance(outcomes.pop(-2), ValueError)
    assert outcomes == {0: 0, 1: 2, 3: 6}


def test_an_error_of_everyone_is_not_tried_for_each() -> None:
    work, outcomes = submit_together([1, 13, 3])
    assert work.groups == [[0], [1, 13, 3]]
    assert outcomes.pop(0) == 0
    assert all(isinstance(outcome, OSError) for outcome in outcomes.values()) and len(outcomes) == 3


def test_alone_it_does_not_wait_for_others() -> None:
    commit: GroupCommit[int, int] = GroupCommit(lambda items: [-item for item in items])
    assert [commit.submit(item) for item in range(3)] == [0, -1, -2]
    failing: GroupCommit[int, int] = GroupCommit(lambda items: [1 // 0])
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            failing.submit(1)
