"""From a provider's configuration to the provider, and to what is known of its models. Each kind is imported when used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, assert_never

from app.config.explaining import close_to, listed
from app.config.loading import MemberFault
from app.config.spec import LLMProvider
from app.core.errors import ConfigError
from app.core.models import Capabilities, ModelProfile
from app.providers.base import Provider

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver


def make_provider(name: str, config: LLMProvider, names: AbstractResolver | None = None) -> Provider:
    """The provider that `config` describes. Must be called inside a running event loop.

    Parameters:
        names: looks its host's name up; with it, proxies are left aside.

    Raises:
        ConfigError: `config` lacks what its kind needs, or has options that its kind does not know.
    """
    match config.kind:
        case "openai" | "openai_compatible":
            from app.providers.openai import openai_provider

            return openai_provider(name, config, names=names)
        case "anthropic":
            from app.providers.anthropic import anthropic_provider

            return anthropic_provider(name, config, names=names)
        case "gemini":
            from app.providers.gemini import gemini_provider

            return gemini_provider(name, config, names=names)
        case "mock":
            from app.providers.mock import mock_provider

            return mock_provider(name, config)
        case "replay":
            from app.providers.replay import replay_provider

            return replay_provider(name, config)
        case _:
            assert_never(config.kind)


def known_profiles(name: str, config: LLMProvider) -> Mapping[str, ModelProfile]:
    """The models that a provider is known to have without asking: a mock provider's personas, those of a replayed file.

    Raises:
        ConfigError: an option is wrong, or the file cannot be read.
    """
    match config.kind:
        case "mock":
            from app.providers.mock.options import cast_of
            from app.providers.mock.personas import mock_profiles

            found = mock_profiles(name, cast_of(name, config.options).personas)
        case "replay":
            from app.providers.recording import read_recording
            from app.providers.replay import ReplayOptions, replay_profiles

            options = ReplayOptions.model_validate(config.options)
            found = replay_profiles(name, read_recording(options.file, options.fields))
        case _:
            found = ()
    return {profile.model: profile for profile in found}


def default_profile(name: str, config: LLMProvider, model: str) -> ModelProfile:
    """What is assumed of any other model: what its vendor's models can do."""
    return ModelProfile(model, name, model, _capabilities(config))


def _capabilities(config: LLMProvider) -> Capabilities:
    match config.kind:
        case "openai" | "openai_compatible":
            from app.providers.vendors import vendor_of

            return vendor_of(config.kind, config.vendor).capabilities
        case "anthropic":
            from app.providers.anthropic import ANTHROPIC_CAPABILITIES

            return ANTHROPIC_CAPABILITIES
        case "gemini":
            from app.providers.gemini import GEMINI_CAPABILITIES

            return GEMINI_CAPABILITIES
        case "mock" | "replay":
            return Capabilities()
        case _:
            assert_never(config.kind)


def provider_faults(config: LLMProvider) -> list[MemberFault]:
    """What is wrong with `config` beyond its shape: vendors that nobody knows, addresses and options that are missing."""
    if config.kind == "openai_compatible" and config.vendor is not None:
        from app.providers.vendors import VENDORS

        row = VENDORS.get(config.vendor)
        if row is None:
            hint = (
                close_to(config.vendor, VENDORS) or f"; known here: {listed(VENDORS, most=40)}; for another set base_url alone"
            )
            return [(("vendor",), f"{config.vendor!r} is not a vendor{hint}")]
        if row.base_url is None and config.base_url is None:
            return [((), f"{config.vendor!r} has an address for each customer; set 'base_url'")]
    elif config.vendor is not None:
        return [(("vendor",), f"goes with openai_compatible alone, not with {config.kind}")]
    try:
        _check_options(config)
    except ConfigError as error:
        return [(("options",), fault) for fault in error.faults or (error.message,)]
    return []


def _check_options(config: LLMProvider) -> None:
    match config.kind:
        case "mock":
            known_profiles("", config)
        case "replay":
            make_provider("", config)
        case _:
            if config.options:
                raise ConfigError(f"mean nothing to a provider of kind {config.kind!r}; leave them out")
