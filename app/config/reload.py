"""The configuration in force, and how another takes its place."""

from __future__ import annotations

from collections.abc import Callable

from app.config.loading import Loaded
from app.config.spec import QuorumSpec
from app.core.errors import ConfigError

Subscriber = Callable[[QuorumSpec], None]
"""Puts a specification in force. Raises ConfigError and changes nothing where it cannot."""


class Configuration:
    """Holds what is loaded. `version` counts up from 1 with each change.

    Parameters:
        read: loads anew from where the configuration comes from.
    """

    def __init__(self, read: Callable[[], Loaded]) -> None:
        self._read = read
        self._subscribers: list[Subscriber] = []
        self.loaded = read()
        self.version = 1

    @property
    def spec(self) -> QuorumSpec:
        return self.loaded.spec

    def subscribe(self, subscriber: Subscriber) -> None:
        """Have `subscriber` called with each new specification, in the order of subscription."""
        self._subscribers.append(subscriber)

    def reload(self) -> Loaded:
        """Load anew and tell the subscribers.

        Raises:
            ConfigError: the new configuration is wrong, or a subscriber refused it; the old one stays in force everywhere.
        """
        fresh = self._read()
        told: list[Subscriber] = []
        try:
            for subscriber in self._subscribers:
                subscriber(fresh.spec)
                told.append(subscriber)
        except ConfigError:
            for subscriber in reversed(told):
                subscriber(self.loaded.spec)
            raise
        self.loaded = fresh
        self.version += 1
        return fresh
