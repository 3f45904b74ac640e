"""Every format of pictures and every place of a text in it: a name is found there, and without it nothing.

Pillow writes what it can; the rest is put together here, from the same blocks.
"""

import io
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin, TiffImagePlugin

from loraudit.findings.finding import Severity
from loraudit.metadata.pictures import Picture, read_picture
from tests.headers import DIFFUSERS, audit, write

SOFTWARE = "GIMP 2.10"
NAME = "Zo\u00eb Bergstr\u00f6m"
NAMES = st.text(st.characters(categories=["L"]), min_size=3, max_size=12)
PAIRS = st.builds(lambda *words: " ".join(words), NAMES, NAMES)
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
LOCATED: dict[str, Callable[[dict | None], bytes]] = {
    "JPEG": lambda places: saved("jpeg", exif=exif(None, places)),
    "PNG": lambda places: saved("png", exif=exif(None, places)),
    "PNG hex": lambda places: profile("exif", exif(None, places)),
    "WebP": lambda places: saved("webp", exif=exif(None, places)),
    "TIFF": lambda places: saved("tiff", exif=exif(None, places)),
    "HEIC": lambda places: heif(b"heic", b"Exif", exif(None, places)[6:]),
    "AVIF": lambda places: heif(b"avif", b"Exif", exif(None, places)[6:]),
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "lora"
    folder.mkdir()
    write(folder / "pytorch_lora_weights.safetensors", DIFFUSERS)
    return folder


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=PAIRS)
def test_a_name_is_found_wherever_it_stands(tmp_path: Path, place: str, name: str) -> None:
    picture = read(tmp_path, PLACES[place](name))
    assert name in " ".join(told(picture)) and picture.whole and not picture.located


@pytest.mark.parametrize("place", PLACES)
def test_without_the_name_there_is_nothing(folder: Path, place: str) -> None:
    (folder / "a.PNG").write_bytes(PLACES[place](None))
    picture = read_picture(folder / "a.PNG")
    assert picture is not None and picture.whole and not picture.located
    assert set(told(picture)) <= {"Created with GIMP"}
    assert set(audit(folder)) == {"LA-IMAGE-002"}


@pytest.mark.parametrize("place", PLACES)
def test_a_picture_that_breaks_off_is_read_as_far_as_it_goes(tmp_path: Path, place: str) -> None:
    data = PLACES[place](NAME)
    path = tmp_path / "a"
    lengths = range(0, len(data), 7)
    for length in lengths:
        path.write_bytes(data[:length])
        picture = read_picture(path)
        words = " ".join(told(picture)) if picture else ""
        assert set(words) <= set(
            f"{NAME} \ufffd\u00c3\u00ab\u00b6GCreatedwithIMP0123456789abcdef\n:_exiftpAP"
        )
    assert lengths


@pytest.mark.parametrize("kind", LOCATED)
def test_coordinates_are_told_and_never_shown(folder: Path, kind: str) -> None:
    picture = read(folder, LOCATED[kind](HOME))
    assert picture == Picture((), located=True, whole=True)
    (folder / "a.heic").write_bytes(LOCATED[kind](HOME))
    finding = audit(folder)["LA-IMAGE-003"]
    assert (finding.severity, finding.quotes) == (Severity.MEDIUM, ())
    assert "48" not in finding.told(reveal=True)
    nan = TiffImagePlugin.IFDRational(0, 0)
    for nowhere in (
        None,
        {0: b"\2\3\0\0"},
        HOME | {2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)},
        HOME | {2: (nan,) * 3, 4: (nan,) * 3},
        {1: "N", 2: HOME[2]},
    ):
        assert not read(folder, LOCATED[kind](nowhere)).located


@pytest.mark.parametrize(
    "words",
    [
        "<Iptc4xmpExt:PersonInImage><rdf:Bag><rdf:li>Ada Berg</rdf:li><rdf:li>Bo Dahl</rdf:li></rdf:Bag>"
        "</Iptc4xmpExt:PersonInImage>",
        '<rdf:li mwg-rs:Name="Ada Berg" mwg-rs:Type="Face"/><rdf:li><rdf:Description '
        "mwg-rs:Type='Face' mwg-rs:Name='Bo Dahl'/></rdf:li>",
        "<mwg-rs:Name>Ada Berg</mwg-rs:Name><mwg-rs:Type>Face</mwg-rs:Type>"
        "<mwg-rs:Name>Bo Dahl</mwg-rs:Name>",
        "<MPReg:PersonDisplayName>Ada&#32;Berg</MPReg:PersonDisplayName>"
        '<x MPReg:PersonDisplayName="Bo Dahl">',
        "<digiKam:TagsList><rdf:Seq><rdf:li>People/Ada Berg</rdf:li><rdf:li>People/Bo Dahl</rdf:li>",
        "<lr:hierarchicalSubject><rdf:li><![CDATA[People|Ada Berg]]></rdf:li><rdf:li>people|Bo Dahl</rdf:li>",
    ],
)
def test_people_whose_faces_are_named(folder: Path, words: str) -> None:
    packet = xmp(None).replace(b"</rdf:Desc", words.encode() + b"</rdf:Desc")
    (folder / "a.jpg").write_bytes(saved("jpeg", xmp=packet))
    finding = audit(folder)["LA-NAME-001"]
    assert (finding.severity, finding.quotes) == (Severity.HIGH, ("Ada Berg", "Bo Dahl"))
    assert finding.title == "Pictures beside the file name people"
    assert "scrub FILE" not in finding.remedy
    # A region of no person has a word that names nobody.
    nobody = packet.replace(b"Ada", b"photo").replace(b"Berg", b"face").replace(b"Bo Dahl", b"woman")
    (folder / "a.jpg").write_bytes(saved("jpeg", xmp=nobody))
    assert set(audit(folder)) <= {"LA-IMAGE-002"}


