"""One thread for the linear algebra of a fit: the systems are small, and a fit must not take the cores that serve."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib import import_module


def one_thread() -> AbstractContextManager[object]:
    """Within it, numpy's and scipy's libraries use one thread. Enter it once numpy is imported."""
    import_module("numpy")
    return import_module("threadpoolctl").threadpool_limits(1)
