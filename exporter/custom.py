"""Classes of a model that aren't Keras's own: where another process finds them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

_KERAS = "keras"


def modules_of(model: keras.Model) -> list[dict[str, str]]:
    """Return the modules, by name and file, that define the classes of the model and of its layers."""
    classes = {type(layer) for layer in [model, *model._flatten_layers()]}
    names = {each.__module__ for each in classes if each.__module__.partition(".")[0] != _KERAS}
    files = {name: getattr(sys.modules.get(name), "__file__", None) for name in sorted(names)}
    return [{"name": name, "file": file} for name, file in files.items() if file is not None]


def import_modules(modules: Sequence[Mapping[str, str]]) -> None:
    """Import what `modules_of` found, whose classes register themselves with Keras.

    A module that isn't on the path, as one of a folder of plugins, is read from its file.
    """
    for module in modules:
        name = module["name"]
        if name in sys.modules:
            continue
        try:
            importlib.import_module(name)
        except ImportError:
            spec = importlib.util.spec_from_file_location(name, module["file"])
            assert spec is not None
            assert spec.loader is not None
            made = importlib.util.module_from_spec(spec)
            sys.modules[name] = made
            spec.loader.exec_module(made)
