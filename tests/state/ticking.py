"""A worker's process in small: patched first, it records files while a greenlet ticks, and says how long that stood.

Run with the kind of database, its port, user, password, name, and a folder for state. Each line of standard input is a
number of files to record at once, by as many greenlets; the answer is one line of JSON.
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402

import gevent  # noqa: E402

from hmacfs.offload import make_pool  # noqa: E402
from hmacfs.state.base import FileRow  # noqa: E402
from hmacfs.state.opening import DB_THREADS, redis_tier, server_tier, shared_state  # noqa: E402


class Ticker:
    """Attributes: gap: the longest time between two ticks, seconds."""

    def __init__(self) -> None:
        self.gap = 0.0
        self._greenlet = gevent.spawn(self._tick)

    def _tick(self) -> None:
        last = time.monotonic()
        while True:
            gevent.sleep(0.005)
            now = time.monotonic()
            self.gap = max(self.gap, now - last)
            last = now


def main() -> None:
    kind, port, user, password, database, folder = sys.argv[1:]
    pool = make_pool(DB_THREADS)
    if kind == "redis":
        state = shared_state(folder, pool, cache=redis_tier(f":{port}", password, 0))
    else:
        state = shared_state(folder, pool, server=server_tier(kind, f":{port}", user, password, database, pool))
    state.probe()
    ticker = Ticker()

    def record(number: int) -> float:
        begun = time.monotonic()
        state.record_files([FileRow(f"file/{number}", number, "", "", "", 0, 0)])
        assert state.find_file(f"file/{number}") is not None
        return time.monotonic() - begun

    for line in sys.stdin:
        ticker.gap = 0.0
        jobs = [gevent.spawn(record, number) for number in range(int(line))]
        gevent.joinall(jobs, raise_error=True)
        serving = state.serving()
        answer = {"slowest": max(job.value for job in jobs), "gap": ticker.gap, "catalog": serving.catalog}
        state.probe()  # beside the measurement: the next line finds the tiers as they are by then
        print(json.dumps(answer | {"down": list(serving.down)}), flush=True)
    state.stop()


main()
