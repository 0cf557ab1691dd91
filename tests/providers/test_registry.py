from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from app.config.calls import CallConfig
from app.config.loading import load
from app.config.spec import CapabilitiesConfig, LLMProvider, ModelConfig, PriceConfig, QuorumSpec, RequestConfig
from app.core.chat import ChatRequest, ChatResponse, Choice
from app.core.errors import ConfigError, ConflictError, InvalidRequest, NotFound
from app.core.messages import user
from app.core.model_events import ModelEvent, ResponseFinished
from app.core.models import Call, Capabilities, ModelProfile
from app.core.usage import FlatPrice
from app.providers.base import Availability
from app.providers.registry import ModelRegistry


class Echo:
    """A provider that answers with its own name and the model's."""

    kind = "echo"

    def __init__(self, name: str, *, hangs: bool = False) -> None:
        self.name = name
        self.closed = asyncio.Event()
        self._hangs = hangs

    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelEvent]:
        yield ResponseFinished(ChatResponse("id", request.model, (Choice(text=f"{self.name}:{request.model}"),)))

    async def check(self) -> Availability:
        if self._hangs:
            await asyncio.Event().wait()
        return Availability(self.name, available=True, latency_ms=1.0)

    async def aclose(self) -> None:
        self.closed.set()


def bare(profile: ModelProfile, settings: CallConfig, call: Call) -> Call:
    return call


def spec(providers: dict[str, dict[str, Any]], models: dict[str, dict[str, Any]] | None = None) -> QuorumSpec:
    return QuorumSpec(
        providers={name: LLMProvider(**given) for name, given in providers.items()},
        models={name: ModelConfig(**given) for name, given in (models or {}).items()},
    )


def registry(of: QuorumSpec, make: Callable[[str, LLMProvider], Any] | None = None, **more: Any) -> ModelRegistry:
    return ModelRegistry(of, wrap=more.pop("wrap", bare), make=make or (lambda name, *_: Echo(name)), **more)


async def answer(call: Call, model: str) -> str:
    async for event in call(ChatRequest(model, (user("hi"),))):
        if isinstance(event, ResponseFinished):
            return event.response.choices[0].text
    raise AssertionError("no answer")


ONE = spec({"one": {"kind": "openai"}}, {"fast": {"provider": "one", "model": "gpt-4o"}})


class TestNames:
    async def test_an_alias_is_a_model_at_its_provider(self) -> None:
        model = registry(ONE).resolve("fast")
        assert (model.profile.name, model.profile.provider, model.profile.model) == ("fast", "one", "gpt-4o")
        assert await answer(model.call, model.profile.model) == "one:gpt-4o"

    async def test_any_model_of_a_known_provider_can_be_named(self) -> None:
        models = registry(ONE)
        model = models.resolve("one/meta/llama-3")
        assert (model.profile.name, model.profile.model) == ("one/meta/llama-3", "meta/llama-3")
        assert models.resolve("one/meta/llama-3") is model
        assert [listed.profile.name for listed in models.models()] == ["fast"]

    async def test_an_alias_goes_before_a_provider_s_model(self) -> None:
        models = registry(spec({"one": {"kind": "openai"}}, {"one/x": {"provider": "one", "model": "y"}}))
        assert models.resolve("one/x").profile.model == "y"

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("fsat", "there is no model 'fsat'; did you mean 'fast'?"),
            ("two/x", "there is no model 'two/x'; known: 'fast', 'one/...'"),
            ("one/", "there is no model 'one/'; known: 'fast', 'one/...'"),
            ("", "there is no model ''; known: 'fast', 'one/...'"),
        ],
    )
    async def test_an_unknown_one_is_answered_with_what_there_is(self, name: str, message: str) -> None:
        with pytest.raises(NotFound) as raised:
            registry(ONE).resolve(name)
        assert raised.value.message == message
        assert raised.value.param == "model"

    @pytest.mark.parametrize("model", ["x" * 257, "a\nb", "a\x00"])
    async def test_a_model_s_name_is_bounded(self, model: str) -> None:
        with pytest.raises(InvalidRequest, match="256 printable"):
            registry(ONE).resolve(f"one/{model}")

    async def test_models_named_on_demand_are_forgotten_when_they_are_many(self) -> None:
        models = registry(ONE)
        kept, first = models.resolve("one/kept"), models.resolve("one/first")
        for number in range(1023):
            models.resolve(f"one/{number}")
            assert models.resolve("one/kept") is kept
        assert models.resolve("one/first") is not first