def test_iptc_feeds_the_rules(folder: Path) -> None:
    fields = ((120, b"ada at home"), (25, b"ada"), (25, b"People|Ada Berg"), (92, b"12 Elm Street"))
    (folder / "a.jpg").write_bytes(jpeg(0xED, b"Photoshop 3.0\0" + resources(iim("Bo Dahl", *fields))))
    found = audit(folder)
    assert found["LA-CAPTION-002"].quotes == ("ada at home", "ada")
    assert found["LA-CONTACT-001"].quotes == ("Bo Dahl",)
    assert found["LA-NAME-001"].quotes == ("Ada Berg",)
    assert found["LA-IMAGE-003"].quotes == ()
    assert not any("Elm" in finding.told(reveal=True) for finding in found.values())


@pytest.mark.parametrize("ending", ["webp", "png", "jpeg"])
def test_a_graph_of_comfyui_in_the_tags_of_the_camera(folder: Path, ending: str) -> None:
    block = Image.Exif()
    block[0x0110] = 'prompt:{"6": {"class_type": "CLIPTextEncode", "inputs": {"text": "zwx at sea"}}}'
    block[0x010F] = 'Workflow: {"nodes": []}'
    (folder / "a.webp").write_bytes(saved(ending, exif=block))
    assert audit(folder)["LA-CAPTION-002"].quotes == ("zwx at sea",)
    block[0x0110], block[0x010F] = "prompt 5", "Workflow: "
    (folder / "a.webp").write_bytes(saved(ending, exif=block))
    assert set(audit(folder)) == {"LA-IMAGE-002"}


def test_every_text_of_a_key_is_read(tmp_path: Path) -> None:
    twice = png(*(chunk(b"tEXt", b"parameters\0" + word) for word in (b"first", b"second")))
    assert told(read(tmp_path, twice)) == ["first", "second"]
    twice = gif(comment(b"first"), comment(b"second"))
    assert told(read(tmp_path, twice)) == ["first", "second"]


def test_latin_letters_of_old_programs(tmp_path: Path) -> None:
    for data in (jpeg(0xFE, b"caf\xe9"), png(chunk(b"tEXt", b"Title\0caf\xe9")), gif(comment(b"caf\xe9"))):
        assert told(read(tmp_path, data)) == ["caf\u00e9"]


def test_a_preview_in_capital_letters(tmp_path: Path) -> None:
    write(tmp_path / "x.safetensors", DIFFUSERS)
    (tmp_path / "y.PNG").write_bytes(png())
    assert audit(tmp_path / "x.safetensors") == {}
    (tmp_path / "x.PNG").write_bytes(png(chunk(b"tEXt", b"parameters\0zwx in her kitchen")))
    (tmp_path / "x.preview.JPG").write_bytes(saved("jpeg"))
    found = audit(tmp_path / "x.safetensors")
    assert found["LA-CAPTION-002"].quotes == ("zwx in her kitchen",)
    assert found["LA-IMAGE-002"].quotes == ("x.PNG", "x.preview.JPG")


def test_no_pixel_is_decoded(tmp_path: Path) -> None:
    """Pixels that are broken, and so many that no memory holds them, take nothing away and cost nothing."""
    word = chunk(b"tEXt", b"Title\0zwx")
    size = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 16, 6, 0, 0, 0)
    huge = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"no zlib") + word
    assert told(read(tmp_path, huge)) == ["zwx"]
    block = exif(NAME)
    webp = b"RIFF\0\0\0\0WEBPVP8L\4\0\0\0\xff\xff\xff\xffEXIF" + struct.pack("<I", len(block)) + block
    no_frame = b"\xff\xd8\xff\xe1" + struct.pack(">H", len(block) + 2) + block + b"\xff\xda\0\2"
    for data in (webp, no_frame):
        assert read(tmp_path, data) == Picture((("Artist", NAME),), located=False, whole=True)


def directory(order: str, entries: bytes, count: int, following: int = 0) -> bytes:
    return struct.pack(f"{order}H", count) + entries + struct.pack(f"{order}I", following)


