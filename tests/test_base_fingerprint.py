"""A base's fingerprint: one for the same weights in any form, another for any other weights."""

import copy
import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from loraudit.base.fingerprint import fingerprint
from loraudit.base.load import load_base
from loraudit.base.model import Base
from tests.tiny import save_pipeline, tiny_base, tiny_pipeline

PARTS = ("unet", "vae", "text_encoder")


def of(base: Base) -> str:
    return fingerprint(base.unet, base.vae, base.text_encoder)


def test_it_is_the_hash_of_one_line_a_weight() -> None:
    base = tiny_base()
    lines = []
    for part in PARTS:
        for name, weight in getattr(base, part).named_parameters():
            values = hashlib.sha256(weight.half().numpy().tobytes()).hexdigest()
            lines.append((f"{part}.{name.removeprefix('text_model.')}", f"{list(weight.shape)} {values}\n"))
    expected = hashlib.sha256("".join(f"{name} {rest}" for name, rest in sorted(lines)).encode())
    assert of(base) == expected.hexdigest()


def test_the_same_weights_in_half_the_bytes_and_widened_again(tmp_path: Path) -> None:
    folder = save_pipeline(tmp_path / "base")
    full = load_base(str(folder)).fingerprint
    assert full == of(tiny_base())
    for file in folder.glob("*/*.safetensors"):
        save_file({key: value.half() for key, value in load_file(file).items()}, file, {"format": "pt"})
    assert load_base(str(folder)).fingerprint == full
    for file in folder.glob("*/*.safetensors"):
        save_file({key: value.float() for key, value in load_file(file).items()}, file, {"format": "pt"})
    assert load_base(str(folder)).fingerprint == full


@pytest.mark.parametrize("part", PARTS)
def test_any_other_weight_is_another_base(part: str) -> None:
    base, seen = tiny_base(), set[str]()
    module = copy.deepcopy(getattr(base, part))
    names = [name for name, _ in module.named_parameters()]
    for name in (names[0], names[len(names) // 2], names[-1]):
        weight = module.get_parameter(name)
        kept = weight.view(-1)[0].clone()
        weight.view(-1)[0] = kept * 1.01 + 0.01
        seen.add(fingerprint(**{one: module if one == part else getattr(base, one) for one in PARTS}))
        weight.view(-1)[0] = kept
    assert len(seen | {of(base)}) == 4
    assert fingerprint(**{one: module if one == part else getattr(base, one) for one in PARTS}) == of(base)


def test_a_difference_below_float16_is_none() -> None:
    base = tiny_base()
    unet = copy.deepcopy(base.unet)
    weight = unet.conv_in.weight
    weight.copy_(weight.half().float())
    before = fingerprint(unet, base.vae, base.text_encoder)
    weight.mul_(1 + 1e-5)
    assert not torch.equal(weight, weight.half().float())
    assert fingerprint(unet, base.vae, base.text_encoder) == before


def test_a_tuned_base_is_still_that_base_and_another_seed_is_not() -> None:
    listed = load_base("tiny")
    assert listed.fingerprint == of(listed) and listed.with_lora({}).fingerprint == listed.fingerprint
    other = tiny_pipeline(seed=1)
    assert fingerprint(other.unet, other.vae, other.text_encoder) != of(tiny_base())
