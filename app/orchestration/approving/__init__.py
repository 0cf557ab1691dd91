"""Calls of tools that a person must agree to first."""
