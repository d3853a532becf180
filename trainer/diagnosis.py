"""Whether the input or the device limits a training, measured while it runs, and what to do about it.

The law: a step that reads and then computes takes t_input + t_compute; one that reads ahead takes
max(t_input, t_compute). Where t_input is the larger the device waits, and only cheaper input helps.

tf.data measures itself, as its own tuning needs it: how long each stage works on a batch, and how long the
consumer is away between two batches (`gap_times`, the last hundred). The time of a step beyond its gap is
spent waiting. Asking for these figures costs a tenth of a millisecond, and is done every hundred steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from trainer.environment import cpus

if TYPE_CHECKING:
    import keras

INPUT_BOUND, COMPUTE_BOUND = "input-bound", "compute-bound"
ORDER, READ, PREPARE, AUGMENT = "order", "read", "prepare", "augment"
"""The stages of a pipeline."""
WAITING = 0.1
"""A larger share of a step spent waiting makes a job input-bound."""
ENOUGH_STEPS = 20
TELL_EVERY_S = 5.0
MOST_COST = 0.005
"""Of the time that passes, no larger share is spent on measuring."""
_GAPS = 100  # TensorFlow keeps so many
_MARK_S = 2e-7  # what it costs to note a time


@dataclass(frozen=True)
class Stage:
    """A stage of the pipeline: the milliseconds it works on a batch, and on how many batches at a time."""

    name: str
    ms: float
    parallelism: int


@dataclass(frozen=True)
class Setup:
    """What advice depends on: where rows are kept, batch size, augmentation, and whether a seed is set."""

    kept: str
    batch_size: int
    augments: bool
    seeded: bool = False


class Meter:
    """Measures the steps of a run, through all of its fits."""

    def __init__(self, stages: Sequence[str], setup: Setup) -> None:
        """`stages` names the parallel stages of the pipeline, in the order in which a batch passes them."""
        self._names, self._setup = tuple(stages), setup
        self._iterator: Any = None
        self._mark: tuple[float, int] | None = None
        self._pending_s, self._pending_steps, self._epochs = 0.0, 0, 0
        self._began = time.perf_counter()
        self._steps, self._elapsed_s, self._away_s, self._spent_s = 0, 0.0, 0.0, 0.0
        self._stages: tuple[Stage, ...] = ()
        self._told_at = -math.inf

    def attach(self, model: keras.Model) -> None:
        """Note the iterator that Keras gives to each call of a fit that begins: nothing else tells it."""
        from tensorflow.core.framework import model_pb2  # noqa: F401 - which get_model_proto would import

        function = model.train_function

        def noting(iterator: Any) -> Any:  # noqa: ANN401 - Keras's own signature
            self._iterator = iterator
            return function(iterator)

        self._iterator, self._mark = None, None
        self._function, model.train_function = function, noting

    def detach(self, model: keras.Model) -> None:
        """Measure what is left of a fit that ends, and leave the model as it was."""
        self._read()
        model.train_function = self._function
        self._iterator = None

    def begin(self, step: int) -> None:
        """A call begins with this step of its epoch, from 0."""
        now = time.perf_counter()
        if step == 0:
            self._mark = None
        if self._mark is not None:
            self._count(now, step)
        if self._iterator is not None:  # else this is the first call of a fit, which traces the model
            self._mark = (now, step)
            if self._pending_steps >= _GAPS - 10:
                self._read()
                self._mark = (time.perf_counter(), step)

    def end(self, step: int) -> None:
        """The last call of an epoch ended after so many steps."""
        if self._mark is not None:
            self._count(time.perf_counter(), step)
            self._epochs += 1
        self._mark = None

    def _count(self, now: float, step: int) -> None:
        at, before = self._mark or (now, step)
        self._pending_s += now - at
        self._pending_steps += step - before

    def diagnosis(self, *, last: bool = False) -> dict[str, Any] | None:
        """Say what was found, if there is something to say; not again at once, unless it is the last word."""
        now = time.perf_counter()
        if self._steps < (2 if last else ENOUGH_STEPS) or (not last and now - self._told_at < TELL_EVERY_S):
            return None
        self._told_at = now
        step_ms = 1000 * self._elapsed_s / self._steps
        compute_ms = min(step_ms, 1000 * self._away_s / self._steps)
        found = diagnose(step_ms, compute_ms, self._stages, self._setup)
        spent_ms = 1000 * self._spent_s / self._steps
        measured = {
            "steps": self._steps,
            "own_ms": round(spent_ms, 5),
            "own_share": round(spent_ms / step_ms, 5),
        }
        return {**found, "measured": measured}

    def _read(self) -> None:
        """Add the steps since the last time to the sums, with what tf.data measured meanwhile."""
        began = time.perf_counter()
        steps, spent_s, epochs = self._pending_steps, self._pending_s, self._epochs
        self._pending_s, self._pending_steps, self._epochs = 0.0, 0, 0
        if steps < 2 or self._spent_s > MOST_COST * (began - self._began):
            return
        model = _model_of(self._iterator)
        if model is not None and model.gap_times:
            # An epoch's last gap has its validation and its checkpoint in it; the newest hasn't ended yet.
            gaps = sorted(list(model.gap_times)[-steps:])
            gaps = gaps[: max(1, len(gaps) - epochs)]
            self._steps += steps
            self._elapsed_s += spent_s
            self._away_s += steps * sum(gaps) / len(gaps) / 1e6
            self._stages = _stages_of(model, self._names)
        self._spent_s += time.perf_counter() - began + steps * _MARK_S


def diagnose(step_ms: float, compute_ms: float, stages: Sequence[Stage], setup: Setup) -> dict[str, Any]:
    """Compare what a step takes with what it computes; JSON.

    `input_ms` is the time in which the pipeline makes a batch: that of a step where the device waits for it,
    else what the stages' work allows. `device_use` is t_compute / t_step. `saves_ms` is what following the
    first advice should take off a step, 0 where there is nothing to save.
    """
    waiting_ms = step_ms - compute_ms
    bound = waiting_ms > WAITING * step_ms
    input_ms = step_ms if bound else min(step_ms, _interval(stages))
    advice = (
        _input_advice(step_ms, compute_ms, stages, setup) if bound else _compute_advice(input_ms, compute_ms)
    )
    figures = {
        "step_ms": step_ms,
        "input_ms": input_ms,
        "compute_ms": compute_ms,
        "waiting_ms": waiting_ms,
        "waiting_share": waiting_ms / step_ms,
        "device_use": compute_ms / step_ms,
    }
    return {
        "verdict": INPUT_BOUND if bound else COMPUTE_BOUND,
        **{name: round(value, 4) for name, value in figures.items()},
        "bounds_ms": {
            "sum": round(input_ms + compute_ms, 4),
            "max": round(max(input_ms, compute_ms), 4),
        },
        "stages": [{**asdict(stage), "ms": round(stage.ms, 4)} for stage in stages],
        "saves_ms": round(advice[0].saves_ms, 4),
        "advice": [each.text for each in advice],
    }


@dataclass(frozen=True)
class _Advice:
    text: str
    saves_ms: float = 0.0


def _input_advice(step_ms: float, compute_ms: float, stages: Sequence[Stage], setup: Setup) -> list[_Advice]:
    """Say what would make the input cheaper, the largest saving first."""
    work = sum(stage.ms / stage.parallelism for stage in stages) or 1.0
    shares = {stage.name: stage.ms / stage.parallelism / work for stage in stages}
    said = f"input-bound: {_ms(step_ms)} to make a batch, {_ms(compute_ms)} to compute with it"

    def saved(name: str) -> float:
        return step_ms - max(compute_ms, step_ms * (1 - shares.get(name, 0.0)))

    found = []
    if setup.kept == "unprepared":
        found.append(
            _Advice(
                f"{said}; a cache after map saves {_ms(saved(PREPARE))} a step: "
                'set data.pipeline.cache to "auto", so that rows are prepared once and not in each epoch',
                saved(PREPARE),
            )
        )
    if setup.augments:
        found.append(
            _Advice(
                f"{said}; augmentation is {shares.get(AUGMENT, 0.0):.0%} of it: fewer or cheaper layers in "
                f"data.pipeline.augment save up to {_ms(saved(AUGMENT))} a step; in the model they would run "
                "on its device",
                saved(AUGMENT),
            )
        )
    if setup.kept == "disk":
        found.append(
            _Advice(
                f"{said}; the rows are read from disk in each epoch; kept in memory, as data.pipeline.cache "
                f'"auto" does if a quarter of it holds them (limits.memory_bytes, or the worker\'s host), '
                f"they save up to {_ms(saved(READ))} a step",
                saved(READ),
            )
        )
    cores = cpus()
    if setup.seeded and cores > 1 and set(shares) & {PREPARE, AUGMENT}:
        saves = step_ms - max(compute_ms, step_ms / cores)
        found.append(
            _Advice(
                f"{said}; in a job with a seed TensorFlow makes one batch after the other: without one, "
                f"{cores} at a time would save up to {_ms(saves)} a step",
                saves,
            )
        )
    if not found:
        found.append(
            _Advice(
                f"{said}; the rows are in memory and prepared, so what is left is the cost of handing over "
                f"{setup.batch_size} rows: a larger data.pipeline.batch_size spreads it over more of them"
            )
        )
    return sorted(found, key=lambda advice: -advice.saves_ms)


def _compute_advice(input_ms: float, compute_ms: float) -> list[_Advice]:
    said = f"compute-bound: {_ms(input_ms)} to make a batch, {_ms(compute_ms)} to compute with it"
    return [
        _Advice(
            f"{said}; the input keeps up, so only a faster step helps: a GPU, mixed_float16 as "
            "resources.precision there, a smaller model, or a larger data.pipeline.batch_size if the device "
            "isn't full"
        )
    ]


def _interval(stages: Sequence[Stage]) -> float:
    """Return in how many milliseconds the stages can make a batch, side by side and on all cores."""
    if not stages:
        return 0.0
    slowest = max(stage.ms / stage.parallelism for stage in stages)
    return max(slowest, sum(stage.ms for stage in stages) / cpus())


def _model_of(iterator: Any) -> Any:  # noqa: ANN401 - TensorFlow's iterators and protos carry no types
    """Ask tf.data what it knows of an iterator; a strategy's own iterators tell nothing."""
    import tensorflow as tf
    from tensorflow.python.data.ops.iterator_ops import OwnedIterator

    if not isinstance(iterator, OwnedIterator):
        return None
    return tf.data.experimental.get_model_proto(iterator)


def _stages_of(model: Any, names: Sequence[str]) -> tuple[Stage, ...]:  # noqa: ANN401 - a proto
    """Follow the nodes from the last to the first: parallel maps are the named stages, the rest reads."""
    maps: list[Stage] = []
    rest_ns = 0.0
    batches = max(1, model.nodes[model.output].num_elements)
    waiting, seen = [model.output], set()
    while waiting:
        number = waiting.pop(0)
        if number in seen:
            continue
        seen.add(number)
        node = model.nodes[number]
        waiting += node.inputs
        # In a job with a seed TensorFlow makes it a plain Map: one batch after the other.
        if node.name.startswith(("ParallelMap", "Map")) and len(maps) < len(names):
            values = {each.name: each.value for each in node.parameters}
            parallelism = max(1, int(values.get("parallelism", 1)))
            maps.append(Stage("", node.processing_time / max(1, node.num_elements) / 1e6, parallelism))
        else:
            rest_ns += node.processing_time
    stages = [replace(each, name=name) for name, each in zip(names, reversed(maps), strict=False)]
    rest = Stage(ORDER if READ in names else READ, rest_ns / batches / 1e6, 1)
    return (rest, *stages)


def _ms(value: float) -> str:
    return f"{value:.3g} ms"
