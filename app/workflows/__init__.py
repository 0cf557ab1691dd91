"""Workflows: declared graphs of steps, checked before anything runs, and what runs them."""
