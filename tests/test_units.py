"""Durations, sizes, modes and addresses as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmacfs import units
from hmacfs.units import Address

DURATION_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
SIZE_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90", 90),
        ("90s", 90),
        ("1m", 60),
        ("24h", 86400),
        ("30d", 2592000),
        ("2w", 1209600),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1d12h", 129600),
        (" 5m ", 300),
        ("1H30M", 5400),
        ("0s", 0),
    ],
)
def test_a_duration_is_seconds_or_numbers_with_units(text: str, seconds: int) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "s", "h1", "1x", "1.5h", "-5", "-5s", "1h30", "+5", "1,5", "5 minutes", "1q", "0x10", "1e3", "∞"]
)
def test_anything_else_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="seconds, or a text like"):
        units.parse_duration(text)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(sorted(DURATION_UNITS))), min_size=1, max_size=5))
def test_the_parts_of_a_duration_add_up(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{count}{unit}" for count, unit in parts)

    assert units.parse_duration(text) == sum(count * DURATION_UNITS[unit] for count, unit in parts)


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        seconds = units.parse_duration(text)
    except ValueError:
        return

    assert seconds >= 0


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("1048576", 1048576),
        ("10B", 10),
        ("64KiB", 65536),
        ("64kb", 65536),
        ("64K", 65536),
        ("64 KiB", 65536),
        ("1M", 1048576),
        ("1.5G", 1610612736),
        ("10GB", 10 * 1024**3),
        ("1GiB", 1024**3),
        ("2T", 2 * 1024**4),
        ("0.5K", 512),
        ("0.0001K", 0),
        (" 1K ", 1024),
        ("512KB/s", 524288),
    ],
)
def test_a_size_is_bytes_or_a_number_with_a_power_of_1024(text: str, count: int) -> None:
    assert units.parse_size(text) == count


@pytest.mark.parametrize("text", ["", "K", "GB", "-1", "-1K", "1P", "1,5G", "1.G", ".5G", "1KK", "1 2K", "0x10", "1e3"])
def test_anything_else_is_not_a_size(text: str) -> None:
    with pytest.raises(ValueError, match="powers of 1024"):
        units.parse_size(text)


@given(st.integers(0, 10**12), st.sampled_from(sorted(SIZE_UNITS)), st.sampled_from(["", "B", "iB"]), st.booleans())
def test_a_whole_number_of_a_unit_is_exact(count: int, unit: str, tail: str, lower: bool) -> None:
    if not unit:
        tail = tail.removeprefix("i")
    text = f"{count}{unit}{tail}"

    assert units.parse_size(text.lower() if lower else text) == count * 1024 ** SIZE_UNITS[unit]


@given(st.text(max_size=20))
def test_any_text_is_a_size_or_a_value_error(text: str) -> None:
    try:
        count = units.parse_size(text)
    except ValueError:
        return

    assert count >= 0


@pytest.mark.parametrize(("text", "mode"), [("0640", 0o640), ("640", 0o640), ("0777", 0o777), ("000", 0)])
def test_a_mode_is_an_octal_text(text: str, mode: int) -> None:
    assert units.parse_mode(text) == mode


@pytest.mark.parametrize("text", ["", "0", "64", "0680", "rw-r-----", "0o640", "1640", "06400", "-640", "6 40"])
def test_anything_else_is_not_a_mode(text: str) -> None:
    with pytest.raises(ValueError, match="octal"):
        units.parse_mode(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":8080", Address("", 8080)),
        ("8080", Address("", 8080)),
        ("*:8080", Address("", 8080)),
        ("localhost:8080", Address("localhost", 8080)),
        ("127.0.0.1:1", Address("127.0.0.1", 1)),
        ("0.0.0.0:65535", Address("0.0.0.0", 65535)),
        ("[::1]:8080", Address("::1", 8080)),
        ("[0:0::1]:8080", Address("::1", 8080)),
        ("[::]:8080", Address("::", 8080)),
        (" :8080 ", Address("", 8080)),
        ("unix:/run/x.sock", Address(path="/run/x.sock")),
        ("unix:x.sock", Address(path="x.sock")),
        ("/run/x.sock", Address(path="/run/x.sock")),
        ("./x.sock", Address(path="./x.sock")),
    ],
)
def test_an_address_is_a_port_a_host_with_a_port_or_a_socket_path(text: str, address: Address) -> None:
    assert units.parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":0",
        ":65536",
        ":-1",
        "host",
        "host:",
        "host:http",
        "::1",
        "::1:8080",
        "[::1]",
        "[::1]8080",
        "[127.0.0.1]:80",
        "[nonsense]:80",
        "a:b:80",
        "unix:",
        "http://host:80",
        "1.2.3.4:٨٠",
    ],
)
def test_anything_else_is_not_an_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        units.parse_address(text)


@pytest.mark.parametrize("text", [":8080", "localhost:8080", "[::1]:8080", "unix:/run/x.sock"])
def test_an_address_is_shown_in_a_form_that_reads_back(text: str) -> None:
    address = units.parse_address(text)

    assert str(address) == text
    assert units.parse_address(str(address)) == address


@given(st.text(max_size=20))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = units.parse_address(text)
    except ValueError:
        return

    assert address.path or 0 < address.port < 65536


@pytest.mark.parametrize("text", ["10i", "10ib", "1kk"])
def test_half_a_unit_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="1024"):
        units.parse_size(text)


def test_a_year_is_three_hundred_and_sixty_five_days() -> None:
    assert units.parse_duration("1y") == 365 * 86400


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 * 1024, "1.5 MiB"),
        (1023 * 1024, "1.0 MiB"),
        (3 * 1024**3, "3.0 GiB"),
        (5000 * 1024**4, "5000.0 TiB"),
    ],
)
def test_a_size_is_shown_in_the_largest_unit_that_fits(count: int, text: str) -> None:
    assert units.shown_size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (0, "0s"), (59, "59s"), (60, "1m"), (61, "1m1s"), (5400, "1h30m"), (3601, "1h"), (183600, "2d3h")],
)
def test_a_duration_is_shown_in_its_two_largest_units(seconds: int, text: str) -> None:
    assert units.shown_duration(seconds) == text
