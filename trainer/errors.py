"""What can go wrong in training, each with a stable code, a remedy, and whether another try can help.

TrainerError
├── InvalidDataError          invalid_data        the data contradict the spec, or themselves
├── DataUnreachableError      data_unreachable    the file isn't there or can't be read
├── SpecUnbuildableError      spec_unbuildable    Keras can't build or compile what the spec describes
├── TrainingError             internal            training itself failed
│   ├── NanLossError          nan_loss            the loss is no longer a number
│   └── OutOfMemoryError      out_of_memory       the device or the host ran out of memory
├── ResumeError               internal            a checkpoint belongs to another model or other data
└── Halted                    —                   someone asked training to end early
    ├── Interrupted           interrupted         a checkpoint is written, another attempt goes on from it
    └── Cancelled             cancelled           nobody wants the result any more
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class TrainerError(Exception):
    """Something kept the spec from becoming a trained model."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    remedy: str = "Look into the job's log; report it if the log doesn't explain it."

    def __init__(
        self, detail: str, *, remedy: str | None = None, location: Mapping[str, int | str] | None = None
    ) -> None:
        """Keep the detail; `location` is `{row, column}` (rows from 1, without the header) or `{pointer}`.

        A damaged file is told with the `byte` (from 0) or the `file` within it.
        """
        super().__init__(detail)
        self.detail = detail
        self.location = dict(location) if location else None
        if remedy is not None:
            self.remedy = remedy


class InvalidDataError(TrainerError):
    """The data contradict the spec, or themselves."""

    code = "invalid_data"
    remedy = "Correct the data set, or the data section of the spec, and submit again."


class DataUnreachableError(TrainerError):
    """The data file isn't there or can't be read."""

    code = "data_unreachable"
    retryable = True
    remedy = "Make sure that the worker can read the data's location."


class SpecUnbuildableError(TrainerError):
    """Keras can't build or compile the model the spec describes for these data."""

    code = "spec_unbuildable"
    remedy = "Correct the model or compile section of the spec."


class TrainingError(TrainerError):
    """Training failed for a reason of its own."""


class NanLossError(TrainingError):
    """The loss is no longer a finite number, so every further step would be wasted."""

    code = "nan_loss"
    remedy = "Lower the learning rate, set the optimizer's clipnorm, or scale the features."


class OutOfMemoryError(TrainingError):
    """The device or the host ran out of memory."""

    code = "out_of_memory"
    remedy = "Lower data.pipeline.batch_size or make the model smaller."


class ResumeError(TrainerError):
    """A checkpoint belongs to another model or to other data than this attempt's."""


class Halted(TrainerError):  # a request that was followed, not a fault
    """Someone asked training to end early."""


class Interrupted(Halted):
    """Training stopped as asked; its checkpoint lets another attempt go on."""

    code = "interrupted"
    retryable = True
    remedy = "Start another attempt in the same work folder."


class Cancelled(Halted):
    """Training was cancelled; nobody wants its result."""

    code = "cancelled"
    remedy = "Submit the job again if it was cancelled by mistake."
