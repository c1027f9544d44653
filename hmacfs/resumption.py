"""Settings to uploads that go on where they were broken off."""

import time
from dataclasses import dataclass

from hmacfs.services.engine import Engine
from hmacfs.services.progress import ResumeRules
from hmacfs.services.quotas import Quotas
from hmacfs.services.resumable import Resumable
from hmacfs.services.sessions import Sessions
from hmacfs.services.tokens import Tokens
from hmacfs.services.uploads import Uploads
from hmacfs.settings import Settings
from hmacfs.storage import partialfolders
from hmacfs.storage.local import LocalStorage
from hmacfs.storage.partials import LocalPartials
from hmacfs.workshop import Workshop


def unfinished(settings: Settings, storage: LocalStorage) -> LocalPartials:
    """What lies beside ``storage`` of uploads that are not over. Raises ConfigError."""
    partialfolders.prepare(settings.store_dir)
    most, ttl = settings.max_sessions_per_slot, settings.session_ttl
    return LocalPartials(storage, settings.store_dir, most=most, ttl=ttl, clock=time.time)


@dataclass(frozen=True, slots=True)
class Resumption:
    """The use cases: of X-Session-Token, and of tus and the draft."""

    sessions: Sessions
    resumable: Resumable


def resumption(settings: Settings, shop: Workshop, uploads: Uploads, kept: LocalPartials, quotas: Quotas) -> Resumption:
    """Both over one engine; what ``kept`` removes by itself is told to the recorder and to quotas."""
    kept.on_removed = shop.recorder.session_removed
    kept.on_left = quotas.removed if settings.user_quota else None
    authority, admission, intake, clocks = shop.authority, shop.admission, shop.intake, shop.clocks
    rules = ResumeRules(ttl=settings.session_ttl, in_any_order=settings.chunking_enabled)
    engine = Engine(kept, authority, admission, intake, uploads, shop.recorder, shop.retries, clocks, rules, quotas)
    tokens = Tokens(shop.storage, kept, authority, uploads, clocks, rules)
    return Resumption(
        Sessions(engine, tokens, kept, admission, intake, uploads),
        Resumable(engine, kept, authority, admission, uploads),
    )
