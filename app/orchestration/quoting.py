"""Model answers inside a prompt: quoted as data, in tags that they cannot close, after the conversation they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from app.core.messages import Message, TextPart, user


def quoted(kind: str, texts: Sequence[str], labels: Sequence[str] = ()) -> str:
    """`texts` between tags of `kind`, each with its label: `<answer-1f2e3d4c5b6a label="2">`.

    The tag carries a digest of all the texts. A text cannot hold its own digest, so none can close its tag and speak as the
    prompt; and the same texts make the same prompt, so that a cache may know it again.
    """
    seal = sha256("\0".join((kind, *labels, *texts)).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    names = [f' label="{label}"' for label in labels] or [""] * len(texts)
    blocks = [f"<{kind}-{seal}{name}>\n{text}\n</{kind}-{seal}>" for name, text in zip(names, texts, strict=True)]
    return "\n\n".join(blocks)


def numbered(texts: Sequence[str]) -> str:
    """Answers under the numbers 1, 2, 3: nothing tells whose they are."""
    return quoted("answer", texts, [str(number) for number, _ in enumerate(texts, 1)])


def followed_by(messages: tuple[Message, ...], prompt: str) -> tuple[Message, ...]:
    """The conversation, images and all, with `prompt` at its end: in the user's last message, or in one of its own."""
    if not messages or messages[-1].role != "user":
        return (*messages, user(prompt))
    last = messages[-1]
    parts = last.parts
    if parts and isinstance(parts[-1], TextPart):
        parts = (*parts[:-1], TextPart(f"{parts[-1].text}\n\n{prompt}"))
    else:
        parts = (*parts, TextPart(prompt))
    return (*messages[:-1], replace(last, parts=parts))


def question(messages: tuple[Message, ...]) -> str:
    """The user's last words, quoted."""
    asked = next((message.text for message in reversed(messages) if message.role == "user" and message.text), "")
    return quoted("question", [asked])
