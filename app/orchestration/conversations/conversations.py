"""Conversations: a run joins one, takes its turn alone, and what it has said is appended once it has succeeded."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

import structlog

from app.config.spec import QuorumSpec
from app.core.errors import ConflictError, ConversationBusy, InvalidRequest, NotFound, QuorumError, StateUnavailable
from app.core.messages import Message
from app.core.runs import OrchestrationOutput, RunRequest
from app.orchestration.conversations.history import (
    Joined,
    KeptTurn,
    chain_of,
    joined,
    packed,
    unpacked_messages,
    unpacked_turn,
)
from app.state.conversations import LEASE_S, Bounds, Busy, ConversationStore, Found, Holder, Turn
from app.state.flusher import Flusher

NEW: Final = "new"
"""The id that asks for a conversation of its own."""
AGAIN_S: Final = 1.0
"""After which one may try again where another run is taking its turn: its lease says only when it would be dead."""
RENEW_S: Final = LEASE_S / 3

_log = structlog.get_logger("quorum.conversation")


@dataclass(frozen=True, slots=True)
class Page:
    """A conversation and some of its turns, numbered from `first`. `turns` is how many it ever had, `dropped` how many of the
    oldest are not kept any more. Times are Unix times in seconds."""

    turns: int
    dropped: int
    size_bytes: int
    created_at: int
    used_at: int
    expires_in_s: float
    system: tuple[Message, ...]
    first: int
    found: tuple[KeptTurn, ...]


class OpenConversation:
    """A conversation in which a run takes its turn. `request` is the run's, with all that was said before.

    `new` is what the request adds, and `said` what was said in the run, in place of its answer alone: both for strategies of
    several steps, which know more of it than the client. `seen` is how many turns the conversation had ever had.
    """

    def __init__(
        self, owner: Conversations, holder: Holder, request: RunRequest, join: Joined, seen: int, *, kept: bool
    ) -> None:
        self.request = request
        self.new = join.new
        self.said: tuple[Message, ...] | None = None
        self.notes = join.notes
        self.holder = holder
        self.seen = seen
        self._owner, self._join, self._kept = owner, join, kept
        self._over = False

    def begin(self) -> None:
        """The run has begun: others are kept out until it ends."""
        self._owner.holding(self.holder)

    async def keep(self, result: OrchestrationOutput, answer: tuple[Message, ...]) -> str | None:
        """Append the run's turn; what there is to say of it.

        Parameters:
            answer: what the run says, unless `said` has more.

        Raises:
            ConflictError: the conversation went on without this run, or was deleted.
            StateUnavailable: Redis is away.
        """
        if self._kept:  # by a process that died before it could tell, and others have followed
            await self.release()
            return None
        messages = (*self.new, *(answer if self.said is None else self.said))
        turn = KeptTurn(
            result.id,
            result.strategy,
            result.recipe,
            result.status,
            result.output.source_model,
            result.created_at,
            messages,
        )
        system = None if self._join.system is None else packed(self._join.system)
        dropped = await self._owner.append(self.holder, self.seen, Turn(packed(turn), turn.answers), system)
        self._over = True
        self._owner.left(self.holder)
        return f"the oldest {dropped} turns of the conversation are not kept any more" if dropped else None

    async def release(self) -> None:
        """Let other runs in, if that has not been done. Where Redis is away they wait for the end of the lease."""
        if not self._over:
            self._over = True
            await self._owner.release(self.holder)

    def leave(self) -> None:
        """As `release`, soon, without waiting for it."""
        if not self._over:
            self._over = True
            self._owner.leave(self.holder)


class Conversations:
    """The conversations of all tenants, as one process works with them."""

    def __init__(self, store: ConversationStore, spec: QuorumSpec) -> None:
        self._store = store
        self._held: set[Holder] = set()
        self._leaving: set[Holder] = set()
        self._flusher = Flusher("conversations", self._flush, every_s=RENEW_S)
        self.configure(spec)

    def configure(self, spec: QuorumSpec) -> None:
        config = spec.conversations
        self._bounds = Bounds(config.max_turns, config.max_bytes, config.keep_s)
        self._most_messages = spec.limits.max_messages

    def start(self) -> None:
        self._flusher.start()

    async def close(self) -> None:
        await self._flusher.close()

    @asynccontextmanager
    async def joining(self, request: RunRequest, run_id: str, seen: int | None = None) -> AsyncGenerator[OpenConversation]:
        """Take a turn in the conversation of `request` for the run `run_id`. A block that fails lets others in again.

        Parameters:
            seen: of a run that was paused, how many turns the conversation had ever had when it joined it first.

        Raises:
            ConflictError: the conversation has gone on since then, or was deleted.
            InvalidRequest: the request does not go on where the conversation stands.
            ConversationBusy: another run is taking its turn.
            StateUnavailable: Redis is away.
        """
        name = request.conversation_id or ""
        conversation_id = f"conv_{run_id.removeprefix('run_')}" if name == NEW else name
        holder = Holder(request.tenant, conversation_id, run_id, secrets.token_hex(8))
        found = await self._store.open(holder, keep_s=self._bounds.keep_s)
        if isinstance(found, Busy):
            message = f"another run is taking its turn in the conversation {conversation_id!r}; ask again when it has ended"
            raise ConversationBusy(message, min(AGAIN_S, found.left_s))
        try:
            open_one = self._joined(holder, request, found, seen)
            yield open_one
        except QuorumError:
            await self.release(holder)
            raise
        except BaseException:
            self.leave(holder)
            raise

    async def seen_by(self, request: RunRequest) -> RunRequest:
        """`request` with all that was said before it. No turn is taken.

        Raises:
            InvalidRequest, StateUnavailable: as `joining`.
        """
        found = await self._store.look(request.tenant, request.conversation_id or "")
        kept = [unpacked_turn(turn.said) for turn in found.turns]
        return _after(request, self._checked(kept, found, request), request.conversation_id)

    def _joined(self, holder: Holder, request: RunRequest, found: Found, seen: int | None) -> OpenConversation:
        kept = [unpacked_turn(turn.said) for turn in found.turns]
        place = next((place for place, turn in enumerate(kept) if turn.run_id == holder.run_id), None)
        followed = place is not None and place < len(kept) - 1
        if place is None and seen not in (None, found.version):
            raise _changed(holder)
        join = self._checked(kept[:place], found, request)
        request = _after(request, join, holder.conversation_id)
        return OpenConversation(self, holder, request, join, found.version, kept=followed)

    def _checked(self, kept: list[KeptTurn], found: Found, request: RunRequest) -> Joined:
        join = joined(kept, unpacked_messages(found.system), request.messages, most_messages=self._most_messages)
        most = self._bounds.max_bytes
        size = len(packed(join.new))
        if size > most:
            message = f"the messages take {size:,} bytes; at most {most:,} are kept of a conversation"
            raise InvalidRequest(message, param="messages")
        if join.new[0].role == "tool" and (together := chain_of(kept)):
            taken = sum(len(turn.said) for turn in found.turns[len(kept) - together : len(kept)])
            if together >= self._bounds.max_turns > 1 or taken > most:
                message = "too much hangs together by calls and their results in this conversation; begin a new one"
                raise InvalidRequest(message, param="conversation_id")
        return join

    async def append(self, holder: Holder, seen: int, turn: Turn, system: bytes | None) -> int:
        """Append a turn: how many others were dropped to make room.

        Raises:
            ConflictError: the conversation went on without it.
            StateUnavailable: Redis is away.
        """
        try:
            dropped = await self._store.append(holder, seen, turn, system=system, bounds=self._bounds)
        except StateUnavailable:  # it may have been appended all the same, and may be sent again
            dropped = await self._store.append(holder, seen, turn, system=system, bounds=self._bounds)
        if dropped == "changed":
            raise _changed(holder)
        return dropped

    async def read(self, tenant: str, conversation_id: str, *, after: int, limit: int) -> Page:
        """A conversation and up to `limit` of the turns that follow number `after`.

        Raises:
            NotFound: there is none of that id.
        """
        facts = await self._store.page(tenant, conversation_id, after, limit)
        if facts is None:
            raise unknown(conversation_id)
        return Page(
            facts.version,
            facts.dropped,
            facts.size_bytes,
            facts.created_at,
            facts.used_at,
            facts.expires_in_s,
            unpacked_messages(facts.system),
            facts.first,
            tuple([unpacked_turn(turn.said) for turn in facts.turns]),
        )

    async def delete(self, tenant: str, conversation_id: str) -> None:
        """Remove a conversation. A run that is taking its turn in it fails.

        Raises:
            NotFound: there is none of that id.
        """
        if not await self._store.delete(tenant, conversation_id):
            raise unknown(conversation_id)

    # ---- leases

    def holding(self, holder: Holder) -> None:
        """Renew the lease of `holder` until it is `left`."""
        self._held.add(holder)

    def left(self, holder: Holder) -> None:
        self._held.discard(holder)

    def leave(self, holder: Holder) -> None:
        """Let others in, soon."""
        self.left(holder)
        self._leaving.add(holder)
        self._flusher.hurry()

    async def release(self, holder: Holder) -> None:
        """Let others in; where Redis is away, when it is back."""
        self.left(holder)
        try:
            await self._store.release(holder)
        except StateUnavailable:
            self._leaving.add(holder)

    async def _flush(self) -> None:
        try:
            for holder in list(self._leaving):
                await self._store.release(holder)
                self._leaving.discard(holder)
            for holder in list(self._held):
                await self._store.renew(holder)
        except StateUnavailable as error:
            _log.warning("turns in conversations could not be renewed", reason=error.message)


def _after(request: RunRequest, join: Joined, conversation_id: str | None) -> RunRequest:
    return replace(request, messages=join.messages, history=join.history, conversation_id=conversation_id)


def _changed(holder: Holder) -> ConflictError:
    message = f"the conversation {holder.conversation_id!r} went on without this run, or was deleted; nothing is added to it"
    return ConflictError(message, code="conversation_changed", param="conversation_id")


def unknown(conversation_id: str) -> NotFound:
    """What is said of a conversation that is not there."""
    return NotFound(f"no conversation {conversation_id!r} is kept; one begins with the first run that names it", param="id")
