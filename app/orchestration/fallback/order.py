"""The order in which the links of a dynamic chain are asked. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from app.core.standing import Standing

STEPS: Final = 20
"""Reliability is compared in steps of 5 %: the configured order is a preference, and a smaller difference may be chance."""

L = TypeVar("L")


def by_standing(links: Sequence[tuple[L, Standing]]) -> tuple[L, ...]:
    """Those whose breaker lets calls through first, then the more reliable, then as configured; open ones by when they may be
    tried again."""
    ranked = sorted(links, key=lambda row: (row[1].open_s, -round(row[1].success * STEPS)))
    return tuple(link for link, _ in ranked)
