"""Setup of an audit: a base, its attacks, the models that look at pictures, and the calibration data.

Each part is opened by its own room and chosen here. A part that is not at hand is a gap in the report; a part
that was asked for wrongly is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from loraudit.attacks.aim import Aim, PhotoTest
from loraudit.attacks.encoder import Encoders
from loraudit.attacks.kept import KeptPictures
from loraudit.attacks.kit import Kit
from loraudit.attacks.plan import plan_for
from loraudit.attacks.table import ATTACKS, version_of
from loraudit.audit.calibrated import find_calibration
from loraudit.base.load import load_base, pick_device
from loraudit.base.model import CLASS_PROMPT
from loraudit.errors import Incomplete, LorauditError
from loraudit.evidence.calibration import Conditions
from loraudit.findings.report import Gap, gap
from loraudit.lora.directions import directions
from loraudit.runs import OnStep
from loraudit.scores.scorers import look_at, open_scorers
from loraudit.text import clean

if TYPE_CHECKING:
    from torch import Tensor

    from loraudit.attacks.aim import Attack
    from loraudit.attacks.plan import Plan
    from loraudit.audit.request import Request
    from loraudit.base.model import Base
    from loraudit.evidence.calibration import Calibration
    from loraudit.evidence.null import Null
    from loraudit.findings.conditions import CalibrationUsed
    from loraudit.lora import LoRA
    from loraudit.scores.scorers import Scorers

__all__ = ["Setup", "open_base", "set_up", "set_up_to_calibrate"]


@dataclass(frozen=True, eq=False)
class Setup:
    """A base with everything needed to audit one LoRA after the other."""

    base: Base
    attacks: tuple[Attack, ...] = ()
    """Attacks that draw pictures."""
    scorers: Scorers | None = None
    """Models that look at the pictures; None without a face model."""
    tests: tuple[PhotoTest, ...] = ()
    """Comparisons of the reference photos without a picture."""
    guide: Attack | None = None
    """Attack whose aim the comparisons take where no attack draws; None: the class prompt."""
    calibration: Calibration | None = None
    """Scores of control LoRAs on this base; None if nothing was measured."""
    gaps: tuple[Gap, ...] = ()
    """Parts that could not be set up."""
    kept: KeptPictures = field(default_factory=KeptPictures)
    """Pictures of the base, for the next LoRA as well."""

    def aims(self, lora: LoRA, on_step: OnStep) -> tuple[list[Aim], list[Gap]]:
        """Aim with every attack; an attack that cannot read this LoRA is a gap.

        `on_step` receives zeros and the name of the attack that looks. Raises `NotScannable` if the LoRA does
        not fit the base.
        """
        found: list[Aim] = []
        missed: list[Gap] = []
        for attack in self.attacks:
            aims, gaps = self._aims(attack, lora, on_step)
            found, missed = found + aims, missed + gaps
        return found, missed

    def quiet_aim(self, lora: LoRA, on_step: OnStep) -> Aim:
        """Aim the comparisons where no attack draws: as the guide does, or at the class prompt.

        Arguments and errors are those of `aims`.
        """
        aims = [] if self.guide is None else self._aims(self.guide, lora, on_step)[0]
        return aims[0] if aims else Aim("class", self.base.encode_text([CLASS_PROMPT])[0])

    def _aims(self, attack: Attack, lora: LoRA, on_step: OnStep) -> tuple[list[Aim], list[Gap]]:
        on_step(0, 0, f"attack {attack.name}: looking for what to draw")
        try:
            return list(attack.aims(lora, self.base)), []
        except LorauditError as error:
            if error.exit_code != Incomplete.exit_code:
                raise
            return [], [gap(f"attack {attack.name}", error)]

    def null(self, lora: LoRA, aims: Sequence[Aim], plan: Plan) -> tuple[Null | None, CalibrationUsed | None]:
        """Return the null at these aims, None unless data fit this audit, and the data used, if any."""
        if self.calibration is None or self.scorers is None:
            return None, None
        # The aims of one attack have one encoder.
        encoders = {aim.attack.partition(":")[0]: aim.encoder.sha256 for aim in aims if aim.encoder}
        sampling = plan.sampling
        attacks = tuple(aim.among_controls for aim in aims if not aim.likeness_only)
        likeness_only = tuple(aim.attack for aim in aims if aim.likeness_only)
        here = Conditions(
            self.base.name,
            self.base.fingerprint or "",
            sampling.steps,
            sampling.guidance,
            {attack.partition(":")[0]: version_of(attack) for attack in (*attacks, *likeness_only)},
            encoders,
            self.scorers.face_sha256,
        )
        return self.calibration.fit(here, attacks, len(plan.seeds), directions(lora), likeness_only)


def open_base(request: Request, name: str) -> Base:
    """Open the base `name` as `request` asks for. Raises as `load_base` and `pick_device` do."""
    return load_base(name, pick_device(request.device), request.offline, request.dtype)


def set_up(
    request: Request, name: str, family: str, photos: Sequence[Tensor], say: Callable[[str], None]
) -> Setup:
    """Set up the base `name` for LoRAs of the base `family`, with reference `photos` `[3, H, W]` in 0..1.

    `say` receives a line about each attack that is left out and that nobody asked for. Raises
    `LorauditError` if there is no such base, encoder or device, or no face in the photos. Raises `Incomplete`
    if memory does not suffice.
    """
    base = open_base(request, name)
    scorers, absent = open_scorers(base.card.face, base.card.clip, CLASS_PROMPT, base.device, request.offline)
    encoders = Encoders(base, family, request.encoder)
    known = find_calibration(request.calibration, base)
    if request.calibration is not None and known.calibration is not None:
        _say_misfit(known.calibration, base, say)
    asked = encoders.asked_attack()
    # Naming an encoder asks for the attack that needs an encoder.
    names = {*request.attacks, *([] if request.named or asked is None else [asked.name])}
    face = None if scorers is None else scorers.face
    # A quick scan has no pictures to spare for the photos alone.
    likeness = bool(photos) and not request.quick
    kit = Kit(base, encoders, photos, known.decoys, face, likeness, request.quick)
    found: list[Attack | PhotoTest] = []
    gaps: list[Gap] = []
    for row in (row for row in ATTACKS if row.name in names and (request.pictures or not row.draws)):
        # Without pictures the photos have no other use.
        expected = request.named or not request.pictures or (row.needs_encoder and asked is not None)
        if row.needs_photos and not photos and not expected:
            continue
        try:
            found.append(row.open(kit))
        except LorauditError as error:
            if error.exit_code != Incomplete.exit_code:
                raise
            left_out = gap(f"attack {row.name}", error)
            if expected:
                gaps.append(left_out)
            else:
                # Nobody asked for this attack, so the audit is complete without.
                say(f"left out: {left_out.what}: {left_out.why}")
    if scorers is not None and photos:
        others = None if known.decoys is None else known.decoys.faces
        seen = look_at(photos, scorers.face, scorers.clip)
        if others is not None and others.shape[1] != len(seen.face):
            raise LorauditError(
                "the decoys beside the calibration are faces of another face model",
                "make them again with 'loraudit calibrate'",
            )
        seen = replace(seen, decoys=others)
        say(f"reference: a face found in {seen.faces} of {seen.photos} photos")
        scorers = replace(scorers, references=seen)
    drawing = tuple(one for one in found if not isinstance(one, PhotoTest))
    tests = tuple(one for one in found if isinstance(one, PhotoTest))
    return Setup(
        base,
        drawing,
        scorers,
        tests,
        _guide(kit) if tests and not drawing else None,
        known.calibration,
        (*gaps, *absent),
    )


def _say_misfit(calibration: Calibration, base: Base, say: Callable[[str], None]) -> None:
    """Say that calibration data were asked for which other weights gave."""
    measured = calibration.conditions
    if measured.fingerprint != base.fingerprint:
        say(
            f"calibration {calibration.name} is not used: it was measured on {measured.base} "
            f"({measured.fingerprint[:12]}), not on {clean(base.name, 300)} ({(base.fingerprint or '')[:12]})"
        )


def _guide(kit: Kit) -> Attack | None:
    """Open the first attack of the table, the strongest, to aim comparisons that run alone.

    Without a face model the attack has no use for pictures of its own, so it draws none.
    """
    opened = ATTACKS[0].open(replace(kit, face=None))
    return None if isinstance(opened, PhotoTest) else opened


def set_up_to_calibrate(request: Request, name: str) -> tuple[Setup, Plan]:
    """Set up the base `name` and a plan to measure control LoRAs with.

    Raises `LorauditError` if an attack that was asked for, or the face model, is not at hand.
    """
    base = open_base(request, name)
    scorers, absent = open_scorers(base.card.face, base.card.clip, CLASS_PROMPT, base.device, request.offline)
    if scorers is None:
        raise _uncalibrated(absent[0])
    kit = Kit(base, Encoders(base, name, request.encoder), face=scorers.face, likeness=True)
    attacks: list[Attack] = []
    for row in (row for row in ATTACKS if row.name in request.attacks and not row.needs_photos):
        try:
            opened = row.open(kit)
        except LorauditError as error:
            if error.exit_code != Incomplete.exit_code:
                raise
            raise _uncalibrated(gap(f"attack {row.name}", error)) from None
        attacks += [] if isinstance(opened, PhotoTest) else [opened]
    return Setup(base, tuple(attacks), scorers), plan_for(base.card, request.samples, request.steps, 0)


def _uncalibrated(missing: Gap) -> Incomplete:
    return Incomplete(f"cannot calibrate without {missing.what}: {missing.why}")
