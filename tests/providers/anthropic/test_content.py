from __future__ import annotations

import base64
from typing import Any

import pytest

from app.core.errors import CapabilityMissing, InvalidRequest
from app.core.messages import (
    DocumentPart,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    assistant,
    system,
    user,
)
from app.providers.anthropic.content import conversation

PNG = "iVBORw0KGgoAAAA="


def turns(*messages: Message) -> list[dict[str, Any]]:
    return conversation(messages)[1]


def call(name: str, arguments: str = "{}") -> ToolCallPart:
    return ToolCallPart(name, "weather", arguments)


def result(name: str, text: str = "fine", **more: Any) -> Message:
    return Message("tool", (ToolResultPart(name, (TextPart(text),), **more),))


def test_system_messages_are_lifted_in_their_order_wherever_they_stand() -> None:
    lifted, found = conversation((system("one"), user("Hi"), system("two"), user("there")))
    assert [block["text"] for block in lifted] == ["one", "two"]
    assert [[block["text"] for block in turn["content"]] for turn in found] == [["Hi", "there"]]


def test_system_messages_alone_are_the_users_turn() -> None:
    assert conversation((system("one"),)) == ([], [{"role": "user", "content": [{"type": "text", "text": "one"}]}])


def test_neighbours_of_one_role_become_one_turn_and_blank_text_disappears() -> None:
    found = turns(user("a"), user(" "), user("b"), assistant("c"), assistant("d"), assistant(""), user("e"))
    assert [(turn["role"], [block["text"] for block in turn["content"]]) for turn in found] == [
        ("user", ["a", "b"]),
        ("assistant", ["c", "d"]),
        ("user", ["e"]),
    ]


def test_a_final_assistant_turn_does_not_end_in_white_space() -> None:
    assert turns(user("a"), assistant("The answer is \n"))[-1]["content"][0]["text"] == "The answer is"


def test_images_and_documents_take_the_forms_of_the_vendor() -> None:
    text = base64.b64encode(b"plain words").decode()
    parts = (
        ImagePart(data=PNG, media_type="image/png"),
        ImagePart(data=PNG),
        ImagePart(url=f"data:image/webp;base64,{PNG}"),
        ImagePart(url="https://example.com/a.png"),
        DocumentPart(data="JVBERi0=", name="a.pdf"),
        DocumentPart(url="https://example.com/a.pdf"),
        DocumentPart(data=text, media_type="text/markdown"),
    )
    (turn,) = turns(Message("user", parts))
    png = {"type": "base64", "media_type": "image/png", "data": PNG}
    assert turn["content"] == [
        {"type": "image", "source": png},
        {"type": "image", "source": png},
        {"type": "image", "source": {**png, "media_type": "image/webp"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain words"}},
    ]


@pytest.mark.parametrize(
    ("part", "error", "what"),
    [
        (DocumentPart(data="AAAA", media_type="application/msword"), CapabilityMissing, "application/msword"),
        (DocumentPart(data="no base64!", media_type="text/plain"), InvalidRequest, "base64"),
        (DocumentPart(), InvalidRequest, "document"),
        (ImagePart(), InvalidRequest, "image"),
        (ImagePart(data="AAAA"), InvalidRequest, "media_type"),
        (ImagePart(url="data:image/png,AAAA"), InvalidRequest, "data URL"),
    ],
)
def test_parts_that_cannot_be_sent_are_named(part: Any, error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=what):
        turns(Message("user", (part,)))


def test_an_image_in_a_system_message_is_refused() -> None:
    with pytest.raises(CapabilityMissing, match="system"):
        turns(Message("system", (ImagePart(data=PNG),)), user("Hi"))


def test_results_of_one_turn_stand_together_and_first() -> None:
    found = turns(
        user("Hi"),
        Message("assistant", (call("a", '{"city": "Rome"}'), TextPart("Let me see"), call("b", ""))),
        result("a"),
        user("hurry"),
        result("b", "broken", is_error=True),
    )
    assert [block["type"] for block in found[1]["content"]] == ["text", "tool_use", "tool_use"]
    assert [block["input"] for block in found[1]["content"][1:]] == [{"city": "Rome"}, {}]
    assert found[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "fine"}]},
        {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "broken"}], "is_error": True},
        {"type": "text", "text": "hurry"},
    ]


def test_a_result_may_hold_images_or_nothing() -> None:
    found = turns(
        user("Hi"),
        Message("assistant", (call("a"), call("b"))),
        Message("tool", (ToolResultPart("a", (TextPart("see"), ImagePart(data=PNG))), ToolResultPart("b", (TextPart(""),)))),
    )
    first, second = found[-1]["content"]
    assert [item["type"] for item in first["content"]] == ["text", "image"]
    assert second == {"type": "tool_result", "tool_use_id": "b"}


@pytest.mark.parametrize("arguments", ["[1, 2]", '"text"', "not JSON", '{"city": '])
def test_arguments_that_are_no_object_are_kept_inside_one(arguments: str) -> None:
    found = turns(user("Hi"), Message("assistant", (call("a", arguments),)), result("a"))
    assert found[1]["content"][0]["input"] == {"arguments": arguments}


def test_ids_of_other_vendors_become_acceptable_and_stay_consistent() -> None:
    found = turns(
        user("Hi"),
        Message("assistant", (call("call:1"), call("call 1"), call(""))),
        result("call 1", "second"),
        result("call:1", "first"),
        result("", "third"),
    )
    ids = [block["id"] for block in found[1]["content"]]
    assert ids == ["call_1", "call_1_2", "call"]
    assert [(block["tool_use_id"], block["content"][0]["text"]) for block in found[2]["content"]] == [
        ("call_1_2", "second"),
        ("call_1", "first"),
        ("call", "third"),
    ]


def test_ids_that_come_again_are_told_apart_and_matched_in_order() -> None:
    found = turns(
        user("Hi"),
        Message("assistant", (call("x"), call("x"))),
        result("x"),
        result("x"),
        Message("assistant", (call("x"),)),
        result("x"),
    )
    assert [[block["id"] for block in turn["content"]] for turn in found[1::2]] == [["x", "x_2"], ["x_3"]]
    assert [[block["tool_use_id"] for block in turn["content"]] for turn in found[2::2]] == [["x", "x_2"], ["x_3"]]


def test_a_result_belongs_to_the_call_of_its_own_turn() -> None:
    found = turns(
        user("Hi"), Message("assistant", (call("x"),)), user("go on"), Message("assistant", (call("x"),)), result("x")
    )
    assert found[-2]["content"][0]["id"] == found[-1]["content"][0]["tool_use_id"] == "x_2"


def test_sealed_reasoning_goes_back_first_and_unsealed_stays_out() -> None:
    parts = (
        call("a"),
        TextPart("Let me see"),
        ReasoningPart("hm", "seal"),
        ReasoningPart("", None, "secret"),
        ReasoningPart("loose"),
    )
    found = turns(user("Hi"), Message("assistant", parts), result("a"))
    assert found[1]["content"][:2] == [
        {"type": "thinking", "thinking": "hm", "signature": "seal"},
        {"type": "redacted_thinking", "data": "secret"},
    ]
    assert [block["type"] for block in found[1]["content"][2:]] == ["text", "tool_use"]
