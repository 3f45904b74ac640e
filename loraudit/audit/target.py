"""Facts about the audited file in every report: its name, its modules, what was not read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loraudit.findings.report import Gap, Modules, Target

if TYPE_CHECKING:
    from loraudit.findings.exhibits import ModuleNorm
    from loraudit.lora import LoRA

__all__ = ["target_of", "unread_gaps", "update_of"]


def target_of(lora: LoRA) -> Target:
    """Return the facts about the file of `lora`, as a report gives them."""
    return Target(
        name=lora.file.name,
        sha256=lora.file.sha256,
        size_bytes=lora.file.size_bytes,
        family=lora.family,
        base=lora.base,
        dialect=lora.dialect,
        rank=lora.rank,
        modules=Modules(read=len(lora.factors), unread=len(lora.unread)),
        origin=lora.file.origin,
    )


def update_of(lora: LoRA) -> tuple[ModuleNorm, ...]:
    """Return the Frobenius norm of the change to each module."""
    from loraudit.findings.exhibits import ModuleNorm

    return tuple(ModuleNorm(site, factors.frobenius()) for site, factors in lora.factors.items())


def unread_gaps(lora: LoRA) -> list[Gap]:
    """Return a gap if the file holds keys that were not read, and one if no update can have been trained.

    An attack on half a file proves nothing about the rest, and one on nothing proves nothing at all.
    """
    from loraudit.lora.remarks import remark

    told = remark(lora)
    remarks = [] if told is None else [Gap("anything trained", told)]
    if not lora.unread:
        return remarks
    first, count = lora.unread[0], len(lora.unread)
    keys = "1 key" if count == 1 else f"{count} keys"
    return [*remarks, Gap("part of the file", f"{keys} not read, such as {first.shown}: {first.why}")]
