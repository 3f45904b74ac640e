"""What options with a fixed set of values take."""

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loraudit.findings.finding import Severity

__all__ = ["AttackName", "Budget", "Depth", "Device", "FailOn", "ReportFormat", "TextOrJson"]


class TextOrJson(StrEnum):
    """The formats of what is printed."""

    text = "text"
    json = "json"


class ReportFormat(StrEnum):
    """The formats of a report."""

    text = "text"
    json = "json"
    sarif = "sarif"
    markdown = "markdown"
    html = "html"


class Depth(StrEnum):
    """What `--depth` takes."""

    metadata = "metadata"
    weights = "weights"
    attack = "attack"


class AttackName(StrEnum):
    """What `--attack` takes."""

    encoder = "encoder"
    paper = "paper"
    guidance = "guidance"
    search = "search"
    prompts = "prompts"
    likelihood = "likelihood"


class Budget(StrEnum):
    """What `--budget` takes."""

    quick = "quick"
    standard = "standard"
    deep = "deep"


class Device(StrEnum):
    """What `--device` takes."""

    cpu = "cpu"
    cuda = "cuda"


class FailOn(StrEnum):
    """What `--fail-on` takes."""

    low = "low"
    medium = "medium"
    high = "high"
    critical = "critical"
    never = "never"

    @property
    def threshold(self) -> "Severity | None":
        """The level itself, None for `never`."""
        from loraudit.findings.finding import Severity

        return None if self is FailOn.never else Severity(self.value)
