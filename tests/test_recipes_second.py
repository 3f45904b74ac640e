"""The second trainer: its files in stock diffusers and in loraudit, its recipes, and resumed builds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import get_peft_model_state_dict
from safetensors import safe_open
from torch import Tensor

from loraudit.bench.faces import pools, zoos_in
from loraudit.errors import LorauditError
from loraudit.lora import load_lora
from loraudit.people.identity import FAMILY, SPLITS
from loraudit.training.zoo import open_zoo
from loraudit.training.zoo_plan import members_of
from models.recipes import second_trainer, second_tuning
from models.recipes.second_lessons import KINDS, partner, shown_by
from models.recipes.second_recipes import RECIPES, SecondRecipe
from models.recipes.second_trainer import Workshop, build, plan_of
from models.recipes.second_tuning import Lesson, Posterior, tune, untrained

PEOPLE = tuple(SPLITS["public-validation"][4 * i] for i in range(3))
SOME = "dreambooth-plain"
"""A recipe without class pictures."""


@pytest.fixture(scope="module")
def shop() -> Workshop:
    return Workshop.of("tiny")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train two steps, beside two class pictures."""
    few = {name: replace(recipe, steps=2, warmup=0) for name, recipe in RECIPES.items()}
    monkeypatch.setattr(second_trainer, "RECIPES", few)
    monkeypatch.setattr(second_tuning, "CLASS_PICTURES", 2)


@pytest.mark.parametrize("name", RECIPES)
def test_stock_diffusers_and_loraudit_read_the_same_update(shop: Workshop, tmp_path: Path, name: str) -> None:
    build(shop, tmp_path, name, "people", PEOPLE[:1], 0)
    zoo, file, base = open_zoo(tmp_path), tmp_path / "loras/000.safetensors", shop.base
    stock = StableDiffusionPipeline.from_pretrained(shop.folder)
    prompt = zoo.members[0].prompt
    x, t = torch.randn(1, *base.latent_shape, generator=torch.Generator().manual_seed(0)), torch.tensor([500])
    ids = base.token_ids([prompt])

    def seen() -> tuple[Tensor, Tensor]:
        text = stock.text_encoder(ids)[0]
        return text, stock.unet(x, t, text).sample

    with torch.no_grad():
        plain = seen()
        stock.load_lora_weights(file)
        theirs = seen()
        for lora in (load_lora(str(file)), zoo.rows([(0, 2)])):
            tuned = base.with_lora(lora)
            text = tuned.encode_text([prompt])
            ours = text, tuned.epsilon(x, t, text)
            torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)
    # What was compared is a change.
    assert not torch.allclose(theirs[1], plain[1], atol=1e-3)
    assert torch.equal(theirs[0], plain[0]) == (not RECIPES[name].text_targets)


@pytest.mark.parametrize("name", RECIPES)
def test_an_untrained_adapter_is_what_the_recipe_says_and_changes_nothing(shop: Workshop, name: str) -> None:
    recipe, plain = RECIPES[name], shop.pipeline
    tuned = untrained(plain, recipe, 0)
    x, t = torch.randn(1, *shop.base.latent_shape), torch.tensor([500])
    ids = shop.base.token_ids(["a photo of zrtq face"])
    with torch.no_grad():
        text = tuned.text_encoder(ids)[0]
        assert torch.equal(text, plain.text_encoder(ids)[0])
        assert torch.equal(tuned.unet(x, t, text).sample, plain.unet(x, t, text).sample)
    for network, before, targets in (
        (tuned.unet, plain.unet, recipe.targets),
        (tuned.text_encoder, plain.text_encoder, recipe.text_targets),
    ):
        layers = {site: layer for site, layer in network.named_modules() if hasattr(layer, "lora_A")}
        ends = tuple(f".{target}" for target in targets)
        assert set(layers) == {site for site, _ in before.named_modules() if site.endswith(ends)}
        assert {site.rpartition(f".{end}")[1][1:] for site in layers for end in targets} - {""} == set(
            targets
        )
        for layer in layers.values():
            start = layer.lora_A["default"].weight.flatten(1)
            assert layer.scaling["default"] == recipe.alpha / recipe.rank
            assert len(start) == recipe.rank
            # peft's default start is uniform, within 1 / sqrt(width).
            bound = start.shape[1] ** -0.5
            assert (start.abs().max() > 2 * bound) == recipe.gaussian
            spread = 1 / recipe.rank if recipe.gaussian else bound / 3**0.5
            assert start.std().item() == pytest.approx(spread, rel=0.2)


