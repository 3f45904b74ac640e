"""Pictures without a face: unknown by themselves, none where the file is shown to draw something else."""

import dataclasses

import pytest

from loraudit.evidence.faces import Faces
from loraudit.evidence.null import Null
from loraudit.findings.finding import Confidence, Severity
from loraudit.verdict.judge import judge
from loraudit.verdict.policy import Policy
from tests.seen import of_people, seen

POLICY = Policy()
PEOPLE = (0.6,) * 99
"""Agreement of LoRAs of one person each."""


def faceless(found=0, copies=((8, 8), (7, 8)), **fields):
    """Faces in `found` of eight pictures, in all of the base model's, in so many of each scrambled copy."""
    evidence = seen([f"p{i}" for i in range(8)])
    tuned = of_people([f"p{i}" for i in range(found)] + [None] * (8 - found))
    return dataclasses.replace(
        evidence,
        tuned=tuned,
        cross=evidence.cross[: found * 8],
        scrambled_cross=evidence.scrambled_cross[: found * 8],
        disturbed=copies,
        **fields,
    )


def of_003(evidence, null=None):
    return next((f for f in judge([evidence], POLICY, null) if f.id == "LA-IDENTITY-003"), None)


def test_a_file_that_draws_no_face_where_disturbances_do_is_none() -> None:
    finding = of_003(faceless())
    assert (finding.severity, finding.confidence) == (Severity.NONE, Confidence.LOW)
    assert "something other" in finding.title and "8 of 8, 7 of 8" in finding.detail
    assert finding.numbers["holds"] == "no face" and finding.numbers["p_value"] < 0.01
    assert not finding.lower
    unlike = Null((8,), (0.0,) * 99, leaking_agreement=PEOPLE)
    assert of_003(faceless(), unlike).confidence is Confidence.MEDIUM


@pytest.mark.parametrize(
    "evidence",
    [
        faceless(copies=((0, 8), (8, 8))),  # as a LoRA trained too hard: a disturbance leaves no face either
        faceless(copies=()),
        faceless(found=4),
        dataclasses.replace(faceless(), base=Faces(0, 0, ()), cross=()),
    ],
)
def test_where_nothing_else_is_shown_it_stays_unknown(evidence) -> None:
    finding = of_003(evidence)
    assert finding.severity is Severity.INCONCLUSIVE
    assert [(step.number, step.threshold) for step in finding.lower] == [("number of faces", 4)]


def test_it_stays_unknown_where_loras_of_one_person_agree_as_little() -> None:
    as_little = Null((8,), (0.0,) * 99, leaking_agreement=(*PEOPLE[:90], *(0.0,) * 9))
    assert of_003(faceless(), as_little).severity is Severity.INCONCLUSIVE


def test_a_person_of_another_attack_is_found_whatever_the_first_draws() -> None:
    findings = judge([faceless(), seen(["a"] * 8)], POLICY)
    assert findings[0].id == "LA-IDENTITY-001" and findings[0].severity is Severity.HIGH


def test_many_different_faces_are_told_beside_a_none() -> None:
    crowd = seen([f"p{i}" for i in range(8)])
    unlike = Null((8,), (0.0,) * 99, leaking_agreement=PEOPLE)
    finding = next(f for f in judge([crowd], POLICY, unlike) if f.id == "LA-IDENTITY-001")
    assert finding.severity is Severity.NONE and "no single person" in finding.detail
    assert "no single person" not in judge([crowd], POLICY)[0].detail


def test_a_copy_that_is_weaker_than_the_file_is_told() -> None:
    agreed = seen(["a"] * 8)
    assert "as much as the file" not in judge([agreed])[0].detail
    assert "as much as the file" in judge([dataclasses.replace(agreed, weaker=True)])[0].detail
