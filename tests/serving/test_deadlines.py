"""A block that may take so long: kept, late, late out of order, and cancelled by somebody else."""

import asyncio

import pytest

from serving.deadlines import Deadlines


async def late(deadlines, timeout_s):
    """Return how long a block of ten seconds was let run."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TimeoutError), deadlines.within(timeout_s):
        await asyncio.sleep(10)
    return loop.time() - began


def test_a_block_in_time_ends_as_it_would_without():
    async def run():
        with Deadlines().within(10):
            await asyncio.sleep(0)
            return asyncio.current_task().cancelling()

    assert asyncio.run(run()) == 0


def test_a_block_without_a_deadline_takes_as_long_as_it_takes():
    async def run():
        with Deadlines().within(None):
            await asyncio.sleep(0.05)
            return True

    assert asyncio.run(run())


def test_each_of_several_blocks_ends_by_its_own_deadline_whatever_their_order():
    async def run():
        deadlines = Deadlines()
        return await asyncio.gather(*[late(deadlines, each) for each in (0.3, 0.1, 0.2, 0)])

    for took_s, timeout_s in zip(asyncio.run(run()), (0.3, 0.1, 0.2, 0), strict=True):
        assert timeout_s - 0.002 <= took_s < timeout_s + 0.09


def test_a_task_goes_on_after_a_late_block():
    async def run():
        await late(Deadlines(), 0.01)
        await asyncio.sleep(0)
        return asyncio.current_task().cancelling()

    assert asyncio.run(run()) == 0


def test_a_task_that_is_cancelled_from_outside_ends_as_cancelled():
    async def block(deadlines):
        with deadlines.within(10):
            await asyncio.sleep(10)

    async def run():
        task = asyncio.create_task(block(Deadlines()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
