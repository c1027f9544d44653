"""Whose request it is: X-Forwarded-For counts only from trusted peers, from the right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs.core.clientaddr import ProxyTrust

DEFAULT = ("127.0.0.1", "::1", "unix:")


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "1.2.3.4, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "1.2.3.4, 198.51.100.1, 127.0.0.1", "198.51.100.1"),
        ("127.0.0.1", "127.0.0.1, ::1", "127.0.0.1"),
        ("127.0.0.1", " 198.51.100.1 ", "198.51.100.1"),
        ("127.0.0.1", "198.51.100.1,", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1, unknown", "127.0.0.1"),
        ("127.0.0.1", "unknown, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("127.0.0.1", "2001:0DB8:0::1", "2001:db8::1"),
        ("::1", "198.51.100.1", "198.51.100.1"),
        ("::ffff:127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("::ffff:203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("127.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("fe80::1%eth0", "", "fe80::1"),
        ("", "", ""),
        ("", "198.51.100.1", "198.51.100.1"),
        ("", "1.2.3.4, 198.51.100.1", "198.51.100.1"),
        ("", "rubbish", ""),
    ],
)
def test_the_client_is_the_first_untrusted_address_from_the_right(peer: str, forwarded: str, client: str) -> None:
    assert ProxyTrust(DEFAULT).client(peer, forwarded) == client


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("198.51.100.1:5678", "198.51.100.1"),
        ("198.51.100.1:1", "198.51.100.1"),
        ("198.51.100.1:65535", "198.51.100.1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:0DB8:0::1]:443", "2001:db8::1"),
        ("[::ffff:198.51.100.1]:443", "198.51.100.1"),
        (" 198.51.100.1:5678 ", "198.51.100.1"),
        ("1.2.3.4:5, 198.51.100.1:5678, 127.0.0.1:80, [::1]:80", "198.51.100.1"),
        ("2001:db8::1:443", "2001:db8::1:443"),  # an address as it stands
    ],
)
def test_a_proxy_may_add_the_client_s_port(forwarded: str, client: str) -> None:
    assert ProxyTrust(DEFAULT).client("127.0.0.1", forwarded) == client


@pytest.mark.parametrize(
    "entry",
    [
        "198.51.100.1:",
        "198.51.100.1:0",
        "198.51.100.1:65536",
        "198.51.100.1:+80",
        "198.51.100.1:-1",
        "198.51.100.1:8_0",
        "198.51.100.1: 80",
        "198.51.100.1 :80",
        "198.51.100.1:80a",
        "198.51.100.1:\u0668\u0660",
        "198.51.100.1:" + "0" * 100 + "80",
        "198.51.100.1:80:80",
        "[198.51.100.1]:80",
        "[2001:db8::1]",
        "[2001:db8::1]80",
        "[2001:db8::1]:",
        "[2001:db8::1]:http",
        "[2001:db8::1:80",
        "2001:db8::1]:80",
        "[[2001:db8::1]]:80",
        "[]:80",
        ":80",
        "example.org:80",
    ],
)
def test_what_is_no_address_with_a_decimal_port_ends_the_walk(entry: str) -> None:
    assert ProxyTrust(DEFAULT).client("127.0.0.1", f"198.51.100.9, {entry}") == "127.0.0.1"


def test_the_peer_itself_has_no_port() -> None:
    assert ProxyTrust(DEFAULT).client("127.0.0.1:80", "198.51.100.1") == ""


def test_without_trust_the_header_proves_nothing() -> None:
    trust = ProxyTrust(())

    assert trust.client("127.0.0.1", "198.51.100.1") == "127.0.0.1"
    assert trust.client("", "198.51.100.1") == ""


def test_a_network_of_proxies_can_be_trusted() -> None:
    trust = ProxyTrust(("10.0.0.0/8", "2001:db8::/32"))

    assert trust.trusts("10.255.1.1")
    assert trust.trusts("2001:db8:ffff::1")
    assert not trust.trusts("11.0.0.1")
    assert trust.client("10.0.0.1", "198.51.100.1, 10.9.9.9, 2001:db8::7") == "198.51.100.1"


def test_a_network_with_host_bits_is_taken_as_its_network() -> None:
    assert ProxyTrust(("10.1.2.3/8",)).trusts("10.200.0.1")


def test_a_unix_socket_is_trusted_only_when_it_is_listed() -> None:
    assert ProxyTrust(("unix:",)).trusts("")
    assert not ProxyTrust(("127.0.0.1",)).trusts("")


def test_what_is_not_an_address_is_not_trusted() -> None:
    assert not ProxyTrust(("0.0.0.0/0", "::/0")).trusts("localhost")


@given(st.text(max_size=60))
def test_an_untrusted_peer_cannot_write_its_own_address(forwarded: str) -> None:
    assert ProxyTrust(DEFAULT).client("203.0.113.9", forwarded) == "203.0.113.9"


@given(st.text(max_size=60), st.ip_addresses())
def test_what_stands_left_of_the_proxy_s_entry_changes_nothing(left: str, real: object) -> None:
    trust = ProxyTrust(("unix:",))

    assert trust.client("", f"{left}, {real}") == trust.client("", str(real))


def test_a_mapped_address_in_the_list_of_proxies_counts_as_the_address_itself() -> None:
    trust = ProxyTrust(["::ffff:127.0.0.1"])

    assert trust.trusts("127.0.0.1")
    assert not trust.trusts("127.0.0.2")
