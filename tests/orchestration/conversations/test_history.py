"""How a request goes on where its conversation stands."""

from __future__ import annotations

import pytest

from app.core.errors import InvalidRequest
from app.core.messages import (
    DocumentPart,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    assistant,
    shown_to,
    system,
    user,
)
from app.orchestration.conversations.history import KeptTurn, joined, open_calls, packed, unpacked_messages, unpacked_turn


def kept(*messages: Message, run: str = "run_1") -> KeptTurn:
    return KeptTurn(run, "direct", None, "succeeded", "m", 1, messages)


def calling(*ids: str) -> Message:
    return Message("assistant", tuple(ToolCallPart(name, "find", "{}") for name in ids))


def result(call_id: str) -> Message:
    return Message("tool", (ToolResultPart(call_id, (TextPart("seen"),)),))


EVERYTHING = (
    Message("user", (TextPart("a"), ImagePart(url="u"), ImagePart(data="d", media_type="image/png", detail="low")), "Ann"),
    Message("user", (DocumentPart(url="u"), DocumentPart(data="d", media_type="text/plain", name="n"))),
    Message("assistant", (ReasoningPart("t"), ReasoningPart("t", "s"), ReasoningPart(redacted="r")), speaker=("p", "f")),
    Message("assistant", (TextPart("t"), ToolCallPart("i", "n", "{}"), ToolCallPart("j", "n", "{}", "seal"))),
    Message("tool", (ToolResultPart("i", (TextPart("x"), ImagePart(url="u")), "n", is_error=True),)),
)


def test_what_is_kept_comes_back_as_it_was() -> None:
    turn = kept(*EVERYTHING)
    assert unpacked_turn(packed(turn)) == turn
    assert unpacked_messages(packed(EVERYTHING)) == EVERYTHING


def test_half_of_a_character_does_not_break_what_is_kept() -> None:
    assert unpacked_turn(packed(kept(user("half \ud83d")))).messages == (user("half \ufffd"),)


def test_seals_are_shown_to_who_made_them_and_nobody_is_told_who_spoke() -> None:
    sealed = EVERYTHING[2]
    assert shown_to(EVERYTHING, ("p", "f"))[2] == Message("assistant", sealed.parts)
    assert shown_to(EVERYTHING, ("q", "f"))[2] == Message("assistant")


def test_a_call_is_open_until_its_own_result_also_where_ids_come_again() -> None:
    again = (calling("a"), result("a"), calling("a", "b"), result("b"))
    assert [call.id for call in open_calls(again)] == ["a"]
    assert open_calls((*again, result("a"))) == ()
    assert len(open_calls((calling("a", "a"), result("a")))) == 1


def test_results_get_the_names_of_their_tools() -> None:
    found = joined([kept(user("Hi"), calling("a"))], (), [result("a"), user("And?")], most_messages=9)
    (part,) = found.new[0].parts
    assert isinstance(part, ToolResultPart)
    assert part.name == "find"
    assert found.messages[: found.history] == (user("Hi"), calling("a"))


def test_two_calls_of_one_id_want_two_results() -> None:
    turns = [kept(user("Hi"), calling("a", "a"))]
    assert joined(turns, (), [result("a"), result("a")], most_messages=9).history == 2
    with pytest.raises(InvalidRequest, match="missing for: 'a'"):
        joined(turns, (), [result("a")], most_messages=9)


def test_turns_that_answer_calls_are_left_out_together_with_those() -> None:
    turns = [
        kept(user("One"), assistant("1")),
        kept(user("Two"), calling("a")),
        kept(result("a"), calling("b")),
        kept(result("b"), assistant("2")),
        kept(user("Three"), assistant("3")),
    ]
    left = {most: joined(turns, (), [user("Four")], most_messages=most).history for most in (1, 3, 8, 9, 11)}
    assert left == {1: 0, 3: 2, 8: 2, 9: 8, 11: 10}
    assert joined(turns, (), [user("Four")], most_messages=9).notes


def test_what_the_request_answers_is_never_left_out() -> None:
    turns = [kept(user("One"), assistant("1")), kept(user("Two"), calling("a")), kept(result("a"), calling("b"))]
    found = joined(turns, (), [result("b")], most_messages=2)
    assert found.messages[: found.history] == (user("Two"), calling("a"), result("a"), calling("b"))


def test_what_the_system_says_is_not_among_the_turns() -> None:
    first = joined([], (), [system("Be brief."), user("Hi")], most_messages=9)
    assert (first.system, first.new, first.history) == ((system("Be brief."),), (user("Hi"),), 1)
    second = joined([kept(*first.new)], (system("Be brief."),), [user("Ho")], most_messages=9)
    assert second.messages == (system("Be brief."), user("Hi"), user("Ho"))
    assert second.system is None
