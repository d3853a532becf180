"""The text form of a ModelServerConfig, written without TensorFlow's protos."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entry:
    """One `config` block; `versions` None asks for the latest one."""

    name: str
    base_path: str
    versions: tuple[int, ...] | None = None
    labels: Mapping[str, int] = field(default_factory=dict)


def render(entries: Sequence[Entry]) -> str:
    """Return the protobuf text of a ModelServerConfig that lists `entries`."""
    if not entries:
        return "model_config_list {\n}\n"
    return "\n".join(["model_config_list {", *map(_block, entries), "}", ""])


def _block(entry: Entry) -> str:
    if entry.versions is None:
        policy = "latest { num_versions: 1 }"
    else:
        policy = f"specific {{ {' '.join(f'versions: {number}' for number in entry.versions)} }}"
    lines = [
        "  config {",
        f"    name: {_quoted(entry.name)}",
        f"    base_path: {_quoted(entry.base_path)}",
        '    model_platform: "tensorflow"',
        f"    model_version_policy {{ {policy} }}",
        *(
            f"    version_labels {{ key: {_quoted(label)} value: {number} }}"
            for label, number in entry.labels.items()
        ),
        "  }",
    ]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    # JSON's ASCII escapes are valid in protobuf text: both know \", \\ and \uXXXX.
    return json.dumps(text)
