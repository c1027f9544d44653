"""State in Redis: unfinished uploads, and a memory of catalogue rows for a day.

Every change is one script, every key has a lifetime, and nothing looks over all keys. There is one attempt for each
command: a retry would make everybody wait twice for a dead server. Redis may lose everything at any time; files and
partials on disk do not depend on it. Not for Redis Cluster, where a script may only touch keys that it was told.
"""

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.retry import Retry

from hmacfs.errors import StateUnavailable
from hmacfs.state.addresses import RedisAddress
from hmacfs.state.base import MOST_RESERVATIONS, BanStore, FileRow, Grant, Reservation, SessionRow, page, values
from hmacfs.state.batches import parts
from hmacfs.state.redisbans import RedisBans

T = TypeVar("T")

PREFIX = "hmacfs:3:"
"""The number changes with the form of what is kept, so that old and new servers do not read each other's."""

# A hung server counts as dead within their sum, a second. Names are resolved without a limit: give an address.
_TURN_SECONDS = 0.2
_CONNECT_SECONDS = 0.3
_ANSWER_SECONDS = 0.5
_CONNECTIONS = 32
_CACHE_SECONDS = 24 * 3600
_GONE_SECONDS = 60
"""How long a forgotten file is known to be gone: longer than a reader may hold the row it read just before."""
_EPOCH_SECONDS = 2 * _CACHE_SECONDS
_LONGEST_SECONDS = 90 * 24 * 3600
_MOST_SESSIONS = 100_000
_EPOCH_LENGTH = 16


