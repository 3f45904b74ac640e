"""Folders as SD 1.x was published in 2022: other names, other settings, an older tokenizer."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from loraudit.base.load import load_base
from loraudit.base.model import Sampling
from loraudit.cards import models_dir
from tests.tiny import LENGTH, save_pipeline

CONFIGS = {
    "unet": {"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.2.2"},
    "vae": {"_class_name": "AutoencoderKL", "_diffusers_version": "0.2.2"},
    "text_encoder": {
        "_name_or_path": "openai/clip-vit-large-patch14", "architectures": ["CLIPTextModel"],
        "bos_token_id": 0, "eos_token_id": 2, "dropout": 0.0, "initializer_factor": 1.0, "pad_token_id": 1,
        "model_type": "clip_text_model", "torch_dtype": "float32", "transformers_version": "4.22.0.dev0",
    },
}  # fmt: skip
"""Settings of CompVis/stable-diffusion-v1-4 that later files have not, or have otherwise."""
LATER = {"scaling_factor", "force_upcast", "shift_factor", "latents_mean", "latents_std", "use_quant_conv",
         "use_post_quant_conv", "mid_block_add_attention"}  # fmt: skip
ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def vae_name(name: str) -> str:
    for new, old in ATTENTION.items():
        name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
    return name


@pytest.fixture(scope="module")
def today(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("base") / "today")


def published(today: Path, folder: Path, half: bool) -> Path:
    shutil.copytree(today, folder)
    for part, settings in CONFIGS.items():
        path = folder / part / "config.json"
        kept = {key: value for key, value in json.loads(path.read_text()).items() if key not in LATER}
        path.write_text(json.dumps(kept | settings))
    for name, rename in (
        ("vae/diffusion_pytorch_model", vae_name),
        ("text_encoder/model", lambda key: f"text_model.{key.removeprefix('text_model.')}"),
        ("unet/diffusion_pytorch_model", str),
    ):
        path = folder / f"{name}.safetensors"
        state = {rename(key): value.half() if half else value for key, value in load_file(path).items()}
        if name.startswith("text"):
            state["text_model.embeddings.position_ids"] = torch.arange(LENGTH)[None]
        path.unlink()
        save_file(state, folder / f"{name}{'.fp16' if half else ''}.safetensors")
    (folder / "tokenizer" / "tokenizer.json").unlink()
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(models_dir() / "tiny-clip" / name, folder / "tokenizer")
    return folder


@pytest.mark.parametrize("half", [False, True], ids=["whole", "half"])
def test_they_are_read_whole(half: bool, today: Path, tmp_path: Path, capfd) -> None:
    folder = published(today, tmp_path / "published", half)
    names = [key for file in folder.glob("vae/*.safetensors") for key in load_file(file)]
    assert sum("attentions.0.query" in key or "proj_attn" in key for key in names) == 8
    capfd.readouterr()
    old, new = load_base(str(folder)), load_base(str(today))
    assert old.fingerprint == new.fingerprint
    assert old.vae.config.scaling_factor == 0.18215
    for part in ("unet", "vae", "text_encoder"):
        found, made = (getattr(base, part).state_dict() for base in (old, new))
        assert found.keys() == made.keys()
        assert all(torch.equal(found[key], made[key].half().float() if half else made[key]) for key in found)
    assert torch.equal(old.token_ids(["a face of ada"]), new.token_ids(["a face of ada"]))
    if not half:
        pictures = [base.sample(base.encode_text(["a"]), [0], Sampling(2)) for base in (old, new)]
        assert torch.allclose(*pictures, atol=1e-4)
    captured = capfd.readouterr()
    assert captured.out + captured.err == "", "the libraries say nothing of their own"
