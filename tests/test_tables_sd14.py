"""Stable Diffusion 1.4: sizes on the meta device, CLIP's own vocabulary, and the code of the full-size proof
on a pipeline of the same blocks with narrow layers.
"""

import json
import sys
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks.tables import sd14_shape
from loraudit.base.load import load_base
from loraudit.cards import FACE_FILE
from loraudit.cli import main
from loraudit.encoder import PaperEncoder, PaperEncoderConfig, frozen_transformer, save_encoder
from loraudit.lora import load_lora, write_diffusers
from loraudit.lora.layouts.topology import TextShape, Topology, UNetShape, topologies
from loraudit.scores.facenet import facenet_weights, load_facenet
from loraudit.training.finetune import PAPER, new_adapters
from loraudit.training.train_encoder import new_encoder
from tests.singles import use_configs

NARROW_UNET = {**sd14_shape.UNET, "sample_size": 32, "block_out_channels": (32, 32, 64, 64)}
NARROW_UNET |= {"cross_attention_dim": 32, "attention_head_dim": 2}
NARROW_VAE = {**sd14_shape.VAE, "block_out_channels": (32, 32, 32, 32), "layers_per_block": 1}
NARROW_TEXT = {**sd14_shape.TEXT, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
NARROW_TEXT |= {"num_attention_heads": 2}
PARTS = ("unet", "text_encoder")


def write_lora_and_encoder(folder: Path) -> None:
    """Write `lora.safetensors` and `encoder/`, the paper's and untrained, for the pipeline in `pipeline/`."""
    base = load_base(str(folder / "pipeline"))
    adapters = new_adapters(base, PAPER, [0])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for up in adapters.up.values():
            up.data.normal_(std=0.02)
        write_diffusers(adapters.factors(0), folder / "lora.safetensors", {"ss_steps": "1000"})
    encoder = new_encoder(base, adapters.terms(), timestep=True, max_steps=PAPER.steps, seed=0)
    save_encoder(folder / "encoder", encoder, encoder.frozen, base="sd14")


def test_the_configuration_has_sd14s_parameters_and_modules() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**sd14_shape.UNET)
        vae = AutoencoderKL(**sd14_shape.VAE)
        text = CLIPTextModel(CLIPTextConfig(**sd14_shape.TEXT))
    # As counted on the published checkpoint.
    assert [sum(p.numel() for p in part.parameters()) for part in (unet, vae, text)] == [
        859_520_964,
        83_653_863,
        123_060_480,
    ]
    shapes = {
        f"unet.{name}": tuple(m.weight.shape) for name, m in unet.named_modules() if hasattr(m, "weight")
    }
    sd14 = {site: shape for site, shape in topologies()[0].shapes.items() if site.startswith("unet.")}
    assert len(sd14) == 282
    assert sd14.items() <= shapes.items()


def test_the_papers_encoder_has_the_size_of_sd14s_embedding() -> None:
    sites = tuple(
        (site, *shape)
        for site, shape in topologies()[0].shapes.items()
        if site.startswith("unet.") and site.endswith(("to_q", "to_v"))
    )
    assert len(sites) == 64
    with torch.device("meta"):
        frozen = frozen_transformer(CLIPTextModel(CLIPTextConfig(**sd14_shape.TEXT)))
        encoder = PaperEncoder(PaperEncoderConfig(sites, 16, 77, frozen.shape, True, 1000), frozen)
        matrices = {site: (torch.zeros(1, out, 16), torch.zeros(1, 16, in_)) for site, out, in_ in sites}
        mean, logvar = encoder(matrices, torch.zeros(1))
    assert mean.shape == logvar.shape == (1, 77, 768)


def test_a_narrow_pipeline_is_scanned_by_the_code_for_the_full_one(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sd14_shape.write_pipeline(tmp_path / "pipeline", NARROW_UNET, NARROW_VAE, NARROW_TEXT)
    write_lora_and_encoder(tmp_path)
    unet, text = (json.loads((tmp_path / f"pipeline/{part}/config.json").read_text()) for part in PARTS)
    narrow = Topology.of("sd15", "SD 1.x", UNetShape.from_config(unet), TextShape.from_config(text))
    monkeypatch.setattr("loraudit.lora.layouts.family.topologies", lambda: (narrow,))
    arguments = ["scan", tmp_path / "lora.safetensors", "--base", tmp_path / "pipeline", "--encoder"]
    arguments += [tmp_path / "encoder", "--samples", 1, "--steps", 2, "--offline", "--format", "json"]
    arguments += ["--attack", "paper", "--attack", "prompts", "--save-images", tmp_path / "pictures"]
    monkeypatch.setattr(sys, "argv", ["loraudit", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    report = json.loads(capsys.readouterr().out)
    # FaceNet is not here and may not be fetched: unknown is never clean.
    assert stop.value.code == 4
    assert [entry["what"] for entry in report["incomplete"]] == ["face model"]
    assert report["verdict"]["level"] == "inconclusive"
    assert report["settings"]["attacks"] == [
        "paper",
        "prompts:no-trigger",
        "prompts:class",
        "prompts:any-name",
    ]
    assert len(list((tmp_path / "pictures").glob("paper-0*.png"))) == 3


def test_every_form_is_the_same_base(tmp_path, monkeypatch) -> None:
    """A pipeline with another VAE is the control."""
    shapes = {"unet": NARROW_UNET, "vae": NARROW_VAE, "text": NARROW_TEXT}
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub" / "hub"))
    sd14_shape.write_pipeline(tmp_path / "whole", **shapes)
    use_configs(monkeypatch, tmp_path / "whole")
    found = {}
    for form in sd14_shape.FORMS:
        named = sd14_shape.write_form(form, tmp_path, **shapes)
        found[form] = load_base(named, offline=True).fingerprint
    assert len(found) == 3 and set(found.values()) == {load_base(str(tmp_path / "whole")).fingerprint}
    half = {file.name for file in (tmp_path / "half").rglob("*.safetensors")}
    assert half == {"diffusion_pytorch_model.fp16.safetensors", "model.fp16.safetensors"}
    assert [file.name for file in (tmp_path / "single").iterdir()] == ["full-size.safetensors"]
    sd14_shape.write_pipeline(tmp_path / "other", **shapes | {"vae": NARROW_VAE | {"layers_per_block": 2}})
    assert load_base(str(tmp_path / "other")).fingerprint not in found.values()


def test_the_lora_and_the_face_model_are_what_a_scan_reads(tmp_path) -> None:
    sd14_shape.write_lora(tmp_path / "lora.safetensors", rank=1)
    lora = load_lora(str(tmp_path / "lora.safetensors"))
    assert (lora.base, len(lora.factors), lora.unread) == ("sd15", 200, ())
    sd14_shape.write_face_model(tmp_path / "cache")
    weights = facenet_weights(tmp_path / "cache", offline=True)
    assert weights.name == FACE_FILE and load_facenet(weights).threshold == 0.5912
