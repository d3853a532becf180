"""What plugins the workers have: asked of a process of its own, since a plugin imports TensorFlow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from jsonschema import Draft202012Validator

from service.errors import Fault
from service.pointers import pointer_of
from service.records.workers import Worker
from trainer.plugin import VARIABLE

DESCRIBED_WITHIN_S = 120.0

log = structlog.get_logger(__name__)


def described(plugins: str) -> Mapping[str, Any]:
    """Describe the plugins of this setting by name: `description`, and `schema` of the arguments.

    Empty where one of them can't be loaded, which the log says: a worker works without.
    """
    if not plugins:
        return {}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "trainer.plugin"],
            env={**os.environ, VARIABLE: plugins},
            capture_output=True,
            text=True,
            timeout=DESCRIBED_WITHIN_S,
            check=True,
        )
        found: Mapping[str, Any] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().rpartition("\n")[2]
        log.warning("plugins_not_loaded", plugins=plugins, error=said)
        return {}
    return found


def plugin_faults(model: Mapping[str, Any], workers: Sequence[Worker]) -> list[Fault]:
    """What is wrong with a spec's `model` section of kind `plugin`, as far as workers say what they have.

    Without a worker nobody knows: the job itself will tell.
    """
    if not workers:
        return []
    name, args = model.get("name"), model.get("args", {})
    known: dict[str, Any] = {}
    for worker in workers:
        known |= worker.capabilities.get("plugins", {})
    if not isinstance(name, str) or name not in known:
        valid = ", ".join(sorted(known)) or "none: FITSERVE_PLUGINS of the workers names no plugin"
        return [Fault("/model/name", f"no worker has a plugin {name!r}; there are {valid}")]
    validator = Draft202012Validator(known[name]["schema"])
    return [
        Fault(pointer_of(["model", "args", *error.absolute_path]), error.message)
        for error in sorted(
            validator.iter_errors(args), key=lambda error: list(map(str, error.absolute_path))
        )
    ]
