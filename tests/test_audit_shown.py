"""Pictures that a report leads with: usual guidance where its evidence is equal, never where it is less."""

import pytest
import torch

from loraudit.attacks.aim import Aim
from loraudit.audit.shown import shown_attack
from loraudit.findings.finding import Confidence, Finding, Score, Severity

AIMS = (
    Aim("search", torch.zeros(1), against_base=True),
    Aim("search:usual", torch.zeros(1)),
    Aim("search:half", torch.zeros(1), likeness_only=True),
)


def finding(rule: str, attack: str = "search") -> Finding:
    numbers = {"attack": attack, "value": 0.9, "low": 0.7}
    return Finding(rule, Severity.HIGH, Confidence.HIGH, "t", "d", "r", "s", numbers)


def shares(name: str, **values: float) -> list[Score]:
    ends = {"": 0.0, ".base": 0.0, ".scrambled": 0.0}
    return [
        Score(f"{name}{end}", f"search:{way}", "x", value if not end else control, 16, 0.0, 1.0)
        for way, value in values.items()
        for end, control in ends.items()
    ]


@pytest.mark.parametrize("name", ["accepted", "consistency"])
@pytest.mark.parametrize(("share", "leads"), [(0.95, True), (0.7, True), (0.69, False), (0.0, False)])
def test_usual_guidance_leads_within_the_interval(name: str, share: float, leads: bool) -> None:
    rule = "LA-IDENTITY-002" if name == "accepted" else "LA-IDENTITY-001"
    found = shown_attack([finding(rule)], shares(name, usual=share), AIMS)
    assert found == ("search:usual" if leads else "search")


def test_half_strength_counts_for_the_photos_alone() -> None:
    for name, rule, shown in (
        ("accepted", "LA-IDENTITY-002", "search:half"),
        ("consistency", "LA-IDENTITY-001", "search"),
    ):
        assert shown_attack([finding(rule)], shares(name, half=0.9), AIMS) == shown


def test_pictures_that_do_not_lead_their_controls_do_not_lead_a_report() -> None:
    without = [one for one in shares("accepted", usual=0.9) if one.name == "accepted"]
    level = [Score("accepted.base", "search:usual", "x", 0.9, 16, 0.0, 1.0)]
    for scores in (without, [*without, *level]):
        assert shown_attack([finding("LA-IDENTITY-002")], scores, AIMS) == "search"


def test_what_decides_by_usual_guidance_or_by_another_question_stays() -> None:
    scores = shares("accepted", usual=1.0)
    assert shown_attack([finding("LA-IDENTITY-002", "search:half")], scores, AIMS) == "search:half"
    assert shown_attack([finding("LA-COPY-001")], scores, AIMS) == "search"
    assert shown_attack([], scores, AIMS) is None
