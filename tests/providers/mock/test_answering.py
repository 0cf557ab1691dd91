from __future__ import annotations

from base64 import b64encode

import orjson
import pytest

from app.core.chat import ChatRequest, Generation, NamedTool, ResponseFormat, ToolDefinition
from app.core.messages import DocumentPart, ImagePart, Message, TextPart, ToolResultPart, user
from app.providers.mock import DEFAULT_PERSONAS
from tests.providers.mock.asking import ask, events, provider, text

WEATHER = ToolDefinition(
    "get_weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
)
CLOCK = ToolDefinition("read_clock", parameters={"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}})


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is 17*23?", "391"),
        ("What is 17 times 23?", "391"),
        ("What is (3 + 4) × 2?", "14"),
        ("Compute 15% of 80.", "12"),
        ("What is 1,200 divided by 5?", "240"),
        ("What is the capital of Australia?", "Canberra"),
        ("Is 17077 a prime number?", "yes"),
        ("What is 6*7?\nA) 41\nB) 42\nC) 43", "B"),
    ],
)
async def test_an_accurate_persona_answers_what_can_be_known(question: str, answer: str):
    sure = provider(personas={"sure": {"like": "mock-careful", "accuracy": 1}})
    assert (await text(question, "sure", mock=sure)).endswith(f"the answer is {answer}.")


@pytest.mark.parametrize("question", ["What happened on 2024-11-15?", "Who won in 2020-2021?", "Open 24/7", "What is 9**9**9?"])
async def test_what_only_looks_like_a_sum_is_no_sum(question: str):
    assert question.rstrip("?")[:8] in await text(question)


async def test_accuracy_is_the_share_of_right_answers():
    mock = provider(personas={"half": {"accuracy": 0.5}, "never": {"accuracy": 0}})
    sums = [(f"What is {a} + {b}?", f"The answer is {a + b}.") for a in range(10) for b in range(20)]
    half = [await text(question, "half", mock=mock) == right for question, right in sums]
    never = [await text(question, "never", mock=mock) == right for question, right in sums]
    assert 70 < sum(half) < 130
    assert sum(never) == 0


async def test_accurate_personas_agree_on_questions_nobody_can_work_out():
    mock = provider(personas={"a": {"accuracy": 1, "like": "mock-terse"}, "b": {"accuracy": 1, "like": "mock-terse"}})
    for question in ("Which is best?\nA) tea\nB) coffee\nC) water", "Is the moon lonely? Answer yes or no."):
        assert await text(question, "a", mock=mock) == await text(question, "b", mock=mock)


async def test_equal_requests_get_equal_responses_and_another_seed_may_differ():
    assert await ask("Explain tides") == await ask("Explain tides")
    assert (await ask("Explain tides")).id != (await ask("Explain tides", generation=Generation(seed=1))).id
    drawn = {await text("What is 2+3?", "mock-contrary", generation=Generation(seed=seed)) for seed in range(20)}
    assert len(drawn) == 2


async def test_an_open_question_is_restated_in_the_personas_style():
    answers = {model: await text("How do we roll out a payment service?", model) for model in DEFAULT_PERSONAS}
    assert len(set(answers.values())) == 5
    assert all("payment" in answer.lower() for answer in answers.values())
    assert len(answers["mock-terse"]) < len(answers["mock-swift"]) < len(answers["mock-scholar"])


async def test_a_json_schema_is_answered_with_the_answer_in_its_place():
    schema = {"type": "object", "properties": {"answer": {"type": "integer"}, "confidence": {"type": "number", "maximum": 1}}}
    form = ResponseFormat("json_schema", schema=schema)
    answer = orjson.loads(await text("What is 17*23?", generation=Generation(response_format=form)))
    assert answer["answer"] == 391
    assert 0 < answer["confidence"] < 1


async def test_a_json_object_is_asked_for_without_a_schema():
    generation = Generation(response_format=ResponseFormat("json_object"))
    assert orjson.loads(await text("What is 17*23?", generation=generation)) == {"answer": 391}


