"""The manifest: what one version is, where it came from, and the digest of each of its files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from serving.errors import ManifestError

FORMAT_VERSION = 1


@dataclass(frozen=True)
class FileDigest:
    """Size and SHA-256 (hex) of one file."""

    size_bytes: int
    sha256: str


def utc_now() -> str:
    """Return the present moment as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What is written to `<version>/assets.extra/manifest.json` when a version is sealed.

    `artifacts` are mappings with at least name, format and path (relative to the version; `.` is the
    SavedModel itself); whatever else an exporter records in them is kept as it is. `files` maps each
    file's path relative to the version to its digest, the manifest's own excepted. The values are
    JSON documents of the trainer and the exporter, which the store carries without reading them.
    """

    model: str
    job_id: str
    created_at: str = field(default_factory=utc_now)
    spec_digest: str = ""
    data_digest: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    signature: Mapping[str, Any] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    artifacts: Sequence[Mapping[str, Any]] = ()
    files: Mapping[str, FileDigest] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Return the document, keys in a fixed order, ending with a newline."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read a document written by `to_json`.

        Raises:
            ManifestError: it isn't JSON, lacks a field, or is of a format this code doesn't know.
        """
        try:
            document = json.loads(text)
            if document["format_version"] != FORMAT_VERSION:
                raise ManifestError(
                    f"manifest of format {FORMAT_VERSION} expected. Received: {document['format_version']!r}"
                )
            known = {name: document[name] for name in (each.name for each in fields(cls))}
            known["files"] = {path: FileDigest(**entry) for path, entry in document["files"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ManifestError(f"not a manifest: {type(error).__name__}: {error}") from error
        return cls(**known)
