"""How an answer comes: in which pieces, and how fast."""

from __future__ import annotations

from collections.abc import Iterator

from app.core.chat import ChatResponse
from app.core.model_events import Delta, ReasoningDelta, TextDelta, ToolCallDelta, deltas
from app.providers.mock.faults import Knobs
from app.providers.mock.personas import Persona


def pace(persona: Persona, knobs: Knobs, scale: float) -> tuple[float, float]:
    """Seconds until the first token, and between chunks. Knobs are meant as they say; the persona's own times are scaled."""
    latency = persona.latency_ms * scale if knobs.latency_ms is None else knobs.latency_ms
    gap = persona.chunk_ms * scale if knobs.chunk_ms is None else knobs.chunk_ms
    return latency / 1000, gap / 1000


def chunked(response: ChatResponse, *, chars: int, chunks: int | None = None) -> list[Delta]:
    """The response's deltas in pieces: of about `chars` characters at word ends, or text in exactly `chunks` pieces."""
    return [piece for choice in response.choices for delta in deltas(choice) for piece in _pieces(delta, chars, chunks)]


def _pieces(delta: Delta, chars: int, chunks: int | None) -> Iterator[Delta]:
    match delta:
        case TextDelta(text, choice):
            yield from (TextDelta(part, choice) for part in (_evenly(text, chunks) if chunks else _split(text, chars)))
        case ReasoningDelta(text, choice, signature, redacted):
            *head, last = _split(text, chars) or [""]
            yield from (ReasoningDelta(part, choice) for part in head)
            yield ReasoningDelta(last, choice, signature, redacted)
        case ToolCallDelta(index, arguments, id_, name, choice, signature):
            first, *rest = _split(arguments, chars) or [""]
            yield ToolCallDelta(index, first, id_, name, choice, signature)
            yield from (ToolCallDelta(index, part, choice=choice) for part in rest)
        case _:
            yield delta


def _split(text: str, chars: int) -> list[str]:
    """Pieces of at least `chars` characters that end at a space, or at twice that."""
    pieces: list[str] = []
    start = 0
    while start < len(text):
        space = text.find(" ", start + chars, start + 2 * chars)
        end = space if space > 0 else min(len(text), start + 2 * chars)
        pieces.append(text[start:end])
        start = end
    return pieces


def _evenly(text: str, chunks: int) -> list[str]:
    """Exactly `chunks` pieces, or one a character where there are fewer."""
    n = max(1, min(chunks, len(text)))
    return [text[len(text) * i // n : len(text) * (i + 1) // n] for i in range(n)]