class TestProfiles:
    async def test_are_of_the_configuration_first_then_the_vendor_then_the_price_list(self) -> None:
        models = registry(
            spec(
                {"a": {"kind": "anthropic"}},
                {
                    "known": {"provider": "a", "model": "claude-sonnet-4-5"},
                    "told": {
                        "provider": "a",
                        "model": "claude-sonnet-4-5",
                        "capabilities": CapabilitiesConfig(tools=False, n=True),
                        "price": PriceConfig(input=1, output=2),
                        "context_window": 10,
                        "max_output_tokens": 5,
                        "tags": ("x",),
                        "family": "own",
                        "extra_body": {"top_k": 1},
                    },
                },
            )
        )
        from app.providers.anthropic import ANTHROPIC_CAPABILITIES

        known, told = models.resolve("known").profile, models.resolve("told").profile
        assert known.capabilities == ANTHROPIC_CAPABILITIES
        assert known.price is not None
        assert (known.family, known.context_window, known.extra_body) == ("claude", 200_000, None)
        assert (told.capabilities.tools, told.capabilities.n) == (False, True)
        assert told.capabilities.images == ANTHROPIC_CAPABILITIES.images
        assert told.price == FlatPrice(1, 2)
        assert (told.family, told.context_window, told.max_output_tokens) == ("own", 10, 5)
        assert (told.tags, told.extra_body) == (("x",), {"top_k": 1})

    async def test_of_a_vendor_are_its_row_s(self) -> None:
        models = registry(spec({"p": {"kind": "openai_compatible", "vendor": "perplexity"}}))
        assert not models.resolve("p/sonar").profile.capabilities.tools

    async def test_of_a_mock_model_are_its_persona_s(self) -> None:
        of = spec({"mock": {"kind": "mock"}}, {"fast": {"provider": "mock", "model": "mock-swift"}})
        profile = registry(of).resolve("fast").profile
        assert profile.family == "swift"
        assert profile.price is not None
        assert profile.max_output_tokens is not None

    @pytest.mark.parametrize(
        ("model", "family"),
        [
            ("meta-llama/Llama-3.3-70B", "llama"),
            ("gpt-6-luna", "gpt"),
            ("o3-mini", "gpt"),
            ("Mixtral-8x7B", "mistral"),
            ("our-finetune", "our"),
            ("7b", "7b"),
        ],
    )
    async def test_have_the_family_of_the_name(self, model: str, family: str) -> None:
        of = spec({"x": {"kind": "openai_compatible", "base_url": "http://127.0.0.1:9"}})
        assert registry(of).resolve(f"x/{model}").profile.family == family


async def test_policies_stand_around_each_call_with_the_model_s_own_timeouts() -> None:
    seen: dict[str, float] = {}

    def wrap(profile: ModelProfile, settings: CallConfig, call: Call) -> Call:
        seen[profile.name] = settings.timeouts.total_s
        return call

    of = spec(
        {"one": {"kind": "openai", "timeouts": RequestConfig(total_s=7)}},
        {
            "plain": {"provider": "one", "model": "x"},
            "quick": {"provider": "one", "model": "x", "timeouts": RequestConfig(total_s=3)},
        },
    )
    registry(of, wrap=wrap).resolve("one/y")
    assert seen == {"plain": 7, "quick": 3, "one/y": 7}


async def test_a_mock_provider_without_aliases_lists_its_personas() -> None:
    models = registry(spec({"mock": {"kind": "mock"}}))
    names = [model.profile.name for model in models.models()]
    assert "mock/mock-swift" in names
    assert models.resolve("mock/mock-swift") in models.models()


