"""Tools: what can be called, under which permissions, and the calling of it."""
