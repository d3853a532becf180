"""A client of grpcio's, as programs have it: every call has a deadline and metadata.

`python -m benchmarks.grpcio_load ADDRESS PATH BODY CONNECTIONS IN_FLIGHT SECONDS` sends the message in BODY,
which has gRPC's prefix of five bytes, again and again, and prints how many calls a second were answered. A
call that fails ends it with an error.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import grpc

DEADLINE_S = 10.0
METADATA = (("x-request-id", "b7ad6b7169203331"), ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-01"))
WARM_UP_S = 0.3


async def main() -> None:
    """Keep so many calls in flight."""
    address, path, file, connections, in_flight, seconds = sys.argv[1:]
    body = Path(file).read_bytes()[5:]
    channels = [
        # Channels with equal options would share one connection.
        grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(int(connections))
    ]
    calls: list[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = [
        channel.unary_unary(path) for channel in channels
    ]
    await asyncio.gather(*[call(body, timeout=DEADLINE_S, wait_for_ready=True) for call in calls])
    begin = time.perf_counter() + WARM_UP_S
    end = begin + float(seconds)

    async def keep(call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]) -> int:
        answered = 0
        while (now := time.perf_counter()) < end:
            await call(body, timeout=DEADLINE_S, metadata=METADATA)
            answered += now >= begin
        return answered

    answered = await asyncio.gather(*[keep(call) for call in calls for _ in range(int(in_flight))])
    print(sum(answered) / float(seconds))
    for channel in channels:
        await channel.close()


if __name__ == "__main__":
    asyncio.run(main())
