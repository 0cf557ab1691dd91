"""Answers that are given again, and who asks for one now, so that several replicas ask once."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.state.client import StateClient, reaching_state
from app.state.keys import answer_keys

LEASE_S: Final = 5.0
"""A leader that has not been heard of for so long counts as dead, and another one asks."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: its tenant, and the digest of all that the answer depends on."""

    tenant: str
    digest: str


@dataclass(frozen=True, slots=True)
class Look:
    """What there is: an `answer`, or whether the caller is to ask (`lead`); neither while somebody else does."""

    answer: bytes | None = None
    lead: bool = False
    leader: str = ""


class AnswerStore:
    """The kept answers. Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient) -> None:
        self._look = state.script("answer_look")
        self._end = state.script("answer_end")

    async def look(self, question: Question, who: str, *, refresh: bool, of: str = "") -> Look:
        """The answer, else whether `who` is to ask for it. To `refresh`, only an answer that the leader `of` has got will do.

        Leaders, as `who`, have 16 characters.
        """
        keys = answer_keys(question.tenant, question.digest)
        with reaching_state():
            args = [who, int(LEASE_S * 1000), "1" if refresh else "0", of]
            found: Any = await self._look(keys=[keys.answer, keys.leader], args=args)
        if found[0] == b"hit":
            return Look(found[1])
        return Look(lead=True) if found[0] == b"lead" else Look(leader=found[1].decode())

    async def end(self, question: Question, who: str, answer: bytes, ttl_s: int) -> None:
        """`who` has asked. An empty answer keeps nothing."""
        await self._tell(question, who, answer, ttl_s, 0)

    async def renew(self, leads: Sequence[tuple[Question, str]]) -> None:
        """Those who ask still do."""
        for question, who in leads:
            await self._tell(question, who, b"", 0, int(LEASE_S * 1000))

    async def _tell(self, question: Question, who: str, answer: bytes, ttl_s: int, lease_ms: int) -> None:
        keys = answer_keys(question.tenant, question.digest)
        with reaching_state():
            await self._end(keys=[keys.answer, keys.leader], args=[who, answer, ttl_s * 1000, lease_ms])
