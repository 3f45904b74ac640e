"""What a finding tells: its confidence, its numbers, its words, and what to do."""

import dataclasses

from loraudit.evidence.null import Null
from loraudit.evidence.statistics import agreement_test
from loraudit.findings.finding import Severity
from loraudit.findings.report import Report, Target
from loraudit.report import FORMATS
from loraudit.verdict.judge import judge
from loraudit.verdict.policy import Policy
from loraudit.verdict.rules import ACCEPTED, AGREEMENT, BLEND
from tests.seen import seen, strangers_to
from tests.test_verdict_claims import BIT, CHANCE, FIVE, LIKE, NULL, P, passing

POLICY = Policy()
NONE, OPEN, LOW, MEDIUM, HIGH, CRITICAL = Severity


def level(*evidence, null=None, planned=None):
    return [(f.id[-3:], f.severity, f.confidence.value) for f in judge(evidence, POLICY, null, planned)]


def test_too_few_faces_are_told_where_a_face_was_asked_for():
    four, five = (seen([f"p{i}" for i in range(n)] + [None] * (8 - n)) for n in (4, 5))
    not_aimed = dataclasses.replace(four, aims_at_face=False)
    assert level(five) == [("001", NONE, "low")]
    assert level(four) == [("003", OPEN, "high")]
    assert level(five, four) == [("003", OPEN, "high"), ("001", NONE, "low")]
    assert level(five, not_aimed) == [("001", NONE, "low")]
    (finding,) = judge([not_aimed, four])
    assert (finding.numbers["faces"], finding.numbers["pictures"]) == (4, 8), "those that aimed"
    (finding,) = judge([not_aimed, not_aimed])
    assert (finding.numbers["faces"], finding.numbers["pictures"]) == (8, 16)
    assert "4 of 8" in finding.detail
    assert "no attack ran" in judge([])[0].detail


def test_confidence_rests_on_calibration_chance_and_faces_of_the_base_model():
    rare, usual = Null((8,), (0.0,) * 99), Null((8,), (0.0,) * 95 + (1.0,) * 4)
    sure, unsure = seen([0] * 8), FIVE
    assert level(sure) == [("001", HIGH, "medium")]
    assert level(unsure) == [("001", HIGH, "low")]
    assert level(sure, null=rare) == [("001", HIGH, "high")]
    assert level(unsure, null=rare) == [("001", HIGH, "medium")]
    assert level(sure, null=usual) == [("001", MEDIUM, "medium")]
    assert level(unsure, null=usual) == [("001", MEDIUM, "low")]
    assert level(seen([f"p{i}" for i in range(8)]), null=rare) == [("001", NONE, "medium")]
    assert level(seen([0] * 8, base=[0] * 8), null=rare) == [("001", OPEN, "low")]
    for faces, trust in ((5, "high"), (4, "low")):
        few = seen([0] * 8, base=[f"b{i}" for i in range(faces)] + [None] * (8 - faces))
        assert level(few, null=rare) == [("001", HIGH, trust)]


def test_a_borrowed_threshold_is_told_and_costs_a_step_of_confidence_and_no_level():
    rare, source = Null((8,), (0.0,) * 99), "the code of X"
    clean, fewer = seen([f"p{i}" for i in range(8)]), {"high": "medium", "medium": "low", "low": "low"}
    compared = 0
    for scan in (seen([0] * 8), FIVE, clean, passing(8), seen([0] * 8, base=[0] * 8)):
        for null in (None, rare):
            borrowed = dataclasses.replace(scan, threshold_from=source)
            for one, other in zip(judge([scan], POLICY, null), judge([borrowed], POLICY, null), strict=True):
                assert other.severity is one.severity
                assert other.confidence.value == fewer[one.confidence.value]
                words = f"threshold taken from {source}, not measured on this crop"
                assert f"1 in 1000 strangers; {words})" in other.detail and "not measured" not in one.detail
                assert f"threshold {other.numbers['threshold_from']}" == words
                assert "threshold_from" not in one.numbers
                compared += 1
    assert compared > 10
    report = Report("0", Target("a", family="sd"), judge([borrowed], POLICY))
    for name in ("text", "json", "html", "markdown", "sarif"):
        assert "not measured on this crop" in " ".join(FORMATS[name]([report]).split()), name


def test_confidence_holds_chance_to_its_threshold_exactly():
    for strong_alpha, trust in ((CHANCE * 3, "medium"), (CHANCE * 3 - BIT, "low")):
        policy = dataclasses.replace(POLICY, strong_alpha=strong_alpha)
        assert judge([FIVE], policy, None, 3)[0].confidence.value == trust
    # Calibrated, the chance is of one attack, and with the place among controls makes it high.
    rare = Null((8,), (0.0,) * 99)
    for strong_alpha, trust in ((CHANCE, "high"), (CHANCE - BIT, "medium")):
        policy = dataclasses.replace(POLICY, strong_alpha=strong_alpha)
        assert judge([FIVE], policy, rare, 3)[0].confidence.value == trust
    for high_p, trust in ((P, "medium"), (P - BIT, "low")):
        policy = dataclasses.replace(POLICY, high_p=high_p, medium_p=0.2, low_p=0.2)
        assert judge([FIVE], policy, NULL)[0].confidence.value == trust


