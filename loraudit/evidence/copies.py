"""Near-copies in numbers: how far each picture is from each reference photo."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loraudit.evidence.intervals import Share, wilson_interval

__all__ = ["Copies", "copied_photos", "copied_share"]

_Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Copies:
    """Distances of pictures to reference photos: a row for each picture, a column for each photo."""

    margin: float
    """Distance of a copy to the photo, in distances of the nearest control picture: below this."""
    limit: float
    """Largest distance of a copy to the photo."""
    tuned: _Rows
    base: _Rows
    scrambled: _Rows

    def __post_init__(self) -> None:
        if len({len(row) for row in (*self.tuned, *self.base, *self.scrambled)}) > 1:
            raise ValueError("pictures are compared with different numbers of photos")

    def first(self, pictures: int, controls: int) -> "Copies":
        """Return the distances of the first `pictures`, and of so many of each control."""
        return replace(
            self, tuned=self.tuned[:pictures], base=self.base[:controls], scrambled=self.scrambled[:controls]
        )

    @property
    def near(self) -> bool:
        """True if a picture is within `limit` of a photo, so that controls decide whether it is a copy."""
        return any(distance <= self.limit for row in self.tuned for distance in row)

    @property
    def controls(self) -> _Rows:
        """Rows of the base model and of the scrambled LoRA."""
        return self.base + self.scrambled


def copied_share(pictures: _Rows, controls: _Rows, copies: Copies) -> Share:
    """Return the share of `pictures` that copy a photo, by the margin and limit of `copies`.

    Without `controls` no picture counts as a copy.
    """
    k = sum(bool(copied_photos(row, controls, copies)) for row in pictures)
    return Share(k, len(pictures), *wilson_interval(k, len(pictures)))


def copied_photos(row: Sequence[float], controls: _Rows, copies: Copies) -> list[int]:
    """Return the numbers of the photos, counted from 0, that the picture with the distances `row` copies."""
    return [
        photo
        for photo, distance in enumerate(row)
        if controls
        and distance <= copies.limit
        and distance < copies.margin * min(control[photo] for control in controls)
    ]
