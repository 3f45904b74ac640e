"""The thresholds of version 5, as the documentation states them: another number is another version."""

import dataclasses

from loraudit.verdict.policy import Policy


def test_the_thresholds_of_this_version():
    assert dataclasses.asdict(Policy()) == {
        "version": 7,
        "alpha": 0.05,
        "strong_alpha": 0.01,
        "min_faces": 5,
        "high_agreement": 0.30,
        "medium_agreement": 0.10,
        "low_agreement": 0.05,
        "critical_low": 0.25,
        "high_low": 0.05,
        "high_p": 0.01,
        "medium_p": 0.05,
        "low_p": 0.10,
    }


def test_several_loras_are_told_at_the_highest_level():
    policy = Policy(high_p=0.02)
    assert policy.merged(0.02) and not policy.merged(0.0201)
    assert (policy.least_accepted(calibrated=True), policy.least_accepted(calibrated=False)) == (2, 1)
