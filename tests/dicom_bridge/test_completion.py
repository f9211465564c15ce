"""Completion: a pure judgement, never taken back."""

from hypothesis import given
from hypothesis import strategies as st

from dicom_bridge.studies.completion import Arrival, CompletionMark, CompletionRules, study_progress

QUIET = CompletionRules(quiet_seconds=10)
BOTH = CompletionRules(quiet_seconds=10, released_seconds=2)

times = st.integers(0, 60).map(float)
arrivals = st.lists(
    st.builds(
        lambda at, name, lasts: Arrival(at, name, None if lasts is None else at + lasts),
        times,
        st.sampled_from("abc"),
        st.none() | st.integers(0, 20),
    ),
    max_size=8,
)
marks = st.lists(st.builds(CompletionMark, times, st.none() | st.integers(1, 8), st.booleans()), max_size=4)
rules = st.builds(CompletionRules, st.integers(1, 15).map(float), st.none() | st.integers(0, 5).map(float))


def test_nothing_arrived() -> None:
    assert study_progress([], QUIET, 5.0).generation == 0


def test_quiet_time() -> None:
    came = [Arrival(0, "a"), Arrival(8, "a")]
    assert not study_progress(came, QUIET, 17.9).complete
    assert study_progress(came, QUIET, 18.0).complete
    assert study_progress(came, QUIET, 18.0).due_at == 18.0


def test_release_is_sooner_than_quiet_time() -> None:
    came = [Arrival(0, "a", released_at=1.0)]
    assert not study_progress(came, BOTH, 2.9).complete
    assert study_progress(came, BOTH, 3.0).complete
    assert not study_progress(came, QUIET, 3.0).complete


def test_an_open_association_keeps_a_study_open() -> None:
    came = [Arrival(0, "a", released_at=1.0), Arrival(0.5, "b")]
    assert not study_progress(came, BOTH, 5.0).complete
    assert study_progress(came, BOTH, 10.5).complete


def test_a_late_instance_opens_the_next_generation() -> None:
    came = [Arrival(0, "a"), Arrival(30, "b")]
    assert study_progress(came, QUIET, 29).generation == 1
    assert study_progress(came, QUIET, 30).generation == 2
    assert not study_progress(came, QUIET, 30).complete
    assert study_progress(came, QUIET, 40).complete
    assert study_progress(came, QUIET, 40).instances == 2


def test_a_number_that_was_said_is_waited_for() -> None:
    expected = [CompletionMark(0, 3, is_trigger=False)]
    came = [Arrival(float(at), "a", released_at=2.5) for at in range(3)]
    assert not study_progress(came[:2], BOTH, 9, expected).complete, "not by the association's release"
    fallen_back = study_progress(came[:2], BOTH, 11, expected)
    assert fallen_back.complete and "2 of 3 expected" in fallen_back.rule
    reached = study_progress(came, BOTH, 2, expected)
    assert (reached.complete, reached.due_at, reached.rule) == (True, 2, "all 3 expected instances came")
    late = study_progress([*came, Arrival(3, "b"), Arrival(4, "b")], BOTH, 5, expected)
    assert (late.generation, late.complete) == (2, False), "late instances wait for silence as ever"


def test_what_someone_says_ends_the_waiting() -> None:
    came = [Arrival(0, "a"), Arrival(1, "a")]
    now = CompletionMark(2)
    assert not study_progress(came, QUIET, 1.9, [now]).complete
    told = study_progress(came, QUIET, 2, [now])
    assert told.complete and told.rule == "it was said to be complete"
    assert study_progress(came, QUIET, 3, [CompletionMark(2, 2)]).complete
    assert not study_progress(came, QUIET, 3, [CompletionMark(2, 3)]).complete
    later = study_progress([*came, Arrival(5, "b")], QUIET, 6, [now])
    assert (later.generation, later.complete) == (2, False)


def test_a_number_that_is_said_later_takes_nothing_back() -> None:
    came = [Arrival(0, "a", released_at=1), Arrival(6, "b", released_at=6)]
    assert study_progress(came, BOTH, 7).generation == 2
    assert study_progress(came, BOTH, 7, [CompletionMark(6.5, 9)]).generation == 2


@given(arrivals, marks, rules, times, st.integers(0, 30).map(float))
def test_time_only_moves_forward(
    came: list[Arrival], said: list[CompletionMark], rule: CompletionRules, now: float, later: float
) -> None:
    before, after = study_progress(came, rule, now, said), study_progress(came, rule, now + later, said)
    assert after.generation >= before.generation
    if before.complete:
        nothing_new = not any(now < arrival.received_at <= now + later for arrival in came)
        assert after.generation > before.generation or (after.complete and nothing_new)


@given(arrivals, marks, rules, times)
def test_order_does_not_matter_and_silence_completes(
    came: list[Arrival], said: list[CompletionMark], rule: CompletionRules, now: float
) -> None:
    assert study_progress(came, rule, now, said) == study_progress(came[::-1], rule, now, said)
    if came:
        last = max(arrival.received_at for arrival in came)
        assert study_progress(came, rule, last + rule.quiet_seconds, said).complete


@given(arrivals, marks, rules, times)
def test_what_is_not_yet_known_changes_nothing(
    came: list[Arrival], said: list[CompletionMark], rule: CompletionRules, now: float
) -> None:
    known = [
        Arrival(a.received_at, a.association, None if a.released_at is None or a.released_at > now else a.released_at)
        for a in came
        if a.received_at <= now
    ]
    known_marks = [mark for mark in said if mark.at <= now]
    assert study_progress(came, rule, now, said) == study_progress(known, rule, now, known_marks)


def test_an_aborted_association_is_no_release() -> None:
    came = [Arrival(float(at), "a", released_at=2.5, is_aborted=True) for at in range(3)]
    assert not study_progress(came, BOTH, 11.9).complete
    progress = study_progress(came, BOTH, 12.0)
    assert progress.complete and progress.due_at == 12.0
    assert progress.rule.startswith("nothing came for 10 s") and "aborted" in progress.rule
    assert study_progress(came, CompletionRules(quiet_seconds=10), 12.0).rule == progress.rule


def test_an_aborted_association_is_not_made_good_by_another_that_is_released() -> None:
    came = [Arrival(0, "a", released_at=1, is_aborted=True), Arrival(3, "b", released_at=4)]
    assert study_progress(came, BOTH, 12.9).due_at == 13.0
    assert "aborted" not in study_progress(came[1:], BOTH, 12.9).rule


def test_an_aborted_association_concerns_only_the_generation_that_it_brought() -> None:
    came = [Arrival(0, "a", released_at=1, is_aborted=True), Arrival(20, "b", released_at=21)]
    progress = study_progress(came, BOTH, 30)
    assert (progress.generation, progress.due_at) == (2, 23.0) and "released" in progress.rule


def test_all_expected_instances_complete_a_study_whatever_became_of_the_association() -> None:
    came = [Arrival(float(at), "a", released_at=2.5, is_aborted=True) for at in range(3)]
    progress = study_progress(came, BOTH, 3, [CompletionMark(0, 3, is_trigger=False)])
    assert progress.complete and "all 3 expected" in progress.rule
