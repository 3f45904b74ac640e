"""Choice of the attack whose pictures a report leads with: at equal evidence, those that a person recognises.

Model guidance overdraws. Pictures by the usual guidance keep the base's range of brightness and colour, but
may show the person less often. So they lead only where they are evidence of the same worth.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from loraudit.attacks.aim import Aim
from loraudit.findings.finding import Finding, Score, leading_attack

__all__ = ["shown_attack"]

_RESTS_ON: Final = {"LA-IDENTITY-001": "consistency", "LA-IDENTITY-002": "accepted"}
"""Score that each finding on identity rests on."""


def shown_attack(findings: Sequence[Finding], scores: Sequence[Score], aims: Sequence[Aim]) -> str | None:
    """Return the attack to show, of `aims` that drew: the one that decides, or one of equal evidence.

    Evidence is equal if the share is within the 95 % interval of the one that decides, or above, and leads
    its own controls. Of several such attacks by usual guidance the one with the largest share is shown.
    """
    decides = leading_attack(findings)
    finding = next((one for one in findings if one.numbers.get("attack") == decides), None)
    usual = {aim.attack: aim for aim in aims if not aim.against_base}
    if finding is None or decides is None or decides in usual or finding.id not in _RESTS_ON:
        return decides
    name, low = _RESTS_ON[finding.id], finding.numbers.get("low")
    told = {(score.name, score.attack): score.value for score in scores if score.value is not None}
    equal = {
        attack: told[name, attack]
        for attack, aim in usual.items()
        if isinstance(low, float)
        and told.get((name, attack), -1.0) >= low
        and told[name, attack] > _controls(told, name, attack)
        # Agreement of pictures for the photos alone says nothing.
        and (name == "accepted" or not aim.likeness_only)
    }
    return max(equal, key=lambda attack: equal[attack], default=decides)


def _controls(told: Mapping[tuple[str, str], float], name: str, attack: str) -> float:
    """Return the larger share of the controls, 1 where none were drawn."""
    drawn = [told[key] for end in ("base", "scrambled") if (key := (f"{name}.{end}", attack)) in told]
    return max(drawn, default=1.0)
