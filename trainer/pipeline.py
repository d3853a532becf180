"""The tf.data pipeline behind `fit`: order, gather, cast, augment, prefetch; whole batches, never row by row.

Everything random is computed from (seed, epoch, step), so an epoch can be entered anywhere and is the same.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from trainer.errors import SpecUnbuildableError
from trainer.forms import Count, Fault, Flag, SpecModel, invalid, one_message
from trainer.objects import completed, object_faults, size_faults
from trainer.resume import require_same

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

    from trainer.samples import Samples

# `cache: auto` holds the cast arrays in memory up to this size, and casts batch by batch beyond it.
CACHE_LIMIT_BYTES = 1 << 30
# No input or output of Keras can be called so.
_WEIGHT = "/sample_weight"


def _random_layer(value: dict[str, Any]) -> dict[str, Any]:
    faults = size_faults(value) or list(object_faults(value, "layers"))
    name = str(value.get("class_name"))
    if not faults and not name.startswith("Random"):
        faults = [
            Fault(
                ("class_name",),
                f"{name} is not random: put it into the model, so that serving does the same; "
                "augmentation takes Keras's Random... layers",
            )
        ]
    if faults:
        raise invalid("augment", faults, value)
    return value


class PipelineOptions(SpecModel):
    """What stands between rows and `fit`; `cache` holds the cast rows, before shuffle and augmentation."""

    cache: Annotated[Flag | Literal["auto"], one_message('expected true, false or "auto"')] = "auto"
    shuffle: Flag = True
    batch_size: Annotated[Count, Field(le=1 << 20)] = 32
    augment: tuple[Annotated[dict[str, Any], AfterValidator(_random_layer)], ...] = ()


@dataclass(frozen=True)
class Pipeline:
    """How `rows` training rows come into `fit`: which when, and how altered, all computed from one seed."""

    options: PipelineOptions
    rows: int
    seed: int

    @property
    def steps(self) -> int:
        """Batches in a whole epoch; the last may be short."""
        return self.order().steps

    def order(self, epoch: int = 0, step: int = 0) -> Order:
        """Return the order from `step` of `epoch` on, both from 0."""
        return Order(self.rows, self.options.batch_size, self.seed, self.options.shuffle, epoch, step)

    def state(self) -> dict[str, Any]:
        """Return all that decides the batches; the place among them is the checkpoint's epoch and step."""
        return {
            "seed": self.seed,
            "rows": self.rows,
            "batch_size": self.options.batch_size,
            "shuffle": self.options.shuffle,
            "augment": [dict(layer) for layer in self.options.augment],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Accept a checkpoint's pipeline.

        Raises:
            ResumeError: this one would give other batches.
        """
        require_same("data.pipeline", state, self.state())


@dataclass(frozen=True)
class Order:
    """Which rows make up each batch, from step `first_step` of epoch `first_epoch` (both from 0) without end.

    An epoch's permutation is computed from (seed, epoch), so it is the same wherever it is entered.
    """

    rows: int
    batch_size: int
    seed: int
    shuffle: bool
    first_epoch: int = 0
    first_step: int = 0

    @property
    def steps(self) -> int:
        """Batches in a whole epoch; the last may be short."""
        return -(-self.rows // self.batch_size)

    @property
    def left(self) -> int:
        """Batches in what is left of the first epoch."""
        return self.steps - self.first_step

    def epoch(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return an epoch's batches in order, from the step on at which it is entered.

        Row numbers, int64 (steps, batch), of which a short batch has some at the end that don't count; how
        many do, int64 (steps,); and the batches' own seeds, int32 (steps,).
        """
        import numpy as np

        rng = np.random.default_rng([self.seed, number])
        order = rng.permutation(self.rows) if self.shuffle else np.arange(self.rows)
        rows = np.zeros(self.steps * self.batch_size, np.int64)
        rows[: self.rows] = order
        lengths = np.full(self.steps, self.batch_size, np.int64)
        lengths[-1] = self.rows - (self.steps - 1) * self.batch_size
        seeds = np.random.SeedSequence([self.seed, number]).generate_state(self.steps).view(np.int32)
        first = self.first_step if number == self.first_epoch else 0
        return rows.reshape(self.steps, self.batch_size)[first:], lengths[first:], seeds[first:]

    def batches(self, only: Callable[[], int] | None = None) -> tf.data.Dataset:
        """Return the batches of `epoch` one by one: int64 (batch,), int64 () and int32 ().

        Without end, or those of one epoch, which `only` names when they are asked for. Python is asked once
        an epoch: asked once a batch, it would hold up the threads that make the batches.
        """
        import tensorflow as tf

        def epochs() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
            yield from map(self.epoch, itertools.count(self.first_epoch) if only is None else (only(),))

        signature = (
            tf.TensorSpec((None, self.batch_size), tf.int64),
            tf.TensorSpec((None,), tf.int64),
            tf.TensorSpec((None,), tf.int32),
        )
        batches = tf.data.Dataset.from_generator(epochs, output_signature=signature).unbatch()
        return batches if only is None else batches.apply(tf.data.experimental.assert_cardinality(self.left))


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
    import tensorflow as tf

    held = _Held(samples, dtypes, options.cache)
    image = _image_input(samples) if options.augment else ""
    layers = [_Augmentation(layer, f"/data/pipeline/augment/{i}") for i, layer in enumerate(options.augment)]

    def batch(rows: tf.Tensor, length: tf.Tensor, seed: tf.Tensor) -> tuple[Any, ...]:
        tensors = held.take(lambda tensor: tf.gather(tensor, rows[:length]))
        for layer in layers:
            tensors[image] = layer(tensors[image], seed)
        return held.as_keras_takes(tensors)

    # Parallel, but in order. Without an end, the next epoch is prepared while this one validates.
    return _mapped(order.batches(only), batch)


def evaluation_dataset(
    samples: Samples, *, dtypes: Mapping[str, str], options: PipelineOptions
) -> tf.data.Dataset:
    """Return the rows once, in their own order and as they are, in batches like those of training."""
    import tensorflow as tf

    held = _Held(samples, dtypes, options.cache)
    rows, size = len(samples), options.batch_size

    def batch(start: tf.Tensor) -> tuple[Any, ...]:
        return held.as_keras_takes(held.take(lambda tensor: tensor[start : start + size]))

    starts = tf.data.Dataset.range(0, rows, size)
    return _mapped(starts, batch)


def _mapped(numbers: tf.data.Dataset, batch: Callable[..., tuple[Any, ...]]) -> tf.data.Dataset:
    """Make the batches ahead of their use, in parallel and still in order."""
    import tensorflow as tf

    # There is no Python branch in it to be converted, and looking for one costs a job's start 0.2 s.
    as_written = tf.autograph.experimental.do_not_convert(batch)
    return numbers.map(as_written, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(
        tf.data.AUTOTUNE
    )


class _Held:
    """Rows as tensors: already cast when cached, else cast batch by batch."""

    def __init__(self, samples: Samples, dtypes: Mapping[str, str], cache: bool | Literal["auto"]) -> None:
        import tensorflow as tf

        self._features, self._targets = list(samples.features), list(samples.targets)
        self._dtypes = {**dtypes, **{name: _target_dtype(array) for name, array in samples.targets.items()}}
        arrays = {**samples.features, **samples.targets}
        if samples.weights is not None:
            self._dtypes[_WEIGHT], arrays[_WEIGHT] = "float32", samples.weights
        cached = _worth_caching(arrays, self._dtypes) if cache == "auto" else cache
        self._tensors = {
            name: tf.constant(array.astype(self._dtypes[name], copy=False) if cached else array)
            for name, array in arrays.items()
        }

    def take(self, rows: Callable[[tf.Tensor], tf.Tensor]) -> dict[str, tf.Tensor]:
        import tensorflow as tf

        return {name: tf.cast(rows(tensor), self._dtypes[name]) for name, tensor in self._tensors.items()}

    def as_keras_takes(self, tensors: Mapping[str, tf.Tensor]) -> tuple[Any, ...]:
        """Return features, targets and weights, if any: a lone tensor by itself, several as a mapping."""

        def part(names: Sequence[str]) -> Any:  # noqa: ANN401  # a tensor or a mapping
            return tensors[names[0]] if len(names) == 1 else {name: tensors[name] for name in names}

        weights = (tensors[_WEIGHT],) if _WEIGHT in tensors else ()
        targets = (part(self._targets),) if self._targets else ()
        return part(self._features), *targets, *weights


class _Augmentation:
    """A Keras Random... layer whose every draw comes from the batch's seed instead of a state of its own.

    A state would be advanced by parallel maps in no fixed order, and ahead of the step that is being trained.
    """

    def __init__(self, config: Mapping[str, Any], pointer: str) -> None:
        import keras
        import tensorflow as tf

        class BatchSeed(keras.random.SeedGenerator):  # type: ignore[misc]  # Keras has no types
            seed: tf.Tensor
            draws = 0

            def next(self, ordered: bool = True) -> tf.Tensor:  # noqa: ARG002  # Keras's signature
                self.draws += 1
                return tf.stack([self.seed, self.draws])

        try:
            self._layer = keras.layers.deserialize(completed(config))
        except (ValueError, TypeError, NotImplementedError) as error:
            raise SpecUnbuildableError(str(error), location={"pointer": pointer}) from error
        self._seeds = []
        for i, layer in enumerate(self._layer._flatten_layers()):
            if hasattr(layer, "generator"):
                layer.generator = BatchSeed(i)
                self._seeds.append((i, layer.generator))
        self._pointer = pointer

    def __call__(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        for place, generator in self._seeds:
            # Two layers with the same batch seed must not move in step.
            generator.seed = tf.bitwise.bitwise_xor(
                seed, zlib.crc32(f"{self._pointer}/{place}".encode()) >> 1
            )
            generator.draws = 0
        return self._layer(images, training=True)


def _target_dtype(array: np.ndarray) -> str:
    return "int64" if array.dtype.kind in "iu" else "float32"


def _worth_caching(arrays: Mapping[str, np.ndarray], dtypes: Mapping[str, str]) -> bool:
    import numpy as np

    return (
        sum(array.size * np.dtype(dtypes[name]).itemsize for name, array in arrays.items())
        <= CACHE_LIMIT_BYTES
    )


def _image_input(samples: Samples) -> str:
    images = [name for name, array in samples.features.items() if array.ndim == 4]
    if len(images) != 1:
        raise SpecUnbuildableError(
            "augmentation needs one input of images (rows of shape (height, width, channels)), "
            f"the data have {len(images)}",
            location={"pointer": "/data/pipeline/augment"},
        )
    return images[0]
