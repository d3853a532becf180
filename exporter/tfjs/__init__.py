"""TensorFlow.js: its converter and its runtime, which lie apart from the rest in one folder.

`make install` and the worker's image fill `{sys.prefix}/tfjs`: `python` holds the converter, whose own
requirements exclude our TensorFlow, and `node_modules` the runtime, npm's packages for node.
"""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(sys.prefix) / "tfjs"
CONVERTER = FOLDER / "python"
NODE = "node"
