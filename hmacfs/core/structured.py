"""The few structured field types that we need (RFC 9651, which obsoletes RFC 8941), read strictly.

Integers and booleans for the IETF upload fields, dictionaries of byte sequences for digests, dictionaries of integers
for Upload-Limit. Parameters are checked for their form and ignored, as that RFC wants of parameters that nobody
defined; only the UTF-8 inside a Display String that is ignored is not looked at. Base64 is here too, because fields
that are not structured share it.
"""

import binascii
import re
from collections.abc import Mapping

from hmacfs.errors import BadHeader

MAX_CHARACTERS = 8192
"""Of one field; gunicorn accepts no longer one either."""

MAX_INTEGER = 999_999_999_999_999
"""RFC 9651 section 3.3.1: fifteen digits, so that every language can carry the number."""

_KEY_FORM = r"[a-z*][a-z0-9_.*-]*"
_BARE_ITEM = (
    r"(?:-?[0-9]{1,12}\.[0-9]{1,3}"  # Decimal
    r"|-?[0-9]{1,15}"  # Integer
    r'|"(?:[ !#-\[\]-~]|\\["\\])*"'  # String
    r"|[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*"  # Token
    r"|:[A-Za-z0-9+/=]*:"  # Byte Sequence
    r"|\?[01]"  # Boolean
    r"|@-?[0-9]{1,15}"  # Date
    r'|%"(?:[ !#$&-~]|%[0-9a-f]{2})*")'  # Display String
)
_PARAMETERS = rf"(?:; *{_KEY_FORM}(?:={_BARE_ITEM})?)*"

_KEY = re.compile(_KEY_FORM)
_INTEGER = re.compile(rf" *([0-9]{{1,15}}){_PARAMETERS} *")
_BOOLEAN = re.compile(rf" *\?([01]){_PARAMETERS} *")
_BYTES_MEMBER = re.compile(rf"({_KEY_FORM})=:([A-Za-z0-9+/=]*):{_PARAMETERS}")
_COMMA = re.compile(r"[ \t]*,[ \t]*")


def integer(text: str, name: str) -> int:
    """The Integer, 0 to 999,999,999,999,999, of a field such as Upload-Offset.

    Args:
        name: the field's, for the log.

    Raises:
        BadHeader: anything else; a sign too, since every field that we read counts bytes or versions.
    """
    match = _INTEGER.fullmatch(_bounded(text, name))
    if match is None:
        raise BadHeader(f"{name} is not a non-negative structured integer")
    return int(match.group(1))


def boolean(text: str, name: str) -> bool:
    """The Boolean, ``?0`` or ``?1``, of a field such as Upload-Complete. Raises BadHeader for anything else."""
    match = _BOOLEAN.fullmatch(_bounded(text, name))
    if match is None:
        raise BadHeader(f"{name} is not a structured boolean")
    return match.group(1) == "1"


def byte_sequences(text: str, name: str) -> dict[str, bytes]:
    """The members of a Dictionary whose values are all Byte Sequences, such as Repr-Digest; empty for an empty field.

    Of a repeated key the last value counts (RFC 9651 section 4.2.2). Missing padding of the base64 is forgiven, as
    section 4.2.7 there asks.

    Raises:
        BadHeader: not such a dictionary. One bad member spoils the field: section 4.2 forbids to use the others.
    """
    text = _bounded(text, name).strip(" ")
    members: dict[str, bytes] = {}
    position = 0
    while position < len(text):
        if members:
            position = _found(_COMMA.match(text, position), name).end()
        member = _found(_BYTES_MEMBER.match(text, position), name)
        members[member.group(1)] = _unpadded(member.group(2), name)
        position = member.end()
    return members


def serialise_integers(members: Mapping[str, int]) -> str:
    """The Dictionary of Integers, for Upload-Limit: ``max-size=1073741824, min-size=0``.

    Raises:
        ValueError: a key or a number that no structured field can carry, which is a mistake of the caller.
    """
    for key, value in members.items():
        if not _KEY.fullmatch(key) or abs(value) > MAX_INTEGER:
            raise ValueError(f"not a member of a structured dictionary: {key}={value}")
    return ", ".join(f"{key}={value:d}" for key, value in members.items())


def serialise_bytes(members: Mapping[str, bytes]) -> str:
    """The Dictionary of Byte Sequences, for Repr-Digest. Raises ValueError for a key that is none."""
    for key in members:
        if not _KEY.fullmatch(key):
            raise ValueError(f"not a key of a structured dictionary: {key}")
    return ", ".join(f"{key}=:{encode_base64(value)}:" for key, value in members.items())


def decode_base64(text: str) -> bytes:
    """The bytes of padded base64 in the standard alphabet (RFC 4648 section 4).

    Unused bits of the last character may be set: RFC 3230 has such an example, and section 3.5 of RFC 4648 leaves it
    to the decoder.

    Raises:
        ValueError: any other character, white space included, or wrong padding.
    """
    return binascii.a2b_base64(text, strict_mode=True)


def encode_base64(content: bytes) -> str:
    return binascii.b2a_base64(content, newline=False).decode("ascii")


def _found(match: re.Match[str] | None, name: str) -> re.Match[str]:
    if match is None:
        raise BadHeader(f"{name} is not a structured dictionary of byte sequences")
    return match


def _unpadded(text: str, name: str) -> bytes:
    try:
        return decode_base64(text + "=" * (-len(text) % 4))
    except ValueError:
        raise BadHeader(f"{name} has a byte sequence that is not base64") from None


def _bounded(text: str, name: str) -> str:
    if len(text) > MAX_CHARACTERS:
        raise BadHeader(f"{name} is longer than {MAX_CHARACTERS} characters")
    return text
