"""Which kind of picture a file holds, by its content, and what it takes to decode it.

Sources of the signatures: ISO/IEC 14496-12 Sec. 4.3 (the file type box that HEIF, AVIF and films begin with), ISO/IEC
    23008-12 Annex B and the AV1 image format (brands), ISO/IEC 18181-2 Sec. 9 (JPEG XL's boxes) and 18181-1 Sec. D.2
    (its size).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import features

HEAD = 256
"""Bytes at a file's beginning that tell its kind."""
EXTRA = "pip install 'cliptune[formats]'"


@dataclass(frozen=True)
class Further:
    """A format that Pillow decodes only in newer versions, or with a plug-in.

    Args:
        kind: what people call it.
        pillow: Pillow's name of it.
        suffixes: of its files.
        install: line that brings the decoder, and package: what it brings.
        plugin: module of the plug-in; None where Pillow itself decodes it.
        register: function of that module that must be called; None where importing it is enough.
        feature: what `PIL.features` calls it, where Pillow itself decodes it.
    """

    kind: str
    pillow: str
    suffixes: tuple[str, ...]
    install: str
    package: str
    plugin: str | None = None
    register: str | None = None
    feature: str | None = None


FURTHER = (
    Further("HEIC", "HEIF", (".heic", ".heif", ".hif"), EXTRA, "pillow-heif", "pillow_heif", "register_heif_opener"),
    Further("AVIF", "AVIF", (".avif",), "pip install 'pillow>=11.3'", "Pillow 11.3 or newer", feature="avif"),
    Further("JPEG XL", "JXL", (".jxl",), EXTRA, "pillow-jxl-plugin", "pillow_jxl"),
    Further(
        "JPEG 2000",
        "JPEG2000",
        (".jp2", ".j2k"),
        "pip install --force-reinstall pillow",
        "a Pillow with OpenJPEG",
        feature="jpg_2000",
    ),
)
BY_SUFFIX = {suffix: further for further in FURTHER for suffix in further.suffixes}
BY_KIND = {further.kind: further for further in FURTHER}
PICTURES = frozenset({"JPEG", "PNG", "GIF", "BMP", "WebP", "TIFF"})
"""Kinds that are read everywhere."""

_SIGNATURES = (
    ("JPEG", 0, b"\xff\xd8\xff"),
    ("PNG", 0, b"\x89PNG\r\n\x1a\n"),
    ("GIF", 0, b"GIF8"),
    ("BMP", 0, b"BM"),
    ("WebP", 8, b"WEBP"),
    ("camera raw", 8, b"CR\x02"),
    ("TIFF", 0, b"II*\0"),
    ("TIFF", 0, b"MM\0*"),
    ("camera raw", 0, b"FUJIFILMCCD-RAW"),
    ("camera raw", 0, b"IIRO"),
    ("camera raw", 0, b"IIU\0"),
    ("JPEG XL", 0, b"\xff\x0a"),
    ("JPEG XL", 4, b"JXL"),  # as the plug-in decides
    ("JPEG 2000", 0, b"\0\0\0\x0cjP  \r\n\x87\n"),
    ("JPEG 2000", 0, b"\xff\x4f\xff\x51"),
    ("Photoshop", 0, b"8BPS"),
    ("PDF", 0, b"%PDF-"),
    ("PostScript", 0, b"%!PS"),
    ("ZIP archive", 0, b"PK\x03\x04"),
    ("film", 0, b"\x1a\x45\xdf\xa3"),
    ("film", 8, b"AVI "),
)
_BRANDS = (
    ("AVIF", {b"avif", b"avis"}),
    ("HEIC", {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}),
    ("camera raw", {b"crx "}),
)
_RAW_SUFFIXES = {".dng", ".nef", ".nrw", ".arw", ".cr2", ".cr3", ".orf", ".rw2", ".raf", ".pef", ".srw"}
_TEXTS = (("web page", (b"<!doctype html", b"<html")), ("SVG", (b"<svg", b"<?xml")))


