"""The Gemini dialect: `generateContent` and `streamGenerateContent` of AI Studio and Vertex AI."""

from app.providers.gemini.dialect import GEMINI_CAPABILITIES, GeminiDialect, gemini_provider

__all__ = ["GEMINI_CAPABILITIES", "GeminiDialect", "gemini_provider"]
