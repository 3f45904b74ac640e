"""Controls are asked for wherever they could change an answer, and hardly anywhere else."""

import dataclasses
import random
from itertools import combinations

import pytest

from loraudit.evidence.copies import Copies
from loraudit.evidence.faces import AttackEvidence, Faces
from loraudit.evidence.null import Null
from loraudit.findings.finding import Severity
from loraudit.verdict.claims import accepted_claim, agreement_claim
from loraudit.verdict.copies import judge_copies
from loraudit.verdict.judge import judge
from loraudit.verdict.policy import Policy
from loraudit.verdict.stopping import asks_for_controls, settled
from tests.seen import OTHER, SAME, THRESHOLD, seen, strangers_to

POLICY = Policy()
NONE = Severity.NONE
ATTACKS = 7


def without_controls(evidence):
    nobody = Faces(0, 0, (), None if evidence.tuned.to_reference is None else ())
    return dataclasses.replace(evidence, base=nobody, cross=(), scrambled=None, scrambled_cross=())


def drawn(rng, people, references):
    """Evidence of six pictures by three models, which show the first of `people` more or less often."""
    groups = []
    for _ in range(3):
        known = rng.choice((0.0, 0.2, 0.5, 0.9))
        groups.append([
            None if rng.random() < 0.1 else 0 if rng.random() < known else rng.randrange(1, people)
            for _ in range(6)
        ])  # fmt: skip

    def faces(who):
        there = [one for one in who if one is not None]
        pairs = tuple(SAME if a == b else OTHER for a, b in combinations(there, 2))
        near = tuple(rng.uniform(-0.3, 0.4) + 0.3 * (one == 0) for one in there) if references else None
        return Faces(len(who), len(there), pairs, near)

    def cross(other):
        return tuple(
            SAME if a == b else OTHER for a in groups[0] if a is not None for b in other if b is not None
        )

    return AttackEvidence(
        "a",
        THRESHOLD,
        1e-3,
        *map(faces, groups[:2]),
        cross(groups[1]),
        scrambled=faces(groups[2]),
        scrambled_cross=cross(groups[2]),
    )


@pytest.mark.parametrize("references", [False, True])
@pytest.mark.parametrize("calibrated", [False, True])
def test_what_asks_for_no_controls_is_none_and_stops_alike_beside_any(references, calibrated) -> None:
    rng = random.Random(11)
    shares = tuple(rng.choice((0.0, 0.0, 1 / 28, 3 / 28)) for _ in range(199))
    likeness = tuple(rng.uniform(0, 0.2) for _ in range(199)) if references else ()
    null = Null((6, 12), shares, likeness) if calibrated else None
    asked = []
    for _ in range(100):
        evidence = drawn(rng, rng.choice((3, 8, 60)), references)
        bare = without_controls(evidence)
        asks = asks_for_controls(evidence, ATTACKS, POLICY, null)
        assert asks == asks_for_controls(bare, ATTACKS, POLICY, null)
        asked.append(asks)
        claims = [agreement_claim(evidence, POLICY, ATTACKS, null), accepted_claim(evidence, POLICY, null)]
        shown = any(
            claim is not None
            and claim.severity > NONE
            and (claim is claims[1] or evidence.tuned.found >= POLICY.min_faces)
            for claim in claims
        )
        assert asks or not shown
        if not asks:
            ends = [settled(one, 12, ATTACKS, POLICY, null) for one in (evidence, bare)]
            assert ends[0] == ends[1]
            told = [judge([one], POLICY, null, ATTACKS) for one in (evidence, bare)]
            assert [f.severity for f in told[0]] == [f.severity for f in told[1]]
    assert 0.1 < sum(asked) / len(asked) < 0.9


def test_a_leak_asks_and_strangers_do_not() -> None:
    for calibrated in (None, Null((8, 16), (0.0,) * 199)):
        assert asks_for_controls(seen([0] * 8), ATTACKS, POLICY, calibrated)
        assert not asks_for_controls(seen(list(range(8))), ATTACKS, POLICY, calibrated)
        # Two pictures of sixteen may agree by luck, and no control makes that a finding.
        assert not asks_for_controls(seen([0, 0, *range(1, 15)]), ATTACKS, POLICY, calibrated)
        assert not asks_for_controls(seen([None] * 8), ATTACKS, POLICY, calibrated)


def test_somebody_accepted_asks_and_so_does_the_likeness() -> None:
    far = (0.05, -0.1, 0.1, 0.0, 0.08, -0.06, 0.12, 0.02)
    apart = list(range(8))
    assert not asks_for_controls(strangers_to(apart, far, 0.0), ATTACKS, POLICY)
    assert asks_for_controls(strangers_to(apart, (*far[:7], 0.6), 0.0), ATTACKS, POLICY)
    close = strangers_to(apart, tuple(0.3 + one for one in far), 0.0)
    assert not asks_for_controls(close, ATTACKS, POLICY)
    others = Null((8, 16), (0.9,) * 99, likeness=(0.1,) * 99)
    assert asks_for_controls(close, ATTACKS, POLICY, others)
    assert not asks_for_controls(close, ATTACKS, POLICY, dataclasses.replace(others, likeness=(0.5,) * 99))
    # Of an attack for the photos the agreement says nothing.
    agreed = dataclasses.replace(strangers_to([0] * 8, far, 0.0), likeness_only=True)
    assert not asks_for_controls(agreed, ATTACKS, POLICY)
    assert asks_for_controls(dataclasses.replace(agreed, likeness_only=False), ATTACKS, POLICY)


def test_a_picture_near_a_photo_asks() -> None:
    for distance, asks in ((0.14, True), (0.16, False)):
        near = Copies(0.4, 0.15, ((distance,),) * 8, (), ())
        evidence = dataclasses.replace(seen(list(range(8))), copies=near)
        assert asks_for_controls(evidence, ATTACKS, POLICY) is asks
        # Without the controls that were asked for nothing can be told.
        told = [one.severity for one in judge_copies([evidence], POLICY)]
        assert told == ([Severity.INCONCLUSIVE] if asks else [])


def test_without_controls_nothing_is_shown() -> None:
    """However alike the pictures: a scan that could not draw controls leads nowhere."""
    alike = without_controls(strangers_to([0] * 8, (0.9,) * 8, 0.0))
    for null in (None, Null((8, 16), (0.0,) * 199, likeness=(0.0,) * 199)):
        found = judge([alike], POLICY, null)
        assert {one.severity for one in found} == {Severity.INCONCLUSIVE}
    clean = judge([without_controls(seen(list(range(8))))], POLICY)
    assert [one.severity for one in clean] == [NONE]
    assert "no control" not in clean[0].detail and "none were drawn" in clean[0].detail
    assert not {"base_value", "base_k", "p_value"} & set(clean[0].numbers)
