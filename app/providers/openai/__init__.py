"""The OpenAI chat completions dialect, spoken by OpenAI and by everyone who is compatible with it."""

from app.providers.openai.dialect import OpenAIDialect, openai_provider

__all__ = ["OpenAIDialect", "openai_provider"]
