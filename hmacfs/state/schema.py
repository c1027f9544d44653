"""The tables: one schema for PostgreSQL, MySQL or MariaDB, and SQLite."""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, SmallInteger, String, Table, Text
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from hmacfs.core.paths import MAX_PATH_BYTES
from hmacfs.state.base import FILE_ORDER, SESSION_ORDER

VERSION = 4
"""2: sessions have an order, and the book of what is outdated says which upload it means. 3: leases, bans, quotas.
4: files have an order."""

_OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


class PathText(TypeDecorator[str]):
    """Text of up to 1024 bytes of UTF-8 that every server compares and orders by its bytes.

    PostgreSQL's own order depends on the locale, so it is told "C". MySQL's binary collations ignore spaces at the
    end and their indexes are bounded by characters, so there it is bytes. SQLite compares bytes anyway.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "mysql":
            return dialect.type_descriptor(mysql.VARBINARY(MAX_PATH_BYTES))
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TEXT(collation="C"))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        if value is not None and dialect.name == "mysql":
            return value.encode()
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy gives it
        return value.decode() if isinstance(value, bytes) else value


metadata = MetaData()

# ``revision`` is a random number, new with every write: what was handed up is told from what was written since.
# A table with an ``order`` keeps a row that is newer by these columns, the weightiest first.
files = Table(
    "hmacfs_files",
    metadata,
    Column("path", PathText, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("content_type", String(255), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("uploader", String(1024), nullable=False),
    Column("stored_us", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    info={"order": FILE_ORDER},
    **_OPTIONS,
)

# Names may be longer than what an index of a tree takes. Most files have none, and need not be in it.
files_by_uploader = Index(
    "hmacfs_files_uploader",
    files.c.uploader,
    postgresql_using="hash",
    postgresql_where=files.c.uploader != "",
    sqlite_where=files.c.uploader != "",
    mysql_length=191,
)

sessions = Table(
    "hmacfs_sessions",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("path", PathText, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("content_type", String(255), nullable=False),
    Column("face", String(16), nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("is_over", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index("hmacfs_sessions_expiry", "expires_at", "key"),
    info={"order": SESSION_ORDER},
    **_OPTIONS,
)

outdated = Table(
    "hmacfs_outdated",
    metadata,
    Column("tier", String(16), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("key", PathText, primary_key=True),
    Column("started_ms", BigInteger, nullable=False, server_default="0"),  # of the upload that ended; 0 for files
    Column("revision", BigInteger, nullable=False),
    info={"order": ("started_ms",)},
    **_OPTIONS,
)

leases = Table(
    "hmacfs_leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    **_OPTIONS,
)

bans = Table(
    "hmacfs_bans",
    metadata,
    Column("address", String(64), primary_key=True),
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("times", Integer, nullable=False),
    Index("hmacfs_bans_end", "until"),
    info={"order": ("since", "until")},
    **_OPTIONS,
)

fails = Table(
    "hmacfs_fails",
    metadata,
    Column("address", String(64), primary_key=True),
    Column("slice", BigInteger, primary_key=True, autoincrement=False),  # core.bans.slice_of
    Column("fails", Integer, nullable=False),
    Index("hmacfs_fails_slice", "slice"),
    **_OPTIONS,
)

marks = Table(
    "hmacfs_marks",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", String(64), nullable=False),
    **_OPTIONS,
)

counts = Table(
    "hmacfs_counts",
    metadata,
    Column("account", String(64), primary_key=True),
    Column("stored", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("holds", Boolean, nullable=False),
    Column("settled", BigInteger, nullable=False),  # how often something was
    **_OPTIONS,
)

reservations = Table(
    "hmacfs_reservations",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("account", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("owner", String(32), nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("hmacfs_reservations_account", "account", "expires_at"),
    Index("hmacfs_reservations_expiry", "expires_at"),
    **_OPTIONS,
)

schema = Table(
    "hmacfs_schema",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),  # always 1
    Column("version", Integer, nullable=False),
    **_OPTIONS,
)
