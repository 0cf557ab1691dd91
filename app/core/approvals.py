"""What a person must agree to before a tool is called: the request as everybody sees it, and what it is bound to. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson

from app.core.chat import JsonObject
from app.core.tools import SideEffect

REVIEW: Final = "workflow:review"
"""In the place of a tool, where a person is asked about the value of a workflow's step."""
ApprovalStatus = Literal["pending", "approved", "edited", "denied", "expired", "withdrawn"]
"""`edited`: approved with other arguments. `withdrawn`: its run ended before anybody had decided."""


@dataclass(frozen=True, slots=True)
class Approval:
    """A call of a tool that waits, or has waited, for a person.

    `hash` binds it to tool, version, arguments and run: it holds for that very call, once. `reason` says why it is needed,
    `comment` what was said of the decision, `by` who took it. Of an edited one, `edited` are the arguments that were approved.
    Times are Unix time in seconds.
    """

    id: str
    run_id: str
    call_id: str
    step: int
    tool: str
    version: str
    side_effect: SideEffect
    hash: str
    arguments: JsonObject = field(default_factory=dict[str, Any])
    reason: str = ""
    created_at: float = 0.0
    expires_at: float = 0.0
    status: ApprovalStatus = "pending"
    by: str | None = None
    comment: str | None = None
    edited: JsonObject | None = None


def binding(tool: str, version: str, arguments: Mapping[str, Any], run_id: str) -> str:
    """The hash that an approval holds for: 64 hexadecimal digits, the same for the same call however its JSON is written."""
    members = {"tool": tool, "version": version, "arguments": arguments, "run_id": run_id}
    return hashlib.sha256(orjson.dumps(members, option=orjson.OPT_SORT_KEYS)).hexdigest()


def approval_id(call_id: str, bound: str) -> str:
    """The id of the approval of a call: the same however often the run asks for it."""
    return "apr_" + hashlib.sha256(f"{call_id}\0{bound}".encode()).hexdigest()[:24]
