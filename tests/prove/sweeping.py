"""``python -m tests.prove.sweeping CONFIG``: one sweep of a store, and what it took, as JSON."""

import json
import sys
import time
from pathlib import Path

from hmacfs import configfile, offload, retention, tiers
from hmacfs.core.retry import Schedule
from hmacfs.services.observer import Observer
from hmacfs.services.recorder import Recorder
from hmacfs.storage import partialfolders, storedir
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.partials import LocalPartials


def peak() -> int:
    """The most bytes of memory that this process has held."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def main(config: str) -> None:
    settings = configfile.usable(configfile.load(config))
    storedir.prepare(settings.store_dir)
    partialfolders.prepare(settings.store_dir)
    storage = LocalStorage(
        settings.store_dir,
        offload.make_pool(1),
        durability=settings.durability,
        file_mode=settings.file_mode,
        dir_mode=settings.dir_mode,
    )
    kept = retention.kept(settings, storage)
    unfinished = LocalPartials(storage, settings.store_dir, most=4, ttl=settings.session_ttl, clock=time.time)
    state = tiers.shared_state(settings)
    recorder = Recorder(state, Schedule(0, 0), lambda: 0.0, lambda _: None)
    janitor = retention.janitor(settings, storage, kept, unfinished, state, recorder, Observer())
    recorder.start()
    before, wall, cpu = peak(), time.monotonic(), time.process_time()
    report = janitor.sweep(force=True)
    assert report is not None
    took = {"wall": time.monotonic() - wall, "cpu": time.process_time() - cpu, "memory": peak() - before}
    recorder.stop()
    state.stop()
    print(json.dumps({**took, "files": report.files, "removed": report.removed, "freed": report.freed}))


if __name__ == "__main__":
    main(sys.argv[1])
