"""Text that a terminal, a log or a build server shows and never obeys."""

import unicodedata

__all__ = ["plain"]

# Controls, bidirectional and zero-width formats, surrogates, private use, line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})

# At the start of a line these are commands to GitHub's build runner.
_COMMANDS = {"::": r":\x3a", "##[": r"#\x23["}


def plain(text: str, limit: int | None = None) -> str:
    """`text` with every character that is not plain print as a visible escape, cut to `limit` characters.

    Text that `loraudit.lora.header.clean` has been through stays as it is; a report does not rely on it.
    """
    shown = text = text if limit is None else text[: limit + 1]
    if not text.isprintable():
        shown = "".join(_escape(char) if unicodedata.category(char) in _HIDDEN else char for char in text)
    for command, harmless in _COMMANDS.items():
        shown = shown.replace(command, harmless)
    return shown if limit is None or len(shown) <= limit else shown[: limit - 1] + "…"


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
