"""Properties of an XMP packet that say something about people, found by their tags.

No XML is parsed: an entity has nothing to expand into. A packet that breaks off is read as far as it goes.
Layouts: XMP part 1, 7; IPTC Photo Metadata; the Metadata Working Group's regions.
"""

import html
import re
from collections.abc import Iterator
from typing import Final

__all__ = ["PLACE", "properties"]

PLACE: Final = "place"
"""Key of a town or of a place in a town."""
_KEYS: Final = {
    "dc:creator": "creator", "dc:rights": "Copyright", "photoshop:Credit": "creator",
    "photoshop:CaptionWriter": "creator", "aux:OwnerName": "CameraOwnerName",
    "exifEX:CameraOwnerName": "CameraOwnerName", "xmpRights:Owner": "creator", "tiff:Artist": "Artist",
    "dc:description": "description", "dc:title": "title", "dc:subject": "keywords",
    "photoshop:Headline": "title", "photoshop:Instructions": "description",
    "exif:UserComment": "UserComment", "lr:hierarchicalSubject": "keywords", "digiKam:TagsList": "keywords",
    "MicrosoftPhoto:LastKeywordXMP": "keywords",
    "aux:SerialNumber": "BodySerialNumber", "exifEX:BodySerialNumber": "BodySerialNumber",
    "exifEX:LensSerialNumber": "LensSerialNumber",
    "Iptc4xmpExt:PersonInImage": "person", "Iptc4xmpExt:PersonName": "person", "mwg-rs:Name": "person",
    "MPReg:PersonDisplayName": "person",
    "Iptc4xmpCore:Location": PLACE, "Iptc4xmpExt:City": PLACE, "Iptc4xmpExt:Sublocation": PLACE,
    "photoshop:City": PLACE,
}  # fmt: skip
"""Properties, with the prefix that every program uses, and the key of their words."""
_TAG: Final = re.compile(r"<([^<>]*)>([^<]*)")
_NAME: Final = re.compile(r"/?([\w-]{1,64}:[\w-]{1,64})")
_ATTRIBUTE: Final = re.compile(r"(?<![\w-])([\w-]{1,64}:[\w-]{1,64})\s*=\s*(\"[^\"]*\"|'[^']*')")


def properties(packet: str) -> Iterator[tuple[str, str]]:
    """Yield key and words of each property in `_KEYS` of an XMP packet, attribute or element."""
    wanted = ""
    for match in _TAG.finditer(packet.replace("<![CDATA[", "").replace("]]>", "")):
        tag, words = match.groups()
        name = _NAME.match(tag)
        key = _KEYS.get(name[1], "") if name else ""
        if tag.startswith("/"):
            wanted = "" if key else wanted
            continue
        for attribute, value in _ATTRIBUTE.findall(tag):
            if attribute in _KEYS and value[1:-1].strip():
                yield _KEYS[attribute], html.unescape(value[1:-1])
        if key and not tag.endswith("/"):
            wanted = key
        if wanted and words.strip():
            yield wanted, html.unescape(words)
