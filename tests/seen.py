"""Evidence of pictures that show these people, for the tests of verdicts."""

import dataclasses
from itertools import combinations

from loraudit.evidence.faces import AttackEvidence, Faces

SAME, OTHER, THRESHOLD = 0.8, 0.1, 0.5


def of_people(people):
    """Faces of pictures that show these people; None: no face."""
    where = tuple(i for i, who in enumerate(people) if who is not None)
    pairs = tuple(SAME if people[i] == people[j] else OTHER for i, j in combinations(where, 2))
    return Faces(len(people), len(where), pairs, None, where)


def seen(people, n=None, base=None, scrambled=None):
    """Evidence of the first `n` pictures; the controls show strangers unless told."""
    n = n or len(people)
    strangers = [f"s{i}" for i in range(len(people))]
    tuned, plain, other = (of_people(who[:n]) for who in (people, base or strangers, scrambled or strangers))
    cross = [(OTHER,) * (tuned.found * faces.found) for faces in (plain, other)]
    return AttackEvidence(
        "a", THRESHOLD, 1e-3, tuned, plain, cross[0], scrambled=other, scrambled_cross=cross[1]
    )


def strangers_to(who, cosines, control):
    """Evidence of `who`, whose faces have these cosines to the photos; the controls' have `control`."""
    whole = seen(who)
    controls = tuple(control for _ in range(whole.base.found))
    return dataclasses.replace(
        whole,
        tuned=dataclasses.replace(whole.tuned, to_reference=tuple(cosines)),
        base=dataclasses.replace(whole.base, to_reference=controls),
        scrambled=dataclasses.replace(whole.scrambled, to_reference=controls),
    )
