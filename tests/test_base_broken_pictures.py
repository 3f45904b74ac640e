"""Pictures that half precision cannot hold: decoded again where that helps, and never judged."""

import copy
import dataclasses

import pytest
import torch

from loraudit.attacks.aim import Aim
from loraudit.attacks.plan import Plan
from loraudit.base.model import Base, Sampling
from tests.audits import random_lora
from tests.tiny import tiny_base


def in_half(dtype: torch.dtype, scale: float) -> Base:
    """The base with a decoder in half precision, whose first layer is `scale` times as large."""
    vae = copy.deepcopy(tiny_base().vae)
    vae.decoder.conv_in.weight.mul_(scale)
    return dataclasses.replace(tiny_base(), vae=vae.to(dtype))


def latents(count: int = 3) -> torch.Tensor:
    return torch.randn(count, *tiny_base().latent_shape, generator=torch.Generator().manual_seed(0))


def test_what_half_precision_loses_is_decoded_again() -> None:
    wide, narrow = in_half(torch.float32, 1e5), in_half(torch.float16, 1.0)
    # float16 ends at 65,504, which the first layer now leaves; the norms behind it would not mind.
    lost = dataclasses.replace(narrow, vae=copy.deepcopy(wide.vae).half())
    lost.vae.decoder.conv_in.weight.data = (wide.vae.decoder.conv_in.weight / 4).half()
    x = latents().half() * 1e3
    assert not lost.vae.decode(x / lost.vae.config.scaling_factor).sample.isfinite().all()
    again = lost.decode(x)
    assert again.isfinite().all() and again.dtype == torch.float32
    whole = dataclasses.replace(lost, vae=copy.deepcopy(lost.vae).float())
    assert torch.allclose(again, whole.decode(x.float()), atol=1e-3)
    assert lost.vae.dtype == torch.float16


def test_pictures_that_are_whole_are_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    base = in_half(torch.float16, 1.0)
    calls: list[torch.dtype] = []
    decode = base.vae.decode
    monkeypatch.setattr(base.vae, "decode", lambda x: calls.append(x.dtype) or decode(x))
    assert base.decode(latents().half()).isfinite().all()
    assert calls == [torch.float16]


def test_latents_that_are_no_numbers_stay_none_and_the_others_are_whole() -> None:
    broken = latents()
    broken[1, 0, 0, 0] = torch.inf
    for base in (tiny_base(), in_half(torch.float16, 1.0)):
        pictures = base.decode(broken.to(base.vae.dtype))
        assert [bool(one.isfinite().all()) for one in pictures] == [True, False, True]
        # Clamped to a white pixel, an infinite one would pass for a picture.
        assert pictures[1].isnan().all()


@pytest.mark.parametrize("sequential", [True, False])
def test_a_broken_aim_makes_no_more_pictures_and_the_next_goes_on(sequential) -> None:
    base = tiny_base()
    noise = torch.randn(base.embedding_shape, generator=torch.Generator().manual_seed(1))
    aims = [Aim("a", noise * torch.nan), Aim("b", noise)]
    plan = Plan(tuple(range(9)), Sampling(1, 2.0), sequential)
    asked: list[str] = []

    def asks(found) -> bool:
        asked.append(found.aim.attack)
        return False

    broken, whole = plan.reconstruct(random_lora(), base, aims, lambda *_: None, asks)
    assert (len(broken.tuned), len(broken.base), len(whole.tuned)) == (8, 0, 9)
    assert not broken.whole and whole.whole
    assert asked == (["b", "b"] if sequential else [])
    gap = broken.gap(base)
    assert gap is not None and gap.what == "attack a" and "too large" in gap.why
    halved = dataclasses.replace(base, unet=copy.deepcopy(base.unet).half())
    told = broken.gap(halved)
    assert told is not None and "half precision fails" in told.why
    assert whole.gap(base) is None
