"""The mock personas over HTTP, in the dialects of OpenAI, Anthropic and Gemini."""

from app.providers.mock.server.app import create_mock_app

__all__ = ["create_mock_app"]
