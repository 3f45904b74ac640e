"""Gaps of the metadata audit: what lies beside a LoRA and was not looked at."""

from loraudit.findings.report import Gap
from loraudit.metadata.beside import PICTURE
from loraudit.metadata.exposure import Exposure

__all__ = ["gaps"]


def gaps(exposure: Exposure) -> tuple[Gap, ...]:
    """List what beside the LoRA was not looked at."""
    beside = exposure.beside
    found = [Gap(place, "not all of it could be read") for place in beside.unread]
    if beside.unknown:
        of_all = f"{beside.unknown} of {len(beside.pictures)}"
        found.append(Gap(PICTURE, f"{of_all} are of a format that is not read; look at them yourself"))
    if beside.pixels:
        of_all = f"{beside.pixels} of {len(beside.pictures)}"
        why = f"those of {of_all}, in whose lowest bits a prompt may hide; save them as JPEG"
        found.append(Gap(f"the pixels of {PICTURE}", why))
    return tuple(found)
