"""When a scan may stop early."""

import dataclasses
import random
from statistics import median

import pytest

from loraudit.attacks.plan import looks
from loraudit.evidence.null import Null
from loraudit.verdict.judge import judge
from loraudit.verdict.policy import Policy
from loraudit.verdict.stopping import enough, settled
from tests.seen import seen, strangers_to

POLICY = Policy()
ATTACKS = 5


def leaking(share, most, rng):
    return [0 if rng.random() < share else f"p{i:02d}" for i in range(most)]


def test_a_scan_of_several_loras_merged_stops_as_one_of_a_person_does() -> None:
    null = Null((8, 16), (0.0,) * 199, one_person=0.01)
    for one_person in (0.01, 1.0):
        here = dataclasses.replace(null, one_person=one_person)
        assert settled(seen([0] * 8), 16, ATTACKS, POLICY, here)
        assert not settled(seen([0] * 4 + [1, 2, 3, 4]), 16, ATTACKS, POLICY, here)
        assert enough([seen([0] * 8)], ATTACKS, POLICY, here)
        assert not enough([seen(list(range(8)))], ATTACKS, POLICY, here)
    # Photos may still tell who it is.
    assert not enough([strangers_to([0] * 8, (0.0,) * 8, 0.0)], ATTACKS, POLICY, null)


def test_what_is_high_early_stays_above_the_controls_of_the_whole_scan() -> None:
    """A control at 0.9 is beaten by eight of eight pictures, and by 16 only if 16 show one person."""
    eight = seen([0] * 8)
    assert settled(eight, 16, 1, POLICY, Null((8, 16), (0.0,) * 199))
    assert not settled(eight, 16, 1, POLICY, Null((8, 16), (0.0,) * 197 + (0.96,) * 2))


def test_looks_end_with_the_last_picture() -> None:
    assert looks(16) == (8, 12, 16)
    assert (looks(3), looks(8), looks(9)) == ((3,), (8,), (8, 9))


def simulated(people, null, early):
    """Level of a file whose attacks bring back `people`, and the pictures that it took."""
    evidence, pictures = [], 0
    for who in people:
        stops = looks(len(who)) if early else (len(who),)
        for n in stops:
            # Sorted, which changes no number of a look, so that equal evidence is tested once.
            one = dataclasses.replace(
                seen([0] * who[:n].count(0) + list(range(1, n - who[:n].count(0) + 1))),
                scrambled=None,
                scrambled_cross=(),
            )
            if early and n < len(who) and settled(one, len(who), ATTACKS, POLICY, null):
                break
        evidence.append(one)
        pictures += n
        if early and enough(evidence, ATTACKS, POLICY, null):
            break
    level = max(finding.severity for finding in judge(evidence, POLICY, null, ATTACKS))
    return level, pictures


@pytest.mark.parametrize("calibrated", [False, True])
def test_stopping_early_keeps_the_verdict_and_saves_half(calibrated) -> None:
    """300 files: half leak in one attack or more, in most of the pictures or in few."""
    rng = random.Random(5)
    null = Null((8, 12, 16), tuple(rng.choice((0.0, 1 / 28, 3 / 28, 0.15)) for _ in range(199)))
    same, spent = 0, []
    for number in range(300):
        most = rng.betavariate(2, 0.7) if number % 2 else 0.0
        people = [leaking(most * rng.uniform(0.5, 1), 16, rng) for _ in range(ATTACKS)]
        whole, _ = simulated(people, null if calibrated else None, early=False)
        level, pictures = simulated(people, null if calibrated else None, early=True)
        same += level is whole
        spent.append(pictures / (ATTACKS * 16))
    assert same >= 297
    assert median(spent) <= 0.5


