"""Conversations that are kept: what was said before, and what is said in a run that takes its turn."""
