"""The clock: what models do not know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from typing_extensions import TypedDict

from app.tools.failures import BadArguments


class Moment(TypedDict):
    """A moment at a place. `unix` is in seconds; `week` is the week of the year of ISO 8601."""

    iso: str
    date: str
    time: str
    weekday: str
    week: int
    timezone: str
    unix: int


def clock_on(now: Callable[[], float]) -> Callable[..., Awaitable[Moment]]:
    """The tool `clock` on a clock that gives Unix time in seconds."""

    async def clock(timezone: str = "UTC") -> Moment:
        """Tells the current date and time, the weekday and the week: use it whenever the answer depends on today.

        Parameters:
            timezone: of the IANA data base, such as Europe/Berlin.
        """
        try:
            zone = UTC if timezone == "UTC" else ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise BadArguments(f"there is no time zone {timezone[:60]!r}; write it like Europe/Berlin") from None
        seconds = now()
        here = datetime.fromtimestamp(seconds, zone)
        return {
            "iso": here.isoformat(timespec="seconds"),
            "date": here.date().isoformat(),
            "time": here.strftime("%H:%M:%S"),
            "weekday": here.strftime("%A"),
            "week": here.isocalendar().week,
            "timezone": timezone,
            "unix": int(seconds),
        }

    return clock
