"""The beginnings of real files of many kinds, made here or taken from this machine."""

import gzip
import io
import struct
import sys
import zipfile
import zlib
from pathlib import Path


def windows_program(header_at: int = 0x80) -> bytes:
    """The smallest file that Windows would look at as a program. Args: header_at: where its second header is."""
    start = b"MZ" + bytes(58) + struct.pack("<I", header_at)
    coff = b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, 0xF0, 0x22) + b"\x0b\x02" + bytes(238)
    return start.ljust(header_at, b"\0") + coff


def elf_program() -> bytes:
    return Path(sys.executable).resolve().read_bytes()[:65536]


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "content " * 20)
    return file.getvalue()


def png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(4))) + chunk(b"IEND", b"")


def mp4() -> bytes:
    brand = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"isom", 512, b"isom", b"mp41")
    return brand + struct.pack(">I4s", 8, b"free") + struct.pack(">I4s", 1008, b"mdat") + bytes(1000)


HTML = b"<!DOCTYPE html>\n<html><head><title>x</title></head><body>hello</body></html>"
SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
PDF = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF"
TEXT = b"Hello, this is plain text.\nIt is <b>not</b> a page.\n" * 50
SCRIPT = b"#!/bin/sh\necho hello\n"
GZIP = gzip.compress(bytes(1000))
