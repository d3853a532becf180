"""The tf.data pipeline behind `fit`: gather, prepare, augment, prefetch; whole batches, never row by row.

The order is always this one: what is the same in each epoch is done once, before rows are shuffled, unless
the spec says `cache: false`; what is random comes after, and is computed from (seed, epoch, step).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field

from trainer.arrays import ArrayFile
from trainer.augmentation import Augmentation, random_layer
from trainer.diagnosis import AUGMENT, PREPARE, READ
from trainer.errors import SpecUnbuildableError
from trainer.forms import Count, Flag, SpecModel, one_message
from trainer.order import Buffer, Order, Run
from trainer.resume import require_same

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

    from trainer.samples import Samples, Splits

# Rows in memory are held as the model takes them up to this size, or their room, else cast batch by batch.
CACHE_LIMIT_BYTES = 1 << 30
UNSHUFFLED_BYTES = 16 << 20
# No input or output of Keras can be called so.
_WEIGHT = "/sample_weight"
Stage: TypeAlias = "tuple[dict[str, tf.Tensor], tf.Tensor]"
"""A batch on its way: tensors by name, and the batch's seed."""


class PipelineOptions(SpecModel):
    """What stands between rows and `fit`; the cache holds prepared rows, before shuffle and augmentation."""

    cache: Annotated[
        Flag | Literal["auto", "memory", "disk"],
        one_message('expected true, false, "auto", "memory" or "disk"'),
    ] = "auto"
    shuffle: Flag = True
    batch_size: Annotated[Count, Field(le=1 << 20)] = 32
    augment: tuple[Annotated[dict[str, Any], AfterValidator(random_layer)], ...] = ()


