"""Near-copies in numbers: how far each picture is from each reference photo."""

from collections.abc import Sequence
from dataclasses import dataclass

from loraudit.evidence.intervals import Share, wilson_interval

__all__ = ["Copies", "_copied", "copied_share"]

_Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Copies:
    """Distances of pictures to reference photos, picture by picture to every photo."""

    margin: float
    """A copy is less than this many times as far from the photo as the nearest picture of a control."""
    limit: float
    """Distance of a copy at most."""
    tuned: _Rows
    base: _Rows
    scrambled: _Rows

    def __post_init__(self) -> None:
        if len({len(row) for row in (*self.tuned, *self.base, *self.scrambled)}) > 1:
            raise ValueError("pictures that are compared with different numbers of photos")

    @property
    def controls(self) -> _Rows:
        """Those of the base model and of the scrambled LoRA."""
        return self.base + self.scrambled


def copied_share(pictures: _Rows, controls: _Rows, copies: Copies) -> Share:
    """Share of `pictures` that copy a photo, by the margin and limit of `copies`; none without `controls`."""
    k = sum(bool(_copied(row, controls, copies)) for row in pictures)
    return Share(k, len(pictures), *wilson_interval(k, len(pictures)))


def _copied(row: Sequence[float], controls: _Rows, copies: Copies) -> list[int]:
    """The photos that one picture copies."""
    return [
        photo
        for photo, distance in enumerate(row)
        if controls
        and distance <= copies.limit
        and distance < copies.margin * min(control[photo] for control in controls)
    ]
