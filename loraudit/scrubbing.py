"""`loraudit scrub`: what was removed, and what cannot be, as text."""

from collections.abc import Sequence
from pathlib import Path

from loraudit.findings.finding import Finding
from loraudit.metadata.scrub import Scrubbed
from loraudit.text import clean

__all__ = ["scrub_text"]

_WEIGHTS = "The person in the weights: no change of the header removes that. Ask with: loraudit scan "


def scrub_text(scrubbed: Scrubbed, output: Path, left: Sequence[Finding]) -> str:
    """What `scrub` did; `left` is what the new file still says. Values are told by their length alone."""
    name = clean(output.name)
    lines = [f"Wrote {name}", "", "Removed"]
    width = min(40, max((len(item.key) for item in scrubbed.removed), default=0))
    for item in scrubbed.removed:
        what = "in part, of" if item.in_part else "       "
        lines.append(f"  {item.key:<{width}}  {what} {_counted(item.characters, 'character')}")
    if not scrubbed.removed:
        lines.append("  nothing: the header said no more than loaders need")
    lines += ["", "Kept"]
    lines += [f"  {key}" for key in scrubbed.kept]
    unchanged = f"{_counted(scrubbed.tensors, 'tensor')}, {scrubbed.tensor_bytes} bytes unchanged"
    lines += [f"  {unchanged}; their sha256 is", f"  {scrubbed.tensor_sha256}"]
    lines += ["", "Still there", f"  {_WEIGHTS}{name}"]
    lines += [f"  {finding.id}  {finding.title}. {finding.detail.partition('. ')[0]}." for finding in left]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