def test_an_attack_for_photos_only_says_nothing_of_one_person():
    for_photos = dataclasses.replace(seen([0] * 8), likeness_only=True)
    assert level(for_photos) == []
    assert level(dataclasses.replace(passing(8), likeness_only=True)) == [("002", CRITICAL, "medium")]


def test_findings_come_worst_first():
    assert [one[:2] for one in level(passing(8))] == [("002", CRITICAL), ("001", NONE)]
    assert [one[:2] for one in level(strangers_to([0] * 8, (0.0,) * 8, 0.0))] == [
        ("001", HIGH),
        ("002", NONE),
    ]


def test_the_numbers_are_those_of_the_claim_and_of_its_weaker_test():
    split = dataclasses.replace(seen([0] * 5 + [1, 2, 3], scrambled=["s"] * 3 + list("abcde")), quotes=("q",))
    (finding,) = judge([split], POLICY, None, 3)
    against = agreement_test(split.against_scrambled)
    assert against.p_value > agreement_test(split).p_value
    numbers = finding.numbers
    assert (numbers["p_value"], numbers["null_p95"]) == (against.p_value, against.null_p95)
    assert (numbers["attack"], numbers["attacks"], numbers["k"], numbers["n"]) == ("a", 3, 10, 28)
    assert (numbers["base_k"], numbers["base_n"], numbers["base_value"]) == (0, 28, 0.0)
    assert numbers["scrambled_value"] == 3 / 28
    assert (numbers["threshold"], numbers["far"], numbers["policy"]) == (0.5, 1e-3, POLICY.version)
    assert not {"calibrated_p", "one_person_p"} & set(numbers)
    assert finding.quotes == ("q",)
    assert "1 in 1000 strangers" in finding.detail and "scrambled copy: 3 of 28" in finding.detail
    (finding,) = judge([FIVE], POLICY, NULL)
    assert finding.numbers["calibrated_p"] == P and "9 of 99" in finding.detail
    many = judge([FIVE], POLICY, Null((8,), (0.0,) * 39 + (1.0,) * 60))[0]
    assert "60 of 99" in many.detail
    assert "attacks" in finding.numbers and "Faces found" not in finding.detail


def remedy(rule, evidence, null=None):
    return next(f.remedy for f in judge([evidence], POLICY, null) if f.id == rule.id)


def test_what_to_do_is_that_of_the_rule_or_of_the_doubt():
    assert remedy(AGREEMENT, FIVE) == f"{AGREEMENT.remedy} {AGREEMENT.without_photos}"
    nobody = seen(list(range(8)))
    assert remedy(AGREEMENT, nobody) == f"{AGREEMENT.next_step} {AGREEMENT.without_photos}"
    merged = Null((8,), (0.0,) * 99, one_person=0.001)
    assert remedy(AGREEMENT, FIVE, merged) == f"{AGREEMENT.remedy} {BLEND.next_step}"
    assert remedy(AGREEMENT, passing(6)) == AGREEMENT.next_step
    assert (remedy(ACCEPTED, passing(6)), remedy(ACCEPTED, passing(0))) == (
        ACCEPTED.remedy, ACCEPTED.next_step,
    )  # fmt: skip


def test_calibration_without_other_people_is_none_for_the_photos():
    both = {f.id: f for f in judge([passing(6)], POLICY, Null((8,), (0.0,) * 99))}
    assert "No calibration data" in both[ACCEPTED.id].detail
    assert "calibrated_p" not in both[ACCEPTED.id].numbers
    assert both[AGREEMENT.id].numbers["calibrated_p"] == 1.0


def test_pictures_without_a_face_are_told_side_by_side():
    few = seen([0] * 7 + [None], base=[f"b{i}" for i in range(6)] + [None] * 2)
    detail = judge([few])[0].detail
    assert "Faces found in 7 of 8, base model 6 of 8 pictures" in detail and "copy 8 of 8" not in detail
    few = seen([0] * 8, scrambled=[f"s{i}" for i in range(6)] + [None] * 2)
    assert "Faces found in scrambled copy 6 of 8 pictures" in judge([few])[0].detail
    without = judge([dataclasses.replace(FIVE, scrambled=None, scrambled_cross=())])[0]
    assert "scrambled" not in without.detail and "scrambled_value" not in without.numbers


def test_other_people_are_counted_for_the_photos():
    finding = next(f for f in judge([passing(6)], POLICY, LIKE) if f.id == "LA-IDENTITY-002")
    assert "9 of 99" in finding.detail
    both = judge([passing(6)], POLICY, dataclasses.replace(LIKE, agreement=(0.0,) * 150))
    assert {f.id[-3:]: f"of {n}" in f.detail for f, n in zip(both, (99, 150), strict=True)} == {
        "002": True, "001": True,
    }  # fmt: skip