class RedisTier:
    """One database of a Redis server as a tier.

    Args:
        address: from ``addresses.parse_redis``.
        password, database: where the address does not say.
        prefix: of every key; tests have their own.
    """

    name = "redis"

    def __init__(self, address: RedisAddress, password: str = "", database: int = 0, prefix: str = PREFIX) -> None:
        self._address = address
        self._password = address.password or password
        self._database = database if address.database is None else address.database
        self._epoch_key = f"{prefix}epoch"
        self._file = f"{prefix}file:"
        self._session = f"{prefix}session:"
        self._list = f"{prefix}sessions"
        self._alive = f"{prefix}alive"
        self._lease = f"{prefix}lease:"
        self._account = f"{prefix}account:"
        self._counted = f"{prefix}counted"
        self._made: redis.Redis | None = None
        self.bans: BanStore = RedisBans(prefix, self._call)
        self._run_id = ""

    # Catalogue, as a cache

    def record_files(self, rows: Sequence[FileRow]) -> None:
        self._remember("set", _CACHE_SECONDS, [(row.path, _text(row)) for row in rows])

    def find_file(self, path: str) -> FileRow | None:
        return self.cached_file(path)[1]

    def cached_file(self, path: str) -> tuple[bool, FileRow | None]:
        with _translated():
            found: Any = self._client().mget(self._epoch_key, f"{self._file}{path}")
        epoch, entry = found
        if epoch is None or entry is None or not entry.startswith(epoch):
            return False, None
        text = entry[len(epoch) :]
        return True, FileRow(*json.loads(text)) if text else None

    def fill_file(self, row: FileRow) -> None:
        self._remember("fill", _CACHE_SECONDS, [(row.path, _text(row))])

    def forget_files(self, paths: Sequence[str]) -> None:
        self._remember("set", _GONE_SECONDS, [(path, "") for path in paths])

    def list_files(self, after: str, limit: int) -> list[FileRow]:  # noqa: ARG002 - the port has them
        raise StateUnavailable("a cache has no list of files")

    def stored_bytes(self, uploader: str) -> int:  # noqa: ARG002 - the port has it
        raise StateUnavailable("a cache does not know all files")

    def distrust(self) -> None:
        with _translated():
            self._client().set(self._epoch_key, _new_epoch(), ex=_EPOCH_SECONDS)

    # Sessions

    def save_sessions(self, rows: Sequence[SessionRow]) -> None:
        entries = [(row.key, str(row.expires_at), _text(row)) for row in rows]
        self._run("save_sessions", [self._list], [self._session, _MOST_SESSIONS, _LONGEST_SECONDS], entries)

    def find_session(self, key: str, now: int) -> SessionRow | None:
        with _translated():
            text = self._client().get(f"{self._session}{key}")
        row = SessionRow(*json.loads(text)) if text else None
        return row if row is not None and row.expires_at > now and not row.is_over else None

    def list_sessions(self, now: int, limit: int) -> list[SessionRow]:
        if page(limit) == 0:
            return []
        with _translated():
            found = self._script("list_sessions")(keys=[self._list], args=[self._session, now, page(limit)])
        return [SessionRow(*json.loads(text)) for text in found]

    # Upkeep

    def lease(self, name: str, holder: str, seconds: int, now: int) -> bool:  # noqa: ARG002 - Redis has a clock for all
        with _translated():
            return bool(self._script("lease")(keys=[f"{self._lease}{name}"], args=[holder, seconds]))

    def purge(self, now: int) -> None:
        """Redis does so by itself."""

    # Accounts

    def reserve(self, wish: Reservation, quota: int, now: int) -> Grant:
        with _translated():
            keys = [f"{self._account}{wish.account}", self._counted]
            said = self._script("reserve")(
                keys=keys, args=[wish.key, wish.size, wish.owner, wish.expires_at, quota, now, MOST_RESERVATIONS]
            )
        return Grant(said.decode())

    def renew(self, reservations: Sequence[Reservation], now: int) -> None:
        entries = [(each.account, each.key, str(each.size), each.owner, str(each.expires_at)) for each in reservations]
        self._run("renew_reservations", [], [self._account, now], entries)

    def settle(self, reservations: Sequence[Reservation]) -> None:
        self._run("end_reservations", [], [self._account, "settle"], _ends(reservations))

    def give_back(self, reservations: Sequence[Reservation]) -> None:
        self._run("end_reservations", [], [self._account, "give back"], _ends(reservations))

    def used(self, account: str, now: int) -> int | None:
        with _translated():
            said = self._script("used")(keys=[f"{self._account}{account}", self._counted], args=[now])
        return None if said is None else int(said)

    def begin_count(self, account: str, now: int) -> int:  # noqa: ARG002 - the port has it
        with _translated():
            settled: Any = self._client().hget(f"{self._account}{account}", "settled")
        return int(settled or 0)

    def count(self, account: str, stored: int, mark: int, now: int, until: int) -> bool:
        with _translated():
            keys = [f"{self._account}{account}", self._counted]
            args = [stored, mark, now, until, _new_epoch(), _EPOCH_SECONDS]
            return bool(self._script("count")(keys=keys, args=args))

    def forget_counts(self) -> None:
        with _translated():
            self._client().delete(self._counted)

    # The tier itself

    def ping(self) -> None:
        with _translated():
            client = self._client()
            client.set(self._alive, "1", ex=60)  # one that only reads (a replica, a full one) is of no use
            run_id = _run_id(client)
        if run_id != self._run_id:  # another process: what it remembers may be older than what we know
            self.distrust()
            self._run_id = run_id

    def run(self, work: Callable[[redis.Redis], T]) -> T:
        """``work`` with our client. Raises StateUnavailable."""
        with _translated():
            return work(self._client())

    def close(self) -> None:
        if self._made is not None:
            try:
                self._made.connection_pool.disconnect()
            except (RedisError, OSError):
                pass  # it is being given up

    def _client(self) -> redis.Redis:
        if self._made is None:
            server = self._address.server
            more: dict[str, Any] = {"path": server.path} if server.path else {"host": server.host, "port": server.port}
            if not server.path:
                more["socket_connect_timeout"] = _CONNECT_SECONDS
            pool = redis.BlockingConnectionPool(  # type: ignore[no-untyped-call]
                connection_class=_connection_class(self._address),
                max_connections=_CONNECTIONS,
                timeout=_TURN_SECONDS,
                socket_timeout=_ANSWER_SECONDS,
                retry=Retry(NoBackoff(), 0),
                health_check_interval=30,
                protocol=2,
                username=self._address.user or None,
                password=self._password or None,
                db=self._database,
                **more,
            )
            self._made = redis.Redis(connection_pool=pool)
        return self._made

    def _call(self, name: str, keys: list[str], args: list[Any]) -> Any:
        """One script's answer. Raises StateUnavailable."""
        with _translated():
            return self._script(name)(keys=keys, args=args)

    def _script(self, name: str) -> Callable[..., Any]:
        return self._client().register_script(_source(name))

    def _remember(self, mode: str, seconds: int, entries: Sequence[tuple[str, str]]) -> None:
        fixed = [self._file, _new_epoch(), _EPOCH_SECONDS, seconds, mode]
        self._run("remember_files", [self._epoch_key], fixed, entries)

    def _run(self, name: str, keys: list[str], fixed: list[Any], entries: Sequence[tuple[str, ...]]) -> None:
        """One call of a script for each thousand entries, so that no call keeps Redis busy for long."""
        with _translated():
            script = self._script(name)
            for part in parts(entries):
                script(keys=keys, args=[*fixed, *(value for entry in part for value in entry)])


def _ends(reservations: Sequence[Reservation]) -> list[tuple[str, str, str, str]]:
    return [(each.account, each.key, each.owner, str(each.expires_at)) for each in reservations]


def _connection_class(address: RedisAddress) -> type[redis.Connection | redis.UnixDomainSocketConnection]:
    if address.server.path:
        return redis.UnixDomainSocketConnection
    return redis.SSLConnection if address.tls else redis.Connection


@cache
def _source(name: str) -> str:
    return resources.files("hmacfs.state").joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8")


def _text(row: FileRow | SessionRow) -> str:
    return json.dumps(values(row), ensure_ascii=False, separators=(",", ":"))


def _new_epoch() -> str:
    return secrets.token_hex(_EPOCH_LENGTH // 2)


def _run_id(client: redis.Redis) -> str:
    try:
        return str(client.info("server")["run_id"])
    except AuthenticationError:
        raise
    except ResponseError:  # an account that may not ask
        return "unknown"


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (redis.TimeoutError, TimeoutError) as error:
        raise StateUnavailable("no answer in time") from error
    except (RedisError, OSError) as error:
        raise StateUnavailable(_reason(error)) from error


def _reason(error: Exception) -> str:
    """The kind of an error, and the code that Redis' own errors begin with; the rest may quote what was sent."""
    if "Connection refused" in str(error):
        return "connection refused"
    code = str(error).partition(" ")[0]
    return f"{type(error).__name__} {code}" if code.isupper() and code.isalpha() else type(error).__name__
