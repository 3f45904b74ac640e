"""Properties of every verdict: controls and further attacks only ever weaken what one attack says."""

import dataclasses

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from loraudit.evidence.null import Null
from loraudit.findings.finding import Confidence, Severity
from loraudit.verdict.judge import judge
from loraudit.verdict.policy import Policy
from tests.seen import OTHER, SAME, seen, strangers_to

POLICY = Policy()
PERSON, ACCEPTED = "LA-IDENTITY-001", "LA-IDENTITY-002"
TRUST = list(Confidence)
LEAKS = (Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL)

cosines = st.sampled_from([0.0, OTHER, 0.3, SAME])


PICTURES = 6
tuned_counts = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 6, 6])
control_counts = st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4, 5, 6])


@st.composite
def scans(draw, photos=None):
    """One attack, with both controls and, if `photos` or by chance, reference photos.

    So many pictures of a side show one person, the others strangers or, seldom, nobody; as many as may be
    are like the photos.
    """
    sides, compared = [], draw(st.booleans()) if photos is None else photos
    for name in ("tuned", "base", "scrambled"):
        counts = tuned_counts if name == "tuned" else control_counts
        one_person, faceless = draw(counts), draw(st.sampled_from([0, 0, 0, 1, 2]))
        whole = [name] * one_person + [f"{name}{i}" for i in range(PICTURES - one_person)]
        sides.append([*whole[: PICTURES - faceless], *[None] * faceless])
    scan = seen(sides[0], base=sides[1], scrambled=sides[2])
    if not compared:
        return scan
    told = {}
    for name in ("tuned", "base", "scrambled"):
        faces, accepted = getattr(scan, name), draw(tuned_counts if name == "tuned" else control_counts)
        rest = draw(st.sampled_from([0.0, 0.3, 0.49]))
        to_reference = tuple(SAME if i < accepted else rest for i in range(faces.found))
        told[name] = dataclasses.replace(faces, to_reference=to_reference)
    return dataclasses.replace(scan, **told)


nulls = st.none() | st.builds(
    Null,
    st.just((5, 6)),
    st.sampled_from([(0.0,) * 99, (0.0,) * 96 + (0.9,) * 3, (0.0,) * 92 + (0.9,) * 7, (0.9,) * 99]),
    st.sampled_from([(), (0.0,) * 99, (0.0,) * 96 + (0.9,) * 3, (0.0,) * 92 + (0.9,) * 7]),
    one_person=st.sampled_from([1.0, 0.02, 0.01]),
)


def raised(faces, data):
    """The same pictures, more like each other and like the photos: a few of the cosines, or all."""
    most = data.draw(st.sampled_from([1, 3, 15]))

    def more(values):
        return tuple(max(value, data.draw(cosines)) if i < most else value for i, value in enumerate(values))

    to_reference = None if faces.to_reference is None else more(faces.to_reference)
    return dataclasses.replace(faces, pairs=more(faces.pairs), to_reference=to_reference)


@given(scans(), nulls, st.sampled_from(["base", "scrambled"]), st.data())
@settings(max_examples=100)
def test_more_similarity_of_a_control_never_raises_a_severity(scan, null, control, data):
    alike = dataclasses.replace(scan, **{control: raised(getattr(scan, control), data)})
    before, after = ({f.id: f.severity for f in judge([e], POLICY, null)} for e in (scan, alike))
    assert before.keys() == after.keys()
    assert before and all(after[rule] <= severity for rule, severity in before.items())
    event("lowered" if before != after else "equal")


def test_and_it_does_lower_one():
    alone, alike = seen(["a"] * 6), seen(["a"] * 6, base=["b"] * 6)
    assert judge([alone])[0].severity is Severity.HIGH
    assert judge([alike])[0].severity is Severity.INCONCLUSIVE


