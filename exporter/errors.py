"""What can go wrong between a trained model and its proven artifacts.

ExporterError
├── EntriesError           the list of exports contradicts itself
├── ExportFailedError      an artifact could not be made, or its runtime could not run it
│   └── ConverterKilledError   somebody ended the converter: another try may be left alone
├── NoRoomError            the disk is full: another try may find room
├── SignatureChangedError  the model takes or gives other tensors than the version that is served
├── ExportMismatchError    an artifact was made, runs, and answers differently from the model
└── ExportStoppedError     the caller asked to stop
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from exporter.parity import Parity


class ExporterError(Exception):
    """The root; `code` is stable and goes into job records."""

    code: ClassVar[str] = "internal"


class EntriesError(ExporterError, ValueError):
    """The list of exports contradicts itself; a ValueError, so that pydantic reports it as one of its own."""

    code = "invalid_exports"


class ExportFailedError(ExporterError):
    """The artifact named `artifact` could not be made or run; `detail` is its tool's own message."""

    code = "export_failed"

    def __init__(self, artifact: str, detail: str) -> None:
        self.artifact = artifact
        self.detail = detail
        super().__init__(f"export {artifact!r} failed: {detail}")


class ConverterKilledError(ExportFailedError):
    """The converter was killed from outside (SIGKILL) again and again; it did not crash by itself."""

    retryable: ClassVar[bool] = True
    remedy: ClassVar[str] = (
        "look whether the host ran out of memory while the artifact was converted or proven"
    )


class NoRoomError(ExporterError):
    """There was no room to write the artifact named `artifact`; nothing is wrong with the model."""

    code = "disk_full"
    retryable: ClassVar[bool] = True
    remedy: ClassVar[str] = "make room where the model store and the temporary folder are"

    def __init__(self, artifact: str, detail: str) -> None:
        self.artifact = artifact
        self.detail = detail
        super().__init__(f"no room to write export {artifact!r}: {detail}")


def making_failed(artifact: str, detail: str) -> ExportFailedError | NoRoomError:
    """The error for an artifact that could not be made, told by the text of whatever failed.

    TensorFlow, HDF5 and the converters wrap what the system said, each its own way, but all quote it.
    """
    full = (os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
    return (NoRoomError if any(text in detail for text in full) else ExportFailedError)(artifact, detail)


class ExportMismatchError(ExporterError):
    """The artifact named `artifact` differs from the trained model by more than its tolerance."""

    code = "export_mismatch"

    def __init__(self, artifact: str, parity: Parity) -> None:
        self.artifact = artifact
        self.parity = parity
        super().__init__(
            f"export {artifact!r} does not answer like the trained model: {parity.explain()}. "
            "Give this export a larger `tolerance` if that is good enough for you, or mark it `optional`"
        )


class SignatureChangedError(ExporterError):
    """The model takes or gives other tensors than the version that is served; `changes` says which."""

    code = "signature_changed"
    remedy: ClassVar[str] = (
        "keep the names, dtypes and shapes, publish under another name, or set allow_signature_change: true"
    )

    def __init__(self, changes: Sequence[str]) -> None:
        self.changes = tuple(changes)
        super().__init__(f"programs written for the present version would fail: {'; '.join(changes)}")


class ExportStoppedError(ExporterError):
    """The caller's `should_stop` said so; nothing of this export may be published."""

    code = "stopped"
