"""What a request gets: what it names, else its recipe's, else the defaults."""

from __future__ import annotations

from typing import Any

import pytest

from app.config.spec import QuorumSpec
from app.core.chat import Generation
from app.core.errors import CapabilityMissing, InvalidRequest, NotFound
from app.core.messages import ImagePart, Message
from app.core.models import Capabilities
from app.core.runs import OrchestrationConfig
from app.orchestration.base import BaseOrchestrator
from app.orchestration.direct import DirectOrchestrator
from app.orchestration.selection import Selected, Targets, select
from app.orchestration.simple import SimpleOptions, SimpleOrchestrator
from tests.orchestration.known import Known, asked
from tests.orchestration.scripted import Scripted

RECIPE = {
    "strategy": "simple",
    "models": ["a", "b"],
    "lead_model": "c",
    "options": {"analysis": "critique"},
    "generation": {"temperature": 0.1, "stop": ["END"]},
}
SPEC = QuorumSpec.model_validate(
    {"recipes": {"careful": RECIPE}, "defaults": {"strategy": "simple", "generation": {"temperature": 0.9, "seed": 7}}}
)
TARGETS = Targets(SPEC)
CAREFUL = OrchestrationConfig("simple", ("a", "b"), "c", {"analysis": "critique"}, "careful")
SILENT: dict[str, Any] = {"strategy": None, "recipe": None, "models": (), "lead_model": None, "options": {}}

MODELS = tuple(Scripted(name) for name in "abcd")
IMAGE = (Message("user", (ImagePart(url="https://example.com/x.png"),)),)


def blind(name: str) -> Scripted:
    return Scripted(name, capabilities=Capabilities(images=False, seed=False))


def chosen(
    *scripted: Scripted,
    strategy: BaseOrchestrator | None = None,
    spec: dict[str, Any] | None = None,
    **request: Any,
) -> Selected:
    return select(
        Known(*(scripted or MODELS)),
        QuorumSpec.model_validate(spec or {}),
        strategy or SimpleOrchestrator(),
        asked("simple", **request),
        SimpleOptions(),
    )


def names(selected: Selected) -> list[str]:
    return [model.profile.name for model in selected.models]


# what is named


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("careful", CAREFUL),
        ("quorum/direct", OrchestrationConfig("direct")),
        ("quorum", OrchestrationConfig("simple")),
        ("a", OrchestrationConfig("direct", ("a",))),
        ("openai/gpt-4o", OrchestrationConfig("direct", ("openai/gpt-4o",))),
    ],
)
def test_the_model_of_an_openai_request_is_a_recipe_a_strategy_or_a_model(name: str, config: OrchestrationConfig) -> None:
    assert TARGETS.named(name) == config


def test_a_request_that_says_nothing_gets_the_default_strategy() -> None:
    assert TARGETS.asked(**SILENT) == OrchestrationConfig("simple")


def test_what_a_request_says_goes_over_its_recipe() -> None:
    assert TARGETS.asked(**{**SILENT, "recipe": "careful"}) == CAREFUL
    said = {**SILENT, "recipe": "careful", "models": ("d",), "lead_model": "a", "options": {"min_responses": 1}}
    options = {"analysis": "critique", "min_responses": 1}
    assert TARGETS.asked(**said) == OrchestrationConfig("simple", ("d",), "a", options, "careful")


def test_a_recipe_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(NotFound, match="no recipe 'fast'; known: careful") as caught:
        TARGETS.asked(**{**SILENT, "recipe": "fast"})
    assert caught.value.param == "recipe"
    with pytest.raises(NotFound, match="none is configured"):
        Targets(QuorumSpec()).asked(**{**SILENT, "recipe": "fast"})


def test_a_recipe_has_its_own_strategy() -> None:
    assert TARGETS.asked(**{**SILENT, "recipe": "careful", "strategy": "simple"}) == CAREFUL
    with pytest.raises(InvalidRequest, match="of strategy 'simple'; leave `strategy` out"):
        TARGETS.asked(**{**SILENT, "recipe": "careful", "strategy": "direct"})


