"""What the first block of a file says it is, whatever its sender calls it.

Binary formats are recognised by the ``filetype`` package, which compares magic numbers and reads nothing but the bytes
it is given. Here is what it does not know: text that programs act on (HTML, SVG, XML, scripts), and a closer look at
magic numbers of two bytes, because one in 65,536 encrypted files begins with any of them.
"""

import re

import filetype

FIRST_BLOCK = 8192
"""Bytes that are looked at; ``filetype`` looks no further either."""

FAMILIES = (
    frozenset(
        (
            "application/x-dosexec",
            "application/x-msdownload",
            "application/x-msdos-program",
            "application/vnd.microsoft.portable-executable",
            "application/x-ms-dos-executable",
            "application/x-winexe",
            "application/x-exe",
            "application/exe",
        )
    ),
    frozenset(
        (
            "application/x-executable",
            "application/x-elf",
            "application/x-sharedlib",
            "application/x-pie-executable",
            "application/x-object",
        )
    ),
    frozenset(("application/x-mach-binary", "application/x-mach-o")),
    frozenset(("application/java-vm", "application/x-java-applet", "application/java")),
    frozenset(("text/html", "application/xhtml+xml")),
    frozenset(("image/svg+xml", "image/svg")),
    frozenset(("text/xml", "application/xml")),
    frozenset(("text/x-shellscript", "application/x-sh", "application/x-shellscript")),
    frozenset(("text/x-php", "application/x-php", "application/x-httpd-php")),
    frozenset(("text/x-python", "text/x-script.python", "application/x-python")),
    frozenset(("text/x-perl", "application/x-perl")),
    frozenset(("text/javascript", "application/javascript", "application/x-javascript", "text/ecmascript")),
    frozenset(("application/zip", "application/x-zip", "application/x-zip-compressed")),
    frozenset(("application/gzip", "application/x-gzip")),
    frozenset(("application/x-rar-compressed", "application/vnd.rar", "application/x-rar")),
    frozenset(("application/pdf", "application/x-pdf")),
    frozenset(("application/x-deb", "application/vnd.debian.binary-package")),
    frozenset(("application/x-ms-shortcut", "application/x-win-lnk")),
)
"""Names of one and the same thing: libmagic's, filetype's, the registered ones, and those of desktop systems."""

_FAMILY_OF = {name: family for family in FAMILIES for name in family}

_MAGIC = (
    (b"\xfe\xed\xfa\xce", "application/x-mach-binary"),
    (b"\xfe\xed\xfa\xcf", "application/x-mach-binary"),
    (b"\xce\xfa\xed\xfe", "application/x-mach-binary"),
    (b"\xcf\xfa\xed\xfe", "application/x-mach-binary"),
    (b"\xca\xfe\xba\xbe", "application/java-vm"),
    (b"L\0\0\0\x01\x14\x02\0", "application/x-ms-shortcut"),
    (b"MSCF", "application/vnd.ms-cab-compressed"),
)
"""Programs that ``filetype`` does not know; a Mach-O of several architectures begins as Java's classes do."""