@given(scans(), nulls)
@settings(max_examples=100)
def test_what_is_high_lies_with_its_whole_interval_above_the_controls(scan, null):
    for finding in judge([scan], POLICY, null):
        numbers = finding.numbers
        if finding.id not in (PERSON, ACCEPTED) or finding.severity not in LEAKS:
            continue
        control = max(numbers["base_value"], numbers["scrambled_value"])
        if finding.id == PERSON and "calibrated_p" in numbers:
            control = numbers["base_value"]
        by_likeness = finding.id == ACCEPTED and "resemble" in finding.title
        if finding.severity >= Severity.HIGH:
            assert numbers["low"] > control
            assert numbers["value"] >= POLICY.high_agreement or finding.id == ACCEPTED
        elif finding.severity is Severity.MEDIUM and finding.id == ACCEPTED and not by_likeness:
            assert numbers["low"] > control and numbers["k"] >= 2
        elif finding.id == ACCEPTED and not by_likeness:
            assert numbers["value"] > control
        event(f"{finding.id} {finding.severity.value}")


def test_a_share_far_beyond_chance_is_not_high_within_reach_of_a_control():
    """Six of six pictures agree, and five of six of a control: p is 1/924, but three pairs are no more."""
    close = seen(["a"] * 6, scrambled=["b"] * 5 + ["c"])
    (finding,) = judge([close])
    assert finding.numbers["p_value"] == 1 / 924
    assert finding.numbers["low"] < finding.numbers["scrambled_value"] == 10 / 15 < finding.numbers["value"]
    assert finding.severity is Severity.MEDIUM
    (finding,) = judge([seen(["a"] * 6, scrambled=["b"] * 3 + ["c", "d", "e"])])
    assert finding.numbers["low"] > finding.numbers["scrambled_value"] and finding.severity is Severity.HIGH


@given(scans(), nulls, st.integers(1, 6))
@settings(max_examples=100)
def test_one_more_attack_never_raises_a_severity_or_a_confidence(scan, null, planned):
    before, after = ({f.id: f for f in judge([scan], POLICY, null, n)} for n in (planned, planned + 1))
    assert before.keys() == after.keys() and before
    for rule, one in before.items():
        more = after[rule]
        assert more.severity <= one.severity
        if more.severity is one.severity:
            assert TRUST.index(more.confidence) <= TRUST.index(one.confidence)
        if null is None and more.confidence is not Confidence.LOW and more.severity in LEAKS:
            # The chance of the best of all attacks, not of one alone.
            assert more.numbers["p_value"] * (planned + 1) <= POLICY.strong_alpha


def test_and_more_attacks_do_lower_both():
    """Six of six alone against strangers: p is 1/924, which 9 attacks leave below 1 %, 10 do not."""
    found = {n: judge([seen(["a"] * 6)], planned=n)[0] for n in (9, 10, 46, 47)}
    assert [one.severity for one in found.values()] == [Severity.HIGH] * 3 + [Severity.INCONCLUSIVE]
    assert [one.confidence for one in found.values()] == [Confidence.MEDIUM] + [Confidence.LOW] * 3


@given(scans(), st.integers(1, 6))
@settings(max_examples=60)
def test_calibration_needs_no_correction_for_the_number_of_attacks(scan, planned):
    assume(scan.tuned.found >= POLICY.min_faces)
    null = Null((5, 6), (0.0,) * 199, (0.0,) * 199)
    one, many = (
        [(f.severity, f.confidence) for f in judge([scan], POLICY, null, n) if f.id in (PERSON, ACCEPTED)]
        for n in (1, planned)
    )
    assert one == many != []


@given(st.lists(scans(), min_size=1, max_size=3), nulls)
@settings(max_examples=60)
def test_the_strongest_attack_speaks_for_all(several, null):
    """No attack beside it lowers what the strongest alone, corrected for as many, has found."""
    together = {f.id: f.severity for f in judge(several, POLICY, null)}
    for scan in several:
        for finding in judge([scan], POLICY, null, len(several)):
            if finding.id in together and finding.id in (PERSON, ACCEPTED):
                assert together[finding.id] >= finding.severity
            elif finding.id in (PERSON, ACCEPTED):
                assert finding.severity is Severity.NONE


def test_photos_of_somebody_else_change_no_answer_to_whether_there_is_one_person():
    far = strangers_to(["a"] * 6, (0.0,) * 6, 0.0)
    bare = seen(["a"] * 6)
    told, alone = (next(f for f in judge([e]) if f.id == PERSON) for e in (far, bare))
    assert (told.severity, told.numbers) == (alone.severity, alone.numbers)
