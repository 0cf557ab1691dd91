"""What a provider of kind `mock` may be configured with, and the personas that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.core.errors import ConfigError
from app.providers.mock.faults import KnobError, Knobs, knobs_of
from app.providers.mock.personas import DEFAULT_PERSONAS, Persona


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StyleOptions(_Strict):
    """Templates; what is left out stays as it is."""

    fact: str | None = None
    prose: str | None = None
    merged: str | None = None
    tool: str | None = None
    seen: str | None = None
    thought: str | None = None
    refusal: str | None = None


class PersonaOptions(_Strict):
    """A persona in the configuration. `like` names the persona it starts from; what is left out stays as it is there."""

    like: str | None = None
    family: str | None = None
    style: StyleOptions | None = None
    accuracy: float | None = Field(default=None, ge=0, le=1)
    latency_ms: float | None = Field(default=None, ge=0)
    chunk_ms: float | None = Field(default=None, ge=0)
    chunk_chars: int | None = Field(default=None, ge=1)
    input_per_mtok: float | None = Field(default=None, ge=0)
    output_per_mtok: float | None = Field(default=None, ge=0)
    context_window: int | None = Field(default=None, ge=1)
    max_output_tokens: int | None = Field(default=None, ge=1)
    tools: bool | None = None
    images: bool | None = None
    documents: bool | None = None
    reasoning: bool | None = None
    refuses: tuple[str, ...] | None = None
    script: tuple[dict[str, str | int | float], ...] | None = None
    tags: tuple[str, ...] | None = None


PersonaName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class MockOptions(_Strict):
    """`LLMProvider.options` of kind `mock`.

    `personas` adds to the built-in ones or changes them, `defaults: false` leaves the built-in ones out; `latency_scale`
    multiplies the personas' times (0: at once); `script` is followed call by call, whichever model is called.
    """

    personas: dict[PersonaName, PersonaOptions] = Field(default_factory=dict[str, PersonaOptions])
    defaults: bool = True
    latency_scale: float = Field(default=1.0, ge=0, le=1_000)
    script: tuple[dict[str, str | int | float], ...] = ()


@dataclass(frozen=True, slots=True)
class Cast:
    """The personas of one provider, and what applies to all of them."""

    personas: Mapping[str, Persona] = field(default_factory=lambda: DEFAULT_PERSONAS)
    latency_scale: float = 1.0
    script: tuple[Knobs, ...] = ()


def cast_of(provider: str, options: Mapping[str, Any]) -> Cast:
    """The personas that a provider's `options` describe.

    Raises:
        ConfigError: an option is unknown or has a value it cannot have; every fault is named.
    """
    try:
        parsed = MockOptions.model_validate(options)
        personas = dict(DEFAULT_PERSONAS) if parsed.defaults else {}
        for name, given in parsed.personas.items():
            personas[name] = _persona(name, given, personas)
        cast = Cast(personas, parsed.latency_scale, tuple(map(knobs_of, parsed.script)))
    except ValidationError as error:
        faults = tuple(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
    except KnobError as error:
        faults = (str(error),)
    else:
        if personas:
            return cast
        faults = ("personas: none; define one, or leave defaults on",)
    raise ConfigError(f"provider {provider!r}: options: {'; '.join(faults)}", faults=faults)


def _persona(name: str, given: PersonaOptions, known: Mapping[str, Persona]) -> Persona:
    bases = {**DEFAULT_PERSONAS, **known}
    if given.like is not None and given.like not in bases:
        raise KnobError(f"personas.{name}.like: no persona {given.like!r}; there are {', '.join(bases)}")
    base = bases[given.like] if given.like else known.get(name, Persona(name))
    changes = given.model_dump(exclude_none=True, exclude={"like", "style", "script"})
    style = replace(base.style, **given.style.model_dump(exclude_none=True)) if given.style else base.style
    script = base.script if given.script is None else tuple(map(knobs_of, given.script))
    return replace(base, name=name, style=style, script=script, **changes)
