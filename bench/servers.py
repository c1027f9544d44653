"""Starting and stopping what is measured: this server, nginx with dav, plain Flask, nginx in front of all of them."""

import json
import os
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from string import Template
from urllib.parse import urlsplit

from bench.processes import Fixed, Group, Session, listeners
from bench.slots import Signer, prefix
from bench.transfers import Address

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MAX_SIZE = 1 << 30
_ACCEL = "/bench-store/"
_QUIET: dict[str, str | int] = {"MetricsEnabled": False, "LogLevel": "error"}
"""Nothing is counted, and no line is written for a request: those are info."""
_FILES = min(20000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])  # descriptors of one nginx worker


class CannotStart(Exception):
    """One sentence for the person who started the benchmark."""


@dataclass
class Server:
    """One server that runs.

    Attributes:
        store: folder in which its files lie by path; None where that is not known.
        front: where nginx passes on to it; None for those that are measured directly only.
        accel: the proxy may be asked to send files itself.
    """

    name: str
    address: Address
    signer: Signer
    group: Group
    store: str | None = None
    front: Address | None = None
    accel: bool = False


@dataclass(frozen=True)
class Peer:
    """A server that somebody else runs, as --peer tells it."""

    name: str
    address: Address
    secret: str
    subdir: str


def parse_peer(text: str) -> Peer:
    """NAME=URL,SECRET,SUBDIR; an empty SECRET for a server without signatures. Raises ValueError."""
    name, equals, rest = text.partition("=")
    url, secret, subdir = rest.split(",", 2)
    parts = urlsplit(url)
    if not (name and equals) or parts.scheme != "http" or not parts.hostname:
        raise ValueError(text)
    return Peer(name, (parts.hostname, parts.port or 80), secret, subdir)


