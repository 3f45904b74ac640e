"""Links from a page to files outside of docs/ become names of files: the site does not hold them."""

import re

_OUTSIDE = re.compile(r"(?<!!)\[([^\]]*)\]\(\.\./([^)#\s]+)[^)]*\)")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Rewrite links out of the site; the site builder calls this with each page."""
    return _OUTSIDE.sub(r"\1 (`\2` in the repository)", markdown)
