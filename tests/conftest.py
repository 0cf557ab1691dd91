"""What holds for all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("quorum", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quorum")
"""How long an example takes says how busy the machine is; a test that runs away meets pytest's own timeout."""
