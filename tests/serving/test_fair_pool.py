import asyncio
import contextlib
import threading

from serving.fair_pool import FairPool


def run(steps):
    return asyncio.run(asyncio.wait_for(steps(FairPool(1)), 10))


def test_each_waiting_client_has_its_turn():
    order = []

    async def steps(pool):
        calls = [("greedy", number) for number in range(4)] + [("modest", 0)]
        await asyncio.gather(
            *[
                pool.submit(client, lambda each=each: order.append(each), contextlib.nullcontext)
                for client, _ in calls
                for each in [(client, _)]
            ]
        )

    run(steps)

    assert order == [("greedy", 0), ("greedy", 1), ("modest", 0), ("greedy", 2), ("greedy", 3)]


def test_a_call_that_is_cancelled_while_it_waits_never_runs():
    ran, may_end = [], threading.Event()

    async def steps(pool):
        first = pool.submit("a", lambda: may_end.wait(10), contextlib.nullcontext)
        waiting = pool.submit("a", lambda: ran.append("cancelled"), contextlib.nullcontext)
        last = pool.submit("a", lambda: ran.append("last"), contextlib.nullcontext)
        waiting.cancel()
        may_end.set()
        await asyncio.gather(first, last)

    run(steps)

    assert ran == ["last"]


def test_what_is_held_is_given_back_when_the_work_ends_even_if_nobody_waits():
    events, started, may_end = [], threading.Event(), threading.Event()

    @contextlib.contextmanager
    def hold():
        events.append("held")
        yield
        events.append("given back")

    def work():
        started.set()
        may_end.wait(10)
        events.append("ended")

    async def steps(pool):
        call = pool.submit("a", work, hold)
        await asyncio.to_thread(started.wait, 10)
        call.cancel()
        may_end.set()
        await pool.submit("a", lambda: None, contextlib.nullcontext)

    run(steps)

    assert events == ["held", "ended", "given back"]
