"""The terms of a prompt as keyed hashes, so that what is learned from prompts holds none of their words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from app.core.messages import Message
from app.orchestration.learning.text_model import terms

MOST_TERMS: Final = 200
"""Different terms kept of a prompt: the first ones."""
_DIGEST_BYTES: Final = 5
"""40 bits: among a million terms of all prompts one in a million is taken for another."""
_KNOWN: Final = 16_384
"""Hashes of terms that are held, since words come again."""


class TermHash:
    """Hashes terms under a key; with another key the same prompt has other hashes.

    Parameters:
        key: 16 to 64 bytes.
    """

    def __init__(self, key: bytes) -> None:
        @lru_cache(maxsize=_KNOWN)
        def hashed(term: str) -> str:
            return hashlib.blake2b(term.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES, key=key).hexdigest()

        self._hashed = hashed

    def of(self, text: str, tags: Sequence[str] = ()) -> Iterator[str]:
        """The hash of every term of `text`, and of `tags`."""
        return map(self._hashed, terms(text, tags))

    def counts(self, text: str, tags: Sequence[str] = ()) -> dict[str, int]:
        """How often each of the first `MOST_TERMS` different terms stands in `text`. Tags are among them."""
        found = {self._hashed(f"#{tag}"): 1 for tag in tags}
        for term in self.of(text):
            if term in found:
                found[term] += 1
            elif len(found) < MOST_TERMS:
                found[term] = 1
        return found


def asked_text(messages: Sequence[Message]) -> str:
    """What of a conversation predicts how well it is answered: the user's last words."""
    return next((message.text for message in reversed(messages) if message.role == "user" and message.text), "")