def test_settings_are_the_requests_then_the_recipes_then_the_defaults() -> None:
    asked_for = Generation(temperature=0.0, max_tokens=5)
    assert TARGETS.generation(asked_for, "careful") == Generation(temperature=0.0, max_tokens=5, seed=7, stop=("END",))
    assert TARGETS.generation(Generation(), "careful").temperature == 0.1
    assert TARGETS.generation(Generation(), None) == Generation(temperature=0.9, seed=7)
    assert Targets(QuorumSpec()).generation(asked_for, None) is asked_for


# which models


def test_named_models_are_taken_as_they_are_in_their_order() -> None:
    assert names(chosen(models=("c", "a"))) == ["c", "a"]


def test_a_named_model_that_cannot_do_what_is_asked_is_kept_while_another_can() -> None:
    assert names(chosen(blind("x"), Scripted("y"), models=("x", "y"), messages=IMAGE)) == ["x", "y"]


def test_defaults_that_cannot_do_what_is_asked_are_left_out() -> None:
    assert names(chosen(blind("x"), *MODELS, messages=IMAGE)) == ["a", "b", "c"]
    assert names(chosen(blind("x"), *MODELS, messages=IMAGE, spec={"defaults": {"models": ["x", "d"]}})) == ["d"]


def test_without_defaults_the_first_that_fit_are_taken_up_to_the_limit() -> None:
    assert names(chosen()) == ["a", "b", "c"]
    assert names(chosen(spec={"limits": {"max_default_models": 2}})) == ["a", "b"]


def test_configured_defaults_are_all_taken() -> None:
    assert names(chosen(spec={"defaults": {"models": ["d", "c", "b", "a"]}})) == ["d", "c", "b", "a"]


def test_a_strategy_that_takes_one_model_gets_the_first_that_fits() -> None:
    direct = DirectOrchestrator()
    assert names(chosen(strategy=direct)) == ["a"]
    assert names(chosen(blind("x"), *MODELS, strategy=direct, messages=IMAGE)) == ["a"]
    assert names(chosen(strategy=direct, spec={"defaults": {"models": ["d", "c"]}})) == ["d"]


def test_a_lead_is_the_requests_or_the_default_or_nobody() -> None:
    def lead(**how: Any) -> str | None:
        found = chosen(**how).lead
        return found.profile.name if found else None

    assert lead() is None
    assert lead(spec={"defaults": {"lead_model": "d"}}) == "d"
    assert lead(lead="b", spec={"defaults": {"lead_model": "d"}}) == "b"


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"models": ("a", "z")}, NotFound, "no model 'z'"),
        ({"lead": "z"}, NotFound, "no model 'z'"),
        ({"models": ("a", "b", "c"), "spec": {"limits": {"max_models": 2}}}, InvalidRequest, "3 models are named; at most 2"),
        (
            {"models": ("a", "b"), "strategy": DirectOrchestrator()},
            InvalidRequest,
            "the strategy 'direct' takes 1 model, 2 are named",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_with_a_word_on_it(how: Any, error: type[InvalidRequest], message: str) -> None:
    with pytest.raises(error, match=message):
        chosen(**how)


def test_when_no_model_can_do_it_the_first_one_says_what_it_cannot() -> None:
    with pytest.raises(CapabilityMissing, match="'x' takes no images"):
        chosen(blind("x"), blind("y"), messages=IMAGE)
    with pytest.raises(CapabilityMissing):
        chosen(blind("x"), generation=Generation(seed=1))


def test_without_any_model_the_request_is_told_where_to_add_one() -> None:
    with pytest.raises(InvalidRequest, match=r"add one under `models` in quorum.yaml"):
        select(Known(), QuorumSpec(), SimpleOrchestrator(), asked("simple"), SimpleOptions())
