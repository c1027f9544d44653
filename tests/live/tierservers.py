"""The servers of shared state as a live test meets them: the keys that lead a server to one, what it holds, read by a
client of the test's own, and how it turns everybody away while it lives."""

import json
import os
import signal
from collections.abc import Callable
from typing import Any

from sqlalchemy import Boolean, ColumnElement, Engine, NullPool, column, create_engine, inspect, select, table

from hmacfs.state.redis import PREFIX
from tests.support import mariadb, postgres, redis
from tests.support.mariadb import MariadbServer
from tests.support.polling import until
from tests.support.postgres import PostgresServer
from tests.support.redis import RedisServer
from tests.support.servers import StateServer

_EPOCH_LENGTH = 16
"""Hex digits in front of every catalogue row in Redis: rows of another epoch count for nothing."""


class TierServer:
    """One server of shared state.

    Attributes:
        serves: the log line of a worker whose rows go there.
        has_catalog: whether catalogue rows live there; in Redis they are a cache that may miss any.
    """

    serves = ""
    has_catalog = True

    def __init__(self, server: StateServer) -> None:
        self.server = server

    @property
    def name(self) -> str:
        return self.server.title

    def keys(self) -> dict[str, Any]:
        """For config.toml."""
        raise NotImplementedError

    def sessions(self) -> dict[str, int]:
        """Path to offset of the unfinished uploads that it knows."""
        raise NotImplementedError

    def files(self) -> dict[str, int]:
        """Path to size of the files that it knows."""
        raise NotImplementedError

    def refuse(self) -> None:
        """From now on nobody is let in, and who was in is thrown out; what it holds stays."""
        raise NotImplementedError

    def accept(self) -> None:
        """Undo ``refuse``."""
        raise NotImplementedError


class RedisTierServer(TierServer):
    serves = "State tier: redis serves unfinished uploads, embedded the catalogue"
    has_catalog = False
    server: RedisServer

    def keys(self) -> dict[str, Any]:
        return {"RedisAddr": f"127.0.0.1:{self.server.port}", "RedisPassword": redis.PASSWORD}

    def sessions(self) -> dict[str, int]:
        with self.server.client() as client:
            names: Any = client.zrange(f"{PREFIX}sessions", 0, -1)
            texts: Any = client.mget([f"{PREFIX}session:{name}" for name in names]) if names else []
        rows = [json.loads(text) for text in texts if text]
        return {row[1]: row[3] for row in rows}

    def files(self) -> dict[str, int]:
        with self.server.client() as client:
            epoch: Any = client.get(f"{PREFIX}epoch")
            texts: list[Any] = [client.get(name) for name in client.scan_iter(match=f"{PREFIX}file:*", count=1000)]
        of_now = [text[_EPOCH_LENGTH:] for text in texts if text and epoch and text.startswith(epoch)]
        rows = [json.loads(text) for text in of_now if text]
        return {row[0]: row[1] for row in rows}

    def refuse(self) -> None:
        self._admin: Any = self.server.client()
        self._admin.config_set("requirepass", f"not {redis.PASSWORD}")
        self._admin.client_kill_filter(_type="normal", skipme=True)

    def accept(self) -> None:
        self._admin.config_set("requirepass", redis.PASSWORD)
        self._admin.close()


class SqlTierServer(TierServer):
    """Args: address: of the server for SQLAlchemy."""

    kind = ""
    user = password = database = ""

    @property
    def serves(self) -> str:  # type: ignore[override]
        return f"State tier: {self.kind} serves"

    def keys(self) -> dict[str, Any]:
        return {
            "FallbackEnabled": True,
            "FallbackDBType": self.kind,
            "FallbackDBHost": f"127.0.0.1:{self.server.port}",
            "FallbackDBUser": self.user,
            "FallbackDBPassword": self.password,
            "FallbackDBName": self.database,
        }

    def engine(self) -> Engine:
        raise NotImplementedError

    def sessions(self) -> dict[str, int]:
        return self._rows("hmacfs_sessions", "offset", ~column("is_over", Boolean))

    def files(self) -> dict[str, int]:
        return self._rows("hmacfs_files", "size")

    def _rows(self, name: str, value: str, *conditions: ColumnElement[bool]) -> dict[str, int]:
        query = select(column("path"), column(value)).select_from(table(name)).where(*conditions)
        with self.engine().connect() as connection:
            if not inspect(connection).has_table(name):  # nobody has made it anew
                return {}
            found = list(connection.execute(query))
        return {path.decode() if isinstance(path, bytes) else path: number for path, number in found}


class PostgresTierServer(SqlTierServer):
    kind, user, password, database = "postgres", postgres.USER, postgres.PASSWORD, postgres.DATABASE
    server: PostgresServer

    def engine(self) -> Engine:
        place = f"{self.user}:{self.password}@127.0.0.1:{self.server.port}/{self.database}"
        return create_engine(f"postgresql+psycopg2://{place}", poolclass=NullPool, isolation_level="AUTOCOMMIT")

    def refuse(self) -> None:
        with self.engine().connect() as connection:
            self._let_in("reject", lambda: connection.exec_driver_sql("SELECT pg_reload_conf()"))
            until(lambda: not self.server.answers(), "PostgreSQL lets nobody in")
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )

    def accept(self) -> None:
        self._let_in("scram-sha-256", lambda: os.kill(self.server.pids()[0], signal.SIGHUP))

    def _let_in(self, method: str, reload: Callable[[], object]) -> None:
        (self.server.data / "pg_hba.conf").write_text(f"host all all all {method}\n", encoding="utf-8")
        reload()


class MariadbTierServer(SqlTierServer):
    kind, user, password, database = "mysql", mariadb.USER, mariadb.PASSWORD, mariadb.DATABASE
    server: MariadbServer

    def engine(self) -> Engine:
        place = f"{self.user}:{self.password}@127.0.0.1:{self.server.port}/{self.database}"
        return create_engine(f"mysql+mysqldb://{place}", poolclass=NullPool, isolation_level="AUTOCOMMIT")

    def refuse(self) -> None:
        self._admin: Any = self.server.connect()
        self._run(f"ALTER USER {self.user}@'%' ACCOUNT LOCK")
        others = "SELECT id FROM information_schema.processlist WHERE user = %s AND id <> CONNECTION_ID()"
        with self._admin.cursor() as cursor:
            cursor.execute(others, (self.user,))
            found = cursor.fetchall()
        for (number,) in found:
            self._run(f"KILL {number}")

    def accept(self) -> None:
        self._run(f"ALTER USER {self.user}@'%' ACCOUNT UNLOCK")
        self._admin.close()

    def _run(self, statement: str) -> None:
        with self._admin.cursor() as cursor:
            cursor.execute(statement)


def tier_servers() -> dict[str, Callable[[], TierServer]]:
    """Each by its name; calling one makes a server that is not started."""
    return {
        "redis": lambda: RedisTierServer(RedisServer()),
        "postgres": lambda: PostgresTierServer(PostgresServer()),
        "mariadb": lambda: MariadbTierServer(MariadbServer()),
    }
