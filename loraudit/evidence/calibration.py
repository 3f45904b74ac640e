"""Calibration data: what control LoRAs score under the attacks of a base, `models/calibration-<base>/`.

A control LoRA holds no single person (things, crowds, styles, noise, merged people). `calibration.json` has,
for every control and every attack, the share of pairs of its first `n` pictures that match as one person, for
each look `n`, and the conditions under which all that was measured: a scan under other conditions is not
compared with it. `matches` hold, for LoRAs of one person each, how like the pictures are to somebody else
(the likeness of `loraudit.findings`); `leaking`, what the same LoRAs score otherwise, is shown in reports
and never judged with. `loraudit calibrate` writes it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from loraudit.errors import LorauditError
from loraudit.evidence.merging import Spread, one_person_p
from loraudit.evidence.null import Null
from loraudit.findings.conditions import CalibrationUsed

__all__ = [
    "KINDS",
    "SCHEMA",
    "Calibration",
    "Conditions",
    "Control",
    "Leaking",
    "Shares",
    "load_calibration",
]

SCHEMA: Final = "loraudit.calibration/2"
KINDS: Final = ("things", "crowds", "styles", "noise", "merged")
FEWEST: Final = 99
"""Controls with which a p-value can be as small as the highest level asks: 0.01."""
_LARGEST: Final = 64_000_000
"""Bytes of a file."""

Shares = Mapping[str, tuple[float, ...]]
"""Attack => a share in 0..1 for each look."""


@dataclass(frozen=True)
class Conditions:
    """All that, with the LoRA, decides what an attack scores."""

    base: str
    steps: int
    guidance: float
    encoders: Mapping[str, str]
    """Attack => SHA-256 of its encoder."""
    face: str
    """SHA-256 of the face model."""


@dataclass(frozen=True)
class Control:
    """One control LoRA."""

    kind: str
    """One of `KINDS`."""
    scores: Shares


@dataclass(frozen=True)
class Leaking:
    """One LoRA of one person."""

    agreement: Shares
    likeness: Shares
    """To photos of that person."""


@dataclass(frozen=True)
class Calibration:
    """What control LoRAs score."""

    name: str
    conditions: Conditions
    looks: tuple[int, ...]
    """Numbers of pictures, rising."""
    controls: tuple[Control, ...]
    matches: tuple[Shares, ...] = ()
    """Likeness of LoRAs of one person to photos of another, also by attacks of which nothing else is judged
    (`likeness_only`).
    """
    leaking: tuple[Leaking, ...] = ()
    """Empty in the data of earlier versions."""
    spreads: tuple[Spread, ...] = ()
    """Of LoRAs of one person each, of a recipe each, in how many directions they change the modules of a kind
    (`loraudit.lora.directions`); empty in the data of earlier versions."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Package => version that it was measured with."""

    def fit(
        self,
        conditions: Conditions,
        attacks: tuple[str, ...],
        most: int,
        spread: Spread | None = None,
        likeness_only: tuple[str, ...] = (),
    ) -> tuple[Null | None, CalibrationUsed]:
        """The null of a scan with `attacks` at up to `most` pictures each, None if the data do not fit it.

        `spread` is that of the file scanned; of `likeness_only`, further attacks, nothing else is judged.
        """
        why = self._misfit(conditions, attacks, most, likeness_only)
        used = CalibrationUsed(self.name, len(self.controls), why)
        return (None if why else self._null(attacks, most, spread or {}, likeness_only)), used

    def write(self, folder: Path) -> None:
        """Write `calibration.json`, whole or not at all."""
        document = {"schema": SCHEMA, **asdict(self)}
        del document["name"]
        part = folder / "calibration.json.part"
        part.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        part.replace(folder / "calibration.json")

    def _misfit(
        self, conditions: Conditions, attacks: tuple[str, ...], most: int, likeness_only: tuple[str, ...]
    ) -> str | None:
        mine = self.conditions
        if conditions.base != mine.base:
            return f"it is of the base {mine.base}"
        if (conditions.steps, conditions.guidance) != (mine.steps, mine.guidance):
            return f"it was measured with {mine.steps} steps, guidance {mine.guidance:g}"
        if conditions.face != mine.face:
            return "it was measured with another face model"
        for attack, sha256 in conditions.encoders.items():
            if mine.encoders.get(attack) != sha256:
                return f"it was measured with another encoder for the attack {attack}"
        known = set(self.controls[0].scores) if self.controls else set[str]()
        missing = set(attacks) - known
        if len(self.matches) >= FEWEST:
            missing |= set(likeness_only) - set(self.matches[0])
        if missing:
            return f"it has no scores of the attack {min(missing)}"
        if len(self.controls) < FEWEST:
            return f"it takes {FEWEST} control LoRAs or more"
        if most < self.looks[0]:
            return f"it takes {self.looks[0]} pictures or more"
        return None

    def _null(
        self, attacks: tuple[str, ...], most: int, spread: Spread, likeness_only: tuple[str, ...]
    ) -> Null:
        looks = tuple(look for look in self.looks if look <= most)
        alone = set(attacks)
        # A likeness is compared with those to enough people, or with none.
        with_photos = alone.union(likeness_only) if len(self.matches) >= FEWEST else set[str]()

        def highest(shares: Shares, names: set[str]) -> float:
            return max((share for name in names for share in shares[name][: len(looks)]), default=0.0)

        return Null(
            looks,
            tuple(highest(control.scores, alone) for control in self.controls),
            tuple(highest(scores, with_photos) for scores in self.matches if with_photos),
            tuple(highest(one.agreement, alone) for one in self.leaking),
            tuple(highest(one.likeness, with_photos) for one in self.leaking),
            one_person_p(spread, self.spreads),
        )


