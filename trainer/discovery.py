"""Finding implementations: every module of a plural folder that names itself is one."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def discover(package: str, name: str, *required: str) -> dict[str, ModuleType]:
    """Import the modules of `package` and key them by their attribute `name` (KIND, NAME).

    Raises:
        TypeError: a module lacks `name` or one of the `required` attributes, or a name is taken twice.
    """
    found: dict[str, ModuleType] = {}
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        module = importlib.import_module(f"{package}.{info.name}")
        missing = [attribute for attribute in (name, *required) if not hasattr(module, attribute)]
        if missing:
            raise TypeError(f"{module.__name__} declares no {', '.join(missing)}")
        key = getattr(module, name)
        if key in found:
            raise TypeError(f"{module.__name__} and {found[key].__name__} are both called {key!r}")
        found[key] = module
    return found
