"""What holds between the parts of a configuration, beyond the shape of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import urlsplit

from app.config.bundle_checks import NamedTools, bundle_faults
from app.config.calls import call_config
from app.config.document import Document, Fault, MemberPath
from app.config.explaining import close_to, listed, shown
from app.config.headers import header_faults
from app.config.planner_checks import planner_faults
from app.config.spec import CircuitBreakerConfig, LLMProvider, OrchestratorConfig, QuorumSpec
from app.config.tool_checks import ToolsCheck, tool_faults
from app.config.tool_names import ToolsThere, tool_name_faults

RESERVED = "quorum"
"""`quorum/<strategy>` is a model name that means a strategy."""

PATTERN_PLACEHOLDERS = frozenset({"question", "answers"})
_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_KEY = re.compile(r"[\x21-\x7e]*")
_SHORT_KEY = 16

RecipeCheck = Callable[[OrchestratorConfig], list[tuple[MemberPath, str]]]
ProviderCheck = Callable[[LLMProvider], list[tuple[MemberPath, str]]]


def cross_checks(
    spec: QuorumSpec,
    document: Document,
    *,
    recipe: RecipeCheck | None,
    recipe_models: RecipeCheck | None,
    provider: ProviderCheck | None,
    prompts: Mapping[str, frozenset[str]] | None,
    tools: ToolsCheck | None,
    recipe_tools: NamedTools | None,
    tools_there: ToolsThere | None,
    workflows: Callable[[QuorumSpec], list[Fault]] | None,
) -> list[Fault]:
    """All faults of `spec`; `document` says what must not be shown as it is."""
    return [
        *_providers(spec, document, provider),
        *_models(spec, document),
        *_recipes(spec, document, recipe),
        *_recipe_models(spec, document, recipe_models),
        *_defaults(spec, document, recipe),
        *_limits(spec),
        *_reliability(spec),
        *_keys(spec),
        *_prompts(spec, prompts),
        *tool_faults(spec.tools, tools, spec.recipes),
        *bundle_faults(spec, recipe_tools),
        *tool_name_faults(spec, tools_there, recipe_tools),
        *_bundles(spec, document, recipe, recipe_models),
        *_planner(spec, document, recipe, recipe_models),
        *(workflows(spec) if workflows and spec.workflows else ()),
    ]


def warnings_of(spec: QuorumSpec, document: Document) -> list[Fault]:
    """What is allowed and yet probably not meant."""
    found: list[Fault] = []
    for name, config in spec.providers.items():
        path: MemberPath = ("providers", name, "api_key")
        if config.api_key is not None and path not in document.expanded and config.kind not in ("mock", "replay"):
            found.append(Fault(path, "a credential stands in the file; write ${NAME} and set it in the environment"))
    for index, key in enumerate(spec.keys):
        path = ("keys", index, "key")
        if path not in document.expanded:
            found.append(Fault(path, "a key stands in the file; write ${NAME} and set it in the environment"))
        if len(key.key.get_secret_value()) < _SHORT_KEY:
            found.append(Fault(path, f"the key is shorter than {_SHORT_KEY} characters and can be guessed"))
    return found


def _providers(spec: QuorumSpec, document: Document, check: ProviderCheck | None) -> Iterator[Fault]:
    for name, config in spec.providers.items():
        path: MemberPath = ("providers", name)
        if name == RESERVED:
            yield Fault(path, f"the name {RESERVED!r} is reserved for {RESERVED}/<strategy>; choose another")
        if config.kind == "openai_compatible" and not (config.vendor or config.base_url):
            yield Fault(path, "openai_compatible needs 'vendor' or 'base_url'")
        if config.base_url is not None:
            yield from _base_url(config.base_url, (*path, "base_url"))
        if config.api_key is not None and not _KEY.fullmatch(config.api_key.get_secret_value()):
            yield Fault((*path, "api_key"), "has characters that no key has: spaces, line ends, or some beyond ASCII")
        yield from header_faults(config.headers, (*path, "headers"))
        if check is not None:
            yield from (Fault((*path, *inner), message) for inner, message in check(config))


def _base_url(url: str, path: MemberPath) -> Iterator[Fault]:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid, parts = False, urlsplit("")
    if not valid:
        yield Fault(path, "is not a URL; write it like https://api.example.com/v1")
    elif parts.username is not None or parts.password is not None:
        yield Fault(path, "holds a credential; put it into 'api_key' or 'headers'")
    elif parts.query or parts.fragment:
        yield Fault(path, "holds a query; put it into 'query'")


def _models(spec: QuorumSpec, document: Document) -> Iterator[Fault]:
    for alias, config in spec.models.items():
        path: MemberPath = ("models", alias)
        if alias == RESERVED or alias.startswith(f"{RESERVED}/"):
            yield Fault(path, f"names under {RESERVED}/ are reserved for strategies; choose another")
        if config.provider not in spec.providers:
            inner = (*path, "provider")
            hint = close_to(config.provider, spec.providers) or _known("providers", spec.providers)
            yield Fault(inner, f"{shown(config.provider, inner, document)} is not a provider{hint}")


def _recipes(spec: QuorumSpec, document: Document, check: RecipeCheck | None) -> Iterator[Fault]:
    for name, config in spec.recipes.items():
        path: MemberPath = ("recipes", name)
        if name in spec.models:
            yield Fault(path, f"{name!r} is a model too; a request could not tell them apart, so rename one")
        if name == RESERVED:
            yield Fault(path, f"the name {RESERVED!r} is reserved; choose another")
        yield from _chosen(spec, document, path, config.models, config.lead_model)
        yield from _bounded(spec, path, config)
        if check is not None:
            yield from (Fault((*path, *inner), message) for inner, message in check(config))


def _recipe_models(spec: QuorumSpec, document: Document, named: RecipeCheck | None) -> Iterator[Fault]:
    """Faults of the models that the options of recipes name."""
    for name, config in spec.recipes.items():
        found = named(config) if named else []
        for inner, model in found:
            yield from _model(spec, document, ("recipes", name, *inner), model)
        if found and config.models:
            yield Fault(("recipes", name, "models"), "the options name the models already; leave this out")


def _bundles(spec: QuorumSpec, document: Document, check: RecipeCheck | None, named: RecipeCheck | None) -> Iterator[Fault]:
    """Faults of the orchestrations that bundle tools state themselves."""
    for reference, bundle in spec.tools.bundles.items():
        if bundle.strategy is None or bundle.recipe is not None:
            continue
        path: MemberPath = ("tools", "bundles", reference)
        config = OrchestratorConfig(
            strategy=bundle.strategy, models=bundle.models, lead_model=bundle.lead_model, options=bundle.options
        )
        yield from _stated(spec, document, path, config, check, named)


def _planner(spec: QuorumSpec, document: Document, check: RecipeCheck | None, named: RecipeCheck | None) -> Iterator[Fault]:
    def orchestration(path: MemberPath, config: OrchestratorConfig) -> Iterator[Fault]:
        yield from _stated(spec, document, path, config, check, named)

    return planner_faults(spec, orchestration)


def _stated(
    spec: QuorumSpec,
    document: Document,
    path: MemberPath,
    config: OrchestratorConfig,
    check: RecipeCheck | None,
    named: RecipeCheck | None,
) -> Iterator[Fault]:
    """Faults of an orchestration that is stated at `path` and is no recipe."""
    yield from _chosen(spec, document, path, config.models, config.lead_model)
    yield from _bounded(spec, path, config)
    if check is not None:
        yield from (Fault((*path, *inner), message) for inner, message in check(config))
    in_options = named(config) if named else []
    for inner, model in in_options:
        yield from _model(spec, document, (*path, *inner), model)
    if in_options and config.models:
        yield Fault((*path, "models"), "the options name the models already; leave this out")


def _bounded(spec: QuorumSpec, path: MemberPath, config: OrchestratorConfig) -> Iterator[Fault]:
    if len(config.models) > spec.limits.max_models:
        yield Fault(
            (*path, "models"), f"{len(config.models)} models are more than limits.max_models ({spec.limits.max_models})"
        )
    wanted = config.generation.max_tokens
    if wanted is not None and wanted > spec.limits.max_tokens:
        yield Fault((*path, "generation", "max_tokens"), f"{wanted} is more than limits.max_tokens ({spec.limits.max_tokens})")


def _chosen(
    spec: QuorumSpec, document: Document, path: MemberPath, models: tuple[str, ...], lead: str | None
) -> Iterator[Fault]:
    for index, model in enumerate(models):
        yield from _model(spec, document, (*path, "models", index), model)
    if lead is not None:
        yield from _model(spec, document, (*path, "lead_model"), lead)


def _model(spec: QuorumSpec, document: Document, path: MemberPath, name: str) -> Iterator[Fault]:
    """A fault unless `name` is an alias or `provider/model` of a known provider."""
    if name in spec.models:
        return
    provider, slash, model = name.partition("/")
    if slash and model and provider in spec.providers:
        return
    said = shown(name, path, document)
    if name in spec.recipes:
        yield Fault(path, f"{said} is a recipe; name a model")
        return
    hint = close_to(name, spec.models) or _known("models", spec.models)
    yield Fault(path, f"{said} is not a model{hint}")


def _known(what: str, names: Mapping[str, object]) -> str:
    return f"; {what} here: {listed(names)}" if names else f"; there are no {what} here"


def _defaults(spec: QuorumSpec, document: Document, check: RecipeCheck | None) -> Iterator[Fault]:
    path: MemberPath = ("defaults",)
    given = spec.defaults
    recipe = OrchestratorConfig(strategy=given.strategy, models=given.models, generation=given.generation)
    yield from _chosen(spec, document, path, given.models, given.lead_model)
    yield from _bounded(spec, path, recipe)
    if check is not None:
        named = (fault for fault in check(recipe) if fault[0][:1] == ("strategy",))
        yield from (Fault((*path, *inner), message) for inner, message in named)


def _limits(spec: QuorumSpec) -> Iterator[Fault]:
    limits = spec.limits
    if limits.max_default_models > limits.max_models:
        yield Fault(("limits", "max_default_models"), f"is more than limits.max_models ({limits.max_models})")


def _reliability(spec: QuorumSpec) -> Iterator[Fault]:
    """Faults of the settings as they come out where general ones are overridden, each at the member that was written."""
    general = spec.reliability
    yield from _breaker(("reliability",), general.breaker)
    for name, provider in spec.providers.items():
        if provider.reliability.breaker is not None:
            yield from _breaker(("providers", name, "reliability"), call_config(general, provider, None).breaker)
    for alias, model in spec.models.items():
        if model.reliability.breaker is not None:
            in_force = call_config(general, spec.providers.get(model.provider), model)
            yield from _breaker(("models", alias, "reliability"), in_force.breaker)


def _breaker(path: MemberPath, breaker: CircuitBreakerConfig) -> Iterator[Fault]:
    if breaker.max_open_s < breaker.open_s:
        message = f"max_open_s ({breaker.max_open_s:g}) is less than open_s ({breaker.open_s:g})"
        yield Fault((*path, "breaker", "max_open_s"), message)


def _keys(spec: QuorumSpec) -> Iterator[Fault]:
    names: dict[str, int] = {}
    values: dict[str, int] = {}
    for index, config in enumerate(spec.keys):
        value = config.key.get_secret_value()
        if not value:
            yield Fault(("keys", index, "key"), "must not be empty")
        elif value in values:
            yield Fault(("keys", index, "key"), f"is the same key as keys.{values[value]}; every key needs its own")
        if config.name in names:
            yield Fault(("keys", index, "name"), f"is the name of keys.{names[config.name]} too; every key needs its own")
        names.setdefault(config.name, index)
        values.setdefault(value, index)


def _prompts(spec: QuorumSpec, known: Mapping[str, frozenset[str]] | None) -> Iterator[Fault]:
    for name, pattern in spec.analyses.items():
        yield from _placeholders(("analyses", name, "prompt"), pattern.prompt, PATTERN_PLACEHOLDERS, needs=("answers",))
    for name, text in spec.prompts.items():
        path: MemberPath = ("prompts", name)
        if known is None:
            continue
        base = name.partition(".")[0] if name.startswith("fit_") else name  # one of a family, as `fit_json_schema.llama`
        if base not in known:
            yield Fault(path, f"is not a built-in prompt{close_to(name, known) or _known('prompts', dict.fromkeys(known))}")
        else:
            yield from _placeholders(path, text, known[base])


def _placeholders(path: MemberPath, text: str, allowed: frozenset[str], *, needs: tuple[str, ...] = ()) -> Iterator[Fault]:
    """Only `{word}` is a placeholder; other braces, as in JSON, are text."""
    used = _PLACEHOLDER.findall(text)
    for word in dict.fromkeys(used):
        if word not in allowed:
            hint = close_to(word, allowed) or f"; placeholders here: {listed(allowed)}"
            yield Fault(path, f"{{{word}}} stands for nothing{hint}")
    for word in needs:
        if word not in used:
            yield Fault(path, f"the placeholder {{{word}}} is missing")
