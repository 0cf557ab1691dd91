"""What a persona answers: a pure function of persona and request. Equal requests get equal responses, ids included."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, cast

import orjson

from app.core.chat import ChatRequest, ChatResponse, Choice, JsonObject
from app.core.messages import DocumentPart, ImagePart, Message, ReasoningPart
from app.core.usage import Usage
from app.providers.mock import tool_calls
from app.providers.mock.faults import Fault, Knobs, Stage, without_directives
from app.providers.mock.instructions import Instructed, read_instructions
from app.providers.mock.panel import Panel, read_panel, remarks, score
from app.providers.mock.personas import Persona
from app.providers.mock.questions import Question, draw, keywords, read_question
from app.providers.mock.schema_values import Known, instance
from app.providers.mock.tokens import BYTES_A_TOKEN, count, count_choice, count_input

CREATED = 1_700_000_000
"""When every mock response says it was made, in Unix seconds."""

_MAX_RESTATED = 160


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A request as a persona reads it."""

    request: ChatRequest
    text: str
    last: Message
    panel: Panel | None
    asked: Instructed
    digest: str


def stage_of(request: ChatRequest) -> Stage:
    """`lead` where the prompt quotes other models' answers."""
    return "lead" if read_panel(last_user(request).text) else "answer"


def last_user(request: ChatRequest) -> Message:
    return next((message for message in reversed(request.messages) if message.role == "user"), Message("user"))


def digest(persona: str, request: ChatRequest) -> str:
    """A hash of all that an answer depends on."""
    parts = (persona, request.messages, request.generation, request.tools, request.tool_choice)
    return blake2b(repr(parts).encode(errors="replace"), digest_size=12).hexdigest()


def respond(persona: Persona, request: ChatRequest, knobs: Knobs) -> ChatResponse:
    """The persona's whole response."""
    prompt = _read(persona, request)
    fault = knobs.fault if knobs.fault and knobs.fault.form in ("refusal", "garble") else None
    choices = tuple(_choice(persona, prompt, knobs, fault, index) for index in range(request.generation.n))
    return ChatResponse(
        id=f"mock-{prompt.digest}",
        model=persona.name,
        choices=choices,
        usage=Usage(
            input_tokens=count_input(request),
            output_tokens=sum(map(count_choice, choices)),
            reasoning_tokens=sum(count(choice.reasoning) for choice in choices),
        ),
        created=CREATED,
    )


def _read(persona: Persona, request: ChatRequest) -> _Prompt:
    last = last_user(request)
    text = without_directives(last.text)
    form = request.generation.response_format
    properties: Mapping[str, Any] = (form.schema or {}).get("properties", {}) if form else {}
    panel = read_panel(text, frozenset(properties))
    asked = Instructed(text) if panel else read_instructions(text)
    return _Prompt(request, text, last, panel, asked, digest(persona.name, request))


