"""The prompts of strategies: one file each under `templates/`, versioned by name, overridable in the configuration.

`templates/synthesis.v2.md` is version 2 of the prompt `synthesis`; the highest version of a name is in force.

A template's placeholders look like `{question}`. What replaces them is put in as it is, once: braces inside a model's answer
mean nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

from app.core.errors import ConfigError, InvalidRequest

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_FILE = re.compile(r"(?P<name>[a-z_]+)\.v(?P<version>[0-9]+)\.md")
_ANALYSIS = "analysis_"
_FITTING = "fit_"
"""Prompts that fit a request to a model: they may be overridden for one family, as `fit_json_schema.llama`."""


class Prompts:
    """The prompts in force.

    Parameters:
        overrides: texts by prompt name, in place of the built-in ones.
        analyses: texts by the name of an analysis: those that the configuration adds, or puts in place of built-in ones.

    Raises:
        ConfigError: an override of no known prompt, or a text without the placeholder that it must have.
    """

    def __init__(self, overrides: Mapping[str, str] | None = None, analyses: Mapping[str, str] | None = None) -> None:
        unknown = [name for name in overrides or () if base_of(name) not in built_in_names()]
        if unknown:
            raise ConfigError(f"prompts: there is no prompt {min(unknown)!r}; there are {', '.join(built_in_names())}")
        self._overrides = dict(overrides or {}) | {_ANALYSIS + name: text for name, text in (analyses or {}).items()}
        for name, text in self._overrides.items():
            word = needed(name)
            if word is not None and f"{{{word}}}" not in text:
                raise ConfigError(f"the prompt {name!r} has no place for the {word}; put {{{word}}} where it belongs")

    def render(self, name: str, *, family: str = "", **values: str) -> str:
        """The prompt `name` with its placeholders filled; the one of `family`, where there is one.

        Raises:
            InvalidRequest: there is no such prompt.
        """
        template = self._overrides.get(f"{name}.{family}", self._overrides.get(name))
        return fill(built_in(name) if template is None else template, values)

    def analyses(self) -> tuple[str, ...]:
        """The analyses there are a prompt for, built in or configured: `factual` is the prompt `analysis_factual`."""
        names = {*built_in_names(), *self._overrides}
        return tuple(sorted(name.removeprefix(_ANALYSIS) for name in names if name.startswith(_ANALYSIS)))

    def render_analysis(self, name: str, **values: str) -> str:
        """The prompt of the analysis `name`, filled.

        Raises:
            InvalidRequest: there is no such analysis.
        """
        return self.render(_ANALYSIS + name, **values)


def base_of(name: str) -> str:
    """The built-in prompt that an override of this name stands in place of, for one family as `fit_json_schema.llama`."""
    return name.partition(".")[0] if name.startswith(_FITTING) else name


def needed(name: str) -> str | None:
    """The placeholder that a text of this name must have; None where it needs none."""
    base = base_of(name)
    if not base.startswith(_FITTING):
        return "answers"
    return {"fit_json_schema": "schema", "fit_system": "system"}.get(base)


def fill(template: str, values: Mapping[str, str]) -> str:
    """`template` with each `{name}` that `values` knows replaced; others stay as they are."""
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), template)


def built_in(name: str) -> str:
    """The text of a built-in prompt.

    Raises:
        InvalidRequest: there is no such prompt.
    """
    texts = _texts()
    if name not in texts:
        raise InvalidRequest(f"there is no prompt {name!r}; there are {', '.join(sorted(texts))}")
    return texts[name]


def built_in_names() -> tuple[str, ...]:
    """The names that `prompts` in the configuration may override."""
    return tuple(sorted(_texts()))


def newest(filenames: Mapping[str, str]) -> dict[str, str]:
    """What is in force of files by their names: prompt name to content, the highest version of each."""
    versions: dict[str, tuple[int, str]] = {}
    for filename, text in filenames.items():
        found = _FILE.fullmatch(filename)
        if found is None:
            continue
        version = int(found["version"])
        if version > versions.get(found["name"], (-1, ""))[0]:
            versions[found["name"]] = (version, text)
    return {name: text for name, (_, text) in versions.items()}


@lru_cache(maxsize=1)
def _texts() -> dict[str, str]:
    entries = (files("app.orchestration") / "templates").iterdir()
    return newest({entry.name: entry.read_text(encoding="utf-8").strip() for entry in entries if entry.name.endswith(".md")})


def placeholders() -> dict[str, frozenset[str]]:
    """The built-in prompts, each with the placeholders that an override may use: `{question}` in all that are about answers."""
    return {
        name: frozenset((*(() if name.startswith(_FITTING) else ("question",)), *_PLACEHOLDER.findall(text)))
        for name, text in _texts().items()
    }
