"""Optimizer, loss and metrics by Keras's names, and how they come together in `model.compile`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from trainer.catalog import catalog
from trainer.errors import SpecUnbuildableError
from trainer.forms import Count, Fault, Flag, Loc, Number, SpecModel, invalid, one_message
from trainer.objects import completed, name_faults, object_faults, size_faults

if TYPE_CHECKING:
    import keras

# A name, or Keras's serialized object; where a model has several outputs, a list or mapping of them.
Named = str | dict[str, Any]


def _named(section: str, *, nested: bool = False, optional: bool = False) -> BeforeValidator:
    """Check a name or object of `section`; with `nested`, also lists and mappings of them by output name."""

    def faults(value: Any, at: Loc, walk: Callable[..., list[Fault]]) -> list[Fault]:  # noqa: ANN401
        if isinstance(value, str):
            return list(name_faults(value, section, at))
        if nested and isinstance(value, (list, tuple)):
            return [fault for i, child in enumerate(value) for fault in walk(child, (*at, i), walk)]
        if nested and isinstance(value, Mapping) and "class_name" not in value:
            return [fault for key, child in value.items() for fault in walk(child, (*at, key), walk)]
        if nested and value is None and at:
            return []
        return list(object_faults(value, section, at=at))

    def validate(value: Any) -> Any:  # noqa: ANN401
        if value is None and optional:
            return value
        found = size_faults(value) or faults(value, (), faults)
        if found:
            raise invalid(section, found, value)
        return value

    return BeforeValidator(validate)


class CompileOptions(SpecModel):
    """Keras's `compile`; `jit_compile: auto` is XLA where it pays, so not on a CPU.

    Where the spec names a seed it is off: TensorFlow's determinism and XLA exclude each other.

    `steps_per_execution: auto` is 1 in the first epoch and then what pays, measured, or by the model's size
    where the spec names a seed. `loss` may be missing where a plugin has its own.
    """

    optimizer: Annotated[Named, _named("optimizers")] = "rmsprop"
    loss: Annotated[Named | list[Any] | None, _named("losses", nested=True, optional=True)] = None
    loss_weights: Annotated[
        Number | list[Number] | dict[str, Number] | None,
        one_message("expected a number, a list of numbers, or an object from output names to numbers"),
    ] = None
    metrics: Annotated[list[Any] | dict[str, Any], _named("metrics", nested=True)] = Field(
        default_factory=list
    )
    weighted_metrics: Annotated[list[Any] | dict[str, Any], _named("metrics", nested=True)] = Field(
        default_factory=list
    )
    jit_compile: Annotated[Flag | Literal["auto"], one_message('expected true, false or "auto"')] = "auto"
    run_eagerly: Flag = False
    steps_per_execution: Annotated[
        Annotated[Count, Field(le=10_000)] | Literal["auto"], one_message('expected a number or "auto"')
    ] = "auto"

    @property
    def schedules_rate(self) -> bool:
        """Whether the optimizer's learning rate is a schedule, and so nobody else's to set."""
        return isinstance(self._optimizer_config.get("learning_rate"), Mapping)

    @property
    def averages_weights(self) -> bool:
        """Whether the optimizer keeps a moving average of the weights."""
        return bool(self._optimizer_config.get("use_ema"))

    @property
    def _optimizer_config(self) -> Mapping[str, Any]:
        return {} if isinstance(self.optimizer, str) else self.optimizer.get("config") or {}


def losses_by_output(options: CompileOptions, outputs: Sequence[str]) -> dict[str, tuple[str, bool]]:
    """Return each output's loss by name, as Keras or the spec calls it, and whether it takes logits."""
    given = options.loss
    if isinstance(given, Mapping) and "class_name" not in given:
        each = [given.get(name) for name in outputs]
    elif isinstance(given, list):
        each = list(given)
    else:
        each = [given] * len(outputs)
    return {name: _loss(loss) for name, loss in zip(outputs, each, strict=True)}


