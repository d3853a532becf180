"""What the installed Keras exports, so that a new class can't be forgotten."""

from __future__ import annotations

import importlib
import inspect


def exported(module: str, base: str) -> set[str]:
    """The classes of a public module that are of its base, each by its own name and not by its others."""
    public = importlib.import_module(module)
    found = (value for value in vars(public).values() if inspect.isclass(value))
    return {value.__name__ for value in found if issubclass(value, getattr(public, base))}
