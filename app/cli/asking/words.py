"""How costs, times and outcomes are put."""

from __future__ import annotations

from typing import Final

import orjson

from app.cli.asking.escaping import escaped
from app.core.approvals import Approval
from app.core.run_events import RunFailed
from app.core.runs import Candidate, OrchestrationOutput

_MOST_CHARS: Final = 400
"""Of a failure's message, which may quote a vendor at length."""


def cost(dollars: float | None) -> str:
    """Dollars, to as many places as say something: $1.25, $0.0312, $0.000045."""
    if dollars is None:
        return "cost unknown"
    places = 2 if dollars >= 1 or dollars == 0 else 4 if dollars >= 0.01 else 6
    return f"${dollars:,.{places}f}"


def seconds(ms: float) -> str:
    return f"{ms / 1000:.1f} s" if ms < 99_950 else f"{ms / 60_000:.1f} min"


def answer(result: OrchestrationOutput) -> str:
    """The text of the answer; of one that is a refusal, the refusal."""
    return result.output.text or result.output.refusal


def asked(approval: Approval) -> str:
    """What is asked of a person, and how to answer; or what was decided."""
    call = f"{approval.tool}@{approval.version} {orjson.dumps(approval.edited or approval.arguments).decode()[:_MOST_CHARS]}"
    if approval.status == "pending":
        return f"{call} needs a person: decide it with POST /v1/approvals/{approval.id}"
    said = f": {approval.comment}" if approval.comment else ""
    return f"{call}: {approval.status}{f' by {approval.by}' if approval.by else ''}{said}"


def summary(result: OrchestrationOutput) -> str:
    """One line: who answered, what it cost, how long it took."""
    output = result.output
    layers = [candidate.layer for candidate in result.candidates if candidate.status == "succeeded"]
    source = escaped(output.source_model or result.strategy)
    used = layers.count(max(layers, default=1))
    made = f", made of {used} answer{'' if used == 1 else 's'}" if output.is_synthesized else ""
    review = ", needs review" if result.status == "needs_review" else ""
    cut = ", cut off at the token limit" if output.finish_reason == "length" else ""
    tokens = f"{result.usage.total_tokens:,} tokens"
    return f"{source}{made}{review}{cut} · {cost(result.cost_usd)} · {seconds(result.timing.total_ms)} · {tokens}"


def headline(end: RunFailed) -> str:
    """Why a run failed; where every candidate's reason is told beside it, only how many there were."""
    candidates = end.result.candidates if end.result else ()
    if not end.error.causes or not candidates:
        return escaped(end.error.message)
    answered = sum(1 for candidate in candidates if candidate.status == "succeeded")
    return f"too few models answered: {answered} of {len(candidates)}"


def reason(candidate: Candidate) -> str:
    """Why a candidate has no answer."""
    error = candidate.error
    if error is None:
        return candidate.status
    message = error.message if len(error.message) <= _MOST_CHARS else f"{error.message[:_MOST_CHARS]} ..."
    return escaped(f"{error.code}: {message}")
