"""Pictures of every format with words in every place: Pillow writes what it can, the rest is put together."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image, PngImagePlugin, TiffImagePlugin

from loraudit.metadata.pictures import Picture, read_picture

SOFTWARE = "GIMP 2.10"
NAME = "Zo\u00eb Bergstr\u00f6m"
HOME = {1: "N", 2: (48.0, 51.0, 24.1), 3: "E", 4: (2.0, 21.0, 3.0)}
MAGIC = bytes([1, *range(255, -1, -1), 0])
"""What follows XMP in a GIF, so that a reader of sub-blocks finds its way out."""


def exif(name: str | None, places: dict | None = None) -> bytes:
    block = Image.Exif()
    block[0x0131] = SOFTWARE
    if name is not None:
        block[0x013B] = name.encode()
    block.get_ifd(0x8825).update(places or {})
    return block.tobytes()


def xmp(name: str | None) -> bytes:
    inner = "" if name is None else f"<dc:creator><rdf:Seq><rdf:li>{name}</rdf:li></rdf:Seq></dc:creator>"
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description xmp:CreatorTool="GIMP">'
        f"{inner}</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def iim(name: str | None, *more: tuple[int, bytes]) -> bytes:
    fields = [(65, SOFTWARE.encode()), *([] if name is None else [(80, name.encode())]), *more]
    return b"".join(b"\x1c\2" + struct.pack(">BH", number, len(text)) + text for number, text in fields)


def resources(data: bytes) -> bytes:
    thumbnail = b"8BIM\x04\x0c\0\0" + struct.pack(">I", 28) + bytes(28)
    return thumbnail + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(data)) + data + bytes(len(data) % 2)


def saved(ending: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "navy").save(out, ending, **options)
    return out.getvalue()


def jpeg(segment: int, data: bytes) -> bytes:
    plain = saved("jpeg")
    return plain[:2] + b"\xff" + bytes([segment]) + struct.pack(">H", len(data) + 2) + data + plain[2:]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, last: bool = False) -> bytes:
    plain = saved("png")
    at = len(plain) - 12 if last else 33
    return plain[:at] + b"".join(chunks) + plain[at:]


def profile(kind: str, data: bytes, packed: bool = False) -> bytes:
    lines = data.hex()
    lines = "\n".join(lines[at : at + 72] for at in range(0, len(lines), 72))
    info = PngImagePlugin.PngInfo()
    info.add_text(f"Raw profile type {kind}", f"\n{kind}\n{len(data):8d}\n{lines}\n", zip=packed)
    return saved("png", pnginfo=info)


def itxt(data: bytes, key: bytes = b"XML:com.adobe.xmp") -> bytes:
    return chunk(b"iTXt", key + b"\0\0\0\0\0" + data)


def gif(*blocks: bytes, last: bool = False) -> bytes:
    plain = saved("gif")
    at = len(plain) - 1 if last else plain.index(b",", 13)
    return plain[:at] + b"".join(blocks) + plain[at:]


def comment(data: bytes) -> bytes:
    pieces = [data[at : at + 255] for at in range(0, len(data), 255)]
    return b"!\xfe" + b"".join(bytes([len(piece)]) + piece for piece in pieces) + b"\0"


def tiff(tag: int | None = None, data: bytes | None = None, kind: int = 7, **options: object) -> bytes:
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory[0x0131] = SOFTWARE
    if data is not None:
        directory.tagtype[tag] = kind
        directory[tag] = data
    return saved("tiff", tiffinfo=directory, **options)


def box(kind: bytes, *content: bytes) -> bytes:
    data = b"".join(content)
    return struct.pack(">I", len(data) + 8) + kind + data


def heif(brand: bytes, kind: bytes, data: bytes, in_meta: bool = False, moved: int = 0) -> bytes:
    """A HEIC or AVIF file of one item beside its (absent) pixels."""
    entry = kind + (b"\0application/rdf+xml\0" if kind == b"mime" else b"\0")
    content = struct.pack(">I", 0) + data if kind == b"Exif" else data
    infos = box(b"infe", b"\2\0\0\0\0\1\0\0hvc1\0") + box(b"infe", b"\2\0\0\0\0\7\0\0" + entry)
    start = box(b"ftyp", brand, bytes(4), brand, b"mif1")

    def meta(offset: int) -> bytes:
        method = struct.pack(">H", in_meta)
        pixels = struct.pack(">H", 1) + bytes(4) + struct.pack(">HII", 1, 0, 9)
        words = struct.pack(">H", 7) + method + bytes(2) + struct.pack(">HII", 1, offset, len(content))
        place = box(b"iloc", b"\1\0\0\0\x44\0", struct.pack(">H", 2), pixels, words)
        items = box(b"iinf", bytes(4), struct.pack(">H", 2), infos)
        inside = box(b"idat", content) if in_meta else b""
        return box(b"meta", bytes(4), box(b"hdlr", bytes(24)), place, items, inside)

    offset = 0 if in_meta else len(start) + len(meta(0)) + 8
    return start + meta(offset + moved) + box(b"mdat", b"" if in_meta else content)


Writer = Callable[[str | None], bytes]
TIFF_EXIF: Writer = lambda name: tiff(0x013B, None if name is None else name.encode(), kind=2)  # noqa: E731
PLACES: dict[str, Writer] = {
    "JPEG Exif": lambda name: saved("jpeg", exif=exif(name)),
    "JPEG XMP": lambda name: saved("jpeg", xmp=xmp(name)),
    "JPEG XMP extension": lambda name: jpeg(
        0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(40) + xmp(name)
    ),
    "JPEG IPTC": lambda name: jpeg(0xED, b"Photoshop 3.0\0" + resources(iim(name))),
    "JPEG comment": lambda name: jpeg(0xFE, b"Created with GIMP" if name is None else name.encode()),
    "PNG Exif": lambda name: saved("png", exif=exif(name)),
    "PNG Exif after the pixels": lambda name: png(chunk(b"eXIf", exif(name)[6:]), last=True),
    "PNG Exif as hex": lambda name: profile("exif", exif(name)),
    "PNG Exif as packed hex": lambda name: profile("APP1", exif(name), packed=True),
    "PNG IPTC as hex": lambda name: profile("iptc", resources(iim(name))),
    "PNG XMP as hex": lambda name: profile("xmp", xmp(name)),
    "PNG XMP": lambda name: png(itxt(xmp(name))),
    "PNG tEXt": lambda name: png(chunk(b"tEXt", b"Author\0" + (name or "").encode())),
    "PNG tEXt after the pixels": lambda name: png(
        chunk(b"tEXt", b"Author\0" + (name or "").encode()), last=True
    ),
    "PNG zTXt": lambda name: png(chunk(b"zTXt", b"Author\0\0" + zlib.compress((name or "").encode()))),
    "PNG iTXt": lambda name: png(itxt((name or "").encode(), b"Author")),
    "WebP Exif": lambda name: saved("webp", exif=exif(name)),
    "WebP XMP": lambda name: saved("webp", xmp=xmp(name)),
    "GIF comment": lambda name: gif(*[] if name is None else [comment(name.encode())]),
    "GIF comment after the pixels": lambda name: gif(
        *[] if name is None else [comment(name.encode() * 40)], last=True
    ),
    "GIF XMP": lambda name: gif(b"!\xff\x0bXMP DataXMP" + xmp(name) + MAGIC),
    "TIFF tags": TIFF_EXIF,
    "TIFF XMP": lambda name: tiff(700, xmp(name), kind=1),
    "TIFF IPTC": lambda name: tiff(33723, iim(name)),
    "TIFF IPTC as integers": lambda name: as_integers(iim(name)),
    "TIFF resources": lambda name: tiff(34377, resources(iim(name))),
    "HEIC Exif": lambda name: heif(b"heic", b"Exif", exif(name)[6:]),
    "HEIC Exif in the box": lambda name: heif(b"heic", b"Exif", exif(name)[6:], in_meta=True),
    "HEIC XMP": lambda name: heif(b"heic", b"mime", xmp(name)),
    "AVIF Exif": lambda name: heif(b"avif", b"Exif", exif(name)[6:]),
    "AVIF XMP": lambda name: heif(b"avif", b"mime", xmp(name)),
}


def as_integers(data: bytes) -> bytes:
    """A TIFF file with IPTC as Photoshop writes it: the same bytes under the type of integers."""
    data += bytes(-len(data) % 4)
    plain = tiff(33723, data)
    typed = struct.pack("<HHI", 33723, 7, len(data))
    assert typed in plain
    return plain.replace(typed, struct.pack("<HHI", 33723, 4, len(data) // 4))


def read(folder: Path, data: bytes) -> Picture:
    path = folder / "a.bin"
    path.write_bytes(data)
    picture = read_picture(path)
    assert picture is not None
    return picture


def told(picture: Picture) -> list[str]:
    """The words of a picture, but for the packets of XMP as a whole, in which paths are looked for."""
    return [text for key, text in picture.texts if key != "XMP"]