# The patterns of the WHATWG's "MIME Sniffing", section 7.1: only a tag at the very beginning makes a browser see HTML.
_HTML = re.compile(
    r"<(!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|body|br|p|b)[\s>/]|<!--", re.IGNORECASE
)
_XML = re.compile(r"<\?xml[\s?]", re.IGNORECASE)
_BEFORE_ROOT = re.compile(r"\s+|<\?.*?\?>|<!--.*?-->|<!doctype[^>\[]*(\[[^\]]*\]\s*)?>", re.IGNORECASE | re.DOTALL)
_ROOT = re.compile(r"<(?:[^\s<>/:!?]+:)?([^\s<>/:!?]+)[\s>/]")
_INTERPRETER = re.compile(r"#!\s*(?:\S*/)?(?:env\s+(?:-\S+\s+)*)?(?:\S*/)?([a-z]+)", re.IGNORECASE)
_FIRST_LINE = 256
"""Characters, as many as Linux looks at."""
_INTERPRETED = {"python": "text/x-python", "perl": "text/x-perl", "php": "text/x-php", "node": "text/javascript"}
_PHP = re.compile(r"<\?(php\b|=)", re.IGNORECASE)
# By appendix F of XML 1.0 a parser finds the encoding. The longer marks first: one of UTF-32 begins as one of UTF-16.
_MARKS = (
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_UNMARKED = (
    (re.compile(rb"(?:[\t\n\r ]\0\0\0)*<\0\0\0"), "utf-32-le"),
    (re.compile(rb"(?:\0\0\0[\t\n\r ])*\0\0\0<"), "utf-32-be"),
    (re.compile(rb"(?:[\t\n\r ]\0)*<\0"), "utf-16-le"),
    (re.compile(rb"(?:\0[\t\n\r ])*\0<"), "utf-16-be"),
    (re.compile(rb"\x4c\x6f\xa7\x94"), "cp037"),  # "<?xm" in any EBCDIC; names of elements are the same in all
)
"""Without a mark the first character of a document tells the encoding, which is "<" behind spaces."""

_FARTHEST_HEADER = 1 << 28
"""Windows looks for a program's header no farther than this."""


def types_of(block: bytes) -> frozenset[str]:
    """Every name of what ``block`` begins: none where that is unknown, as encrypted files and plain text are.

    Args:
        block: the first FIRST_BLOCK bytes of a file, or all of a shorter one.
    """
    found = _text_types(block) or _binary_types(block)
    return frozenset(name for each in found for name in with_aliases(each))


def with_aliases(name: str) -> frozenset[str]:
    """Every name of the type ``name``, itself among them."""
    return _FAMILY_OF.get(name, frozenset((name,)))


def _binary_types(block: bytes) -> set[str]:
    for magic, name in _MAGIC:
        if block.startswith(magic):
            return {name}
    kind = filetype.guess(block) if block else None
    if kind is None or kind.mime == "application/octet-stream" or not _is_confirmed(kind.mime, block):
        return set()
    return {kind.mime}


def _is_confirmed(name: str, block: bytes) -> bool:
    """Whether more than two bytes speak for it. What may pass by chance is left: frames of MP3 and AAC."""
    match name:
        case "application/x-msdownload":
            return _is_windows_program(block)
        case "image/bmp":
            return block[6:10] == b"\0\0\0\0"  # reserved, and zero in every bitmap
        case "application/postscript":
            return block.startswith(b"%!PS")
    return True


def _is_windows_program(block: bytes) -> bool:
    """Whether an MZ header leads to the header of a program, or to a place behind the block where one may be."""
    if len(block) < 64:
        return False
    at = int.from_bytes(block[60:64], "little")
    if at + 2 <= len(block):
        return block[at : at + 4] == b"PE\0\0" or block[at : at + 2] in (b"NE", b"LE", b"LX")
    return len(block) >= FIRST_BLOCK and at < _FARTHEST_HEADER and at % 4 == 0


def _text_types(block: bytes) -> set[str]:
    text = _decoded(block)
    if text.startswith("#!"):
        match = _INTERPRETER.match(text[:_FIRST_LINE])
        language = _INTERPRETED.get(match[1].lower()) if match else None
        return {"text/x-shellscript", language} if language else {"text/x-shellscript"}
    text = text.lstrip()
    if not text.startswith("<"):
        return set()
    if _PHP.match(text):
        return {"text/x-php"}
    if _XML.match(text):
        return {"text/xml", *_root_types(text)}
    if _HTML.match(text):
        return {"text/html", *_root_types(text)}
    return _root_types(text)


def _root_types(text: str) -> set[str]:
    """What the root element of a document makes of it. One that is hidden behind the block may be any of them."""
    at = 0
    while match := _BEFORE_ROOT.match(text, at):
        at = match.end()
    root = _ROOT.match(text, at)
    if root is None:
        is_hidden = at == len(text) or text.startswith(("<!", "<?"), at)
        return {"text/html", "image/svg+xml"} if is_hidden else set()
    return {"svg": {"image/svg+xml"}, "html": {"text/html"}}.get(root[1].lower(), set())


def _decoded(block: bytes) -> str:
    """The block as text; each byte a character where neither a byte order mark nor a "<" says otherwise."""
    for mark, encoding in _MARKS:
        if block.startswith(mark):
            return block[len(mark) :].decode(encoding, "replace")
    for beginning, encoding in _UNMARKED:
        if beginning.match(block):
            return block.decode(encoding, "replace")
    return block.decode("latin-1")
