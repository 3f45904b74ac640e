"""A folder as a base: training, judging and sampling all take it for a base of one size."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from loraudit.attacks.plan import plan_for
from loraudit.audit.request import Request
from loraudit.audit.setup import set_up
from loraudit.base.load import load_base
from loraudit.base.model import Sampling
from loraudit.cards import base_card, card_like
from loraudit.training import finetune
from loraudit.training.defaults import base_recipe
from tests.tiny import save_pipeline, tiny_pipeline


def folder_of(size: int, where: Path) -> Path:
    """Save a pipeline of random weights: latents of a factor 8, pictures of `size` pixels."""
    pipeline = tiny_pipeline()
    vae = {**pipeline.vae.config, "block_out_channels": (4, 4, 8, 8), "sample_size": size}
    for kind in ("down", "up"):
        vae[f"{kind}_block_types"] = (f"{kind.title()}{'En' if kind == 'down' else 'De'}coderBlock2D",) * 4
    pipeline.register_modules(
        unet=UNet2DConditionModel.from_config({**pipeline.unet.config, "sample_size": size // 8}),
        vae=AutoencoderKL.from_config(vae),
    )
    pipeline.save_pretrained(where)
    return where


@pytest.mark.parametrize(
    ("size", "like", "recipe"),
    [(128, "tiny", finetune.TINY), (512, "sd14", finetune.PAPER)],
)
def test_one_card_decides_for_training_and_for_judging(size, like, recipe, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    folder = folder_of(size, tmp_path / "base")
    listed = base_card(like)
    base = load_base(str(folder))
    assert (base.image_size, base.latent_shape) == (size, (4, size // 8, size // 8))
    assert base.listed is None
    columns = ("face", "clip", "steps", "guidance", "recipe")
    assert {name: asdict(base.card)[name] for name in columns} == {
        name: asdict(listed)[name] for name in columns
    }
    # What was measured with the weights of the listed base is for that base alone.
    assert (base.card.calibration, base.card.decoys, base.card.encoders) == (None, None, {})

    assert base_recipe(base) == recipe

    request = Request(base=str(folder), attacks=("prompts",), device="cpu", offline=True)
    setup = set_up(request, str(folder), "other", (), lambda _words: None)
    assert setup.calibration is None
    assert plan_for(setup.base.card, 2, None, 0).sampling == Sampling(listed.steps, listed.guidance)
    if like == "tiny":
        assert setup.scorers is not None
        assert (setup.scorers.face.name, setup.gaps) == ("tiny-face", ())
    else:
        # Without a network, what looks at photographs is missing, and nothing takes its place.
        assert setup.scorers is None
        assert [gap.what for gap in setup.gaps] == ["face model"]


def test_a_base_computes_in_the_type_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(save_pipeline(tmp_path / "base"))
    bases = {dtype: load_base(folder, dtype=dtype) for dtype in ("auto", "float32", "float16", "bfloat16")}
    assert [str(base.dtype) for base in bases.values()] == [
        f"torch.{dtype}" for dtype in ("float32", "float32", "float16", "bfloat16")
    ]
    assert len({base.fingerprint for base in bases.values()}) == 1, "it is of the weights in the file"
    for dtype, base in bases.items():
        pictures = base.sample(base.encode_text(["a face"]), [0], Sampling(2))
        assert pictures.dtype is torch.float32 and pictures.isfinite().all(), dtype
    asked: list[str] = []
    monkeypatch.setattr(
        "loraudit.audit.setup.load_base", lambda *given: asked.append(given[3]) or bases["auto"]
    )
    for dtype in ("auto", "bfloat16"):
        request = Request(base=folder, attacks=("prompts",), device="cpu", dtype=dtype, offline=True)
        set_up(request, folder, "other", (), lambda _words: None)
    assert asked == ["auto", "bfloat16"]


@pytest.mark.parametrize(
    ("size", "face"),
    [(16, "tiny-face"), (64, "tiny-face"), (128, "tiny-face"), (256, "facenet"), (768, "facenet")],
)
def test_the_nearest_listed_size_lends_its_columns(size, face) -> None:
    assert card_like(size).face == face
