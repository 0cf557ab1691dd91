"""The providers and models that are there now, by name.

A lookup gives an object that stays whole for as long as somebody holds it: changes make new objects, and what they replace is
closed an hour later.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from app.config.calls import CallConfig, call_config
from app.config.explaining import close_to, listed
from app.config.spec import LLMProvider, ModelConfig, QuorumSpec, RecipeReliability
from app.core.errors import ConfigError, ConflictError, InvalidRequest, NotFound
from app.core.models import Call, Model, ModelProfile
from app.observability.model_counts import configured_models
from app.providers.base import Availability, Provider
from app.providers.embedding import embedding_call
from app.providers.factory import default_profile, known_profiles, make_provider
from app.providers.fitting import fitted, plainly
from app.providers.profiles import profile_of

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

Wrap = Callable[[ModelProfile, CallConfig, Call], Call]
"""Puts the policies around a model's bare call."""

_ON_DEMAND = 1024
"""Models named as `provider/model` that are remembered."""
_MODEL_NAME_LIMIT = 256
_RETIRE_S = 3600.0
"""How long a replaced provider stays open: longer than a run lasts. Its idle connections close by themselves before."""
_CHECK_S = 15.0


@dataclass(frozen=True, slots=True, eq=False)
class Connection:
    """A provider in the registry.

    `config` is None for one that was passed in as an object; `dynamic` ones outlive a reload; `known` are the models that it
    has for sure.
    """

    name: str
    provider: Provider
    config: LLMProvider | None
    dynamic: bool
    known: Mapping[str, ModelProfile] = field(default_factory=dict[str, ModelProfile])


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    model: Model
    connection: Connection
    config: ModelConfig | None