def load_calibration(folder: Path) -> Calibration:
    """Read what `Calibration.write` wrote. Raises `LorauditError` if it is missing or damaged."""
    file = folder / "calibration.json"
    try:
        if file.stat().st_size > _LARGEST:
            raise ValueError("too large")
        return _parsed(folder.name, json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise LorauditError(
            f"the calibration data in {folder.name} cannot be read ({type(error).__name__})",
            "make them again with 'loraudit calibrate'",
        ) from error


def _parsed(name: str, document: dict[str, Any]) -> Calibration:
    if document.pop("schema") != SCHEMA:
        raise ValueError("schema")
    looks = tuple(document.pop("looks"))
    if not looks or list(looks) != sorted(set(looks)) or not all(type(n) is int and n > 1 for n in looks):
        raise ValueError("looks")
    conditions = Conditions(**document.pop("conditions"))
    expected: dict[str, type | tuple[type, ...]] = {
        "base": str,
        "steps": int,
        "guidance": (int, float),
        "encoders": dict,
        "face": str,
    }
    for field_name, kind in expected.items():
        if not isinstance(getattr(conditions, field_name), kind):
            raise TypeError(field_name)
    controls = tuple(
        Control(row.pop("kind"), _shares(row.pop("scores"), looks, row)) for row in document.pop("controls")
    )
    matches = tuple(_shares(row, looks) for row in document.pop("matches"))
    leaking = tuple(
        Leaking(_shares(row.pop("agreement"), looks), _shares(row.pop("likeness"), looks, row))
        for row in document.pop("leaking", [])
    )
    spreads = tuple(map(_spread, document.pop("spreads", [])))
    versions = {str(package): str(version) for package, version in document.pop("versions").items()}
    rows = [*(control.scores for control in controls), *(one.agreement for one in leaking)]
    people = [*matches, *(one.likeness for one in leaking)]
    if document or any(control.kind not in KINDS for control in controls):
        raise ValueError("fields")
    if any(row.keys() != group[0].keys() for group in (rows, people) for row in group) or (
        people and not (controls and people[0].keys() >= rows[0].keys())
    ):
        raise ValueError("attacks")
    return Calibration(name, conditions, looks, controls, matches, leaking, spreads, versions)


def _shares(row: dict[str, Any], looks: tuple[int, ...], rest: Mapping[str, Any] = {}) -> Shares:
    if rest or not row:
        raise ValueError("fields of a control")
    for values in row.values():
        if len(values) != len(looks):
            raise ValueError("looks of a control")
        if not all(
            isinstance(value, int | float) and 0 <= value <= 1 and math.isfinite(value) for value in values
        ):
            raise ValueError("a share")
    return {str(attack): tuple(map(float, values)) for attack, values in row.items()}


def _spread(row: dict[str, Any]) -> Spread:
    found = {str(kind): (float(rank), float(directions)) for kind, (rank, directions) in row.items()}
    if not all(math.isfinite(value) and value >= 1 for pair in found.values() for value in pair):
        raise ValueError("a rank, or directions")
    return found
