"""What a single request may ask for at most."""

from __future__ import annotations

from app.config.spec import LimitsConfig
from app.core.errors import InvalidRequest
from app.core.runs import RunRequest


def check_limits(request: RunRequest, limits: LimitsConfig) -> None:
    """Raises InvalidRequest: it has no message, or more messages, tokens or choices than `limits` allow."""
    generation = request.generation
    if not request.messages:
        raise InvalidRequest("there is no message to answer", param="messages")
    if len(request.messages) > limits.max_messages:
        message = f"{len(request.messages)} messages; at most {limits.max_messages} are taken"
        raise InvalidRequest(message, param="messages")
    if generation.max_tokens is not None and generation.max_tokens > limits.max_tokens:
        message = f"max_tokens is {generation.max_tokens}; at most {limits.max_tokens} may be asked for"
        raise InvalidRequest(message, param="max_tokens")
    if generation.n > limits.max_choices:
        raise InvalidRequest(f"n is {generation.n}; at most {limits.max_choices} may be asked for", param="n")
