"""Calibration data: what control LoRAs score under the attacks of a base, `models/calibration-<base>/`.

A control LoRA holds no single person (things, crowds, styles, noise, merged people). `calibration.json` has
a share for every control, attack and look `n`: of the pairs among the first `n` pictures, those that match as
one person. The file also names the conditions of the measurement; a scan under other conditions is not
compared with these data. An attack that changed since makes its own scores void, not those of others.

`matches` hold the likeness (`loraudit.evidence.null`) of pictures by LoRAs of one person each to somebody
else. `leaking` holds the other scores of the same LoRAs, shown in reports and never judged with.
`loraudit calibrate` writes the file.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from loraudit.errors import LorauditError
from loraudit.evidence.merging import Spread, one_person_p
from loraudit.evidence.null import Null
from loraudit.files import read_within, write_atomic
from loraudit.findings.conditions import CalibrationUsed
from loraudit.text import clean

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

SCHEMA: Final = "loraudit.calibration/3"
KINDS: Final = ("things", "crowds", "styles", "noise", "merged")
FEWEST: Final = 99
"""Number of controls from which on a p-value can reach 0.01, as the highest level asks."""
_LARGEST: Final = 64_000_000
"""Size of a file at most, in bytes."""
_MOST_STEPS: Final = 1000
_MOST_GUIDANCE: Final = 1000.0

Shares = Mapping[str, tuple[float, ...]]
"""Attack => one share in 0..1 for each look."""


@dataclass(frozen=True)
class Conditions:
    """Everything that, with the LoRA, decides the scores of an attack."""

    base: str
    """Name of the base, for display."""
    fingerprint: str
    """SHA-256 of the base's weights (`loraudit.base.fingerprint`), empty if not known."""
    steps: int
    guidance: float
    attacks: Mapping[str, int]
    """Attack => its version (`loraudit.attacks.table`)."""
    encoders: Mapping[str, str]
    """Attack => SHA-256 of its encoder."""
    face: str
    """SHA-256 of the face model."""


@dataclass(frozen=True)
class Control:
    """A control LoRA."""

    kind: str
    """Kind of the control, from `KINDS`."""
    scores: Shares


@dataclass(frozen=True)
class Leaking:
    """A LoRA of one person."""

    agreement: Shares
    likeness: Shares
    """Likeness to photos of that person."""


