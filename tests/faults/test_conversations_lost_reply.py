"""Replies of Redis are lost while turns are taken: who was told that his turn is kept finds it once, and nobody twice."""

from __future__ import annotations

from collections import Counter

from app.config.spec import QuorumSpec
from app.core.errors import ConversationBusy, StateUnavailable
from app.core.messages import assistant, user
from app.core.runs import OrchestrationConfig, OrchestrationOutput, RunRequest
from app.orchestration.conversations.conversations import Conversations
from app.state.client import StateClient
from app.state.conversations import ConversationStore
from app.state.embedded import EmbeddedValkey
from app.state.keys import conversation_keys
from tests.support.lossy_proxy import lossy_proxy

RUNS = 150


async def test_a_turn_is_kept_once_when_replies_are_lost(valkey: EmbeddedValkey) -> None:
    truth = StateClient(valkey.url)
    await truth.commands.flushall()
    told: list[str] = []
    unknown = 0
    async with lossy_proxy(valkey.url) as proxy:
        state = StateClient(proxy.url)
        conversations = Conversations(ConversationStore(state), QuorumSpec())
        proxy.share = 0.2
        for number in range(RUNS):
            run = f"run_{number}"
            request = RunRequest(OrchestrationConfig("direct"), (user(run),), tenant="t", conversation_id="c")
            try:
                async with conversations.joining(request, run) as conversation:
                    result = OrchestrationOutput(run, "succeeded", "direct")
                    await conversation.keep(result, (assistant(run),))
                told.append(run)
            except (StateUnavailable, ConversationBusy):
                unknown += 1
                await truth.commands.delete(conversation_keys("t", "c").lease)  # as if it had passed
        await state.close()
        lost = proxy.lost
    page = await Conversations(ConversationStore(truth), QuorumSpec()).read("t", "c", after=0, limit=RUNS)
    kept = Counter(turn.run_id for turn in page.found)
    await truth.close()
    assert set(kept.values()) == {1}
    assert set(told) <= kept.keys()
    assert list(kept) == sorted(kept, key=lambda run: int(run.removeprefix("run_")))
    assert len(told) > RUNS // 2
    print(
        f"{RUNS} turns, {lost} replies lost: {len(told)} told and kept once, {len(kept) - len(told)} of {unknown} others kept"
    )
