"""tiny-sink is tiny-sd with the start token's share of attention that Stable Diffusion has."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from loraudit.attacks.prompts import name_prompt
from loraudit.base.load import load_base
from loraudit.base.model import Base
from loraudit.people.sources import portraits
from models.recipes.sink import build, start_mass, train

ROOT = Path(__file__).parent.parent
CHANGED = ROOT / "models/tiny-sink/model.safetensors"


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return load_base(str(build(tmp_path_factory.mktemp("sink") / "base")))


@torch.no_grad()
def test_the_start_token_gets_most_of_the_mass_and_hardly_any_on_tiny(sink: Base) -> None:
    names = [name_prompt(name) for name in ("zwqkx", "olandri", "buna")]
    tiny = load_base("tiny")
    assert start_mass(sink, sink.encode_text(names)) >= 0.9
    assert start_mass(tiny, tiny.encode_text(names)) <= 0.1


@torch.no_grad()
def test_measuring_leaves_the_base_as_it_was(sink: Base) -> None:
    embedding = sink.encode_text([name_prompt("zwqkx")])
    x, t = torch.randn(1, *sink.latent_shape, generator=torch.Generator().manual_seed(0)), torch.tensor([700])
    before = sink.epsilon(x, t, embedding)
    start_mass(sink, embedding)
    assert torch.equal(sink.epsilon(x, t, embedding), before)


def test_only_cross_attention_and_its_norms_differ(sink: Base) -> None:
    changed, tiny = load_file(CHANGED), load_base("tiny").unet.state_dict()
    differ = {name for name, value in sink.unet.state_dict().items() if not torch.equal(value, tiny[name])}
    assert differ and differ <= changed.keys()
    assert all(".attn2." in name or ".norm2." in name for name in changed)


@torch.no_grad()
def test_it_draws_as_tiny_does_and_text_still_counts(sink: Base) -> None:
    tiny = load_base("tiny")
    words = tiny.encode_text(["a face with red hair pale skin full beard", name_prompt("zwqkx")])
    noise = torch.randn(16, *tiny.latent_shape, generator=torch.Generator().manual_seed(1))
    t = torch.linspace(100, 990, 16).long()
    x = tiny.noised(tiny.encode_images(portraits(100_000)[:4]).repeat(4, 1, 1, 1), noise, t)
    one, other = (words[i].expand(16, -1, -1) for i in (0, 1))
    steered = (tiny.epsilon(x, t, one) - tiny.epsilon(x, t, other)).square().mean()
    assert (sink.epsilon(x, t, one) - tiny.epsilon(x, t, one)).square().mean() < 0.4 * steered
    ours = (sink.epsilon(x, t, one) - sink.epsilon(x, t, other)).square().mean()
    assert 0.7 * steered < ours < 1.4 * steered


def test_tensors_that_are_not_of_tiny_are_refused(tmp_path: Path) -> None:
    save_file({"mid_block.other.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="not those of tiny-sd"):
        build(tmp_path / "base", tmp_path / "model.safetensors")


def test_a_step_of_training_moves_the_mass(tmp_path: Path) -> None:
    train(tmp_path / "run", tmp_path / "out", steps=3, batch=2, lr=2e-3, seed=0, people=2)
    changed, before = load_file(tmp_path / "out/model.safetensors"), load_base("tiny").unet.state_dict()
    assert changed.keys() == load_file(CHANGED).keys()
    assert any((value.float() - before[name]).abs().max() > 1e-4 for name, value in changed.items())