def entry(tag: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack("<HHII", tag, kind, count, value)


def itself() -> bytes:
    """Directories of Exif and GPS at the place of the first, which is also the one after it."""
    pointers = entry(0x8769, 4, 1, 8) + entry(0x8825, 4, 1, 8)
    return b"II*\0\x08\0\0\0" + directory("<", pointers, 2, 8)


def everything() -> bytes:
    """A thousand tags of the whole file each, for a hundred directories."""
    pages = [
        directory("<", b"".join(entry(tag, 7, 4_000_000, 0) for tag in range(1_000)), 1_000, 0)
        for _ in range(99)
    ]
    data, at = b"II*\0\x08\0\0\0", 8
    for page in pages:
        at += len(page)
        data += page[:-4] + struct.pack("<I", at)
    return data + directory("<", b"", 0) + bytes(4_000_000)


LAUGHS = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "' + b"ha" * 50 + b'">'
LAUGHS += b"".join(
    b'<!ENTITY %c "' % (letter + 1) + b"&%c;" % letter * 20 + b'">' for letter in range(97, 120)
)
LAUGHS += b"]><dc:title>&x;</dc:title>"


def in_pieces(count: int) -> bytes:
    once = struct.pack(">HHHH", 7, 0, 0, 1)
    data = heif(b"heic", b"Exif", exif(NAME)[6:])
    assert once in data
    return data.replace(once, struct.pack(">HHHH", 7, 0, 0, count))


HOSTILE: dict[str, tuple[Callable[[], bytes], bool]] = {
    "tags that point to themselves": (itself, True),
    "the same as Exif": (lambda: jpeg(0xE1, b"Exif\0\0" + itself()), True),
    "pages of everything": (everything, False),
    "more tags than any camera has": (
        lambda: b"II*\0\x08\0\0\0" + directory("<", entry(0x10E, 2, 4, 0) * 65_535, 65_535),
        False,
    ),
    "2^63 tags": (lambda: b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**63) + bytes(100), False),
    "a thousand blocks of Exif": (lambda: png(*[chunk(b"eXIf", exif(NAME)[6:])] * 1_000), False),
    "hex that is none": (lambda: png(chunk(b"tEXt", b"Raw profile type exif\0\nexif\n4\nzz")), False),
    "packed hex of 200 MB": (
        lambda: png(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\n" * 200_000_000, 9))),
        False,
    ),
    "a million chunks": (lambda: png(*[chunk(b"tEXt", b"a\0")] * 1_000_000), False),
    "a million sub-blocks": (lambda: gif(b"!\xf9" + b"\1a" * 1_100_000), False),
    "a GIF of nothing but blocks": (lambda: gif(b"!\xfe\0" * 1_100_000), False),
    "an item in pieces": (lambda: in_pieces(65_535), False),
    "an item in one piece": (lambda: in_pieces(1), True),  # the control
    "an item beyond the end": (lambda: heif(b"avif", b"Exif", exif(NAME), moved=2**31), False),
    "IPTC that is none": (lambda: jpeg(0xED, b"Photoshop 3.0\0" + resources(b"\x1d" * 40)), False),
    "entities that grow": (lambda: saved("jpeg", xmp=LAUGHS), True),
    "tags of XMP without end": (lambda: png(itxt(b"<a:" * 300_000)), True),
    "names of XMP without end": (lambda: png(itxt(b"<a " + b"a:" * 450_000 + b">")), True),
    "spaces of XMP without end": (lambda: png(itxt(b"<a" + b" a:b " * 150_000 + b"=" + b" " * 99_000)), True),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_pictures_cost_little(tmp_path: Path, kind: str, recwarn: pytest.WarningsRecorder) -> None:
    make, whole = HOSTILE[kind]
    path = tmp_path / "a"
    path.write_bytes(make())
    start = time.process_time()
    picture = read_picture(path)
    assert time.process_time() - start < 2
    assert picture is not None and picture.whole == whole
    assert sum(len(text) for _, text in picture.texts) <= 1_000_000
    assert not recwarn.list  # what Pillow warns of goes into the report, not onto the terminal


def test_entities_are_never_looked_up(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("zqxj")
    packet = f'<!DOCTYPE x [<!ENTITY a SYSTEM "{secret.as_uri()}">]><dc:title>&a;</dc:title>'.encode()
    picture = read(tmp_path, saved("jpeg", xmp=packet))
    assert told(picture) == ["&a;"] and "zqxj" not in str(picture.texts)
    assert max(len(text) for _, text in read(tmp_path, saved("jpeg", xmp=LAUGHS)).texts) == len(LAUGHS)
    named = xmp("A &amp; B &#x26; &lt;C&gt;")
    assert "A & B & <C>" in told(read(tmp_path, saved("jpeg", xmp=named)))


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(sorted(PLACES)), st.data())
def test_a_broken_picture_is_read_or_not(tmp_path: Path, place: str, data) -> None:
    content = bytearray(PLACES[place](NAME))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    path = tmp_path / "x"
    path.write_bytes(content)
    read_picture(path)
