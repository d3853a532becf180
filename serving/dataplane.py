"""What the server does, without a wire: both gRPC and HTTP are thin skins over this."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from serving.config_file import ModelSettings
from serving.errors import Code, RequestError
from serving.lifecycle import Lease, Models, VersionStatus
from serving.signatures import Plan
from serving.tensors import Array

# A call this short costs less than handing it to a thread and back; a longer one would hold up the others.
INLINE_S = 0.001
INLINE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Target:
    """Which version a request means: of these three, `number` and `label` exclude each other."""

    model: str
    number: int | None = None
    label: str | None = None


class DataPlane:
    """Predictions, metadata, states, and reloads of the models of one server."""

    def __init__(
        self,
        models: Models,
        reload: Callable[[Sequence[ModelSettings]], None],
        *,
        threads: int,
        labels_may_wait: bool = False,
    ) -> None:
        self._models = models
        self._reload = reload
        self._labels_may_wait = labels_may_wait
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="model")
        self.ready = False
        self._draining = False

    def lease(self, target: Target) -> Lease:
        """Return the right to call the version meant.

        Raises:
            RequestError: INVALID_ARGUMENT without a name, NOT_FOUND when nothing answers to it, UNAVAILABLE
                when the server is about to leave.
        """
        if self._draining:
            raise RequestError(Code.UNAVAILABLE, "the server is shutting down")
        _check_name(target)
        return self._models.lease(target.model, target.number, target.label)

    async def run(self, lease: Lease, plan: Plan, inputs: Mapping[str, Array]) -> list[Array]:
        """Return `plan.outputs`; quick models run at once, the others on a thread."""
        servable = lease.servable
        small = sum(array.nbytes for array in inputs.values()) <= INLINE_BYTES
        if small and 0 < servable.recent_s < INLINE_S:
            return servable.run(plan, inputs)
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._pool, servable.run, plan, inputs)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            # A thread can't be cancelled, and the lease must outlive what it runs.
            await asyncio.wait([running])
            raise

    def drain(self) -> None:
        """Take no new request; those in flight go on."""
        self.ready, self._draining = False, True

    def status(self, target: Target) -> list[VersionStatus]:
        """Return the states of the versions meant (all, without number and label), newest first."""
        _check_name(target)
        return self._models.status(target.model, target.number, target.label)

    async def reload(self, settings: Sequence[ModelSettings]) -> None:
        """Take a full new list of models and return when every one of them was looked at.

        Raises:
            RequestError: FAILED_PRECONDITION, when a label points at a version that doesn't answer.
        """
        if not self._labels_may_wait:
            self._models.check_labels(settings)
        await asyncio.get_running_loop().run_in_executor(self._pool, self._reload, settings)


def _check_name(target: Target) -> None:
    if not target.model:
        raise RequestError(Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")