def _choice(persona: Persona, prompt: _Prompt, knobs: Knobs, fault: Fault | None, index: int) -> Choice:
    """Steps: refuse, call tools, or answer; then cut the answer as the request says."""
    refused = (fault and fault.form == "refusal") or any(word in prompt.text.lower() for word in persona.refuses)
    if refused:
        return Choice(index, refusal=persona.style.refusal, finish_reason="content_filter", native_finish_reason="refusal")
    results = tool_calls.results(prompt.request.messages)
    reasoning = _reasoning(persona, prompt)
    calls = () if results or prompt.panel else tool_calls.calls(prompt.request, prompt.text)
    if calls:
        return _with_reasoning(Choice(index, tool_calls=calls, finish_reason="tool_calls"), reasoning, prompt.digest)
    if results:
        value = " ".join(tool_calls.said(result) for result in results)
        text = _as_asked(prompt, Known({"answer": value, "result": value}, value), say(persona.style.tool, value=value))
    else:
        text = _content(persona, prompt, index)
    if fault and fault.form == "garble":
        text = text[: len(text) // 2]
    if knobs.chunks:
        text = _repeated(text, knobs.chunks)
    return _cut(Choice(index, text), reasoning, prompt)


def _content(persona: Persona, prompt: _Prompt, index: int) -> str:
    generation = prompt.request.generation
    luck = draw(persona.name, prompt.text, generation.seed, generation.temperature, index)
    seen = _seen(persona, prompt)
    if prompt.panel:
        return _panel_answer(persona, prompt, prompt.panel, right=luck < persona.accuracy)
    asked = prompt.asked
    question = asked.fitted(read_question(asked.question))
    right = luck < persona.accuracy
    value = question.right if right else question.wrong
    text = _prose(persona, question, value)
    confidence = min(0.99, round(0.5 + persona.accuracy / 2 - luck / 4, 2))
    known: dict[str, Any] = {
        "reasoning": _thought(persona, question.text),
        "explanation": text,
        "confidence": confidence,
    }
    result: Any = _typed(question, value) if value else text
    for name in ("answer", "result", "value", "label", "choice", "output", "final_answer", "verdict"):
        known[name] = result
    known[""] = result
    told = asked.ended(f"{seen} {text}".strip() if seen else text, value, confidence)
    return _as_asked(prompt, Known(known, value or text, share=confidence), told)


def _typed(question: Question, value: str) -> Any:
    """A number as one, unless it is larger than JSON readers take (RFC 8259, section 6)."""
    if question.kind != "number" or abs(float(value)) > 2**53:
        return value
    return float(value) if "." in value or "e" in value else int(value)


def _panel_answer(persona: Persona, prompt: _Prompt, panel: Panel, *, right: bool) -> str:
    order = list(panel.order)
    if not right and len(order) > 1:
        order[0], order[1] = order[1], order[0]
    best = next(answer for answer in panel.answers if answer.label == order[0])
    merged = say(persona.style.merged, value=best.text)
    notes = remarks(panel)
    texts = {answer.label: answer.text for answer in panel.answers}
    known: dict[str, Any] = {"confidence": panel.quality[order[0]]}
    known |= dict.fromkeys(("ranking", "ranks", "order"), order) | dict.fromkeys(
        ("best", "winner", "choice", "label"), order[0]
    )
    known |= dict.fromkeys(("text", "answer", "synthesis", "output", "result"), merged)
    known |= dict.fromkeys(("analysis", "critique", "summary", "explanation", "reasoning", "rationale", "notes"), notes)
    if panel.task == "judging":
        known["score"] = score(panel, prompt.text) if right else round(1 - score(panel, prompt.text), 2)
        known["reason"] = notes
    if panel.task == "synthesis":
        known |= {key.lower(): value for key, value in _members(best.text).items()}
    rows = tuple(
        {
            "label": label,
            "id": label,
            "answer": label,
            "rank": place,
            "share": panel.quality[label],
            "score": panel.quality[label],
        }
        | dict.fromkeys(("reason", "comment", "critique", "text"), texts[label])
        for place, label in enumerate(order, 1)
    )
    plain = {
        "ranking": orjson.dumps({"ranking": order}).decode(),
        "judging": orjson.dumps({"reason": notes, "score": known.get("score")}).decode(),
        "synthesis": merged,
    }.get(panel.task, notes)
    return _as_asked(prompt, Known(known, merged, panel.quality[order[0]], rows), plain)


def _members(text: str) -> dict[str, Any]:
    """The members of a quoted answer that is a JSON object."""
    try:
        value = orjson.loads(text)
    except ValueError:
        return {}
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def _as_asked(prompt: _Prompt, known: Known, text: str) -> str:
    """The answer in the form the request asks for, by its settings or in words: its JSON schema, any JSON, or the text."""
    form = prompt.request.generation.response_format
    wanted = prompt.asked.schema if form is None or form.type == "text" else form.schema or {}
    if wanted is None:
        return text
    schema: JsonObject = wanted or {"type": "object", "properties": _loose(known)}
    return orjson.dumps(instance(schema, known), default=str).decode()


def _loose(known: Known) -> dict[str, JsonObject]:
    """The properties of a JSON object that nobody described: a score or a ranking where there is one, else the answer."""
    if "score" in known.values:
        return {"reason": {"type": "string"}, "score": {"type": "number"}}
    if "ranking" in known.values:
        return {"ranking": {"type": "array", "items": {"type": "string"}}}
    return {"answer": {"type": "number" if isinstance(known.values.get("answer"), int | float) else "string"}}


def _prose(persona: Persona, question: Question, value: str) -> str:
    if question.kind == "open":
        text = say(persona.style.prose, **_subjects(question.text))
        return _SENTENCE.sub(lambda found: found[0].upper(), text)
    starts = question.kind == "yes_no" and persona.style.fact.startswith("{value}")
    return say(persona.style.fact, value=value.capitalize() if starts else value)


def _seen(persona: Persona, prompt: _Prompt) -> str:
    """What the persona says of images and documents."""
    things = [
        f"{what} ({part.media_type or 'at a URL'}, {_size(part)})"
        for part in prompt.last.parts
        if isinstance(part, ImagePart | DocumentPart)
        for what in ("an image" if isinstance(part, ImagePart) else f"the document {part.name or ''}".strip(),)
    ]
    return say(persona.style.seen, value=" and ".join(things)) if things else ""


def _size(part: ImagePart | DocumentPart) -> str:
    return part.url or "" if part.data is None else f"{len(part.data.rstrip('=')) * 3 // 4} bytes"


def _reasoning(persona: Persona, prompt: _Prompt) -> str:
    effort = prompt.request.generation.reasoning_effort
    return _thought(persona, prompt.text) if persona.reasoning and effort != "none" and not prompt.panel else ""


def _thought(persona: Persona, text: str) -> str:
    return say(persona.style.thought, **_subjects(text))


def _subjects(text: str) -> dict[str, str]:
    line = " ".join(text.split())
    short = line if len(line) <= _MAX_RESTATED else f"{line[:_MAX_RESTATED].rstrip()}…"
    return {"question": short.rstrip("?. "), **dict(zip("abc", keywords(text), strict=True))}


_SENTENCE = re.compile(r"(?:^|[.!?] )[a-z]")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def say(template: str, **values: str) -> str:
    """The template with its placeholders filled; unknown ones stay as they are."""
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), template)


