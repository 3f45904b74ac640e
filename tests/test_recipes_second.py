"""The second trainer: its files in stock diffusers and in loraudit, its recipes, and resumed builds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from loraudit.errors import LorauditError
from loraudit.lora import load_lora
from loraudit.people.identity import SPLITS
from loraudit.training.zoo import open_zoo
from models.recipes import second_trainer, second_tuning
from models.recipes.second_recipes import RECIPES
from models.recipes.second_trainer import Workshop, build, plan_of
from models.recipes.second_tuning import fresh_unet

PEOPLE = tuple(SPLITS["public-validation"][4 * i] for i in range(3))


@pytest.fixture(scope="module")
def shop() -> Workshop:
    return Workshop.of("tiny")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train two steps beside two class pictures."""
    few = {name: replace(recipe, steps=2) for name, recipe in RECIPES.items()}
    monkeypatch.setattr(second_trainer, "RECIPES", few)
    monkeypatch.setattr(second_tuning, "CLASS_PICTURES", 2)


def made(shop: Workshop, folder: Path, name: str) -> Path:
    build(shop, folder, name, plan_of(second_trainer.RECIPES[name], PEOPLE, 0))
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_stock_diffusers_and_loraudit_read_the_same_update(shop: Workshop, tmp_path: Path, name: str) -> None:
    folder = made(shop, tmp_path / name, name)
    file = folder / "loras/001.safetensors"
    zoo, base = open_zoo(folder), shop.base
    member = zoo.members[1]
    embedding = base.encode_text([member.prompt])
    x, t = torch.randn(1, *base.latent_shape, generator=torch.Generator().manual_seed(0)), torch.tensor([500])
    stock = StableDiffusionPipeline.from_pretrained(shop.folder)
    plain = stock.unet(x, t, embedding).sample
    stock.load_lora_weights(file)
    with torch.no_grad():
        expected = stock.unet(x, t, embedding).sample
        ours = base.with_lora(load_lora(str(file))).epsilon(x, t, embedding)
        from_zoo = base.with_lora(zoo.rows([(1, 2)])).epsilon(x, t, embedding)
    assert torch.allclose(ours, expected, atol=1e-5)
    assert torch.allclose(from_zoo, expected, atol=1e-5)
    assert not torch.allclose(plain, expected, atol=1e-4)
    assert torch.allclose(stock.unet(x, t, embedding).sample, expected)


def test_a_zoo_names_recipe_and_versions_before_work_and_resumes_to_the_same_files(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(shop, tmp_path / "whole", "dreambooth")
    record = json.loads((whole / "second.json").read_text())
    assert record["recipe"] == "dreambooth"
    assert set(record["versions"]) == {"loraudit", "torch", "diffusers", "transformers", "peft"}
    broken = tmp_path / "broken"
    written, write = [], second_trainer.write_lora

    def once(tuned, target: Path) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(target)
        write(tuned, target)

    monkeypatch.setattr(second_trainer, "write_lora", once)
    with pytest.raises(KeyboardInterrupt):
        made(shop, broken, "dreambooth")
    assert sorted(path.name for path in broken.iterdir()) == ["loras", "second.json", "zoo.json"]
    with pytest.raises(LorauditError, match="unfinished"):
        open_zoo(broken)
    first = (broken / "loras/000.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(second_trainer, "write_lora", write)
    made(shop, broken, "dreambooth")
    assert (broken / "loras/000.safetensors").stat().st_mtime_ns == first
    for path in sorted(whole.rglob("*.*")):
        assert (broken / path.relative_to(whole)).read_bytes() == path.read_bytes(), path.name
    plan = plan_of(second_trainer.RECIPES["dreambooth"], PEOPLE, 1)
    with pytest.raises(LorauditError, match="other settings"):
        build(shop, whole, "dreambooth", plan)


def test_a_lora_depends_on_person_recipe_and_seed_alone(shop: Workshop, tmp_path: Path) -> None:
    recipe = second_trainer.RECIPES["dreambooth"]
    together = made(shop, tmp_path / "together", "dreambooth")
    for name, seed in (("alone", 0), ("reseeded", 1)):
        build(shop, tmp_path / name, "dreambooth", plan_of(recipe, PEOPLE[2:], seed))
    third = (together / "loras/002.safetensors").read_bytes()
    assert (tmp_path / "alone/loras/000.safetensors").read_bytes() == third
    assert (tmp_path / "reseeded/loras/000.safetensors").read_bytes() != third


def test_an_untrained_adapter_is_what_the_recipe_says_and_changes_nothing(shop: Workshop) -> None:
    recipe, plain = RECIPES["dreambooth"], shop.pipeline.unet
    unet = fresh_unet(plain, recipe, 0)
    x, t = torch.randn(1, *shop.base.latent_shape), torch.tensor([500])
    text = torch.randn(1, *shop.base.embedding_shape)
    with torch.no_grad():
        assert torch.equal(unet(x, t, text).sample, plain(x, t, text).sample)
    layers = {name: module for name, module in unet.named_modules() if hasattr(module, "lora_A")}
    blocks = sum(name.endswith("attn2") for name, _ in plain.named_modules())
    assert len(layers) == 8 * blocks > 0
    values = torch.cat([layer.lora_A["default"].weight.flatten() for layer in layers.values()])
    # peft's "gaussian" draws A with deviation 1 / rank; its default stays within 1 / sqrt(width).
    assert values.std().item() == pytest.approx(1 / recipe.rank, rel=0.05)
    assert values.abs().max() > 0.5
    for layer in layers.values():
        assert layer.scaling["default"] == recipe.alpha / recipe.rank == 1
        assert layer.lora_A["default"].weight.shape[0] == recipe.rank
