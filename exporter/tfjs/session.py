"""A TensorFlow.js model loaded in a node process of its own."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np

from exporter.child import PR_SET_PDEATHSIG
from exporter.tfjs import FOLDER, NODE

if TYPE_CHECKING:
    import numpy.typing as npt

    from exporter.format import Arrays

# Any: a JSON document, whose fields `run.js` describes.
Header: TypeAlias = dict[str, Any]

_RUNNER = Path(__file__).with_name("run.js")
_GOODBYE_S = 5.0
_TOLD_BYTES = 2000
_DTYPES: Mapping[str, str] = {"float32": "<f4", "int32": "<i4", "bool": "?"}
# The kernel ends node with us: in the midst of a long computation it doesn't see the end of its stdin.
_ENDING_WITH_US = (
    f"import ctypes, os, sys; ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, {int(signal.SIGKILL)}); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


class Session:
    """One node process that holds a model until `close`, or until nobody holds the session.

    It computes on one core, as TensorFlow.js's CPU backend does. Of a call's time less than 0.4 ms is the way
    there and back.
    """

    def __init__(self, folder: Path) -> None:
        """Start node and load the model of a folder.

        Raises:
            RuntimeError: the model can't be loaded; node's own words say why.
        """
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as node is
        self._node = subprocess.Popen(
            [sys.executable, "-ISc", _ENDING_WITH_US, NODE, _RUNNER, FOLDER, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self._finalizer = weakref.finalize(self, _end, self._node, self._log)
        try:
            loaded, _ = self._read()
        except RuntimeError:
            self.close()
            raise
        self.version: str = loaded["version"]
        self._inputs: Mapping[str, str] = loaded["inputs"]

    def close(self) -> None:
        """End node."""
        self._finalizer()

    def predict(self, features: Arrays) -> Arrays:
        """Ask the model; what it has no use for is left out.

        TensorFlow.js has float32, int32 and bool: other whole numbers become int32, other fractions float32.

        Raises:
            ValueError: a whole number is beyond int32.
            RuntimeError: the model refused the rows, or node ended.
        """
        described, contents = [], []
        for name, dtype in self._inputs.items():
            array = features[name]
            content = _cast(array, name, dtype).tobytes()
            described.append({"name": name, "dtype": dtype, "shape": array.shape, "bytes": len(content)})
            contents.append(content)
        self._write({"tensors": described}, contents)
        answer, arrays = self._read()
        if "error" in answer:
            raise RuntimeError(f"TensorFlow.js: {answer['error']}")
        return arrays

    def _write(self, header: Header, contents: list[bytes]) -> None:
        assert self._node.stdin is not None
        encoded = json.dumps(header).encode()
        try:
            self._node.stdin.write(b"".join([struct.pack("<I", len(encoded)), encoded, *contents]))
            self._node.stdin.flush()
        except BrokenPipeError as error:
            raise self._ended() from error

    def _read(self) -> tuple[Header, Arrays]:
        (length,) = struct.unpack("<I", self._take(4))
        header: Header = json.loads(self._take(length))
        return header, {tensor["name"]: self._array(tensor) for tensor in header["tensors"]}

    def _array(self, tensor: Header) -> npt.NDArray[Any]:
        content = self._take(tensor["bytes"])
        return np.frombuffer(content, _DTYPES[tensor["dtype"]]).reshape(tensor["shape"])

    def _take(self, size: int) -> bytes:
        assert self._node.stdout is not None
        taken = self._node.stdout.read(size)
        if len(taken) < size:
            raise self._ended()
        return taken

    def _ended(self) -> RuntimeError:
        """What node said before it ended, and how it ended."""
        code = self._node.wait()
        self._log.seek(0)
        told = self._log.read().decode(errors="replace")[-_TOLD_BYTES:]
        return RuntimeError(f"{subprocess.CalledProcessError(code, NODE)} {told}".strip())


def _cast(array: npt.NDArray[Any], name: str, dtype: str) -> npt.NDArray[Any]:
    if dtype == "int32" and array.size and not -(2**31) <= array.min() <= array.max() < 2**31:
        raise ValueError(
            f"input {name!r} has a number beyond int32, the only whole numbers that TensorFlow.js has; "
            "make the model's input float32 or its numbers smaller"
        )
    return array.astype(_DTYPES[dtype])


def _end(node: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    """End node: by the end of its stdin, or by force if that doesn't do."""
    assert node.stdin is not None
    assert node.stdout is not None
    try:
        node.stdin.close()
    except BrokenPipeError:
        node.kill()
    try:
        node.wait(_GOODBYE_S)
    except subprocess.TimeoutExpired:
        node.kill()
        node.wait()
    node.stdout.close()
    log.close()