async def test_a_replayed_file_lists_the_models_it_has_answers_of(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    row = {"id": "1", "question": "2 + 2?", "answers": {"model-a": {"text": "4"}, "model-b": {"text": "5"}}}
    path.write_text(json.dumps(row) + "\n")
    models = registry(spec({"past": {"kind": "replay", "options": {"file": str(path)}}}))
    assert [model.profile.name for model in models.models()] == ["past/model-a", "past/model-b"]


class TestAtRunTime:
    async def test_a_provider_is_added_and_removed(self) -> None:
        models = registry(ONE, retire_s=0)
        added = models.add("two", LLMProvider(kind="openai"))
        held = models.resolve("two/x")
        assert [connection.name for connection in models.providers()] == ["one", "two"]

        models.remove("two")

        with pytest.raises(NotFound):
            models.resolve("two/x")
        assert await answer(held.call, "x") == "two:x"
        async with asyncio.timeout(5):
            await added.provider.closed.wait()  # type: ignore[attr-defined]

    async def test_a_provider_object_can_be_added(self) -> None:
        models = registry(ONE)
        models.add("own", Echo("own"))
        model = models.resolve("own/x")
        assert model.profile.capabilities == Capabilities()
        assert model.profile.price is None
        assert await answer(model.call, "x") == "own:x"

    async def test_a_name_is_given_once(self) -> None:
        with pytest.raises(ConflictError, match="there is a provider 'one' already"):
            registry(ONE).add("one", LLMProvider(kind="openai"))

    async def test_what_is_not_there_cannot_be_removed(self) -> None:
        with pytest.raises(NotFound, match="there is no provider 'oen'; did you mean 'one'"):
            registry(ONE).remove("oen")

    async def test_the_aliases_of_a_removed_provider_go_with_it(self) -> None:
        models = registry(ONE)
        models.remove("one")
        assert models.models() == ()


class TestReload:
    async def test_what_did_not_change_stays_the_same_object(self) -> None:
        models = registry(ONE)
        provider, model = models.provider("one").provider, models.resolve("fast")
        demanded = models.resolve("one/other")
        more = {"fast": {"provider": "one", "model": "gpt-4o"}, "new": {"provider": "one", "model": "y"}}
        models.apply(spec({"one": {"kind": "openai"}}, more))
        assert models.provider("one").provider is provider
        assert models.resolve("fast") is model
        assert models.resolve("one/other") is demanded
        assert models.resolve("new").profile.model == "y"

    async def test_a_changed_model_is_made_anew_at_the_same_provider(self) -> None:
        models = registry(ONE)
        provider = models.provider("one").provider
        models.apply(spec({"one": {"kind": "openai"}}, {"fast": {"provider": "one", "model": "gpt-5"}}))
        assert models.resolve("fast").profile.model == "gpt-5"
        assert models.provider("one").provider is provider

    async def test_a_changed_provider_is_replaced_and_the_old_one_serves_those_who_hold_it(self) -> None:
        models = registry(ONE, retire_s=0)
        old, held = models.provider("one").provider, models.resolve("fast")
        demanded = models.resolve("one/other")

        changed = {"one": {"kind": "openai", "max_connections": 5}}
        models.apply(spec(changed, {"fast": {"provider": "one", "model": "gpt-5"}}))

        assert models.resolve("fast").profile.model == "gpt-5"
        assert models.resolve("one/other") is not demanded
        assert await answer(held.call, "gpt-4o") == "one:gpt-4o"
        async with asyncio.timeout(5):
            await old.closed.wait()  # type: ignore[attr-defined]

    async def test_dynamic_providers_outlive_it(self) -> None:
        models = registry(ONE)
        models.add("two", LLMProvider(kind="openai"))
        kept = models.resolve("two/x")
        models.apply(spec({}))
        assert [connection.name for connection in models.providers()] == ["two"]
        assert models.resolve("two/x") is kept

    async def test_a_configured_provider_goes_before_a_dynamic_one_of_its_name(self) -> None:
        models = registry(ONE)
        models.add("two", LLMProvider(kind="openai"))
        models.apply(spec({"two": {"kind": "openai"}}))
        assert not models.provider("two").dynamic

    async def test_a_provider_that_cannot_be_made_changes_nothing(self) -> None:
        made: list[Echo] = []

        def make(name: str, *_: object) -> Echo:
            if name == "bad":
                raise ConfigError("cannot be made")
            made.append(Echo(name))
            return made[-1]

        models = registry(ONE, make)
        before = models.resolve("fast")
        with pytest.raises(ConfigError, match="cannot be made"):
            models.apply(spec({"good": {"kind": "openai"}, "bad": {"kind": "openai"}}))
        assert models.resolve("fast") is before
        assert [connection.name for connection in models.providers()] == ["one"]
        async with asyncio.timeout(5):
            await made[1].closed.wait()

    async def test_a_model_of_an_unknown_provider_changes_nothing(self) -> None:
        models = registry(ONE)
        with pytest.raises(ConfigError) as raised:
            models.apply(spec({}, {"x": {"provider": "none", "model": "y"}}))
        assert raised.value.faults == ("models.x.provider: 'none' is not a provider",)
        assert models.resolve("fast")


async def test_all_providers_are_checked_at_once_and_in_bounded_time() -> None:
    models = registry(
        spec({"a": {"kind": "openai"}, "b": {"kind": "openai"}}),
        lambda name, *_: Echo(name, hangs=name == "b"),
        check_s=0.05,
    )
    assert await models.check_all() == (
        Availability("a", available=True, latency_ms=1.0),
        Availability("b", available=False, error="provider 'b': no answer within 0.05 s"),
    )
    assert (await models.check("a")).available
    with pytest.raises(NotFound):
        await models.check("c")


async def test_closing_closes_all_and_what_was_replaced_too() -> None:
    made: list[Echo] = []

    def make(name: str, *_: object) -> Echo:
        made.append(Echo(name))
        return made[-1]

    models = registry(ONE, make)
    models.apply(spec({"one": {"kind": "anthropic"}}))
    assert [provider.closed.is_set() for provider in made] == [False, False]
    await models.aclose()
    assert [provider.closed.is_set() for provider in made] == [True, True]


def test_a_registry_can_be_made_where_no_event_loop_runs() -> None:
    models = ModelRegistry(spec({"mock": {"kind": "mock"}}), wrap=bare)
    models.remove("mock")
    asyncio.run(models.aclose())


async def test_the_example_s_models_are_all_there() -> None:
    loaded = load(Path(__file__).parents[2] / "examples" / "quorum.yaml", {})
    models = ModelRegistry(loaded.spec, wrap=bare)
    assert {model.profile.name for model in models.models()} == set(loaded.spec.models)
    assert models.resolve("house").profile.price == FlatPrice(0.05, 0.10, 0.01)
    await models.aclose()
