"""What was said with tools of the service, kept while the client makes its own calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.core.chat import ToolDefinition
from app.core.errors import InvalidRequest, StateUnavailable
from app.core.messages import ImagePart, Message, ReasoningPart, TextPart, ToolCallPart, ToolResultPart, user
from app.orchestration.tools.turns import Kept, Turn, conversation, keep
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.turns import TurnStore
from tests.orchestration.scripted import Scripted
from tests.orchestration.tools.acting import RUN_ID, act, asks, call, context_of, script, toolbox
from tests.support.valkey import running_valkey

CLIENT = ToolDefinition("browser", "Opens a page.")
SAID = (
    Turn(
        Message(
            "assistant",
            (
                ReasoningPart("hm", "seal"),
                ReasoningPart(redacted="x"),
                TextPart("So."),
                ToolCallPart("t1", "look", "{}", "sig"),
            ),
        ),
        ("p", "gpt"),
    ),
    Turn(Message("tool", (ToolResultPart("t1", (TextPart("seen"), ImagePart("https://x/y.png")), "look", is_error=True),))),
)


@pytest.fixture(scope="module")
def valkey() -> Iterator[EmbeddedValkey]:
    with running_valkey() as server:
        yield server


@pytest.fixture
async def store(valkey: EmbeddedValkey) -> AsyncIterator[TurnStore]:
    client = StateClient(valkey.url)
    yield TurnStore(client)
    await client.close()


async def test_what_was_said_stands_again_where_the_calls_of_its_run_are(store: TurnStore) -> None:
    _, context = context_of([Scripted("a")], None, turns=store)
    handed = f"call_{RUN_ID.removeprefix('run_')}_1"
    assert await keep(context, Kept(SAID, {handed: "t9"}), wrote=True) is None
    question, thanks = user("Look."), user("Thanks.")
    came_back = (
        question,
        Message("assistant", (TextPart("So."), ToolCallPart(handed, "browser", "{}"))),
        Message("tool", (ToolResultPart(handed, (TextPart("page"),)),)),
        thanks,
    )
    _, later = context_of([Scripted("a")], None, turns=store, messages=came_back, run_id="run_" + "b" * 24)
    turns, notes = await conversation(later)
    result = Turn(Message("tool", (ToolResultPart("t9", (TextPart("page"),)),)))
    assert turns == [Turn(question), *SAID, result, Turn(thanks)]
    assert notes == []


async def test_calls_that_were_handed_to_the_client_are_answered_together(store: TurnStore) -> None:
    _, context = context_of([Scripted("a")], None, turns=store)
    first, second = (f"call_{RUN_ID.removeprefix('run_')}_{number}" for number in (1, 2))
    await keep(context, Kept(SAID, {first: "t8", second: "t9"}), wrote=False)
    asked = Message("assistant", tuple(ToolCallPart(handed, "browser", "{}") for handed in (first, second)))
    seen = Message("tool", (ToolResultPart(first, (TextPart("page"),)),))
    for came_back in ((user("Look."), asked, seen), (user("Look."), asked, seen, user("And?"))):
        _, again = context_of([Scripted("a")], None, turns=store, messages=came_back)
        with pytest.raises(InvalidRequest, match=f"results are missing for: '{second}'") as refused:
            await conversation(again)
        assert refused.value.param == "messages"


async def test_without_a_store_the_client_has_its_calls_and_a_warning(tmp_path: Path) -> None:
    def look() -> str:
        """Looks."""
        return "seen"

    model = Scripted("a", candidate=script(asks(call("look", 1), call("browser", 2))))
    ran = await act(model, toolbox(tmp_path, look), client=(CLIENT,))
    assert [one.name for one in ran.result.output.tool_calls] == ["browser"]
    assert "will not know" in ran.result.warnings[0]


@pytest.mark.parametrize("wrote", [False, True])
async def test_what_cannot_be_kept_fails_the_run_only_where_something_was_written(wrote: bool) -> None:
    away = StateClient("redis://127.0.0.1:1/0")
    _, context = context_of([Scripted("a")], None, turns=TurnStore(away))
    if wrote:
        with pytest.raises(StateUnavailable):
            await keep(context, Kept(SAID, {}), wrote=True)
    else:
        assert "is not kept" in (await keep(context, Kept(SAID, {}), wrote=False) or "")
    await away.close()
