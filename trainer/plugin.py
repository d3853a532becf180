"""Plugins: models that no document can say, in modules that an operator installs on the workers.

FITSERVE_PLUGINS names them, apart by commas: a module that can be imported, or a folder (with a `/` in it) of
which every file is one. `python -m trainer.plugin` describes them as JSON; a worker tells the API by it.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable
from weakref import WeakKeyDictionary

from pydantic import BaseModel

from trainer.callback import CallbackState

if TYPE_CHECKING:
    import keras

VARIABLE = "FITSERVE_PLUGINS"
PACKAGE = "fitserve_plugins"


class Plugin(Protocol):
    """A plugin's module. Its classes are registered with Keras (`register_keras_serializable`)."""

    NAME: str
    """By which a spec asks for it."""
    Arguments: type[BaseModel]
    """What `build` takes, with descriptions and bounds; shown by the API, which refuses what doesn't fit."""

    @staticmethod
    def build(**arguments: Any) -> keras.Model:
        """Return the model; one that is compiled here is fitted as it is, whatever `compile` says."""


class HasDtypes(Protocol):
    """What a plugin's module has besides if an input is not of float32."""

    INPUT_DTYPES: Mapping[str, str]
    """Dtypes of inputs by name."""


class HasStep(Protocol):
    """What a plugin's module has besides if it brings a training step of its own, without subclassing.

    The loop around it is the trainer's: progress, checkpoints, cancel.
    """

    @staticmethod
    def step(model: keras.Model, data: Any) -> Mapping[str, Any]:  # noqa: ANN401  # a batch, as `train_step` gets it
        """Train on one batch, and return the metrics; traced like `train_step`."""


@runtime_checkable
class HasCallbacks(Protocol):
    """What a plugin's module has besides if its models are trained with callbacks of its own.

    They come before those of the spec. One that remembers something has `state()`, which returns JSON values,
    and `restore(state)`, which is called after `on_train_begin` of an attempt that goes on.
    """

    @staticmethod
    def callbacks(model: keras.Model) -> Sequence[keras.callbacks.Callback]:
        """Return new callbacks for one attempt to train this model."""


class OwnState:
    """Keeps the state of a plugin's callback by the callback's own methods."""

    @staticmethod
    def state(callback: Any) -> CallbackState:  # noqa: ANN401  # of the plugin's own class
        """Return what it says of itself; nothing if it can't."""
        return CallbackState(callback.state()) if hasattr(callback, "state") else CallbackState()

    @staticmethod
    def restore(callback: Any, state: CallbackState) -> None:  # noqa: ANN401
        """Give it back what it said."""
        if hasattr(callback, "restore"):
            callback.restore(dict(state.values))


# Which plugin built a model: Keras keeps no such record.
_BUILDERS: WeakKeyDictionary[Any, Plugin] = WeakKeyDictionary()


def built(model: keras.Model, plugin: Plugin) -> None:
    """Remember by which plugin the model was built."""
    _BUILDERS[model] = plugin


def callbacks_of(model: keras.Model) -> Sequence[keras.callbacks.Callback]:
    """Return new callbacks of the plugin that built the model, if one did and brings some."""
    plugin = _BUILDERS.get(model)
    return plugin.callbacks(model) if isinstance(plugin, HasCallbacks) else ()


@cache
def plugins() -> dict[str, Plugin]:
    """Return every plugin by its name.

    Raises:
        ImportError: one can't be imported, or isn't one; the message says which and why.
    """
    found: dict[str, Plugin] = {}
    for module in _modules(os.environ.get(VARIABLE, "")):
        missing = [name for name in ("NAME", "Arguments", "build") if not hasattr(module, name)]
        if missing:
            raise ImportError(f"plugin {module.__name__} declares no {', '.join(missing)}")
        plugin = cast("Plugin", module)
        if plugin.NAME in found:
            raise ImportError(f"two plugins are called {plugin.NAME!r}")
        found[plugin.NAME] = plugin
    return found


def described() -> dict[str, Any]:
    """Describe every plugin: what it is, and the JSON schema of its arguments."""
    return {
        name: {
            "description": inspect.cleandoc(cast("ModuleType", plugin).__doc__ or ""),
            "schema": plugin.Arguments.model_json_schema(),
        }
        for name, plugin in plugins().items()
    }


def _modules(listed: str) -> Iterator[ModuleType]:
    for item in filter(None, (part.strip() for part in listed.split(","))):
        try:
            if "/" not in item:
                yield importlib.import_module(item)
                continue
            for file in _files(Path(item)):
                yield _from_file(file)
        except Exception as error:
            raise ImportError(f"{VARIABLE}: {item} can't be loaded: {error}") from error


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ImportError("there is no such folder")
    return sorted(folder.glob("[!_]*.py"))


def _from_file(file: Path) -> ModuleType:
    name = f"{PACKAGE}.{file.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.stdout.write(json.dumps(described()))
