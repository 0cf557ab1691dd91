"""Prompts made to fit the model that is asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.chat import DEFAULT_GENERATION, Generation, ResponseFormat
from app.core.errors import ConfigError
from app.core.messages import ImagePart, Message, TextPart, ToolCallPart, ToolResultPart, assistant, system, user
from app.core.models import Capabilities, ModelProfile
from app.core.run_events import Warning
from app.orchestration.prompt_fitting import FittedPrompt, fit_prompt
from app.orchestration.prompts import Prompts
from app.orchestration.tasks import tokens_of
from tests.orchestration.consensus.paneled import paneled
from tests.orchestration.known import asked, engine
from tests.orchestration.scripted import Scripted

SCHEMA = ResponseFormat("json_schema", schema={"type": "object", "required": ["city"]})
HI = (user("Where is it?"),)


def fitted(*messages: Message, prompts: Prompts | None = None, trims: bool = True, **told: Any) -> FittedPrompt:
    generation = told.pop("generation", DEFAULT_GENERATION)
    profile = ModelProfile("m", "p", "m", told.pop("capabilities", Capabilities()), **told)
    return fit_prompt(profile, messages, generation, (), prompts or Prompts(), trims=trims)


def test_what_fits_is_left_as_it_is() -> None:
    messages = (system("Be brief."), *HI)
    generation = Generation(response_format=SCHEMA)
    found = fit_prompt(ModelProfile("m", "p", "m", context_window=8_000), messages, generation, (), Prompts(), trims=True)
    assert found.messages is messages
    assert found.notes == ()


def test_a_model_without_schemas_is_asked_for_the_json_in_words() -> None:
    found = fitted(*HI, generation=Generation(response_format=SCHEMA), capabilities=Capabilities(json_schema=False))
    assert found.messages[0].text.startswith("Where is it?\n\nAnswer with one JSON value")
    assert '{"type": "object", "required": ["city"]}' in found.messages[0].text
    plain = Generation(response_format=ResponseFormat("json_object"))
    found = fitted(*HI, generation=plain, capabilities=Capabilities(json_object=False))
    assert "one JSON object and nothing else" in found.messages[0].text
    assert fitted(*HI, generation=plain, capabilities=Capabilities(json_schema=False)).messages == HI


def test_a_model_without_a_system_role_reads_its_instructions_before_the_first_words() -> None:
    without = Capabilities(system=False)
    found = fitted(system("Be brief."), system("Be kind."), *HI, assistant("Here."), user("Sure?"), capabilities=without)
    assert [message.role for message in found.messages] == ["user", "assistant", "user"]
    assert found.messages[0].text.index("Be kind.") < found.messages[0].text.index("Where is it?")
    seen = Message("user", (ImagePart(url="https://example.com/a.png"),))
    found = fitted(system("Be brief."), seen, capabilities=without)
    assert [type(part) for part in found.messages[0].parts] == [TextPart, ImagePart]
    assert fitted(system("Be brief."), capabilities=without).messages[0].role == "user"


def test_the_oldest_turns_are_left_out_where_there_is_no_room() -> None:
    turns = [user("old " * 500), assistant("older " * 500), user("And now?")]
    found = fitted(system("Be brief."), *turns, context_window=400)
    assert [message.text for message in found.messages] == ["Be brief.", "And now?"]
    assert found.notes == (
        "the prompt of about 1,270 tokens does not fit the context window of 'm' (400); left out are 2 earlier messages",
    )


def test_a_call_of_a_tool_goes_with_its_result() -> None:
    call = Message("assistant", (ToolCallPart("1", "look", "{}"),))
    result = Message("tool", (ToolResultPart("1", (TextPart("seen " * 400),)),))
    found = fitted(call, result, user("And now?"), context_window=300)
    assert [message.role for message in found.messages] == ["user"]


def test_the_middle_of_a_text_is_left_out_where_nothing_else_is() -> None:
    text = "Begin. " + "word " * 4_000 + "End: what is it?"
    found = fitted(user(text), context_window=1_000)
    shown = found.messages[0].text
    assert shown.startswith("Begin. ")
    assert shown.endswith("End: what is it?")
    assert "characters are left out here]" in shown
    assert tokens_of(found.messages) <= 750
    assert "characters in the middle of the longest text" in found.notes[0]
    russian = fitted(user("слово " * 4_000), context_window=1_000)
    assert tokens_of(russian.messages) <= 760


def test_what_the_answer_may_take_is_kept_free() -> None:
    text = user("word " * 600)
    assert fitted(text, context_window=1_100).notes == ()
    assert fitted(text, context_window=1_100, generation=Generation(max_tokens=600)).notes


def test_without_leave_to_trim_the_provider_has_the_last_word() -> None:
    long = user("word " * 4_000)
    assert fitted(long, context_window=100, trims=False).messages == (long,)


def test_the_configuration_has_other_words_for_all_or_for_a_family() -> None:
    mine = Prompts({"fit_system": "All: {system}", "fit_system.gemma": "Gemma: {system}"})
    without = Capabilities(system=False)
    told = (system("Be brief."), *HI)
    assert fitted(*told, prompts=mine, capabilities=without, family="phi").messages[0].text == "All: Be brief.\n\nWhere is it?"
    assert fitted(*told, prompts=mine, capabilities=without, family="gemma").messages[0].text.startswith("Gemma: Be brief.")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"fit_system": "Obey."}, "'fit_system' has no place for the system"),
        ({"fit_json_schema.llama": "JSON!"}, "'fit_json_schema.llama' has no place for the schema"),
        ({"synthesis.llama": "{answers}"}, "no prompt 'synthesis.llama'"),
        ({"fit_magic": "x"}, "no prompt 'fit_magic'"),
    ],
)
def test_other_words_must_say_what_they_are_for(overrides: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Prompts(overrides)
    assert Prompts({"fit_left_out": "[...]"}).render("fit_left_out") == "[...]"


async def test_a_member_of_a_panel_with_a_small_window_answers_what_fits_and_the_run_says_so() -> None:
    small, large = Scripted("small", "yes"), Scripted("large", "yes")
    small.model = small.profiled(context_window=400)
    ran = await paneled(small, large, request={"messages": (user("Is it so? " + "word " * 2_000),)})
    assert len(small.prompts("candidate")[0]) < 2_000 < len(large.prompts("candidate")[0])
    assert [event.message.partition(";")[0] for event in ran.of(Warning)] == [
        "the prompt of about 2,506 tokens does not fit the context window of 'small' (400)"
    ]


async def test_one_model_alone_is_asked_what_was_said() -> None:
    alone = Scripted("alone", "yes")
    alone.model = alone.profiled(context_window=100)
    text = "word " * 2_000
    result = await engine(alone).begin(asked("direct", ("alone",), messages=(user(text),))).result()
    assert (alone.prompts("candidate"), result.warnings) == ([text], ())


class Counted(Message):
    """A message that counts how often its parts are looked at."""

    looks = 0

    def __getattribute__(self, name: str) -> Any:
        if name == "parts":
            Counted.looks += 1
        return super().__getattribute__(name)


def test_a_long_conversation_is_counted_once_whatever_must_go_of_it() -> None:
    said = TextPart("about eighty characters of what somebody said in a long conversation " * 3)
    messages = tuple(Counted("user" if place % 2 == 0 else "assistant", (said,)) for place in range(1_001))
    Counted.looks = 0
    found = fitted(*messages, context_window=8_000)
    assert tokens_of(found.messages) <= 8_000
    assert len(found.messages) < 300
    assert Counted.looks < 20 * len(messages)


def step(number: int, size: int, calls: int = 2) -> list[Message]:
    ids = [f"{number}-{place}" for place in range(calls)]
    return [
        Message("assistant", tuple(ToolCallPart(one, "look", "{}") for one in ids)),
        *(Message("tool", (ToolResultPart(one, (TextPart("x" * size),)),)) for one in ids),
    ]


def test_the_oldest_steps_with_tools_are_left_out_and_the_last_stays() -> None:
    steps = [*step(1, 400), *step(2, 400), *step(3, 400)]
    found = fitted(user("old"), user("Look."), *steps, context_window=400)
    assert [message.role for message in found.messages] == ["user", "assistant", "tool", "tool"]
    assert found.messages[1:] == tuple(step(3, 400))
    assert "7 earlier messages" in found.notes[0]


def test_long_results_of_the_last_step_are_cut_each() -> None:
    found = fitted(user("Look."), *step(1, 20_000, calls=4), context_window=4_000)
    results = [part for message in found.messages for part in message.parts if isinstance(part, ToolResultPart)]
    assert [part.call_id for part in results] == ["1-0", "1-1", "1-2", "1-3"]
    assert all("left out" in part.text for part in results)
    assert tokens_of(found.messages) <= 3_000


@given(st.lists(st.sampled_from(["user", "assistant", "step"]), max_size=12), st.integers(50, 3_000), st.data())
def test_no_call_is_ever_parted_from_its_result(kinds: list[str], window: int, data: st.DataObject) -> None:
    said: list[Message] = []
    for number, kind in enumerate(kinds):
        size = data.draw(st.integers(0, 4_000))
        said += step(number, size) if kind == "step" else [user("u" * size) if kind == "user" else assistant("a" * size)]
    left = fitted(*said, context_window=window).messages
    calls = [part.id for message in left for part in message.parts if isinstance(part, ToolCallPart)]
    results = [part.call_id for message in left for part in message.parts if isinstance(part, ToolResultPart)]
    assert calls == results
