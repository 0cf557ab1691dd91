"""A second model's word: whether it says the same as the link's. Two cheap models that agree are rarely both wrong."""

from __future__ import annotations

from app.core.messages import Message
from app.core.runs import RunRequest
from app.orchestration.answers import fault
from app.orchestration.calls import Member
from app.orchestration.evidence.extraction import Extracted, extract, instruction
from app.orchestration.evidence.fields import json_label
from app.orchestration.fallback.options import AgreeOptions
from app.orchestration.quoting import followed_by


def instructed(messages: tuple[Message, ...], request: RunRequest, options: AgreeOptions) -> tuple[Message, ...]:
    """`messages`, with how to end; as they are where the request asks for a form of its own."""
    wanted = request.generation.response_format
    told = "" if not options.instruct or (wanted and wanted.type != "text") else instruction(options.extract.kind())
    return followed_by(messages, told) if told else messages


def disagreement(text: str, other: Member, options: AgreeOptions) -> str | None:
    """Why `text` and the answer of `other` are not the same; None where they are."""
    name = other.profile_name
    failure = fault(other.response, other.error)
    if failure is not None:
        return f"{name!r} was to agree and has not answered: {failure}"
    own, said = extract(text, options.extract.kind()), extract(other.choice.text, options.extract.kind())
    if own.label is None:
        return f"the answer cannot be compared with that of {name!r}: it {'; '.join(own.errors)}"
    if said.label is None:
        return f"{name!r} was to agree, and its answer {'; '.join(said.errors)}"
    return None if _same(own, said, options) else f"{name!r} says {said.label[:80]!r}, not {own.label[:80]!r}"


def _same(own: Extracted, said: Extracted, options: AgreeOptions) -> bool:
    """Whether both say the same, as a consensus would take it: JSON by what its members mean."""
    if options.extract.type == "json":
        return json_label(own.data) == json_label(said.data)
    return own.label == said.label