def kind_of(path: str | Path) -> str:
    """What a file holds, in a word or two: "JPEG", "HEIC", "film", "web page"; "empty", or "unknown".

    Raises: OSError if it cannot be opened.
    """
    path = Path(path)
    with path.open("rb") as file:
        head = file.read(HEAD)
    kind = kind_of_bytes(head)
    # Raw files of several makers are TIFF files, which only their names tell apart.
    return "camera raw" if kind == "TIFF" and path.suffix.lower() in _RAW_SUFFIXES else kind


def kind_of_bytes(head: bytes) -> str:
    """The same of the first `HEAD` bytes of a file."""
    if not head:
        return "empty"
    if head[4:8] == b"ftyp":
        return _by_brand(head)
    found = next((kind for kind, at, signature in _SIGNATURES if head[at : at + len(signature)] == signature), None)
    if found is not None:
        return found
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((kind for kind, starts in _TEXTS if text.startswith(starts)), "unknown")


def _by_brand(head: bytes) -> str:
    """Of a file that begins with a file type box: its brands say what it is."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[i : i + 4] for i in range(16, end - 3, 4))}
    return next((kind for kind, known in _BRANDS if brands & known), "film")


@cache
def decodable(further: Further) -> bool:
    """Whether Pillow, with an installed plug-in, decodes a format; the plug-in is registered by asking."""
    if further.plugin is None:
        return further.feature in features.get_supported()
    try:
        module = importlib.import_module(further.plugin)
    except ImportError:
        return False
    if further.register is not None:
        getattr(module, further.register)()
    return True


def how_to_read(kind: str) -> str:
    """The sentence for pictures of a kind of `FURTHER` that cannot be decoded here."""
    further = BY_KIND[kind]
    return f"{kind} needs {further.package}: {further.install}. Or save them as JPEG or PNG."


def undecodable(path: str | Path) -> str | None:
    """The kind of a picture that needs a decoder which is not installed; None for any other file.

    Raises: OSError if it cannot be opened.
    """
    kind = kind_of(path)
    return kind if kind in BY_KIND and not decodable(BY_KIND[kind]) else None


def jpeg_xl_size(path: str | Path) -> tuple[int, int]:
    """Width and height that a JPEG XL file states, without decoding it.

    The plug-in decodes the whole picture as soon as it is opened, so that its size must be known before.
    Raises: ValueError with a phrase if it is not stated in the first MiB.
    """
    with Path(path).open("rb") as file:
        stream = _codestream(file.read(1 << 20))
    if stream[:2] != b"\xff\x0a":
        raise ValueError("its first MiB states no size")
    bits = _Bits(stream[2:])
    small = bits.take(1)
    height = _side(bits, small)
    ratio = bits.take(3)
    width = _side(bits, small) if ratio == 0 else height * _RATIOS[ratio][0] // _RATIOS[ratio][1]
    return width, height


_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


def _side(bits: _Bits, small: int) -> int:
    if small:
        return 8 * (bits.take(5) + 1)
    return bits.take((9, 13, 18, 30)[bits.take(2)]) + 1


class _Bits:
    """Bits of a text of bytes, the lowest of each first; zeros behind its end."""

    def __init__(self, content: bytes) -> None:
        self.value = int.from_bytes(content[:16], "little")

    def take(self, n: int) -> int:
        taken = self.value & ((1 << n) - 1)
        self.value >>= n
        return taken


def _codestream(content: bytes) -> bytes:
    """The picture's data in a JPEG XL file: the file itself, or what its first box of them holds."""
    if content[:2] == b"\xff\x0a":
        return content
    for name, body in _boxes(content):
        if name == b"jxlc":
            return body
        if name == b"jxlp":
            return body[4:]
    return b""


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of the boxes that begin in these bytes."""
    at = 0
    while at + 8 <= len(content):
        size, name, header = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8], 8
        if size == 1:
            size, header = int.from_bytes(content[at + 8 : at + 16], "big"), 16
        yield name, content[at + header : at + size if size else len(content)]
        if size < header:
            return
        at += size
