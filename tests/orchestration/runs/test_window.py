"""The events of a run in memory: what is held, what the log lacks, what is dropped."""

from __future__ import annotations

from app.core.run_json import LoggedEvent
from app.orchestration.runs.window import EventWindow


def filled(count: int, *, most: int = 10_000, stored: int = 0, size: int = 10) -> EventWindow:
    window = EventWindow(most, 100_000_000)
    window.stored = stored
    for seq in range(1, count + 1):
        window.add(LoggedEvent(seq, "output.delta", b"x" * size))
    return window


def test_a_reader_gets_what_follows_its_number() -> None:
    window = filled(5)
    assert [event.seq for event in window.since(3)] == [4, 5]
    assert window.since(5) == window.since(9) == []
    assert window.holds(0)
    assert window.holds(9)


def test_the_log_is_sent_as_much_as_fits() -> None:
    window = filled(9, stored=2)
    assert [event.seq for event in window.pending(4, 1_000)] == [3, 4, 5, 6]
    assert [event.seq for event in window.pending(4, 25)] == [3, 4]
    assert [event.seq for event in window.pending(4, 1)] == [3]


def test_what_the_log_has_is_let_go_first() -> None:
    window = EventWindow(10_000, 100_000_000)
    for seq in range(1, 4000):
        window.add(LoggedEvent(seq, "output.delta", b"x"))
        window.stored = seq
    assert not window.holds(0)
    assert window.lost == 0
    assert len(window.since(0)) < 2100


def test_what_the_log_lacks_is_held_up_to_the_bound_and_then_counted_as_lost() -> None:
    window = filled(3000)
    assert window.holds(0)
    assert window.lost == 0
    window = filled(3000, most=2500)
    assert not window.holds(0)
    assert window.lost > 0
    assert window.pending(1, 1)[0].seq == window.stored + 1 == window.lost + 1
