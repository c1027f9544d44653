"""Which id a request has: a trusted proxy's, or one of our own."""

import re

import pytest

from hmacfs.core.clientaddr import ProxyTrust
from hmacfs.web.requestid import RequestIds

OWN = re.compile(r"[0-9a-f]{12}-[0-9a-f]+")
PROXY, STRANGER = "127.0.0.1", "192.0.2.7"


def id_of(given: str | None, peer: str = PROXY) -> str:
    environ = {"REMOTE_ADDR": peer} | ({} if given is None else {"HTTP_X_REQUEST_ID": given})
    return RequestIds(ProxyTrust(["127.0.0.1", "unix:"])).of(environ)


@pytest.mark.parametrize("given", ["12345678", "g" * 64, "a" * 63, "8f14e45f-ceea-467f-a83e-001b7b5f6f3e", "A.b_c-d.9"])
@pytest.mark.parametrize("peer", [PROXY, ""])
def test_a_trusted_proxy_s_id_is_taken(given: str, peer: str) -> None:
    assert id_of(given, peer) == given


@pytest.mark.parametrize(
    "given",
    [
        *("", "1234567", "a" * 65, "two words", "12345678\n", "1234567\u2028", "12345678,12345678", "\x1b[31mred"),
        *("é" * 8, "0123456789abcdef" * 4, "0123456789ABCDEF" * 4),
    ],
)
def test_one_that_is_not_well_formed_is_replaced(given: str) -> None:
    assert OWN.fullmatch(id_of(given))


def test_nobody_else_is_believed() -> None:
    assert OWN.fullmatch(id_of("12345678", STRANGER))


def test_our_own_differ_from_request_to_request_and_from_process_to_process() -> None:
    trust = ProxyTrust([])
    first, second = RequestIds(trust), RequestIds(trust)

    made = {ids.of({}) for ids in (first, second) for _ in range(100)}

    assert len(made) == 200
