"""The front that runs everywhere: grpc.aio for gRPC, uvicorn for HTTP, both on one event loop."""

import asyncio
import contextlib
import importlib.util
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving import tls
from serving.errors import RequestError, ServingError
from serving.flags import Flags, channel_arguments
from serving.front import DRAIN_S

if TYPE_CHECKING:
    from serving.methods import Methods

_log = logging.getLogger(__name__)


def missing() -> str | None:
    """Return what keeps this front from running on this machine, or None."""
    for module in ("grpc", "uvicorn"):
        if importlib.util.find_spec(module) is None:
            return f"the package that brings {module} is not installed"
    return None


def run(flags: Flags) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    return asyncio.run(_serve(flags))


async def _serve(flags: Flags) -> int:
    from serving.assembly import Assembly

    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    assembly = Assembly(flags)
    await _first_of(asyncio.to_thread(assembly.start), stopping.wait())
    if stopping.is_set():
        _leave()
    grpc_server = await _start_grpc(flags, assembly.methods)
    http_server = _start_http(flags, assembly.application)
    _log.info("serving front=grpcio host=%s grpc=%d rest=%d", flags.host, flags.port, flags.rest_api_port)
    await stopping.wait()
    _log.info("draining")
    assembly.plane.drain()
    await asyncio.gather(grpc_server.stop(DRAIN_S), http_server.stop())
    if not assembly.stop(timeout_s=0.5):
        _leave()
    return 0


async def _start_grpc(flags: Flags, methods: "Methods") -> Any:  # noqa: ANN401
    import grpc

    from serving.dataplane import CLIENT

    class Everything(grpc.GenericRpcHandler):
        """Takes every method's bytes as they are."""

        def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
            path = str(details.method)

            async def stream(body: bytes, _: Any) -> AsyncIterator[bytes]:  # noqa: ANN401
                async for reply in methods.stream(path, body):
                    yield reply

            if methods.streams(path):
                return grpc.unary_stream_rpc_method_handler(stream)

            async def answer(body: bytes, context: Any) -> bytes:  # noqa: ANN401
                CLIENT.set(context.peer())
                try:
                    return await methods.call(path, body)
                except RequestError as error:
                    status = next(each for each in grpc.StatusCode if each.value[0] == error.code.number)
                    await context.abort(status, str(error))
                    raise

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.aio.server(
        handlers=[Everything()],
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            # Two servers on one port would share its calls without a word, unless they are processes of one.
            ("grpc.so_reuseport", int(flags.processes > 1)),
            *channel_arguments(flags.grpc_channel_arguments),
        ],
    )
    addresses = [f"{_bracketed(flags.host)}:{flags.port}"] if flags.port else []
    addresses += [f"unix:{flags.grpc_socket_path}"] if flags.grpc_socket_path else []
    secured = tls.read(Path(flags.ssl_config_file)) if flags.ssl_config_file else None
    for address in addresses:
        try:
            if secured is None:
                server.add_insecure_port(address)
            else:
                server.add_secure_port(address, _credentials(secured))
        except RuntimeError as error:
            raise ServingError(f"gRPC can't listen on {address}: {error}") from error
    await server.start()
    return server


class _Http:
    """A running uvicorn server, or none when no port was asked for."""

    def __init__(self, server: Any, task: asyncio.Task[None] | None) -> None:  # noqa: ANN401
        self._server = server
        self._task = task

    async def stop(self) -> None:
        if self._task is not None:
            self._server.should_exit = True
            await self._task


def _start_http(flags: Flags, application: Any) -> _Http:  # noqa: ANN401
    if not flags.rest_api_port:
        return _Http(None, None)
    import uvicorn

    class Server(uvicorn.Server):
        """Leaves the signals to this front, which has more than HTTP to drain."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    try:
        family = socket.AF_INET6 if ":" in flags.host else socket.AF_INET
        listener = socket.create_server(
            (flags.host, flags.rest_api_port), family=family, backlog=2048, reuse_port=flags.processes > 1
        )
    except OSError as error:
        raise ServingError(f"HTTP can't listen on {flags.host}:{flags.rest_api_port}: {error}") from error
    config = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=int(DRAIN_S),
    )
    if flags.ssl_config_file:
        # TensorFlow Serving secures gRPC alone; whoever asks for TLS gets it on every port here.
        config.load()
        config.ssl = tls.context(tls.read(Path(flags.ssl_config_file)))
    server = Server(config)
    return _Http(server, asyncio.create_task(server.serve(sockets=[listener])))


def _credentials(secured: tls.Tls) -> Any:  # noqa: ANN401
    import grpc

    return grpc.ssl_server_credentials(
        [(secured.key.encode(), secured.certificate.encode())],
        root_certificates=secured.client_authority.encode() or None,
        require_client_auth=secured.verify_clients,
    )


async def _first_of(*steps: Any) -> None:
    tasks = [asyncio.ensure_future(step) for step in steps]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _leave() -> None:
    # A load that is still running can't be interrupted, and Python would wait for its thread.
    logging.shutdown()
    os._exit(0)