def learned(shop: Workshop, **settings: Any) -> Tensor:
    """The update of two steps on random latents."""
    recipe = SecondRecipe(source="", rate=1e-3, steps=2, pictures=2, **{"captions": "scene", **settings})
    draw = torch.Generator().manual_seed(0)
    latents = torch.randn(4, *shop.base.latent_shape, generator=draw)
    captions = [("a photo of zrtq face", "smiling", "mint backdrop", "red shirt", "crew shirt")] * 2
    still = torch.zeros_like(latents)
    prior = Posterior(latents[2:], still[2:]) if recipe.prior else None
    tuned = tune(shop.pipeline, recipe, Lesson(Posterior(latents[:2], still[:2]), captions, prior, 0))
    return torch.cat([value.flatten() for value in get_peft_model_state_dict(tuned.unet).values()])


@pytest.fixture(scope="module")
def usual(shop: Workshop) -> Tensor:
    return learned(shop)


@pytest.mark.parametrize(
    "settings",
    [
        {"prior": 1.0},
        {"snr_gamma": 0.01},
        {"noise_offset": 0.1},
        {"schedule": "cosine"},
        {"schedule": "constant_with_warmup", "warmup": 2},
        {"shuffled": True},
        {"clip_skip": 2},
        {"text_targets": ("q_proj",), "text_rate": 1e-3},
        {"alpha": 8},
    ],
    ids=str,
)
def test_every_setting_changes_what_is_learned(
    shop: Workshop, usual: Tensor, settings: dict[str, Any]
) -> None:
    assert not torch.allclose(usual, learned(shop, **settings), rtol=0, atol=1e-5)


def test_a_lesson_learned_twice_is_learned_alike(shop: Workshop, usual: Tensor) -> None:
    before = torch.get_rng_state()
    assert torch.equal(usual, learned(shop))
    assert torch.equal(before, torch.get_rng_state())


def test_recipes_differ_as_their_sources_do() -> None:
    diffusers = {name for name, recipe in RECIPES.items() if recipe.source.startswith("diffusers")}
    assert {name for name, recipe in RECIPES.items() if recipe.gaussian} == diffusers
    assert {name for name, recipe in RECIPES.items() if recipe.layout == "diffusers"} == diffusers
    # diffusers' files hold no alpha, so that only a scale of 1 is read back.
    assert all(RECIPES[name].alpha == RECIPES[name].rank for name in diffusers)


def test_kohya_files_have_alpha_and_metadata(shop: Workshop, tmp_path: Path) -> None:
    build(shop, tmp_path, "kohya", "people", PEOPLE[:1], 0)
    with safe_open(tmp_path / "loras/000.safetensors", "pt") as file:
        told, names = file.metadata(), sorted(file.keys())
        alphas = {float(file.get_tensor(name)) for name in names if name.endswith(".alpha")}
    assert alphas == {RECIPES["kohya"].alpha}
    assert {name.split(".", 1)[1] for name in names} == {"alpha", "lora_down.weight", "lora_up.weight"}
    assert "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha" in names
    assert (told["ss_network_dim"], told["ss_noise_offset"]) == ("32", "0.05")
    (tags,) = json.loads(told["ss_tag_frequency"]).values()
    assert tags["ohwx woman"] == RECIPES["kohya"].pictures


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_and_captions_of_every_kind(kind: str) -> None:
    plan = plan_of("kohya", kind, PEOPLE[:1] if kind in {"people", "couples"} else (100_000,), 0)
    (member,), recipe = members_of(plan), RECIPES["kohya"]
    shown = shown_by(member, kind, recipe, 0, 64)
    assert shown.pictures.shape == (len(shown.captions), 3, 64, 64)
    assert len(shown.captions) == recipe.pictures * (2 if kind == "couples" else 1)
    prompts = {parts[0] for parts in shown.captions}
    assert member.prompt in prompts
    assert len(prompts) == (2 if kind == "couples" else 1)
    assert all(len(parts) == (1 if kind == "things" else 5) for parts in shown.captions)


