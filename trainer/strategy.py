"""One device or several: TensorFlow's distribution strategies over the devices of a slot."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from trainer.errors import SpecUnbuildableError

if TYPE_CHECKING:
    import tensorflow as tf


class Strategy(StrEnum):
    """How the devices of the slot share a step; a batch is divided among them."""

    AUTO = "auto"
    """All devices of the slot: mirrored over several, `tpu` on a TPU, else one device."""
    ONE_DEVICE = "one_device"
    """The slot's first device alone."""
    MIRRORED = "mirrored"
    """tf.distribute.MirroredStrategy: the weights on every device, gradients summed."""
    TPU = "tpu"
    """tf.distribute.TPUStrategy over the TPU of the host."""


@dataclass(frozen=True)
class Devices:
    """What of a host this process was given beside the GPUs that its environment lets it see."""

    cpus: int = 1
    """Logical CPU devices to train on where there is no other device."""
    tpu: bool = False


ONE_CPU = Devices()


def strategy_of(asked: Strategy, given: Devices) -> tf.distribute.Strategy:
    """Return the strategy for the devices that this process has.

    Logical CPU devices are made here, so no device may have been touched before.

    Raises:
        SpecUnbuildableError: the slot has no devices for what was asked.
    """
    import tensorflow as tf

    cpus = given.cpus
    if given.tpu and asked in (Strategy.AUTO, Strategy.TPU):
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    if asked is Strategy.TPU:
        raise _unfit("the slot that took this job has no TPU")
    gpus = tf.config.list_physical_devices("GPU")
    if cpus > 1 and not gpus:
        _divide_cpu(cpus)
    devices = [f"GPU:{number}" for number in range(len(gpus))] or [f"CPU:{number}" for number in range(cpus)]
    if asked is Strategy.MIRRORED and len(devices) == 1:
        raise _unfit("the slot that took this job has one device, and mirrored needs several")
    if asked is Strategy.ONE_DEVICE or len(devices) == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy(devices)


def named(strategy: tf.distribute.Strategy) -> str:
    """Name a strategy and its devices, for the record of what a run's last bits depend on."""
    devices = strategy.num_replicas_in_sync
    return "one device" if devices == 1 else f"{type(strategy).__name__} over {devices} devices"


def _divide_cpu(cpus: int) -> None:
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * cpus)


def _unfit(said: str) -> SpecUnbuildableError:
    return SpecUnbuildableError(
        said,
        remedy='Leave resources.strategy at "auto", or have the operator give a worker such a slot.',
        location={"pointer": "/resources/strategy"},
    )
