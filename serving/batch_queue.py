"""Requests that wait on the event loop together go through the model together.

Nothing waits for a neighbour unless batching parameters say so: a batch takes what is there when the loop
comes round, and what arrives while every thread is busy.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from serving import batching
from serving.batching import Answer
from serving.batching_parameters import BatchingParameters
from serving.errors import Code, RequestError
from serving.lifecycle import Lease
from serving.signatures import Plan
from serving.tensors import Array

if TYPE_CHECKING:
    from serving.servable import Servable

# More rows gain little, and keep the threads from others (MLP 20-64-32-5: 64 rows take twice as long as one).
MOST_ROWS = 256
# That a graph treats rows apart is tried on so many batches, each answered request by request as well.
PROOFS = 2
_MIXES_ROWS = -1

# The servable, the plan, and the kind of each input: what goes through one call.
_Key = tuple[Hashable, ...]


@dataclass(eq=False, slots=True)
class _Waiting:
    lease: Lease
    inputs: Mapping[str, Array]
    answer: asyncio.Future[list[Array]]


@dataclass(eq=False, slots=True)
class Batch:
    """Requests for one call; `due` when it may start as soon as a thread is free."""

    plan: Plan
    parameters: BatchingParameters
    proving: bool
    waiting: list[_Waiting] = field(default_factory=list)
    rows: int = 0
    due: bool = False
    client: Hashable = ""

    def take(self) -> Lease | None:
        """Drop the requests that nobody waits for any more; return a lease of another, or None."""
        self.waiting = [each for each in self.waiting if not each.answer.done()]
        return self.waiting[0].lease if self.waiting else None

    def run(self) -> tuple[list[Answer], bool]:
        """Return the answers in the order of `waiting`, and whether one call gives the same as one each."""
        servable = self.waiting[0].lease.servable
        requests = [each.inputs for each in self.waiting]
        if self.proving and len(requests) > 1:
            return batching.proven(servable, self.plan, requests, self.parameters)
        return batching.answer(servable, self.plan, requests, self.parameters), True


class BatchQueue:
    """The batches of one event loop; `call` runs one, at once or on a thread, and calls back with its end."""

    def __init__(
        self,
        call: Callable[[Batch, Lease, Callable[[tuple[list[Answer], bool] | BaseException], None]], None],
        parameters: BatchingParameters | None,
        *,
        threads: int,
    ) -> None:
        self._call = call
        self._parameters = parameters
        self._automatic = BatchingParameters(
            max_batch_size=MOST_ROWS, num_batch_threads=threads, max_enqueued_batches=1 << 30
        )
        self._open: dict[_Key, Batch] = {}
        self._queued: deque[tuple[_Key, Batch]] = deque()
        self._running = 0
        self._advancing = False
        # When each client with waiting batches had its last turn.
        self._turns: dict[Hashable, int] = {}
        # Whether the last batch was of one request, and whether one came since the loop came round.
        self._was_lone = True
        self._has_company = False

    def parameters(self, servable: "Servable", plan: Plan, rows: int) -> BatchingParameters | None:
        """Return how a request is batched, or None when it has to go alone."""
        asked = servable.batching or self._parameters
        if not rows or servable.proofs.get(plan, 0) == _MIXES_ROWS:
            return None
        if asked is not None:
            batching.check_rows(rows, asked)
            return asked
        return self._automatic if plan.signature_name in servable.row_wise and rows < MOST_ROWS else None

    def is_alone(self, parameters: BatchingParameters) -> bool:
        """Return whether a request needn't wait until the loop comes round, for nobody would join it.

        A guess from what came of late; whoever asks for TensorFlow Serving's parameters gets its queue.
        """
        if parameters is not self._automatic or self._has_company or not self._was_lone:
            return False
        # The next one in this turn of the loop is told that it has company.
        self._has_company = True
        asyncio.get_running_loop().call_soon(self._come_round)
        return True

    def submit(
        self,
        client: Hashable,
        lease: Lease,
        plan: Plan,
        inputs: Mapping[str, Array],
        rows: int,
        parameters: BatchingParameters,
    ) -> asyncio.Future[list[Array]]:
        """Return the future outputs of one request of so many rows, answered with others.

        Raises:
            RequestError: UNAVAILABLE when too many batches wait.
        """
        batch, key = self._batch(client, lease, plan, inputs, rows, parameters)
        answer: asyncio.Future[list[Array]] = asyncio.get_running_loop().create_future()
        batch.waiting.append(_Waiting(lease, inputs, answer))
        batch.rows += rows
        if batch.rows >= parameters.max_batch_size:
            self._make_due(batch, key)
        return answer

    def _come_round(self) -> None:
        self._has_company = False

    def _batch(
        self,
        client: Hashable,
        lease: Lease,
        plan: Plan,
        inputs: Mapping[str, Array],
        rows: int,
        parameters: BatchingParameters,
    ) -> tuple[Batch, _Key]:
        servable = lease.servable
        key = (servable, plan, *[_kind(inputs[name], parameters) for name in plan.inputs])
        batch = self._open.get(key)
        if batch is not None and batch.rows + rows <= parameters.max_batch_size:
            return batch, key
        if batch is not None:
            self._open.pop(key)
            self._make_due(batch, key)
        queued = sum(waiting[0] is servable for waiting, _ in self._queued)
        if queued >= parameters.max_enqueued_batches:
            raise RequestError(
                Code.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full"
            )
        # Padded rows answer otherwise than alone, so there nothing can be proven.
        proving = servable.proofs.get(plan, 0) < PROOFS and not parameters.pad_variable_length_inputs
        batch = self._open[key] = Batch(plan, parameters, proving, client=client)
        self._queued.append((key, batch))
        loop = asyncio.get_running_loop()
        if parameters.batch_timeout_micros:
            loop.call_later(parameters.batch_timeout_micros / 1e6, self._make_due, batch, key)
        else:
            loop.call_soon(self._make_due, batch, key)
        return batch, key

    def _make_due(self, batch: Batch, key: _Key) -> None:
        batch.due = True
        if batch.rows >= batch.parameters.max_batch_size and self._open.get(key) is batch:
            del self._open[key]
        self._advance()

    def _advance(self) -> None:
        if self._advancing:  # by a batch that ended at once: whoever started it goes on with the next
            return
        self._advancing = True
        try:
            self._start_due()
        finally:
            self._advancing = False

    def _start_due(self) -> None:
        while due := [each for each in self._queued if each[1].due]:
            key, batch = min(due, key=lambda each: self._turns.get(each[1].client, -1))
            if self._running >= batch.parameters.num_batch_threads:
                return
            self._queued.remove((key, batch))
            self._turns[batch.client] = max(self._turns.values(), default=0) + 1
            if self._open.get(key) is batch:
                del self._open[key]
            if not self._queued:
                self._turns.clear()
            lease = batch.take()
            self._was_lone = len(batch.waiting) < 2
            if lease is not None:
                self._running += 1
                self._call(batch, lease, partial(self._end, batch))

    def _end(self, batch: Batch, result: tuple[list[Answer], bool] | BaseException) -> None:
        self._running -= 1
        if isinstance(result, BaseException):
            answers: list[Answer | BaseException] = [result] * len(batch.waiting)
        else:
            answers = [*result[0]]
            self._note(batch, result[1])
        for waiting, answer in zip(batch.waiting, answers, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(answer, BaseException):
                waiting.answer.set_exception(answer)
            else:
                waiting.answer.set_result(answer)
        self._advance()

    def _note(self, batch: Batch, apart: bool) -> None:
        if not batch.proving or len(batch.waiting) < 2:
            return
        proofs = batch.waiting[0].lease.servable.proofs
        if not apart:
            proofs[batch.plan] = _MIXES_ROWS
        elif proofs.get(batch.plan, 0) != _MIXES_ROWS:
            proofs[batch.plan] = proofs.get(batch.plan, 0) + 1


def _kind(array: Array, parameters: BatchingParameters) -> Hashable:
    # With padding, rows of unlike shapes go together.
    return (array.dtype, array.ndim if parameters.pad_variable_length_inputs else array.shape[1:])
