"""What can go wrong between a trained model and its proven artifacts.

ExporterError
├── EntriesError           the list of exports contradicts itself
├── ExportFailedError      an artifact could not be made, or its runtime could not run it
├── ExportMismatchError    an artifact was made, runs, and answers differently from the model
└── ExportStoppedError     the caller asked to stop
"""

from __future__ import annotations

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


class ExportStoppedError(ExporterError):
    """The caller's `should_stop` said so; nothing of this export may be published."""

    code = "stopped"
