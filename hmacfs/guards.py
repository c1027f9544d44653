"""Settings to what keeps one client from using up what is there for all: bans, quotas, rates."""

import time
from collections.abc import Callable

from hmacfs.core.bans import Rules
from hmacfs.core.clientaddr import ProxyTrust
from hmacfs.errors import TooManyRequests
from hmacfs.server.cpus import usable_cpus
from hmacfs.services.bans import BanList, fingerprint
from hmacfs.services.observer import Observer
from hmacfs.services.quotas import QuotaRules, Quotas, UserQuotas
from hmacfs.services.recorder import Recorder
from hmacfs.services.secrets import Keyring
from hmacfs.settings import Settings
from hmacfs.state.failover import SharedState
from hmacfs.state.scoreboard import Scoreboard
from hmacfs.storage.base import Partials, Storage


def bans(settings: Settings, keyring: Keyring, state: SharedState, board: Scoreboard, observer: Observer) -> BanList:
    """Who is banned. The book of bans belongs to the secrets of ``keyring``."""
    after, first, later = settings.block_after_fails, settings.block_duration, settings.auto_ban_time
    return BanList(
        Rules(after, first, later, settings.auto_unban),
        state.bans,
        board,
        ProxyTrust((*settings.trusted_proxies, *settings.never_ban)).trusts,
        lambda: fingerprint(*keyring.current_keys),
        observer,
    )


def quotas(
    settings: Settings, state: SharedState, recorder: Recorder, storage: Storage, kept: Partials | None
) -> Quotas:
    """The bytes that an uploader may have. Args: kept: None where uploads cannot be resumed."""
    if not settings.user_quota:
        return Quotas()
    rules = QuotaRules(settings.user_quota, settings.quota_by_first_segment, settings.session_ttl)
    replaced = storage if settings.enable_versioning else None
    return UserQuotas(state, recorder, rules, time.time, kept.standing if kept else None, replaced)


def check_rate(settings: Settings, state: SharedState) -> Callable[[str], None] | None:
    """What is called with the address of each client that begins something, and raises TooManyRequests; None without
    RequestRateLimit."""
    if not settings.request_rate_limit:
        return None
    from hmacfs.state.rates import Rates  # with its library: only who uses it waits for that

    over_redis = (lambda work: state.over_redis(lambda tier: tier.run(work))) if settings.redis_addr else None
    rates = Rates(settings.request_rate_limit, over_redis, settings.num_cores or usable_cpus())

    def check(client: str) -> None:
        if client and (seconds := rates.wait(client)):
            raise TooManyRequests(seconds)

    return check