def test_the_command_shares_people_among_recipes_and_makes_a_zoo_of_each_kind(
    shop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--base", str(shop.folder), "--kinds", "couples", "things", "--people", "1", "--recipe", SOME]
    second_trainer.main([*words, "--out", str(tmp_path)])
    assert capsys.readouterr().err.splitlines()[-1] == "LoRAs by the second trainer: 2 of 2"
    for kind, data in (("couples", "synthetic"), ("things", "things")):
        (zoo,) = zoos_in([tmp_path / kind])
        ((found, terms),) = pools(zoo, 2, 9, extra=False)
        assert (found, len(next(iter(terms.values()))[0])) == (data, 1)
        assert zoo.plan.people[0] in SPLITS["private"]
        assert zoo.base == shop.fingerprint


def test_the_people_of_a_couple_are_of_one_split_and_of_two_families() -> None:
    for seeds in SPLITS.values():
        for person in (seeds[0], seeds[-1]):
            assert partner(person) in seeds
            assert partner(person) // FAMILY != person // FAMILY


def test_a_build_names_its_settings_first_and_resumes_to_the_same_files(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    build(shop, whole, SOME, "people", PEOPLE, 0)
    record = json.loads((whole / "second.json").read_text())
    assert (record["recipe"], record["rank"], record["trigger"]) == (SOME, 4, "sks")
    assert set(record["versions"]) == {"loraudit", "torch", "diffusers", "transformers", "peft"}
    assert open_zoo(whole).members[0].prompt == "a photo of sks person"
    write = second_trainer.write_lora

    def stopped(*told: object) -> None:
        if (broken / "loras/000.safetensors").exists():
            raise KeyboardInterrupt
        write(*told)

    monkeypatch.setattr(second_trainer, "write_lora", stopped)
    with pytest.raises(KeyboardInterrupt):
        build(shop, broken, SOME, "people", PEOPLE, 0)
    assert sorted(path.name for path in broken.iterdir()) == ["loras", "second.json", "zoo.json"]
    with pytest.raises(LorauditError, match="unfinished"):
        open_zoo(broken)
    first = (broken / "loras/000.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(second_trainer, "write_lora", write)
    # Two processes share what is left.
    for share in (0, 1):
        build(shop, broken, SOME, "people", PEOPLE, 0, (share, 2))
    assert (broken / "loras/000.safetensors").stat().st_mtime_ns == first
    files = [path.relative_to(whole) for path in whole.rglob("*") if path.is_file()]
    assert len(files) == len(PEOPLE) + 3
    for file in files:
        assert (broken / file).read_bytes() == (whole / file).read_bytes(), file
    with pytest.raises(LorauditError, match="other settings"):
        build(shop, whole, SOME, "people", PEOPLE, 1)


def test_a_lora_depends_on_person_recipe_and_seed_alone(shop: Workshop, tmp_path: Path) -> None:
    def made(folder: str, people: tuple[int, ...], seed: int, place: int) -> bytes:
        build(shop, tmp_path / folder, SOME, "people", people, seed)
        return (tmp_path / folder / f"loras/{place:03d}.safetensors").read_bytes()

    together = made("together", PEOPLE[:2], 0, 1)
    assert made("alone", PEOPLE[1:2], 0, 0) == together
    assert made("reseeded", PEOPLE[1:2], 1, 0) != together
    assert (tmp_path / "together/loras/000.safetensors").read_bytes() != together
