"""What is known of a model before it is called, gathered from the configuration, the vendor and the price list."""

from __future__ import annotations

import re
from dataclasses import replace

from app.config.spec import CapabilitiesConfig, LLMProvider, ModelConfig
from app.core.models import Capabilities, ModelProfile
from app.providers.pricing import UNLISTED, configured_price, listing

_FAMILIES = (
    ("gpt", "gpt"),
    ("chatgpt", "gpt"),
    ("o1", "gpt"),
    ("o3", "gpt"),
    ("o4", "gpt"),
    ("claude", "claude"),
    ("gemini", "gemini"),
    ("gemma", "gemini"),
    ("llama", "llama"),
    ("meta-llama", "llama"),
    ("mistral", "mistral"),
    ("mixtral", "mistral"),
    ("magistral", "mistral"),
    ("ministral", "mistral"),
    ("codestral", "mistral"),
    ("pixtral", "mistral"),
    ("devstral", "mistral"),
    ("deepseek", "deepseek"),
    ("qwen", "qwen"),
    ("qwq", "qwen"),
    ("grok", "grok"),
    ("kimi", "kimi"),
    ("glm", "glm"),
    ("command", "command"),
    ("sonar", "sonar"),
    ("phi", "phi"),
)
"""The beginning of a model's name, and its line: models of one line tend to err together."""

_WITHOUT_SYSTEM = ("gemma", "o1-mini", "o1-preview")
"""Models that know no system role: Google's "Gemma formatting and system instructions", OpenAI's guide to its first reasoning
models ("beta limitations")."""

_FIRST_WORD = re.compile(r"[a-z]+")


def family_of(model: str) -> str:
    """The family of `model` by its name: vendors' prefixes as in `meta-llama/Llama-3.3-70B` do not count."""
    name = model.rpartition("/")[2].lower()
    for start, family in _FAMILIES:
        if name.startswith(start):
            return family
    word = _FIRST_WORD.match(name)
    return word[0] if word else name


def profile_of(
    alias: str, known: ModelProfile, provider_config: LLMProvider | None, config: ModelConfig | None
) -> ModelProfile:
    """What is known of a model: the configuration's word first, then its persona's or its vendor's, then the price list's."""
    model = known.model
    if model.rpartition("/")[2].lower().startswith(_WITHOUT_SYSTEM):
        known = replace(known, capabilities=replace(known.capabilities, system=False))
    found = UNLISTED if provider_config is None else listing(provider_config, model)
    price, context_window = known.price or found.price, known.context_window or found.context_window
    if config is None:
        return replace(
            known,
            name=alias,
            price=price,
            context_window=context_window,
            family=known.family or family_of(model),
        )
    return replace(
        known,
        name=alias,
        capabilities=_overridden(known.capabilities, config.capabilities),
        price=price if config.price is None else configured_price(config.price),
        family=config.family or known.family or family_of(model),
        context_window=config.context_window or context_window,
        max_output_tokens=config.max_output_tokens or known.max_output_tokens,
        tags=config.tags or known.tags,
        extra_body=config.extra_body or None,
        quality=config.quality,
    )


def _overridden(known: Capabilities, config: CapabilitiesConfig) -> Capabilities:
    given = config.model_dump(exclude_none=True)
    return replace(known, **given) if given else known
