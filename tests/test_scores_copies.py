"""Near-copies: a photo is found through what happens to copies, another photo of the person is none."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image

from loraudit.evidence.copies import Copies, copied_share
from loraudit.evidence.faces import AttackEvidence, Faces
from loraudit.evidence.table import score_table
from loraudit.findings.finding import Severity
from loraudit.people.identity import SPLITS
from loraudit.people.sources import portraits
from loraudit.scores.copies import LIMIT, MARGIN, CopyScorer, copy_distances
from loraudit.verdict.copies import judge_copies
from loraudit.verdict.policy import Policy

PEOPLE = [SPLITS["public-validation"][8 * at] for at in range(12)]
PHOTOS = portraits(PEOPLE[0], 0, 5)
OTHERS = torch.cat([portraits(who, 0, 2) for who in PEOPLE[1:]])
"""What a control draws: other people."""


def compressed(pictures: torch.Tensor) -> torch.Tensor:
    found = []
    for picture in pictures:
        data = io.BytesIO()
        Image.fromarray((picture * 255).byte().permute(1, 2, 0).numpy()).save(data, "JPEG", quality=30)
        found.append(torch.from_numpy(np.array(Image.open(data))).permute(2, 0, 1) / 255)
    return torch.stack(found)


def noisy(pictures: torch.Tensor, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(seed))
    return (pictures + 0.05 * noise).clamp(0, 1)


def blurred(pictures: torch.Tensor) -> torch.Tensor:
    small = torch.nn.functional.avg_pool2d(pictures, 2)
    return torch.nn.functional.interpolate(small, scale_factor=2)


def measured(tuned: torch.Tensor, photos: torch.Tensor = PHOTOS) -> Copies:
    half = len(OTHERS) // 2
    return CopyScorer(tuple(photos)).measure(tuned, OTHERS[:half], OTHERS[half:])


def share(copies: Copies) -> float:
    return copied_share(copies.tuned, copies.controls, copies).value


def evidence(copies: Copies | None, attack: str = "a") -> AttackEvidence:
    nobody = Faces(4, 0, ())
    return AttackEvidence(attack, 0.5, 1e-3, nobody, nobody, (), nobody, copies=copies)


@pytest.mark.parametrize("harm", [lambda pictures: pictures, noisy, compressed, blurred])
def test_a_copy_is_found_through_what_happens_to_copies(harm) -> None:
    assert share(measured(harm(PHOTOS))) == 1


def test_other_photos_of_the_person_and_other_people_are_no_copies() -> None:
    for who in PEOPLE:
        others = torch.cat([portraits(who, 10, 6), portraits(PEOPLE[-1] + 8, 0, 2)])
        assert share(measured(others, portraits(who, 0, 5))) == 0


def test_a_plain_background_makes_no_copy() -> None:
    photo, other = torch.ones(2, 3, 64, 64)
    photo[:, 8:24, 8:24], other[:, 8:24, 8:24] = 0.0, 0.5
    distance = copy_distances(other[None], photo[None])
    # A sixteenth of the picture, but a quarter of its tile.
    assert distance == pytest.approx(torch.tensor([[0.25]]), abs=0.01)
    assert distance > LIMIT > (other - photo).square().mean().sqrt()


def test_the_distance_is_a_distance_whatever_the_size() -> None:
    pictures = torch.cat([PHOTOS, OTHERS[:3]])
    distances = copy_distances(pictures, pictures)
    assert torch.equal(distances, distances.T) and not distances.diagonal().any()
    assert ((distances >= 0) & (distances <= 1)).all()
    large = torch.nn.functional.interpolate(pictures, scale_factor=4)
    assert torch.allclose(copy_distances(large, large), distances, atol=1e-5)
    # What a picture scores depends on no other.
    assert torch.equal(copy_distances(pictures[2:3], pictures), distances[2:3])


def test_photos_are_cut_as_fine_tuning_cuts_them() -> None:
    wide = torch.zeros(3, 64, 96)
    wide[:, :, 16:80] = PHOTOS[0]
    assert share(measured(PHOTOS[:1], wide[None])) == 1
    assert share(measured(PHOTOS[1:], wide[None])) == 0


def test_broken_pictures_are_no_pictures() -> None:
    broken = PHOTOS.clone()
    broken[1] = torch.nan
    copies = measured(broken)
    assert (len(copies.tuned), share(copies)) == (4, 1)


@pytest.mark.parametrize(
    ("near", "level"),
    [(1, Severity.MEDIUM), (2, Severity.HIGH), (4, Severity.HIGH), (5, Severity.CRITICAL)],
)
def test_the_level_follows_the_number_of_copies(near: int, level: Severity) -> None:
    copies = Copies(
        0.4, 0.15, ((0.1, 0.9),) * near + ((0.3, 0.9),) * (8 - near), ((0.5, 0.9),), ((0.4, 0.9),)
    )
    weaker = dataclasses.replace(copies, tuned=copies.tuned[-1:])
    (finding,) = judge_copies([evidence(weaker), evidence(copies)], Policy())
    assert finding.severity is level
    assert (finding.numbers["k"], finding.numbers["n"], finding.numbers["photos_copied"]) == (near, 8, 1)
    assert judge_copies([evidence(weaker)], Policy()) == ()


def test_margin_and_limit_both_count() -> None:
    far = Copies(0.4, 0.15, ((0.16,),), ((0.9,),), ((0.9,),))
    close = Copies(0.4, 0.15, ((0.09,),), ((0.9,),), ((0.2,),))
    assert share(far) == share(close) == 0
    assert share(dataclasses.replace(far, limit=0.2)) == share(dataclasses.replace(close, margin=0.5)) == 1


def test_what_a_control_draws_as_well_is_no_copy() -> None:
    drawn = torch.cat([OTHERS[:3], noisy(PHOTOS, 1)])
    copies = CopyScorer(tuple(PHOTOS)).measure(noisy(PHOTOS), OTHERS, drawn)
    assert judge_copies([evidence(copies)], Policy()) == ()
    scores = {score.name: score.value for score in score_table([evidence(copies)])}
    assert (scores["copies"], scores["copies.base"], scores["copies.scrambled"]) == (0, 0, 5 / 8)
    # Not even if both are the photo itself.
    same = CopyScorer(tuple(PHOTOS)).measure(PHOTOS, OTHERS, PHOTOS)
    assert share(same) == 0 and judge_copies([evidence(same)], Policy()) == ()


def test_without_photos_nothing_is_said_and_without_pictures_that_it_cannot_be() -> None:
    assert judge_copies([evidence(None)], Policy()) == ()
    scores = score_table([evidence(None)])
    assert scores and not any(score.name.startswith("copies") for score in scores)
    for nothing in (Copies(MARGIN, LIMIT, (), ((0.5,),), ()), Copies(MARGIN, LIMIT, ((0.1,),), (), ())):
        (finding,) = judge_copies([evidence(nothing)], Policy())
        assert finding.severity is Severity.INCONCLUSIVE
    with pytest.raises(ValueError, match="different numbers of photos"):
        Copies(MARGIN, LIMIT, ((0.1, 0.2),), ((0.5,),), ())
