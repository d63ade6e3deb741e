"""Simulate a backfill with the pool `jsoc`: days per hour, and what limits them.

    python -m benchmarks.jsoc_pool

Each worker processes one day after another: it waits for a slot in the pool, fetches, returns the
slot, and computes. Concurrent fetches share the network link equally, and each is limited by its
own connections. The sizes and compute times of days vary randomly around their means. Retries,
outages and the time that Dagster takes to assign slots are not modeled.

(The file is not called `queue`, because scripts in this folder would import it instead of the
standard library's module.)
"""

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass

MISSION_DAYS = 6037
"""Number of days from 2010-05-13 to 2026-11-21."""

AIA_FRAMES, AIA_BYTES = 7 * 96, 1_105_920
HMI_FRAMES, HMI_BYTES = 96, 384_775
DAY_FRAMES = AIA_FRAMES + HMI_FRAMES
DAY_BYTES = AIA_FRAMES * AIA_BYTES + HMI_FRAMES * HMI_BYTES


@dataclass(frozen=True)
class Deployment:
    """Workers and their archive. Times are in seconds, rates in bytes per second."""

    workers: int
    pool: int = 2
    """Runs that may fetch at the same time: the limit of the pool `jsoc`."""
    connections: int = 4
    """Connections of one run: ``SDOML_MAX_CONNECTIONS``."""
    latency: float = 0.15
    """Time from a request to the first byte of its response."""
    connection_rate: float = 2e6
    """Rate of one connection after the first byte."""
    link: float = 50e6
    """Rate of the network link, which all connections share."""
    compute: float = 20.0
    """Time that a worker needs to compute one day, without fetching."""
    spread: float = 0.2
    """Standard deviation of the logarithm of a day's size, and of its compute time."""

    @property
    def fetch_rate(self) -> float:
        """Rate of one run that has the network link to itself."""
        seconds_per_frame = self.latency + DAY_BYTES / DAY_FRAMES / self.connection_rate
        return self.connections * DAY_BYTES / DAY_FRAMES / seconds_per_frame

    @property
    def bounds(self) -> dict[str, float]:
        """Days per second that each part alone allows. The smallest value is the limit."""
        fetch = DAY_BYTES / min(self.fetch_rate, self.link)
        return {
            "workers": self.workers / (fetch + self.compute),
            "pool": self.pool / fetch,
            "link": self.link / DAY_BYTES,
        }


@dataclass(frozen=True)
class Outcome:
    """Result of a simulation. Shares are averages over the simulated time."""

    days_per_hour: float
    pool_busy: float
    """Share of the pool's slots that are in use."""
    waiting: float
    """Share of workers that are waiting for a slot."""


def simulate(deployment: Deployment, *, days: int = MISSION_DAYS, seed: int = 1) -> Outcome:
    """Simulate a backfill from its first day to its last."""
    chance = random.Random(seed)

    def varied(mean: float) -> float:
        spread = deployment.spread
        return mean * math.exp(chance.gauss(0, spread) - spread**2 / 2)

    now = pool_time = waiting_time = 0.0
    started = finished = 0
    fetching: dict[int, float] = {}  # remaining bytes, by worker
    computing: list[tuple[float, int]] = []
    waiting = deque(range(deployment.workers))
    while finished < days:
        while waiting and started < days and len(fetching) < deployment.pool:
            fetching[waiting.popleft()] = varied(DAY_BYTES)
            started += 1
        rate = min(deployment.fetch_rate, deployment.link / max(len(fetching), 1))
        fetched = now + min(fetching.values(), default=math.inf) / rate
        computed = computing[0][0] if computing else math.inf
        passed = min(fetched, computed) - now
        pool_time += passed * len(fetching)
        waiting_time += passed * len(waiting)
        now += passed
        for worker in fetching:
            fetching[worker] -= passed * rate
        if computed <= fetched:
            waiting.append(heapq.heappop(computing)[1])
            finished += 1
        else:
            worker = min(fetching, key=fetching.__getitem__)
            del fetching[worker]
            heapq.heappush(computing, (now + varied(deployment.compute), worker))
    return Outcome(
        3600 * days / now,
        pool_time / now / deployment.pool,
        waiting_time / now / deployment.workers,
    )


def table() -> str:
    """Return the Markdown table of ``benchmarks/results/jsoc_pool.md``."""
    lines = [
        "| MB/s per connection | workers | pool | days/h | bound | whole mission, days "
        "| machine-days | slots in use | workers waiting | limit |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    cases = [(rate, workers, 2) for rate in (0.5, 2, 8) for workers in (1, 2, 3, 8, 64)]
    cases += [(2, 64, pool) for pool in (1, 4, 8, 16)]
    for rate, workers, pool in cases:
        deployment = Deployment(workers, pool, connection_rate=rate * 1e6)
        outcome = simulate(deployment)
        elapsed = MISSION_DAYS / outcome.days_per_hour / 24
        limit, bound = min(deployment.bounds.items(), key=lambda item: item[1])
        lines.append(
            f"| {rate} | {workers} | {pool} | {outcome.days_per_hour:.0f} | {3600 * bound:.0f} "
            f"| {elapsed:.1f} | {elapsed * workers:.0f} | {outcome.pool_busy:.0%} "
            f"| {outcome.waiting:.0%} | {limit} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
