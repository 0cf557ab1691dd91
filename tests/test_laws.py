"""How property tests are run."""

from __future__ import annotations

from hypothesis import HealthCheck, settings


def test_no_law_depends_on_how_busy_the_machine_is() -> None:
    in_force = settings()
    assert in_force.deadline is None
    assert HealthCheck.too_slow in in_force.suppress_health_check
