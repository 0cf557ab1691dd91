"""What a request does, as the audit trail has it."""

from __future__ import annotations

from fastapi import Request

from app.core.audit import Act, Action, actor_of
from app.core.principal import Principal


def act_of(
    request: Request, who: Principal, action: Action, subject_kind: str, subject: str, *, run_id: str | None = None
) -> Act:
    """What `who` does with `request`. The address is that of the connection: behind a proxy, the proxy's."""
    traceparent: str | None = request.scope.get("traceparent")
    return Act(
        tenant=who.tenant,
        actor=actor_of(who, request.client.host if request.client else None),
        action=action,
        subject_kind=subject_kind,
        subject=subject,
        run_id=run_id,
        request_id=request.scope.get("request_id"),
        trace_id=traceparent.split("-")[1] if traceparent else None,
    )
