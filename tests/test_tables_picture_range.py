"""The table of guidances: what is overdrawn is bounded, what is not stays, and tones are counted."""

import pytest
import torch

from benchmarks.tables.picture_range import WAYS, bounded, inside, tones

WEIGHT = 7.5


def latents(seed: int) -> torch.Tensor:
    return torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_no_channel_leaves_the_bounds_that_plain_guidance_leaves() -> None:
    own = latents(0) + latents(1).mean((2, 3), keepdim=True)
    other = own * 0.5 + 0.5 * latents(2) + 0.3
    plain = bounded(own, other, WEIGHT)
    torch.testing.assert_close(plain, own + (WEIGHT - 1) * (own - other))
    for made, held in ((bounded(own, other, WEIGHT, 0.5, 1.2, 0.2), True), (plain, False)):
        wide, mean = own.std((2, 3)), own.mean((2, 3))
        far = ((made.mean((2, 3)) - mean).abs() / wide).max()
        spread = (made.std((2, 3)) / wide).max()
        assert bool(far <= 0.2 + 1e-4) is held
        assert bool(spread <= 1.2 + 1e-4) is held


def test_a_small_difference_of_content_is_guided_in_full() -> None:
    own = latents(0)
    step = latents(1) * 0.02
    step -= (step * own).sum((1, 2, 3), keepdim=True) / own.square().sum((1, 2, 3), keepdim=True) * own
    torch.testing.assert_close(bounded(own, own - step, 3.0, 0.5, 1.2, 0.2), own + 2 * step)
    # A difference of contrast alone counts by half.
    torch.testing.assert_close(bounded(own, own * 0.96, 3.0, 0.5, 1.2, 0.2), own * 1.04)


@pytest.mark.parametrize("way", WAYS)
def test_without_a_difference_every_way_is_the_tuned_model(way: str) -> None:
    x, eps, signal = latents(0), latents(1), torch.full((3, 1, 1, 1), 0.4)
    torch.testing.assert_close(WAYS[way](x, signal, eps, eps), eps, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(WAYS[way](x, signal, latents(2), eps), eps, atol=1e-2)


def test_dark_and_garish_pictures_are_outside() -> None:
    grey = torch.rand(200, 1, 1, 1, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.5
    own = grey.expand(-1, 3, 8, 8).clone()
    own[:, 0] += 0.1
    odd = torch.stack([own[0], own[0] * 0.3, torch.stack([own[0, 0], own[0, 1] * 0, own[0, 2]])])
    assert inside(tones(odd), tones(own)) == [True, False, False]
