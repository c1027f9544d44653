"""A real MariaDB."""

import subprocess
from pathlib import Path
from typing import Any

from tests.support.servers import StateServer, as_nobody, program
from tests.support.skipping import skip_or_fail

USER = "hmacfs"
PASSWORD = "mariadb-for-tests"
DATABASE = "hmacfs"

_SYSTEM_TABLES = Path("/usr/share/mysql/mysql_system_tables.sql")
_SMALL = ["--no-defaults", "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M"]
_CARELESS = ["--innodb-flush-method=nosync", "--innodb-flush-log-at-trx-commit=2", "--sync-frm=0"]
"""Nothing is synced, since nobody cuts its power and a busy disk would be slower than our time limits; but all is
written at once, since it is killed."""


class MariadbServer(StateServer):
    title = "mariadb"

    def prepare(self) -> None:
        # mariadb-install-db needs tools of the client's package; this is what it does
        if not _SYSTEM_TABLES.exists():
            skip_or_fail(f"{_SYSTEM_TABLES} is not installed")
        script = "\n".join(
            (
                "CREATE DATABASE mysql;",
                "USE mysql;",
                "SET @auth_root_socket=NULL;",
                _SYSTEM_TABLES.read_text(encoding="utf-8"),
                f"CREATE DATABASE {DATABASE};",
                "FLUSH PRIVILEGES;",
                f"CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}';",
                f"GRANT ALL ON *.* TO {USER}@'%';",
                "",
            )
        )
        command = [program("mariadbd"), *_SMALL, "--bootstrap", f"--datadir={self.data}", "--skip-networking"]
        done = subprocess.run(as_nobody(command), input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def command(self) -> list[str]:
        options = [f"--datadir={self.data}", f"--port={self.port}", "--bind-address=127.0.0.1"]
        return as_nobody([program("mariadbd"), *_SMALL, *_CARELESS, *options, f"--socket={self.folder}/mariadb.sock"])

    def connect(self) -> Any:
        """A connection of the test's own."""
        import MySQLdb

        return MySQLdb.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, database=DATABASE, connect_timeout=5
        )

    def answers(self) -> bool:
        return self._try("SELECT 1")

    def make_clean(self) -> None:
        assert self._try(f"DROP DATABASE {DATABASE}")
        assert self._try(f"CREATE DATABASE {DATABASE}", database="")

    def _try(self, statement: str, database: str = DATABASE) -> bool:
        import MySQLdb

        try:
            connection = MySQLdb.connect(
                host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, database=database, connect_timeout=5
            )
        except MySQLdb.OperationalError:
            return False
        try:
            connection.cursor().execute(statement)
        finally:
            connection.close()
        return True
