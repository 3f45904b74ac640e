"""Every number of the score table is the one its name says, with the interval and null of its kind."""

import dataclasses

import pytest

from loraudit.evidence.copies import Copies
from loraudit.evidence.faces import Reading
from loraudit.evidence.intervals import mean_interval, wilson_interval
from loraudit.evidence.statistics import accepted_share, accepted_test, agreement_test
from loraudit.evidence.table import score_table
from loraudit.findings.finding import Confidence, Finding, Severity, leading_attack
from tests.seen import THRESHOLD, seen, strangers_to

WHO = [0, 0, 0, 0, 1, 2, None, None]
COSINES = (0.7, 0.6, 0.55, 0.1, 0.05, 0.0)
READINGS = (
    Reading("clip-i", "each other", (0.9, 0.8, 0.85), (0.6, 0.7, 0.65)),
    Reading("clip-t", "class prompt", (0.3, 0.1, 0.2, 0.4), ()),
    Reading("clip-i", "reference", (), (0.1,)),
)


def table(evidence):
    return {(s.name, s.against): s for s in score_table([evidence])}


def test_each_number_has_its_interval_its_null_and_its_test():
    whole = dataclasses.replace(strangers_to(WHO, COSINES, 0.2), readings=READINGS)
    rows = table(whole)
    faces = rows["faces", "face detector"]
    assert (faces.value, faces.n, faces.null_p95, faces.p_value) == (6 / 8, 8, None, None)
    assert (faces.low, faces.high) == wilson_interval(6, 8)
    assert rows["faces.base", "face detector"].value == rows["faces.scrambled", "face detector"].value == 1.0
    agreed, test = rows["consistency", "each other"], agreement_test(whole)
    assert (agreed.value, agreed.n, agreed.p_value, agreed.null_p95) == (
        6 / 15, 15, test.p_value, test.null_p95,
    )  # fmt: skip
    for control in ("consistency.base", "consistency.scrambled"):
        row = rows[control, "each other"]
        assert (row.value, row.n, row.p_value, row.null_p95) == (0.0, 28, None, None)
    accepted, base = rows["accepted", "reference"], rows["accepted.base", "reference"]
    fisher = accepted_test(*(accepted_share(side, THRESHOLD) for side in (whole.tuned, whole.base)))
    assert (accepted.value, accepted.p_value, accepted.null_p95) == (3 / 8, fisher.p_value, fisher.null_p95)
    assert accepted.p_value < 1 and base.value == 0.0 and base.p_value is None


def test_means_have_an_interval_only_where_their_values_are_independent():
    rows = table(dataclasses.replace(strangers_to(WHO, COSINES, 0.2), readings=READINGS))
    cosine = rows["cosine", "reference"]
    assert (cosine.value, cosine.n) == (pytest.approx(2.0 / 6), 6)
    assert (cosine.low, cosine.high) == mean_interval(COSINES)
    assert (cosine.null_p95, rows["cosine.base", "reference"].null_p95) == (0.2, None)
    assert rows["cosine.base", "reference"].value == pytest.approx(0.2)
    pairs = rows["clip-i", "each other"]
    assert (pairs.low, pairs.high, pairs.null_p95) == (None, None, 0.7)
    words = rows["clip-t", "class prompt"]
    assert (words.low, words.high) == mean_interval((0.3, 0.1, 0.2, 0.4))
    assert words.null_p95 is None and rows["clip-t.base", "class prompt"].value is None
    assert (rows["clip-i", "reference"].value, rows["clip-i", "reference"].low) == (None, None)
    assert (rows["clip-i.base", "reference"].value, rows["clip-i.base", "reference"].n) == (0.1, 1)


def test_the_null_of_a_mean_is_what_19_of_20_control_pictures_do_not_exceed():
    reading = Reading("clip-t", "class prompt", (0.5, 0.4, 0.3), tuple(0.01 * i for i in range(20)))
    (row,) = [
        s for s in score_table([dataclasses.replace(seen(WHO), readings=(reading,))]) if s.name == "clip-t"
    ]
    assert row.null_p95 == 0.18


def test_without_photos_or_controls_their_rows_are_not_there():
    bare = dataclasses.replace(seen(WHO), scrambled=None, scrambled_cross=())
    assert [s.name for s in score_table([bare])] == ["faces", "faces.base", "consistency", "consistency.base"]
    assert [s.name for s in score_table([seen(WHO)])][2::3] == ["faces.scrambled", "consistency.scrambled"]
    assert score_table([]) == ()


def test_each_control_of_copies_is_held_against_the_other():
    near, far = ((0.1,),), ((0.9,),)
    names = ("copies", "copies.base", "copies.scrambled")
    for tuned, base, scrambled, shown in (
        (near, far, far, (1, 0, 0)),
        (near, near, far, (0, 1, 0)),
        (near, far, near, (0, 0, 1)),
        (far, far, far, (0, 0, 0)),
    ):
        copies = Copies(0.4, 0.15, tuned, base, scrambled)
        rows = table(dataclasses.replace(seen(WHO), copies=copies))
        assert tuple(rows[name, "reference"].value for name in names) == shown


def test_the_leading_attack_is_that_of_the_worst_finding_that_names_one():
    def finding(**numbers):
        return Finding("LA-X-001", Severity.LOW, Confidence.LOW, "t", "d", "r", numbers=numbers)

    named = [finding(), finding(attack=3), finding(attack="a"), finding(attack="b")]
    assert leading_attack(named) == "a"
    assert leading_attack(named[:2]) is leading_attack([]) is None
