"""A real PostgreSQL."""

import glob
import subprocess

from sqlalchemy import Engine, create_engine

from tests.support.servers import StateServer, as_nobody, program

USER = "hmacfs"
PASSWORD = "postgres-for-tests"
DATABASE = "postgres"


def _program(name: str) -> str:
    return program(name, *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True))


class PostgresServer(StateServer):
    title = "postgres"

    def prepare(self) -> None:
        secret = self.data.parent / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        # An order of text unlike that of bytes, as most installations have it, would need a locale of the system's;
        # ICU's is always there.
        options = ["-N", "-E", "UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en"]
        command = [_program("initdb"), "-D", str(self.data), "-U", USER, "-A", "scram-sha-256", *options]
        done = subprocess.run(
            as_nobody([*command, f"--pwfile={secret}"]), cwd="/", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "fsync": "off",
            "shared_buffers": "16MB",
            "dynamic_shared_memory_type": "mmap",  # in its own folder: one that is killed leaves nothing in /dev/shm
            "max_connections": 60,
        }
        given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return as_nobody([_program("postgres"), "-D", str(self.data), *given])

    def engine(self) -> Engine:
        """Connections of the test's own."""
        return create_engine(
            f"postgresql+psycopg2://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{DATABASE}", isolation_level="AUTOCOMMIT"
        )

    def answers(self) -> bool:
        return self._try("SELECT 1")

    def make_clean(self) -> None:
        assert self._try("DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    def _try(self, statement: str) -> bool:
        import psycopg2

        try:
            connection = psycopg2.connect(
                host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=DATABASE, connect_timeout=5
            )
        except psycopg2.OperationalError:
            return False
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()
        return True