def test_what_is_not_settled_goes_on() -> None:
    """The negative controls: too few faces, and an outcome that more pictures may well change."""
    assert settled(seen([0] * 8), 16, ATTACKS, POLICY)
    assert settled(seen(list(range(8))), 16, ATTACKS, POLICY)
    assert not settled(seen([0] * 4 + [None] * 4), 16, ATTACKS, POLICY)
    assert not settled(seen([0] * 4 + [1, 2, 3, 4]), 16, ATTACKS, POLICY)
    assert not settled(seen([0] * 8, scrambled=[0] * 8), 16, ATTACKS, POLICY)
    assert not settled(seen(list(range(8))), 32, 1, POLICY)


def test_an_attack_that_draws_no_face_stops_early() -> None:
    """None in 8 pictures will hardly become the five that a verdict needs; three may."""
    assert settled(seen([None] * 8), 16, ATTACKS, POLICY)
    assert settled(seen([None] * 11 + [0]), 16, ATTACKS, POLICY)
    assert not settled(seen([None] * 5 + [0, 1, 2]), 16, ATTACKS, POLICY)
    # With photos, one face that passes would be a finding; not where a level takes what few others reach.
    blind = strangers_to([None] * 8, (), 0.0)
    assert not settled(blind, 16, ATTACKS, POLICY)
    others = Null((8, 16), (0.0,) * 99, likeness=tuple(0.004 * i for i in range(99)))
    assert settled(blind, 16, ATTACKS, POLICY, others)
    assert not settled(strangers_to([None] * 5 + [0, 1, 2], (0.0,) * 3, 0.0), 16, ATTACKS, POLICY, others)
    assert not settled(dataclasses.replace(blind, aims_at_face=False), 16, ATTACKS, POLICY, others)


def test_with_photos_an_attack_stops_early_where_nobody_resembles_them() -> None:
    far = (0.05, -0.1, 0.1, 0.0, 0.08, -0.06, 0.12, 0.02)
    apart = list(range(8))
    assert settled(strangers_to(apart, far, 0.0), 12, ATTACKS, POLICY)
    # One of them is near, the spread is wide, or they agree on somebody: more pictures may change it.
    assert not settled(strangers_to(apart, (*far[:7], 0.5), 0.0), 12, ATTACKS, POLICY)
    assert not settled(strangers_to([0] * 5 + [1, 2, 3], far, 0.0), 12, ATTACKS, POLICY)
    # Calibration data make a finding of a mean that the pictures so far nearly have.
    others = Null((8, 12), (0.0,) * 99, likeness=tuple(0.0005 * i for i in range(99)))
    assert not settled(strangers_to(apart, far, 0.0), 12, ATTACKS, POLICY, others)
    unlike = dataclasses.replace(others, likeness=tuple(0.2 + 0.001 * i for i in range(99)))
    assert settled(strangers_to(apart, far, 0.0), 12, ATTACKS, POLICY, unlike)


def test_what_is_made_for_photos_stops_by_the_likeness_alone() -> None:
    far = (0.05, -0.1, 0.1, 0.0, 0.08, -0.06, 0.12, 0.02)
    agreed = strangers_to([0] * 5 + [1, 2, 3], far, 0.0)
    assert not settled(agreed, 12, ATTACKS, POLICY)
    assert settled(dataclasses.replace(agreed, likeness_only=True), 12, ATTACKS, POLICY)
    near = strangers_to(list(range(8)), (*far[:7], 0.5), 0.0)
    assert not settled(dataclasses.replace(near, likeness_only=True), 12, ATTACKS, POLICY)


def test_a_person_found_early_stays_above_loras_of_other_people() -> None:
    """Eight of eight pictures pass; is it critical? Not where LoRAs of others reach that likeness, too."""
    close = strangers_to([0] * 8, (0.55, 0.62, 0.58, 0.66, 0.52, 0.6, 0.64, 0.56), 0.0)
    for highest, enough_seen in ((0.2, True), (0.57, False)):
        null = Null((8, 16), (0.0,) * 99, likeness=(0.0,) * 98 + (highest,))
        assert settled(close, 16, ATTACKS, POLICY, null) is enough_seen