@dataclass(frozen=True)
class Calibration:
    """Scores of control LoRAs on one base, and the conditions of the measurement."""

    name: str
    conditions: Conditions
    looks: tuple[int, ...]
    """Numbers of pictures at which was measured, rising."""
    controls: tuple[Control, ...]
    matches: tuple[Shares, ...] = ()
    """Likeness of LoRAs of one person to photos of another.

    Attacks of which nothing else is judged (`likeness_only`) are in here too.
    """
    leaking: tuple[Leaking, ...] = ()
    """Scores of LoRAs of one person each."""
    spreads: tuple[Spread, ...] = ()
    """Directions in which LoRAs change each kind of module (`loraudit.lora.directions`).

    Every LoRA is of one person and of a recipe of its own.
    """
    versions: Mapping[str, str] = field(default_factory=dict)
    """Package => version at the time of the measurement."""

    def fit(
        self,
        conditions: Conditions,
        attacks: tuple[str, ...],
        most: int,
        spread: Spread | None = None,
        likeness_only: tuple[str, ...] = (),
    ) -> tuple[Null | None, CalibrationUsed]:
        """Return the null of a scan with `attacks` at up to `most` pictures each, and what was used.

        The null is None if the data do not fit. `spread` is that of the scanned file, `likeness_only`
        are further attacks, judged by likeness alone.
        """
        why = self._misfit(conditions, attacks, most, likeness_only)
        used = CalibrationUsed(self.name, len(self.controls), why)
        return (None if why else self._null(attacks, most, spread or {}, likeness_only)), used

    def write(self, folder: Path) -> None:
        """Write `calibration.json` into `folder`, whole or not at all. Raises `LorauditError` on failure."""
        document = {"schema": SCHEMA, **asdict(self)}
        del document["name"]
        text = json.dumps(document, indent=1, sort_keys=True) + "\n"
        write_atomic(folder / "calibration.json", text.encode())

    def _misfit(
        self, conditions: Conditions, attacks: tuple[str, ...], most: int, likeness_only: tuple[str, ...]
    ) -> str | None:
        mine = self.conditions
        if conditions.fingerprint != mine.fingerprint:
            other = "other weights" if conditions.base == mine.base else "another base"
            return f"measured on {other}, {mine.base}"
        if (conditions.steps, conditions.guidance) != (mine.steps, mine.guidance):
            return f"measured with {mine.steps} steps, guidance {mine.guidance:g}"
        if conditions.face != mine.face:
            return "measured with another face model"
        for attack, sha256 in conditions.encoders.items():
            if mine.encoders.get(attack) != sha256:
                return f"measured with another encoder for the attack {attack}"
        for attack, version in conditions.attacks.items():
            if mine.attacks.get(attack, version) != version:
                return f"measured with another version of the attack {attack}"
        known = set(self.controls[0].scores) if self.controls else set[str]()
        missing = set(attacks) - known
        if len(self.matches) >= FEWEST:
            missing |= set(likeness_only) - set(self.matches[0])
        if missing:
            return f"no scores of the attack {min(missing)}"
        if len(self.controls) < FEWEST:
            return f"a scan needs {FEWEST} control LoRAs or more"
        if most < self.looks[0]:
            return f"a scan needs {self.looks[0]} pictures or more"
        return None

    def _null(
        self, attacks: tuple[str, ...], most: int, spread: Spread, likeness_only: tuple[str, ...]
    ) -> Null:
        looks = tuple(look for look in self.looks if look <= most)
        alone = set(attacks)
        # With too few people, a likeness is compared with none.
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
    """Read the calibration data in `folder`, which may be anybody's.

    Raises `LorauditError` if they are missing, damaged or of another version of loraudit.
    """
    shown, hint = clean(folder.name), "make them again with 'loraudit calibrate'"
    try:
        document = json.loads(read_within(folder / "calibration.json", _LARGEST).decode())
        schema = document.pop("schema")
        if schema != SCHEMA and str(schema).startswith(SCHEMA.partition("/")[0]):
            raise LorauditError(f"the calibration data in {shown} are of another version of loraudit", hint)
        if schema != SCHEMA:
            raise ValueError("schema")
        return _parsed(shown, document)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise LorauditError(
            f"the calibration data in {shown} cannot be read ({type(error).__name__})", hint
        ) from error


def _parsed(name: str, document: dict[str, Any]) -> Calibration:
    looks = tuple(document.pop("looks"))
    if not looks or list(looks) != sorted(set(looks)) or not all(type(n) is int and n > 1 for n in looks):
        raise ValueError("looks")
    conditions = _conditions(document.pop("conditions"))
    controls = tuple(
        Control(row.pop("kind"), _shares(row.pop("scores"), looks, row)) for row in document.pop("controls")
    )
    matches = tuple(_shares(row, looks) for row in document.pop("matches"))
    leaking = tuple(
        Leaking(_shares(row.pop("agreement"), looks), _shares(row.pop("likeness"), looks, row))
        for row in document.pop("leaking")
    )
    spreads = tuple(map(_spread, document.pop("spreads")))
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


def _conditions(row: dict[str, Any]) -> Conditions:
    """Check the conditions; the name of the base is the only text that is ever shown."""
    found = Conditions(**{**row, "base": clean(row["base"], 300)})
    if not 1 <= found.steps <= _MOST_STEPS or type(found.steps) is not int:
        raise ValueError("steps")
    if not 0 <= found.guidance <= _MOST_GUIDANCE or isinstance(found.guidance, bool):
        raise ValueError("guidance")
    if any(type(version) is not int for version in found.attacks.values()):
        raise TypeError("attacks")
    for digest in (found.fingerprint, found.face, *found.encoders.values()):
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise ValueError("a SHA-256")
    return found


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
