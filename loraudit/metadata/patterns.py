"""Patterns of spelling that show paths, addresses and pictures in a text.

Every expression starts with fixed characters, looks back a few and ahead no further than a bound. Any text,
whoever wrote it, is therefore searched in time linear in its length.
"""

import re
from typing import Final

__all__ = ["OPAQUE", "addresses", "is_home", "is_opaque", "may_hold_picture", "paths", "picture_type"]

_REST: Final = r"[^\"'<>|*?:,;\r\n]{1,250}"
_DRIVE: Final = re.compile(
    rf":(?<=[A-Za-z]:)(?<![A-Za-z0-9][A-Za-z]:)(?:\\{{1,2}}|(?<=[A-Z]:)/)(?=[\w.$]){_REST}"
)
_SHARE: Final = re.compile(rf"\\\\(?<![\\\w]\\\\)\\{{0,2}}[\w.$-]{{1,64}}\\{{1,2}}{_REST}")
_UNIX: Final = re.compile(
    r"/(?<![\w.:/~*-]/)(?:Users|app|content|data|export|gpfs|home|kaggle|lustre|media|mnt|nfs|notebooks|opt|private|"
    rf"projects?|root|runpod-volume|scratch|srv|storage|teamspace|tmp|usr|var|volumes?|workspaces?)/{_REST}"
)
_TILDE: Final = re.compile(rf"~(?<![\w.:/~-]~)[\w.-]{{0,32}}/(?=[\w.-]){_REST}")
_HOME: Final = re.compile(
    r"[\\/](?:Users|home|Documents and Settings)[\\/]{1,2}"
    r"(?!(?:Shared|Public|Default|All Users|user|ubuntu)\b)[^\\/]|^\\\\"
)
_DOMAIN: Final = re.compile(r"@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,4}\.([A-Za-z]{2,24})\b")
_LOCAL: Final = re.compile(r"[\w.%+-]{1,64}$")
_DIALLED: Final = re.compile(r"\+(?<![\w+.)]\+)[1-9][\d ().\-/\u00a0]{6,24}\d(?![\w:])")
_LABELLED: Final = re.compile(r"[:.=#] ?[+(\d][\d ().\-/\u00a0]{5,22}\d(?![\w:])")
_LABEL: Final = re.compile(
    r"(?<![^\W_])(?:tel|telephone|telefon|phone|mobile|mobil|whatsapp|handy|cell|fon|t\u00e9l) ?$",
    re.IGNORECASE,
)
# The country codes of ITU-T E.164 that are given out.
_COUNTRY: Final = re.compile(
    r"1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|2[1-69]\d|3[578]\d|42\d|5[09]\d|6[789]\d|8[05789]\d|"
    r"9[679]\d"
)
_FILE_ENDINGS: Final = frozenset({"png", "jpg", "jpeg", "webp", "gif", "safetensors", "ckpt", "json", "txt"})
_PROFILES: Final = (
    "instagram.com/", "facebook.com/", "twitter.com/", "x.com/", "tiktok.com/@", "linkedin.com/in/",
    "patreon.com/", "ko-fi.com/", "t.me/", "discord.gg/", "onlyfans.com/", "vk.com/", "youtube.com/@",
    "civitai.com/user/", "reddit.com/u/", "reddit.com/user/",
)  # fmt: skip
OPAQUE: Final = 1024
"""Smallest length in characters of a block that is no word, no hash and no key."""
_BLOCK: Final = re.compile(rf"[A-Za-z0-9+/=_-]{{{OPAQUE},}}")

# The first characters of base64, from the magic numbers of each type.
_PICTURES: Final = (
    ("/9j/", "JPEG"), ("iVBORw0KGgo", "PNG"), ("UklGR", "WebP"), ("R0lGOD", "GIF"), ("PHN2Zy", "SVG"),
    ("PD94bW", "SVG"), ("Qk", "BMP"), ("SUkqAA", "TIFF"), ("TU0AKg", "TIFF"),
)  # fmt: skip
_ESCAPED: Final = re.compile(r"\\u00[2-7]")
"""Way in which JSON may spell the first characters of a picture otherwise, besides a slash."""