@dataclass
class Fleet:
    """Every server of one benchmark, in ``run`` (logs, configurations) and ``store``. Leaving it stops them."""

    run: str
    store: str
    workers: int
    durability: str
    servers: dict[str, Server] = field(default_factory=dict)
    front: Group = field(default_factory=Fixed)
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._started):
            _stop(process)

    def start(self, names: Sequence[str], peers: Sequence[Peer]) -> None:
        """Start the servers of our own that are named, take in the peers, and put nginx in front."""
        audit = logs_of("hmacfs-audited", self.run)[1]
        starters = {
            "hmacfs": lambda: self._ours("hmacfs", self.durability),
            "hmacfs-full": lambda: self._ours("hmacfs-full", "full"),
            "hmacfs-token": lambda: self._ours("hmacfs-token", self.durability),
            "hmacfs-accel": lambda: self._ours("hmacfs-accel", self.durability, accel=True),
            "hmacfs-quiet": lambda: self._ours("hmacfs-quiet", self.durability, **_QUIET),
            "hmacfs-audited": lambda: self._ours("hmacfs-audited", self.durability, LogFormat="json", AuditLog=audit),
            "nginx": lambda: self._dav("nginx", "16k"),
            "nginx-1m": lambda: self._dav("nginx-1m", "1m"),
            "flask": self._flask,
        }
        for name in names:
            if name in starters:
                self.servers[name] = starters[name]()
        for peer in peers:
            if not _listens(peer.address):
                raise CannotStart(f"nobody listens at {peer.address[0]}:{peer.address[1]} for the peer {peer.name}")
            signer = Signer(peer.secret.encode() or None, prefix(peer.subdir))
            self.servers[peer.name] = Server(peer.name, peer.address, signer, listeners(peer.address[1]))
        self._put_front()

    def _ours(self, name: str, durability: str, *, accel: bool = False, **keys: str | int) -> Server:
        """Args: keys: of the configuration, besides those that all of them have."""
        store, secret = self._folder(name), secrets.token_hex(24)
        address, operations = ("127.0.0.1", free_port()), free_port()
        lines: dict[str, str | int] = {
            "ListenPort": f"{address[0]}:{address[1]}",
            "MetricsPort": f"127.0.0.1:{operations}",
            "UploadSubDir": "upload",
            "Secret": secret,
            "StoreDir": store,
            "StateDir": os.path.join(self.run, f"{name}-state"),
            "Durability": durability,
            "UploadMaxSize": MAX_SIZE,
            "NumCores": self.workers,
            "LogFile": logs_of(name, self.run)[0],
            "GracefulShutdownTimeout": 5,
            **keys,
        }
        if accel:
            lines["DirectDownloads"] = f"X-Accel-Redirect:{_ACCEL}"
        config = self._write(f"{name}.toml", "".join(f"{key} = {_toml(value)}\n" for key, value in lines.items()))
        # Refused uploads come from the same address as all others, so it must never be banned.
        with open(config, "a", encoding="utf-8") as file:
            file.write('NeverBan = ["127.0.0.1"]\n')
        group = self._launch(name, [sys.executable, "-m", "hmacfs.cli.main", "serve", "--config", config], address)
        return Server(name, address, Signer(secret.encode(), "/upload"), group, store, accel=accel)

    def _dav(self, name: str, buffer: str) -> Server:
        """nginx with dav. Args: buffer: client_body_buffer_size; 16k is nginx's default."""
        store, address = self._folder(name), ("127.0.0.1", free_port())
        values = {"store": store, "port": str(address[1]), "max_size": str(MAX_SIZE), "buffer": buffer, "name": name}
        return Server(name, address, Signer(None, "/upload"), self._nginx("dav", address, **values), store)

    def _flask(self) -> Server:
        store, secret = self._folder("flask"), secrets.token_hex(24)
        address = ("127.0.0.1", free_port())
        command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", str(self.workers), "--no-control-socket"]
        command += ["-b", f"{address[0]}:{address[1]}", "--access-logfile", os.path.join(self.run, "flask-access.log")]
        environment = {"BENCH_STORE": store, "BENCH_SECRET": secret}
        group = self._launch("flask", [*command, "bench.plain_flask:app"], address, environment)
        return Server("flask", address, Signer(secret.encode(), "/upload"), group, store)

    def _put_front(self) -> None:
        blocks = []
        for number, server in enumerate(self.servers.values()):
            port = free_port()
            server.front = ("127.0.0.1", port)
            host, behind = server.address
            redirected = f"location {_ACCEL} {{ internal; alias {server.store}/; }}" if server.accel else ""
            # The pool closes idle connections before the server does, so that none is used while it is being closed.
            blocks.append(
                f"    upstream backend{number} {{ server {host}:{behind}; keepalive 64; keepalive_timeout 5s; "
                "keepalive_requests 100000000; }\n"
                f"    server {{ listen 127.0.0.1:{port} backlog=4096; merge_slashes off; {redirected} "
                f"location / {{ proxy_pass http://backend{number}; }} }}"
            )
        if blocks:
            address = next(server.front for server in self.servers.values() if server.front)
            self.front = self._nginx("front", address, backends="\n".join(blocks))

    def _nginx(self, kind: str, address: Address, **values: str) -> Group:
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if program is None:
            raise CannotStart("nginx is missing: apt-get install nginx")
        with open(os.path.join(ROOT, "bench", f"nginx-{kind}.conf"), encoding="utf-8") as file:
            template = Template(file.read())
        values |= {
            "run": self.run,
            "workers": str(self.workers),
            "files": str(_FILES),
            "connections": str(_FILES - 100),
        }
        values["user"] = "user root;" if os.geteuid() == 0 else ""  # the workers must read what the others wrote
        name = values.get("name", f"nginx-{kind}")
        config = self._write(f"{name}.conf", template.substitute(values))
        log = os.path.join(self.run, f"{name}-start.log")
        return self._launch(name, [program, "-p", self.run, "-e", log, "-c", config], address)

    def _folder(self, name: str) -> str:
        path = os.path.join(self.store, name)
        os.makedirs(path)
        return path

    def _write(self, name: str, text: str) -> str:
        path = os.path.join(self.run, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def _launch(
        self, name: str, command: Sequence[str], address: Address, environment: dict[str, str] | None = None
    ) -> Group:
        """Start ``command`` as the leader of a session of its own, and wait until it listens."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("HMACFS_")}
        env |= {"PYTHONPATH": ROOT, **(environment or {})}
        output = os.path.join(self.run, f"{name}.out")
        with open(output, "wb") as file:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=env,
                cwd=self.run,
                start_new_session=True,
            )
        self._started.append(process)
        end = time.monotonic() + 30
        while not _listens(address):
            if process.poll() is not None or time.monotonic() > end:
                with open(output, encoding="utf-8", errors="replace") as file:
                    told = " ".join(file.read()[-600:].split())
                raise CannotStart(f"{name} did not start: {told or 'no output'}")
            time.sleep(0.05)
        return Session(process.pid)


def logs_of(name: str, run: str) -> tuple[str, str]:
    """Where one of our own servers has its log, and its audit log if it has one. Args: run: folder of the fleet."""
    return os.path.join(run, f"{name}.log"), os.path.join(run, f"{name}.audit")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _toml(value: str | int) -> str:
    return json.dumps(value)  # its texts, numbers and booleans are TOML's too


def _listens(address: Address) -> bool:
    try:
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return False
    return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and after a while SIGKILL for whatever is left of its session."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            pass
    for pid in Session(process.pid).pids():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.wait()
