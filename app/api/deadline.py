"""`X-Quorum-Deadline-Ms`: how long a caller waits."""

from __future__ import annotations

import re
from typing import Final

DEADLINE: Final = "x-quorum-deadline-ms"
LONGEST_MS: Final = 3_600_000


def deadline_ms(value: str) -> int | None:
    """What the header says, in milliseconds; None where that is no deadline."""
    return int(value) if re.fullmatch(r"[0-9]{1,7}", value) and 0 < int(value) <= LONGEST_MS else None