def _loss(loss: Named | None) -> tuple[str, bool]:
    if isinstance(loss, Mapping):
        return loss["class_name"], bool((loss.get("config") or {}).get("from_logits"))
    return catalog().aliases["losses"].get(loss or "", loss or ""), False


def optimizer_of(options: CompileOptions) -> keras.optimizers.Optimizer:
    """Make the optimizer.

    Raises:
        SpecUnbuildableError: an argument has a value Keras refuses.
    """
    import keras

    try:
        return _made(options.optimizer, "optimizers", keras.optimizers.get)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise SpecUnbuildableError(str(error), location={"pointer": "/compile/optimizer"}) from error


def compile_errors(options: CompileOptions) -> list[SpecUnbuildableError]:
    """Return what Keras refuses of the optimizer, each loss and each metric, every one of them."""
    import keras

    found = []
    try:
        optimizer_of(options)
    except SpecUnbuildableError as error:
        found.append(error)
    named = {
        "loss": ("losses", keras.losses.get),
        "metrics": ("metrics", keras.metrics.get),
        "weighted_metrics": ("metrics", keras.metrics.get),
    }
    for field, (section, get) in named.items():
        for pointer, value in _leaves(getattr(options, field), f"/compile/{field}"):
            try:
                _made(value, section, get)
            except (ValueError, TypeError, NotImplementedError) as error:
                found.append(SpecUnbuildableError(str(error), location={"pointer": pointer}))
    return found


def _leaves(value: Any, pointer: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401  # nested as specs nest
    if isinstance(value, (list, tuple)):
        for index, child in enumerate(value):
            yield from _leaves(child, f"{pointer}/{index}")
    elif isinstance(value, Mapping) and "class_name" not in value:
        for key, child in value.items():
            yield from _leaves(child, f"{pointer}/{key}")
    elif value is not None:
        yield pointer, value


def compile_model(model: keras.Model, options: CompileOptions) -> None:
    """Compile `model` as asked.

    Raises:
        SpecUnbuildableError: an argument has a value Keras refuses.
    """
    import tensorflow as tf

    jit: bool | str = options.jit_compile
    if jit == "auto" and not tf.config.list_physical_devices("GPU"):
        # Measured on a small MLP on a CPU: XLA is four times slower.
        jit = False
    optimizer = optimizer_of(options)
    pointer = "/compile/loss"
    try:
        loss = _each(options.loss, "losses")
        pointer = "/compile/metrics"
        metrics = _each(options.metrics, "metrics")
        pointer = "/compile/weighted_metrics"
        weighted_metrics = _each(options.weighted_metrics, "metrics")
        pointer = "/compile"
        model.compile(
            optimizer=optimizer,
            loss=loss,
            loss_weights=options.loss_weights,
            metrics=metrics,
            weighted_metrics=weighted_metrics or None,
            jit_compile=jit,
            run_eagerly=options.run_eagerly,
        )
    except (ValueError, TypeError, NotImplementedError) as error:
        raise SpecUnbuildableError(str(error), location={"pointer": pointer}) from error


def _each(value: Any, section: str) -> Any:  # noqa: ANN401  # nested as the spec nests them
    if isinstance(value, (list, tuple)):
        return [_each(child, section) for child in value]
    if isinstance(value, Mapping) and "class_name" not in value:
        return {key: _each(child, section) for key, child in value.items()}
    # Strings stay strings: Keras names losses and metrics in the logs as the user wrote them.
    return _made(value, section, lambda name: name)


def _made(value: Named | None, section: str, named: Callable[[str | None], Any]) -> Any:  # noqa: ANN401
    """Make an object; what is called by a name that Keras knows is left to `named`."""
    import keras

    full = completed(value, section)
    # The sections' own `get` and `deserialize` know fewer classes than Keras exports: no Lamb (3.15).
    return keras.saving.deserialize_keras_object(full) if isinstance(full, Mapping) else named(full)
