"""Settings to what people and balancers ask of a running server: is it well, and what does it do."""

import time
from collections.abc import Callable, Mapping
from functools import partial

from hmacfs import __version__
from hmacfs.core.health import judge
from hmacfs.offload import make_pool
from hmacfs.operations import LIVE, READY, STATUS, Sources
from hmacfs.services.health import FRESH_SECONDS, STORE_SECONDS, Health, Limits
from hmacfs.services.health import Sources as Facts
from hmacfs.services.status import Completed, Status, Stored, Sweep, Tier
from hmacfs.settings import Settings
from hmacfs.storage.probe import StoreProbe
from hmacfs.telemetry.latest import Latest
from hmacfs.web import health as pages
from hmacfs.web.health import HealthPages
from hmacfs.web.operations import Answer
from hmacfs.workshop import Workshop


def answers(
    settings: Settings, shop: Workshop, sources: Sources, completed: Callable[[], Completed | None]
) -> Mapping[str, Answer]:
    """What answers the paths of health and status. Call it in the process that serves: it makes a thread pool.

    Args:
        completed: what all workers have completed, in bounded time.
    """
    health = _health(settings, shop, sources)
    book = HealthPages(health, partial(_status, sources, health, completed))
    return {LIVE: pages.live, READY: book.ready, STATUS: book.status}


def _health(settings: Settings, shop: Workshop, sources: Sources) -> Health:
    probe, board = StoreProbe(settings.store_dir, shop.storage.staging), sources.board
    # A thread of its own: the disk pool may stand still for the very reason that is to be told.
    look = Latest(partial(make_pool(1).run, probe.look), fresh=FRESH_SECONDS, patience=STORE_SECONDS)
    facts = Facts(
        look=look.get,
        # The board's word comes first: a worker notices its own signal within a second.
        is_draining=lambda: board.is_stopping() or shop.admission.draining,
        down=lambda: sources.state.serving().down,
        secret_trouble=lambda: shop.keyring.ring.trouble,
        memory=board.memory,
    )
    limits = shop.admission.limits
    return Health(facts, Limits(limits.free_space, limits.memory))


def _status(sources: Sources, health: Health, completed: Callable[[], Completed | None]) -> Status:
    facts = health.facts()
    verdict = judge(facts)
    load, down, swept = sources.board.load(), facts.down, facts.store.swept
    return Status(
        version=__version__,
        condition=verdict.condition.value,
        reasons=verdict.reasons,
        uptime=int(time.monotonic() - sources.board.began),
        workers=sources.board.workers(),
        memory=load.memory,
        cpu=load.cpu,
        connections=load.connections,
        uploads=load.uploads,
        downloads=load.downloads,
        bans=sources.bans.active,
        completed=completed(),
        store=_stored(sources),
        tiers=tuple(Tier(name, down.get(name, "")) for name in sources.state.names),
        sweep=Sweep(max(0, int(time.time() - swept.last.wall)), swept.trouble) if swept and swept.last else None,
        secret_trouble=facts.secret_trouble,
    )


def _stored(sources: Sources) -> Stored | None:
    figures = sources.store()
    if figures is None:
        return None
    stock = figures.stock
    files, stored = sources.board.stored(stock.counted_ms, stock.files, stock.stored)
    return Stored(files, stored, stock.versions, figures.sessions, figures.free)