@dataclass(frozen=True)
class Pipeline:
    """How `rows` training rows come into `fit`: which when, and how altered, all computed from one seed."""

    options: PipelineOptions
    rows: int
    seed: int
    buffer: Buffer | None = None

    @classmethod
    def of(cls, options: PipelineOptions, splits: Splits, seed: int) -> Pipeline:
        """Return the pipeline of these rows."""
        train, buffer = splits.train, None
        if splits.buffer_bytes is not None:
            buffer = Buffer.of(splits.buffer_bytes, train.row_bytes, options.batch_size)
        return cls(options, len(train), seed, buffer)

    @property
    def steps(self) -> int:
        """Batches in a whole epoch; the last may be short."""
        return self.order().steps

    def order(self, epoch: int = 0, step: int = 0) -> Order:
        """Return the order from `step` of `epoch` on, both from 0."""
        options = self.options
        return Order(self.rows, options.batch_size, self.seed, options.shuffle, epoch, step, self.buffer)

    def state(self) -> dict[str, Any]:
        """Return all that decides the batches; the place among them is the checkpoint's epoch and step."""
        return {
            "seed": self.seed,
            "rows": self.rows,
            "batch_size": self.options.batch_size,
            "shuffle": self.options.shuffle,
            "augment": [dict(layer) for layer in self.options.augment],
            "buffer": None if self.buffer is None else asdict(self.buffer),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Accept a checkpoint's pipeline.

        Raises:
            ResumeError: this one would give other batches.
        """
        require_same("data.pipeline", state, self.state())


def stages_of(samples: Samples, options: PipelineOptions) -> tuple[str, ...]:
    """Name the parallel stages of a training's pipeline, in the order in which a batch passes them."""
    waiting = [PREPARE] if samples.unprepared is not None else []
    waiting += [AUGMENT] if options.augment else []
    # Rows on disk are read before any of these; a map that only hands them over is part of reading.
    return tuple(waiting) if samples.stored else (READ, *waiting)


def training_dataset(
    samples: Samples,
    order: Order,
    *,
    dtypes: Mapping[str, str],
    options: PipelineOptions,
    only: Callable[[], int] | None = None,
) -> tf.data.Dataset:
    """Return batches `(features, targets)` in the given order, without end; an epoch has `order.steps`.

    Rows with weights come as `(features, targets, weights)`, those without targets as `(features,)`.

    With `only`, each iteration is the epoch that it names at that moment.

    A single input or target comes as a tensor, several as a mapping by name; features are cast to `dtypes`,
    whole-number targets to int64, others to float32.

    Raises:
        SpecUnbuildableError: there is no image input to augment, or a layer can't be made.
    """
    form = _Form(samples, dtypes)
    stages = [form.prepare] if samples.unprepared is not None else []
    if options.augment:
        stages.append(_augmenting(samples, options.augment))
    if order.buffer is not None:
        return _staged(_buffered(form, order, only), stages, form)
    held = form.held(cast=options.cache is not False)

    def gather(rows: tf.Tensor, length: tf.Tensor, seed: tf.Tensor) -> Stage:
        import tensorflow as tf

        return form.cast({name: tf.gather(tensor, rows[:length]) for name, tensor in held.items()}), seed

    return _staged(order.batches(only), [gather, *stages], form)


def evaluation_dataset(
    samples: Samples, *, dtypes: Mapping[str, str], options: PipelineOptions
) -> tf.data.Dataset:
    """Return the rows once, in their own order and as they are, in batches like those of training."""
    import tensorflow as tf

    form, rows, size = _Form(samples, dtypes), len(samples), options.batch_size
    stages = [form.prepare] if samples.unprepared is not None else []
    if samples.stored:
        buffer = Buffer.of(UNSHUFFLED_BYTES, samples.row_bytes, size)
        order = Order(rows, size, 0, shuffle=False, buffer=buffer)
        return _staged(_buffered(form, order, lambda: 0), stages, form)
    held = form.held(cast=options.cache is not False)

    def cut(start: tf.Tensor) -> Stage:
        return form.cast({name: tensor[start : start + size] for name, tensor in held.items()}), start

    return _staged(tf.data.Dataset.range(0, rows, size), [cut, *stages], form)


def _staged(batches: tf.data.Dataset, stages: Sequence[Callable[..., Stage]], form: _Form) -> tf.data.Dataset:
    """Make the batches ahead of their use, in parallel and still in order, and hand them to Keras."""
    import tensorflow as tf

    def mapped(batches: tf.data.Dataset, function: Callable[..., Any]) -> tf.data.Dataset:
        # There is no Python branch in it to be converted, and looking for one costs a job's start 0.2 s.
        as_written = tf.autograph.experimental.do_not_convert(function)
        return batches.map(as_written, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    *before, last = stages or [lambda tensors, seed: (tensors, seed)]
    for stage in before:
        batches = mapped(batches, stage)
    batches = mapped(batches, lambda *given: form.as_keras_takes(last(*given)[0]))
    return batches.prefetch(tf.data.AUTOTUNE)


def _buffered(form: _Form, order: Order, only: Callable[[], int] | None) -> tf.data.Dataset:
    """Return batches out of buffers that are read one after the other, the next while one is in use."""
    import tensorflow as tf

    arrays = form.arrays
    names = list(arrays)

    def read(name: str, runs: Sequence[Run]) -> np.ndarray:
        import numpy as np

        array = arrays[name]
        if isinstance(array, ArrayFile):
            return array.runs(runs)
        return np.concatenate([array[start:stop] for start, stop in runs])

    def buffers() -> Iterator[tuple[Any, ...]]:
        for number in order.numbers(only):
            for runs, batches in order.buffers(number):
                yield tuple(read(name, runs) for name in names), *batches

    rows = tuple(tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in arrays.values())

    def batches_of(
        tensors: tuple[tf.Tensor, ...], places: tf.Tensor, lengths: tf.Tensor, seeds: tf.Tensor
    ) -> tf.data.Dataset:
        def gather(places: tf.Tensor, length: tf.Tensor, seed: tf.Tensor) -> Stage:
            taken = [tf.gather(tensor, places[:length]) for tensor in tensors]
            return form.cast(dict(zip(names, taken, strict=True))), seed

        batches = tf.data.Dataset.from_tensor_slices((places, lengths, seeds))
        return batches.map(gather, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    source = tf.data.Dataset.from_generator(buffers, output_signature=(rows, *order.signature()))
    return order.with_end(source.prefetch(1).flat_map(batches_of), only)


class _Form:
    """The rows' arrays by name, what each is cast to, and in which form Keras takes them."""

    def __init__(self, samples: Samples, dtypes: Mapping[str, str]) -> None:
        self._unprepared = samples.unprepared
        self._inputs = list(samples.features if self._unprepared is None else self._unprepared.inputs)
        self._columns = list(samples.features)
        self._targets = list(samples.targets)
        self._dtypes = {name: dtypes[name] for name in self._inputs}
        self._dtypes |= {_target(name): _target_dtype(array) for name, array in samples.targets.items()}
        self.arrays: dict[str, Any] = {
            **samples.features,
            **{_target(name): array for name, array in samples.targets.items()},
        }
        if samples.weights is not None:
            self._dtypes[_WEIGHT], self.arrays[_WEIGHT] = "float32", samples.weights
        room_bytes = CACHE_LIMIT_BYTES if samples.room_bytes is None else samples.room_bytes
        self._room_bytes = min(CACHE_LIMIT_BYTES, room_bytes)

    def held(self, *, cast: bool) -> dict[str, tf.Tensor]:
        """Return the rows as tensors, cast at once if that is wanted and doesn't make them too large."""
        import tensorflow as tf

        if cast and self._unprepared is None and self._cast_bytes() <= self._room_bytes:
            return {
                name: tf.cast(tf.constant(array), self._dtypes[name]) for name, array in self.arrays.items()
            }
        return {name: tf.constant(array) for name, array in self.arrays.items()}

    def cast(self, tensors: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return what is ready in the dtypes that the model takes; columns stay as they are."""
        import tensorflow as tf

        waiting = () if self._unprepared is None else self._columns
        return {
            name: tensor if name in waiting else tf.cast(tensor, self._dtypes[name])
            for name, tensor in tensors.items()
        }

    def prepare(self, tensors: dict[str, tf.Tensor], seed: tf.Tensor) -> Stage:
        """Make columns into inputs."""
        import tensorflow as tf

        assert self._unprepared is not None
        inputs = self._unprepared.tensors({name: tensors[name] for name in self._columns})
        rest = {name: tensor for name, tensor in tensors.items() if name not in self._columns}
        return {name: tf.cast(each, self._dtypes[name]) for name, each in inputs.items()} | rest, seed

    def _cast_bytes(self) -> int:
        import numpy as np

        return sum(array.size * np.dtype(self._dtypes[name]).itemsize for name, array in self.arrays.items())

    def as_keras_takes(self, tensors: Mapping[str, tf.Tensor]) -> tuple[Any, ...]:
        """Return features, targets and weights, if any: a lone tensor by itself, several as a mapping."""

        def part(tensors: Mapping[str, tf.Tensor]) -> Any:  # noqa: ANN401  # a tensor or a mapping
            return next(iter(tensors.values())) if len(tensors) == 1 else dict(tensors)

        features = part({name: tensors[name] for name in self._inputs})
        targets = (part({name: tensors[_target(name)] for name in self._targets}),) if self._targets else ()
        weights = (tensors[_WEIGHT],) if _WEIGHT in tensors else ()
        return features, *targets, *weights


def _augmenting(samples: Samples, layers: Sequence[Mapping[str, Any]]) -> Callable[..., Stage]:
    image = _image_input(samples)
    made = [Augmentation(layer, f"/data/pipeline/augment/{i}") for i, layer in enumerate(layers)]

    def augment(tensors: dict[str, tf.Tensor], seed: tf.Tensor) -> Stage:
        pictures = tensors[image]
        for layer in made:
            pictures = layer(pictures, seed)
        return tensors | {image: pictures}, seed

    return augment


def _target(name: str) -> str:
    """Tell a target from an input of the same name."""
    return f"/target/{name}"


def _target_dtype(array: np.ndarray) -> str:
    return "int64" if array.dtype.kind in "iu" else "float32"


def _image_input(samples: Samples) -> str:
    images = [name for name, shape in samples.shapes.items() if len(shape) == 3]
    if len(images) != 1:
        raise SpecUnbuildableError(
            "augmentation needs one input of images (rows of shape (height, width, channels)), "
            f"the data have {len(images)}",
            location={"pointer": "/data/pipeline/augment"},
        )
    return images[0]
