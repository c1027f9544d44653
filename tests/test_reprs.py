"""Nothing that holds a secret, and no error about one, shows it when it is written out."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hmacfs import configfile, settings
from hmacfs.core import bearer, links, paths, signature
from hmacfs.core.preconditions import Conditions
from hmacfs.core.rotation import Kind as SecretKind
from hmacfs.core.rotation import Replaced, Ring, Secrets
from hmacfs.core.signature import Claim, Protocol
from hmacfs.offload import InlinePool
from hmacfs.services.authority import DeletionRequest, UploadRequest
from hmacfs.services.downloads import DownloadRequest
from hmacfs.services.progress import Progress
from hmacfs.services.secrets import Keyring
from hmacfs.settings import Settings, keys
from hmacfs.state import engines, opening
from hmacfs.state.addresses import ServerAddress, parse_redis
from hmacfs.storage import secretsource
from hmacfs.storage.base import UploadHeader
from hmacfs.web import requests
from tests.support.leaks import Kind, Known
from tests.support.tokens import jwt

MARKER = "marked-as-nobodys-business-0123"
HEX = "0f1e2d3c4b5a69788796a5b4c3d2e1f0" * 2
PATH = paths.parse(b"a/b.jpg")
MAC, BEARER = Claim(Protocol.V2, HEX), Claim(Protocol.BEARER, jwt(MARKER, {"slot": MARKER}))


def found_in(*texts: str) -> list[str]:
    known = Known()
    known.add(Kind.SECRET, MARKER)
    return [str(leak) for text in texts for leak in known.search("repr", text)]


def secret_settings() -> Settings:
    """Every key that is a secret has one, as its sort of value."""
    given: dict[str, Any] = {key.attribute: MARKER for key in keys() if key.secret}
    return Settings(**{**given, "previous_secrets": (MARKER,), "redis_addr": f"redis://:{MARKER}@localhost"})


def upload(claim: Claim) -> UploadRequest:
    return UploadRequest(PATH, 5, "192.0.2.1", "image/jpeg", sent_type=True, claim=claim, token=MARKER)


def ring() -> Ring:
    return Ring(Secrets(MARKER, MARKER, MARKER, (MARKER,)), (Replaced(SecretKind.SECRET, MARKER, 1),))


def slot() -> links.Slot:
    return links.slot(MARKER.encode(), PATH, 5, "image/jpeg", Protocol.V2, "upload")


def loaded(folder: Path) -> configfile.Loaded:
    file = folder / "config.toml"
    file.write_text(f'Secret = "{MARKER}"\nSecert = "{MARKER}"\nRedisPassword = ["{MARKER}"]\n', encoding="utf-8")
    return configfile.load(str(file), {"HMACFS_JWTSECRET": MARKER})


HOLDERS: dict[str, Callable[[Path], object]] = {
    "Settings": lambda _: secret_settings(),
    "Loaded": loaded,
    "Claim of a MAC": lambda _: MAC,
    "Claim of a token": lambda _: BEARER,
    "UploadRequest": lambda _: upload(MAC),
    "UploadRequest of a token": lambda _: upload(BEARER),
    "DownloadRequest": lambda _: DownloadRequest(PATH, Conditions(), claim=MAC),
    "DeletionRequest": lambda _: DeletionRequest(PATH, "192.0.2.1", MAC),
    "UploadHeader": lambda _: UploadHeader(PATH, 5, "image/jpeg", "tus", MARKER, 0.0, proof=MAC.proof),
    "Progress": lambda _: Progress(PATH, 0, 5, MARKER, 0.0),
    "Slot": lambda _: slot(),
    "Secrets": lambda _: ring().current,
    "Replaced": lambda _: ring().replaced[0],
    "Ring": lambda _: ring(),
    "Keyring": lambda _: Keyring(ring()),
    "RedisAddress": lambda _: parse_redis(f"redis://me:{MARKER}@localhost/0"),
    "RedisTier": lambda _: opening.redis_tier("localhost", MARKER, 0),
    "SqlTier": lambda _: opening.server_tier("postgres", "localhost", "me", MARKER, "files", InlinePool()),
    "Engine": lambda _: engines.postgres(ServerAddress("localhost", 5432), "me", MARKER, "files"),
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_what_holds_a_secret_does_not_show_it(hold: Callable[[Path], object], tmp_path: Path) -> None:
    held = hold(tmp_path)

    assert found_in(repr(held), str(held), f"{held}", f"{held!r}", repr([held])) == []


def test_every_key_that_is_a_secret_is_in_the_settings_of_this_table() -> None:
    held = secret_settings()

    shown = [str(getattr(held, key.attribute)) for key in keys() if key.secret]
    assert all(MARKER in text for text in shown)
    assert len(shown) >= 7


def upload_of(**environ: str) -> Callable[[Path], object]:
    fields = {"REQUEST_METHOD": "PUT", "CONTENT_LENGTH": "5", "QUERY_STRING": f"v2={HEX}", **environ}
    return lambda _: requests.upload(fields, PATH, "", accepts=tuple(Protocol))


def file_with(folder: Path, content: bytes) -> str:
    file = folder / "file"
    file.write_bytes(content)
    file.chmod(0o600)
    return str(file)


def configured_with(text: bytes) -> Callable[[Path], object]:
    return lambda folder: configfile.usable(configfile.load(file_with(folder, text), {}))


SECRET = MARKER.encode()
PRINTS = ["/bin/sh", "-c", f"echo {MARKER}; echo {MARKER}"]
FAILING: dict[str, Callable[[Path], object]] = {
    "a query that repeats a MAC": upload_of(QUERY_STRING=f"v2={HEX}&v2={HEX}"),
    "a query that cannot be decoded": upload_of(QUERY_STRING=f"v2={HEX}&x=%zz{MARKER}"),
    "a token of other characters": upload_of(HTTP_X_SESSION_TOKEN=f"{MARKER} {MARKER}"),
    "a length that is none": upload_of(CONTENT_LENGTH=MARKER),
    "a checksum that is none": upload_of(HTTP_X_CHECKSUM=f"{HEX}{MARKER}"),
    "a file that is no TOML": configured_with(b'Secret = "%s\n' % SECRET),
    "a file that is not UTF-8": configured_with(b'Secret = "%s\xff"' % SECRET),
    "a secret twice": configured_with(b'Secret = "%s"\nSecret = "%s"\n' % (SECRET, SECRET)),
    "a secret of another kind": configured_with(b'Secret = ["%s"]' % SECRET),
    "a secret that is equal to another": configured_with(b'Secret = "%s"\nPreviousSecrets = [""]' % SECRET),
    "an address of Redis": configured_with(b'Secret = "%s"\nRedisAddr = "redis://:%s@host:x"' % (SECRET, SECRET)),
    "an address of nothing": lambda _: parse_redis(f"redis://:{MARKER}@localhost:99999"),
    "a secret file of two lines": lambda folder: secretsource.from_file(file_with(folder, SECRET + b"\n" + SECRET)),
    "a secret file that is not UTF-8": lambda folder: secretsource.from_file(file_with(folder, SECRET + b"\xff")),
    "a command that prints too much": lambda _: secretsource.from_command(PRINTS),
    "a command that fails": lambda _: secretsource.from_command(["/bin/sh", "-c", f"echo {MARKER} >&2; exit 1"]),
}


@pytest.mark.parametrize("fail", FAILING.values(), ids=FAILING)
def test_an_error_about_a_secret_does_not_show_it(fail: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - what kind it is, is for others to say
        fail(tmp_path)

    error = caught.value
    said = "".join(traceback.TracebackException.from_exception(error).format_exception_only())
    chain = [*filter(None, (error.__cause__, None if error.__suppress_context__ else error.__context__))]
    told = [f"{error!r}", f"{error}", said, repr(vars(error)), *map(str, chain)]
    assert found_in(*told) == []


def test_a_verdict_on_a_token_tells_nothing_of_it() -> None:
    verdict = bearer.verify(BEARER.mac, [MARKER.encode()], PATH, 5, ["image/jpeg"], 0.0, sent_type=True)

    assert verdict.reason == "malformed"
    assert found_in(repr(verdict)) == []


def test_a_weak_secret_is_told_without_it() -> None:
    told = settings.weakness("Secret", MARKER[:15], allow_weak=False)

    assert told
    assert MARKER[:15] not in told
    assert signature.sign(MARKER.encode(), b"") not in told
