"""Words that are wrapped: as a text in JSON, in base64, with the escapes of addresses."""

import json
import re
from base64 import b64decode
from binascii import Error as NoBase64Error
from typing import Final
from urllib.parse import unquote

__all__ = ["MAX_CHARACTERS", "unwrapped"]

MAX_CHARACTERS: Final = 8_000_000
"""Limit in characters on a text that is parsed or decoded."""
_TIMES: Final = 6
"""Limit on wrappings around each other."""
_BLOCK: Final = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_HEAD: Final = 64
"""Length in characters of a block's start that tells whether it spells a text; multiple of four."""
_PERCENT: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_BLANK: Final = "\ufeff \t\r\n"
"""White space and the mark of byte order before JSON."""


def unwrapped(text: str) -> str:
    """Take the words out of `text`, however wrapped; JSON loses the white space before it."""
    for _ in range(_TIMES):
        bare = text.lstrip(_BLANK)
        if bare[:1] in {"{", "["}:
            return bare
        if len(bare) > MAX_CHARACTERS:
            break
        inner = _quoted(bare) if bare[:1] == '"' else _decoded(bare.rstrip())
        if not inner:
            break
        text = inner
    return text


def _quoted(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        return ""
    return value if isinstance(value, str) else ""


def _decoded(text: str) -> str:
    """Decode base64 that spells JSON, words in a row or what is wrapped again, or escapes; else nothing."""
    if _BLOCK.fullmatch(text):
        # Of a picture, which may be long, the first bytes tell that it is no text.
        if not _is_text(_letters(text[:_HEAD]).removesuffix("\ufffd")):
            return ""
        words = _letters(text)
        spelled = words[:1] in {"{", "[", '"'} or " " in words
        return words if _is_text(words) and (spelled or _decoded(words)) else ""
    if "%" in text and " " not in text and _PERCENT.search(text):
        words = unquote(text).lstrip(_BLANK)
        return words if _is_text(words) and words != text else ""
    return ""


def _letters(text: str) -> str:
    letters = text.rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
    try:
        return b64decode(letters + "=" * (-len(letters) % 4)).decode("utf-8", "replace").lstrip(_BLANK)
    except NoBase64Error:
        return ""


def _is_text(words: str) -> bool:
    return bool(words) and "\ufffd" not in words and "".join(words.split()).isprintable()
