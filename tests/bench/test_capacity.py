"""The arithmetic of capacity runs, and its simulation follows what is known of queues."""

from __future__ import annotations

import math

import pytest

from bench.capacity import main, simulated


def test_it_runs_and_says_what_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--runs-per-day", "864000", "--peak", "1", "--answer-s", "2", "--headroom", "1.5", "--measure", "50"]) == 0
    said = capsys.readouterr().out
    assert "10.0/s" in said
    assert "10/s x 2 s x 1.5 = 30" in said
    assert "commands/s" in said


def test_who_has_room_does_not_wait_and_who_has_none_waits_ever_longer() -> None:
    roomy, tight, short = (simulated(10, slots, 2, jobs=20_000) for slots in (60, 22, 18))
    assert (roomy.p99_s, roomy.deepest) == (0, 0)
    assert 0 < tight.p99_s < short.p99_s
    assert short.deepest > 1_000


def test_a_single_slot_waits_as_pollaczek_and_khinchine_say() -> None:
    """W = rate x E[S^2] / 2 (1 - load), where E[S^2] is e^0.64 for a spread of 0.8 around an answer of a second."""
    found = simulated(0.5, 1, 1.0, jobs=200_000)
    assert found.mean_s == pytest.approx(0.5 * math.exp(0.64) / (2 * 0.5), rel=0.1)
