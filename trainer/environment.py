"""What the last bits of a training run depend on besides spec and data, recorded and put back."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# What tells kinds of CPU apart in /proc/cpuinfo, x86 and Arm; a name alone is often as broad as "AMD EPYC".
_CPU_FIELDS = ("vendor_id", "model name", "cpu family", "model", "CPU implementer", "CPU part")
# Kernels are chosen by what the CPU can, and a hypervisor may hide some of it.
_VECTOR_FLAGS = ("avx", "fma", "amx", "asimd", "sve", "bf16")


@dataclass(frozen=True)
class Environment:
    """Two runs of one spec and seed in equal environments end with the same weights, to the bit.

    How a kernel shares out its sums depends on the threads it has, which kernel it is on the CPU, on the
    libraries and on oneDNN; NumPy computes the order of the rows.
    """

    cpu: str
    accelerators: str
    strategy: str
    intra_op_threads: int
    inter_op_threads: int
    onednn: str
    tensorflow: str
    keras: str
    numpy: str


def settle_threads(recorded: Mapping[str, Any] | None) -> None:
    """Fix the numbers of threads, to the recorded ones if there are any.

    TensorFlow may be imported but must not have touched a device: its threads can't be changed after.
    """
    import tensorflow as tf

    for which in ("intra", "inter"):
        _settle(tf.config.threading, which, recorded)


def describe(strategy: str, recorded: Mapping[str, Any] | None, note: Callable[[str], None]) -> Environment:
    """Return what is in effect; `note` is told what differs from the record and can't be put back."""
    import keras
    import numpy as np
    import tensorflow as tf

    present = Environment(
        cpu=_cpu(),
        accelerators=_accelerators(),
        strategy=strategy,
        intra_op_threads=_threads(tf.config.threading, "intra"),
        inter_op_threads=_threads(tf.config.threading, "inter"),
        onednn=os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
        tensorflow=tf.__version__,
        keras=keras.__version__,
        numpy=np.__version__,
    )
    if recorded is not None:
        differing = [
            f"{name} was {recorded.get(name)!r}, is {value!r}"
            for name, value in asdict(present).items()
            if recorded.get(name) != value
        ]
        if differing:
            note(
                "the weights may differ in their last bits from those of an uninterrupted run, because "
                f"the checkpoint was written elsewhere: {'; '.join(differing)}"
            )
    return present


def _settle(threading: Any, which: str, recorded: Mapping[str, Any] | None) -> None:  # noqa: ANN401  # a module
    """Set one of TensorFlow's two numbers of threads outright, so that 0 (as many as CPUs) is never left."""
    wanted: int = (recorded or {}).get(f"{which}_op_threads", _threads(threading, which))
    # Refused once the context exists; then what is in effect is what the caller is told.
    with contextlib.suppress(RuntimeError):
        getattr(threading, f"set_{which}_op_parallelism_threads")(wanted)


def _threads(threading: Any, which: str) -> int:  # noqa: ANN401  # a module
    """Return a number of threads in TensorFlow's order: what was set, its variable, the CPUs there are."""
    present: int = getattr(threading, f"get_{which}_op_parallelism_threads")()
    return present or int(os.environ.get(f"TF_NUM_{which.upper()}OP_THREADS") or 0) or cpus()


def cpus() -> int:
    """Return how many CPUs this process may use."""
    # Linux says how many of them this process may use; macOS knows no such limit.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu() -> str:
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        first = ""
    pairs = (line.partition(":") for line in first.splitlines())
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    named = [fields[name] for name in _CPU_FIELDS if name in fields]
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    vector = sorted(flag for flag in flags if flag.startswith(_VECTOR_FLAGS) or flag.endswith("bf16"))
    return " ".join([*named, *vector]) or platform.processor() or platform.machine()


def _accelerators() -> str:
    import tensorflow as tf

    devices = [device for device in tf.config.list_physical_devices() if device.device_type != "CPU"]
    names = [
        tf.config.experimental.get_device_details(device).get("device_name", device.device_type)
        for device in devices
    ]
    return ", ".join(names) or "none"
