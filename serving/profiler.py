"""`tensorflow.ProfilerService`: what this process does for a while, as an XSpace for TensorBoard's profiler.

The messages are those of tsl/profiler/protobuf/profiler_service.proto, which no Python package carries; they
are read and written by field number. A profile is TensorFlow's own session; TensorFlow's own server of this
service isn't used, because it listens on every address of the machine.
"""

import asyncio
import contextlib
import posixpath
import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from tensorflow.python.profiler.internal._pywrap_profiler import ProfilerSession
from tensorflow.tsl.profiler.protobuf.profiler_options_pb2 import ProfileOptions
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

from serving.errors import Code, RequestError

SERVICE = "/tensorflow.ProfilerService/"

# ProfileRequest: duration_ms before it moved into opts, opts, and where the profile is written.
_DURATION_MS, _OPTS, _REPOSITORY_ROOT, _SESSION_ID, _HOST_NAME = 1, 4, 5, 6, 7
_TERMINATED_SESSION_ID = 1  # TerminateRequest
_EMPTY_TRACE = b"\x38\x01"  # ProfileResponse.empty_trace (7) = true


class Profiler:
    """Profiles this process, once at a time."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Event] = {}

    async def call(self, path: str, body: bytes) -> bytes:
        """Return the serialized reply to a serialized request.

        Raises:
            RequestError: INVALID_ARGUMENT for what doesn't parse; INTERNAL, with TensorFlow's text, when
                another profile is being taken or this one can't be written; UNIMPLEMENTED for Monitor.
        """
        match path.removeprefix(SERVICE):
            case "Profile":
                return await self._profile(_fields(path, body))
            case "Terminate":
                self._terminate(_text(_fields(path, body), _TERMINATED_SESSION_ID))
                return b""
            case "Monitor":
                raise RequestError(Code.UNIMPLEMENTED, "unimplemented.")
        raise RequestError(Code.UNIMPLEMENTED, f"{path} is not implemented by this server")

    async def _profile(self, request: dict[int, Any]) -> bytes:
        options = ProfileOptions.FromString(request.get(_OPTS, b""))
        duration_ms = options.duration_ms or request.get(_DURATION_MS, 0)
        session_id = _text(request, _SESSION_ID)
        with tempfile.TemporaryDirectory(prefix="fitserve-profile-") as folder:
            session = ProfilerSession()
            try:
                # Levels of tracing stay at their defaults: TensorFlow's Python session ignores any other.
                session.start(folder, {})
            except tf.errors.OpError as error:
                raise RequestError(Code.INTERNAL, error.message) from error
            stopped = self._running.setdefault(session_id, asyncio.Event())
            try:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopped.wait(), duration_ms / 1000)
            except asyncio.CancelledError:
                # A caller that has left must not keep the only session.
                session.export_to_tb()
                raise
            finally:
                self._running.pop(session_id, None)
            await asyncio.to_thread(session.export_to_tb)
            (file,) = Path(folder).glob("plugins/profile/*/*.xplane.pb")
            collected = await asyncio.to_thread(file.read_bytes)
        await asyncio.to_thread(_save, collected, request)
        return b"" if await asyncio.to_thread(_has_events, collected) else _EMPTY_TRACE

    def _terminate(self, session_id: str) -> None:
        if session_id in self._running:
            self._running[session_id].set()


def _save(collected: bytes, request: dict[int, Any]) -> None:
    # Where TensorBoard's profile plugin looks: <repository_root>/<session_id>/<host>.xplane.pb.
    folder = posixpath.join(_text(request, _REPOSITORY_ROOT), _text(request, _SESSION_ID))
    host = _text(request, _HOST_NAME).replace(":", "_").replace("/", "_")
    try:
        tf.io.gfile.makedirs(folder)
        with tf.io.gfile.GFile(posixpath.join(folder, f"{host}.xplane.pb"), "wb") as file:
            file.write(collected)
    except tf.errors.OpError as error:
        raise RequestError(Code.INTERNAL, error.message) from error


def _has_events(collected: bytes) -> bool:
    return any(line.events for plane in XSpace.FromString(collected).planes for line in plane.lines)


def _fields(path: str, body: bytes) -> dict[int, Any]:
    try:
        return {each.field_number: each.data for each in UnknownFieldSet(Empty.FromString(body))}
    except DecodeError as error:
        raise RequestError(Code.INVALID_ARGUMENT, f"request of {path} doesn't parse: {error}") from error


def _text(fields: dict[int, Any], number: int) -> str:
    value = fields.get(number, b"")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
