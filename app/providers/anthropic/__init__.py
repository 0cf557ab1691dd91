"""The Anthropic Messages API (version 2023-06-01)."""

from app.providers.anthropic.dialect import ANTHROPIC_CAPABILITIES, AnthropicDialect, anthropic_provider

__all__ = ["ANTHROPIC_CAPABILITIES", "AnthropicDialect", "anthropic_provider"]