def paths(text: str) -> list[str]:
    """Find absolute paths of a computer's disks and shares in `text`."""
    found = [text[match.start() - 1 : match.end()] for match in _DRIVE.finditer(text)]
    found += [match[0] for pattern in (_SHARE, _UNIX, _TILDE) for match in pattern.finditer(text)]
    return [path.strip() for path in found]


def is_home(path: str) -> bool:
    """Tell whether `path` names an account or another computer."""
    return _HOME.search(path) is not None or (path.startswith("~") and not path.startswith("~/"))


def addresses(text: str) -> list[str]:
    """Find e-mail addresses, telephone numbers and profiles on social networks in `text`."""
    found = []
    # A text may hold one address a million times.
    told = {
        (text[max(0, match.start() - 64) : match.start()], match[0]): match[1]
        for match in _DOMAIN.finditer(text)
    }
    for (before, domain), ending in told.items():
        local = _LOCAL.search(before)
        # git@ is how repositories are cloned; photo@2x.png is a file.
        if local and local[0] != "git" and ending.lower() not in _FILE_ENDINGS:
            found.append(local[0] + domain)
    found += _phones(text)
    lowered = text.lower()
    for site in _PROFILES:
        if site in lowered:
            found += re.findall(rf"(?i){re.escape(site)}(?<![a-z0-9-]{re.escape(site)})[\w.@-]{{2,64}}", text)
    return found


def _phones(text: str) -> list[str]:
    """Find numbers in the international form with separators, and those that a word calls telephones."""
    found = [match[0] for match in _DIALLED.finditer(text) if _is_dialled(match[0])]
    for match in _LABELLED.finditer(text):
        number = match[0].lstrip(":.=# ")
        if 7 <= _digits(number) <= 15 and _LABEL.search(text[max(0, match.start() - 12) : match.start()]):
            found.append(number)
    return list(dict.fromkeys(found))


def _is_dialled(number: str) -> bool:
    """Tell whether `number`, which begins with a plus sign, can be dialled and is written as people write."""
    groups = re.findall(r"\d+", number)
    country = _COUNTRY.match(groups[0])
    # North America and Russia: ten digits after a code of one.
    right = _digits(number) == 11 if number[1] in "17" else 8 <= _digits(number) <= 15
    return country is not None and right and 1 < len(groups) < 8 and len(groups[0]) <= 5


def _digits(text: str) -> int:
    return sum(char.isdigit() for char in text)


def picture_type(text: str) -> str | None:
    """Tell from its first characters the type of the picture that `text` holds, as base64 or a data URI."""
    if len(text) < 200 and text[:1] not in {"d", "D"}:  # most are neither, and a header holds hundreds
        return None
    if text[:11].lower() == "data:image/":
        start = text[:200].partition(",")[2]
        return next((kind for magic, kind in _PICTURES if start.startswith(magic)), "unknown type")
    if len(text) < 200 or not re.fullmatch(r"[A-Za-z0-9+/=\s]{200}", text[:200]):
        return None
    return next((kind for magic, kind in _PICTURES if len(magic) > 3 and text.startswith(magic)), None)


def may_hold_picture(text: str) -> bool:
    """Tell whether `text`, if it is JSON, may hold a picture: a search that is cheaper than to parse it."""
    if text.lstrip()[:1] not in {"{", "["}:
        return False
    starts = (magic for magic, _ in _PICTURES if len(magic) > 3)
    if any(magic in text for magic in starts) or "\\/" in text or "data:image" in text.lower():
        return True
    return "\\u00" in text and _ESCAPED.search(text) is not None


def is_opaque(text: str) -> bool:
    """Tell whether `text` is one long block of characters that spells nothing."""
    return _BLOCK.fullmatch(text) is not None