class ModelRegistry:
    """Providers and models by name.

    Parameters:
        spec: which there are.
        wrap: puts the policies around each model's call. Requests are made to fit the model outside of them.
        make: makes a provider of its configuration, and of what looks its host's name up.
        retire_s: seconds until a provider that was replaced or removed is closed.
        check_s: seconds that an availability check may take.

    Raises:
        ConfigError: a provider cannot be made.
    """

    def __init__(
        self,
        spec: QuorumSpec,
        *,
        wrap: Wrap,
        make: Callable[[str, LLMProvider, AbstractResolver | None], Provider] = make_provider,
        retire_s: float = _RETIRE_S,
        check_s: float = _CHECK_S,
    ) -> None:
        self._wrap = wrap
        self._make = make
        self._retire_s = retire_s
        self._check_s = check_s
        self._connections: dict[str, Connection] = {}
        self._entries: dict[str, _Entry] = {}
        self._on_demand: OrderedDict[str, Model] = OrderedDict()
        self._tuned: dict[tuple[str, RecipeReliability], tuple[Model, Model]] = {}
        self._retired: dict[int, tuple[Provider, asyncio.TimerHandle | None]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._reliability = spec.reliability
        self.apply(spec)

    def resolve(self, name: str) -> Model:
        """The model with the alias `name`, or, for `provider/model`, any model of a known provider.

        Raises:
            NotFound: nothing answers to `name`; the message says what comes close.
        """
        entry = self._entries.get(name)
        if entry is not None:
            return entry.model
        model = self._on_demand.get(name)
        if model is not None:
            self._on_demand.move_to_end(name)
            return model
        return self._demand(name)

    def tuned(self, model: Model, reliability: RecipeReliability) -> Model:
        """`model` for the calls of a recipe that has settings of its own."""
        name = model.profile.name
        kept = self._tuned.get((name, reliability))
        if kept is not None and kept[0] is model:
            return kept[1]
        entry = self._entries.get(name)
        connection = entry.connection if entry else self._connections.get(name.partition("/")[0])
        if connection is None:  # it was removed a moment ago; the run goes on with what it has
            return model
        made = self._model(name, connection, model.profile.model, entry.config if entry else None, reliability)
        if len(self._tuned) >= _ON_DEMAND:
            self._tuned.clear()
        self._tuned[name, reliability] = (model, made)
        return made

    def models(self) -> tuple[Model, ...]:
        """All with an alias, in the configuration's order, and the known models of mock and replay providers without any."""
        return tuple(entry.model for entry in self._entries.values())

    def providers(self) -> tuple[Connection, ...]:
        return tuple(self._connections.values())

    def provider(self, name: str) -> Connection:
        """The provider `name`.

        Raises:
            NotFound: there is none.
        """
        connection = self._connections.get(name)
        if connection is None:
            hint = close_to(name, self._connections) or f"; known: {listed(self._connections) or 'none'}"
            raise NotFound(f"there is no provider {name!r}{hint}", param="provider")
        return connection

    def add(self, name: str, provider: LLMProvider | Provider, *, names: AbstractResolver | None = None) -> Connection:
        """Register a provider at run time. Its models are named `name/model`; `names` looks its host's name up.

        Raises:
            ConflictError: the name is taken.
            ConfigError: the provider cannot be made.
        """
        if name in self._connections:
            raise ConflictError(f"there is a provider {name!r} already; remove it first, or choose another name", param="name")
        if isinstance(provider, LLMProvider):
            connection = self._connect(name, provider, dynamic=True, names=names)
        else:
            connection = Connection(name, provider, None, dynamic=True)
        self._connections[name] = connection
        self._entries.update(self._unnamed(connection))
        return connection

    def remove(self, name: str) -> None:
        """Remove a provider and its models; calls under way go on.

        Raises:
            NotFound: there is none.
        """
        gone = self.provider(name)
        del self._connections[name]
        self._forget((gone,))

    def apply(self, spec: QuorumSpec) -> None:
        """Put `spec` in force. What did not change stays the same object; dynamic providers stay, unless `spec` has their name.

        Raises:
            ConfigError: a provider cannot be made; nothing has changed then.
        """
        for alias, model in spec.models.items():
            if model.provider not in spec.providers:
                fault = f"models.{alias}.provider: {model.provider!r} is not a provider"
                raise ConfigError("the configuration has 1 fault", faults=(fault,))
        configured = self._connected(spec)
        dynamic = {name: c for name, c in self._connections.items() if c.dynamic and name not in spec.providers}
        gone = [c for name, c in self._connections.items() if name not in dynamic and configured.get(name) is not c]
        self._connections = configured | dynamic
        if spec.reliability != self._reliability:
            self._reliability = spec.reliability
            self._entries = {}
            self._on_demand.clear()
        self._entries = self._listed(spec)
        self._forget(gone)

    async def check(self, name: str) -> Availability:
        """Whether the provider `name` can be reached and takes the credential.

        Raises:
            NotFound: there is none.
        """
        return await self._checked(self.provider(name))

    async def check_all(self) -> tuple[Availability, ...]:
        """The same for all providers at once."""
        return tuple(await asyncio.gather(*map(self._checked, self._connections.values())))

    async def aclose(self) -> None:
        """Close all providers, replaced ones too."""
        for _, timer in self._retired.values():
            if timer is not None:
                timer.cancel()
        providers = [provider for provider, _ in self._retired.values()]
        providers += [connection.provider for connection in self._connections.values()]
        self._retired.clear()
        self._connections.clear()
        self._entries.clear()
        self._on_demand.clear()
        await asyncio.gather(*(provider.aclose() for provider in providers), *self._closing)

    async def _checked(self, connection: Connection) -> Availability:
        try:
            async with asyncio.timeout(self._check_s):
                return await connection.provider.check()
        except TimeoutError:
            error = f"provider {connection.name!r}: no answer within {self._check_s:g} s"
            return Availability(connection.name, available=False, error=error)

    def _demand(self, name: str) -> Model:
        provider, slash, model = name.partition("/")
        if not slash or not model or provider not in self._connections:
            raise NotFound(f"there is no model {name!r}{self._hint(name)}", param="model")
        if len(model) > _MODEL_NAME_LIMIT or not model.isprintable():
            raise InvalidRequest(f"a model's name is at most {_MODEL_NAME_LIMIT} printable characters", param="model")
        made = self._model(name, self._connections[provider], model, None)
        self._on_demand[name] = made
        if len(self._on_demand) > _ON_DEMAND:
            self._on_demand.popitem(last=False)
        return made

    def _hint(self, name: str) -> str:
        known = [*self._entries, *(f"{provider}/..." for provider in self._connections)]
        return close_to(name[:_MODEL_NAME_LIMIT], self._entries) or f"; known: {listed(known) or 'none'}"

    def _connect(self, name: str, config: LLMProvider, *, dynamic: bool, names: AbstractResolver | None = None) -> Connection:
        provider = self._make(name, config, names)
        return Connection(name, provider, config, dynamic, known_profiles(name, config))

    def _connected(self, spec: QuorumSpec) -> dict[str, Connection]:
        """The configured connections of `spec`: the same objects as now where nothing changed."""
        connections: dict[str, Connection] = {}
        fresh: list[Connection] = []
        try:
            for name, config in spec.providers.items():
                now = self._connections.get(name)
                if now is None or now.dynamic or now.config != config:
                    now = self._connect(name, config, dynamic=False)
                    fresh.append(now)
                connections[name] = now
        except BaseException:
            for connection in fresh:
                self._retire(connection.provider, 0.0)
            raise
        return connections

    def _listed(self, spec: QuorumSpec) -> dict[str, _Entry]:
        configured_models(self._names(spec))
        entries: dict[str, _Entry] = {}
        for alias, config in spec.models.items():
            connection = self._connections[config.provider]
            before = self._entries.get(alias)
            if before is not None and before.connection is connection and before.config == config:
                entries[alias] = before
            else:
                entries[alias] = _Entry(self._model(alias, connection, config.model, config), connection, config)
        named = {config.provider for config in spec.models.values()}
        for connection in self._connections.values():
            if connection.name not in named:
                entries.update({alias: e for alias, e in self._unnamed(connection).items() if alias not in entries})
        return entries

    def _names(self, spec: QuorumSpec) -> Iterator[str]:
        """What the models of `spec` are called, in requests and by their providers."""
        for alias, model in spec.models.items():
            yield alias
            yield f"{model.provider}/{model.model}"
        for connection in self._connections.values():
            for known in connection.known:
                yield f"{connection.name}/{known}"

    def _unnamed(self, connection: Connection) -> dict[str, _Entry]:
        entries: dict[str, _Entry] = {}
        for model in connection.known:
            alias = f"{connection.name}/{model}"
            before = self._entries.get(alias)
            same = before is not None and before.connection is connection and before.config is None
            entries[alias] = (
                before if before and same else _Entry(self._model(alias, connection, model, None), connection, None)
            )
        return entries

    def _model(
        self,
        alias: str,
        connection: Connection,
        model: str,
        config: ModelConfig | None,
        recipe: RecipeReliability = RecipeReliability(),  # noqa: B008 (frozen)
    ) -> Model:
        known = connection.known.get(model)
        if known is None and connection.config is not None:
            known = default_profile(connection.name, connection.config, model)
        profile = profile_of(alias, known or ModelProfile(alias, connection.name, model), connection.config, config)
        settings = call_config(self._reliability, connection.config, config, recipe)
        if config is None and model not in connection.known:
            settings = replace(settings, on_demand=True)
        embedding = embedding_call(connection.provider)
        return Model(
            profile,
            fitted(profile, self._wrap(profile, settings, plainly(profile, connection.provider.stream))),
            self._wrap(profile, settings, embedding) if embedding else None,
        )

    def _forget(self, gone: Sequence[Connection]) -> None:
        names = {connection.name for connection in gone}
        if not names:
            return
        self._entries = {alias: e for alias, e in self._entries.items() if e.connection.name in self._connections}
        for name in [name for name in self._on_demand if name.partition("/")[0] in names]:
            del self._on_demand[name]
        for connection in gone:
            self._retire(connection.provider, self._retire_s)

    def _retire(self, provider: Provider, after_s: float) -> None:
        try:
            timer = asyncio.get_running_loop().call_later(after_s, self._close, provider)
        except RuntimeError:  # no event loop runs, so nothing can be open yet
            timer = None
        self._retired[id(provider)] = (provider, timer)

    def _close(self, provider: Provider) -> None:
        self._retired.pop(id(provider), None)
        task = asyncio.ensure_future(provider.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