def _repeated(text: str, words: int) -> str:
    """The text, said again and again until it has `words` words."""
    have = text.split() or ["word"]
    return text if len(have) >= words else " ".join(have * (words // len(have)) + have[: words % len(have)])


def _cut(choice: Choice, reasoning: str, prompt: _Prompt) -> Choice:
    """The choice as far as its stop sequences and token limit let it come. Reasoning counts towards the limit."""
    generation = prompt.request.generation
    text, finish, native = choice.text, choice.finish_reason, choice.native_finish_reason
    ends = [text.index(stop) for stop in generation.stop if stop and stop in text]
    if ends:
        text, native = text[: min(ends)], "stop_sequence"
    if generation.max_tokens is not None and count(reasoning) + count(text) > generation.max_tokens:
        room = generation.max_tokens * BYTES_A_TOKEN
        reasoning = _first_bytes(reasoning, room)
        text = _first_bytes(text, room - len(reasoning.encode()))
        finish, native = "length", None
    return _with_reasoning(
        replace(choice, text=text, finish_reason=finish, native_finish_reason=native), reasoning, prompt.digest
    )


def _first_bytes(text: str, size: int) -> str:
    return text.encode()[: max(0, size)].decode(errors="ignore")


def _with_reasoning(choice: Choice, reasoning: str, digest: str) -> Choice:
    if not reasoning:
        return choice
    return replace(choice, reasoning=reasoning, reasoning_parts=(ReasoningPart(reasoning, signature=f"mock-{digest}"),))
