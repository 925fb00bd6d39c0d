"""How much memory many calls leave behind.

Run as ``python bench/growth.py URL CALLS``: makes that many calls to fill what is bounded (the response ids that are
remembered, the pool), then as many again, and prints the resident set in MiB and the number of objects that Python
tracks, each before, between and after.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "peers"))

from _measure import Ask
from ours import opened

__all__ = ["resident"]

STATM = Path("/proc/self/statm")
CONCURRENCY = 64
MIB = 1024 * 1024


def resident() -> float:
    """Return the resident set in MiB; where the system does not tell, the highest it has been."""
    gc.collect()
    if STATM.exists():
        return int(STATM.read_text().split()[1]) * resource.getpagesize() / MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (MIB if sys.platform == "darwin" else 1024)


async def made(ask: Ask, calls: int) -> None:
    """Make calls and keep nothing of them: what is kept here would count as growth."""
    turns = iter(range(calls))

    async def caller() -> None:
        for _ in turns:
            await ask()

    await asyncio.gather(*(caller() for _ in range(CONCURRENCY)))


async def main(url: str, calls: int) -> None:
    """Measure and print."""
    async with opened(url) as ask:
        await made(ask, 2 * CONCURRENCY)
        sizes, objects = [resident()], [len(gc.get_objects())]
        for _ in range(2):
            await made(ask, calls)
            sizes.append(resident())
            objects.append(len(gc.get_objects()))
    print(json.dumps([sizes, objects]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
