"""Orchestrations as tools: a question is asked several times, and what comes back says how far the answers agree."""