async def test_max_tokens_and_stop_cut_the_answer():
    short = await ask("Explain tides", "mock-scholar", generation=Generation(max_tokens=30))
    assert short.choices[0].finish_reason == "length"
    assert short.usage.output_tokens == 30
    stopped = (await ask("Explain tides", "mock-swift", generation=Generation(stop=("tides",)))).choices[0]
    assert (stopped.text, stopped.finish_reason) == ("Short version of “Explain ", "stop")


async def test_choices_are_drawn_one_by_one():
    choices = (await ask("What is 2+3?", "mock-contrary", generation=Generation(n=8))).choices
    assert [choice.index for choice in choices] == list(range(8))
    assert len({choice.text for choice in choices}) == 2


async def test_reasoning_comes_from_those_who_reason_and_is_counted():
    response = await ask("Explain tides", "mock-scholar")
    choice = response.choices[0]
    assert choice.reasoning_parts[0].text == choice.reasoning
    assert choice.reasoning_parts[0].signature
    assert 0 < response.usage.reasoning_tokens < response.usage.output_tokens
    assert not (await ask("Explain tides", "mock-swift")).choices[0].reasoning
    assert not (await ask("Explain tides", "mock-scholar", generation=Generation(reasoning_effort="none"))).choices[0].reasoning


async def test_a_persona_refuses_what_it_refuses():
    refused = (await ask("How do I write ransomware?")).choices[0]
    assert (refused.text, refused.finish_reason) == ("", "content_filter")
    assert refused.refusal
    assert not (await ask("How do I write ransomware?", "mock-swift")).choices[0].refusal


async def test_images_and_documents_are_seen():
    picture = ImagePart(data=b64encode(b"x" * 300).decode(), media_type="image/png")
    paper = DocumentPart(data=b64encode(b"y" * 10).decode(), name="report.pdf")
    message = Message("user", (TextPart("Describe this"), picture, paper))
    seen = (await events(provider(), ChatRequest("mock-careful", (message,))))[-1].response.choices[0].text
    assert "an image (image/png, 300 bytes) and the document report.pdf (application/pdf, 10 bytes)" in seen


async def test_the_tool_that_the_prompt_speaks_of_is_called_with_what_it_names():
    call = (await ask("What's the weather in Paris?", tools=(CLOCK, WEATHER))).choices[0]
    assert call.finish_reason == "tool_calls"
    assert [(tool.name, orjson.loads(tool.arguments)) for tool in call.tool_calls] == [("get_weather", {"city": "Paris"})]


async def test_both_are_called_in_parallel_unless_that_is_switched_off():
    prompt = "What is the weather in Paris and in London, both?"
    calls = (await ask(prompt, tools=(WEATHER,))).choices[0].tool_calls
    assert [orjson.loads(call.arguments)["city"] for call in calls] == ["Paris", "London"]
    assert len({call.id for call in calls}) == 2
    single = await ask(prompt, tools=(WEATHER,), generation=Generation(parallel_tool_calls=False))
    assert len(single.choices[0].tool_calls) == 1


async def test_the_choice_of_tools_is_obeyed():
    assert (await ask("Hello there", tools=(WEATHER,))).choices[0].tool_calls == ()
    assert (await ask("Hello there", tools=(WEATHER, CLOCK), tool_choice="required")).choices[0].tool_calls[
        0
    ].name == "get_weather"
    named = await ask("Hello there", tools=(WEATHER, CLOCK), tool_choice=NamedTool("read_clock"))
    assert orjson.loads(named.choices[0].tool_calls[0].arguments) == {"zone": "UTC"}
    assert (await ask("The weather?", tools=(WEATHER,), tool_choice="none")).choices[0].tool_calls == ()


async def test_a_tools_result_is_answered_even_where_a_tool_is_required():
    asked = user("What's the weather in Paris?")
    calls = (await ask(asked.text, tools=(WEATHER,))).choices[0].tool_calls
    result = Message("tool", (ToolResultPart(calls[0].id, (TextPart("18 degrees, sunny"),)),))
    request = ChatRequest("mock-swift", (asked, Message("assistant", calls), result), tools=(WEATHER,), tool_choice="required")
    choice = (await events(provider(), request))[-1].response.choices[0]
    assert (choice.text, choice.finish_reason) == ("Got it: 18 degrees, sunny", "stop")
