"""Encoders on disk: what is saved comes back, and what is broken or does not fit is refused in one line."""

import json
import os
import re
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTextModel

from loraudit.encoder import (
    PaperEncoder,
    PaperEncoderConfig,
    frozen_transformer,
    load_encoder,
    read_checkpoint,
    save_encoder,
)
from loraudit.encoder.checkpoint import CheckpointError, DoesNotFit
from loraudit.errors import LorauditError
from loraudit.lora import Factors, LoRA, LoRAFile

SITES = (("unet.a.attn1.to_q", 24, 16), ("unet.a.attn2.to_v", 16, 40))
RANK = 4
LENGTH = 5


def make_frozen(seed=0, width=16, layers=1):
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=8,
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=8,
    )
    return frozen_transformer(CLIPTextModel(config))


@pytest.fixture
def frozen():
    return make_frozen()


@pytest.fixture
def encoder(frozen):
    return PaperEncoder(PaperEncoderConfig(SITES, RANK, LENGTH, frozen.shape, True, 100), frozen)


@pytest.fixture
def folder(encoder, tmp_path):
    save_encoder(tmp_path / "enc", encoder, encoder.frozen, base="tiny", training={"steps": 3})
    return tmp_path / "enc"


def make_lora(tmp_path, shapes=SITES, rank=RANK):
    factors = {
        site: Factors(np.ones((out, rank), np.float32), np.ones((rank, in_), np.float32), 1.0)
        for site, out, in_ in shapes
    }
    file = LoRAFile("mine.safetensors", tmp_path / "mine.safetensors", "", 0, {})
    return LoRA(file, "tiny", "tiny", "diffusers", factors, ())


def rewrite(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(kind, *args):
    with pytest.raises(kind) as caught:
        load_encoder(*args)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return str(caught.value)


def test_an_encoder_comes_back_as_it_was(encoder, frozen, folder):
    state = torch.get_rng_state()
    loaded, checkpoint = load_encoder(folder, frozen, LENGTH)
    assert torch.equal(torch.get_rng_state(), state)
    assert checkpoint == read_checkpoint(str(folder))
    assert (checkpoint.name, checkpoint.base, checkpoint.training) == ("enc", "tiny", {"steps": 3})
    matrices = {site: (torch.randn(2, out, RANK), torch.randn(2, RANK, in_)) for site, out, in_ in SITES}
    assert torch.equal(loaded(matrices)[0], encoder(matrices)[0])
    assert all(parameter.device.type == "cpu" for parameter in loaded.parameters())
    trained = {name for name, parameter in loaded.named_parameters() if parameter.requires_grad}
    assert trained == set(encoder.own_state())


def test_the_frozen_weights_are_not_in_the_file(encoder, folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(encoder.own_state())
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_saving_again_replaces_the_encoder_and_keeps_the_card(encoder, frozen, folder):
    (folder / "CARD.md").write_text("card")
    before = read_checkpoint(folder).sha256
    with torch.no_grad():
        encoder.task.add_(1)
    assert save_encoder(folder, encoder, encoder.frozen, base="tiny").sha256 != before
    assert torch.equal(load_encoder(folder, frozen, LENGTH)[0].task, encoder.task)
    assert (folder / "CARD.md").read_text() == "card"


def test_loading_into_a_live_encoder_keeps_its_parameters(encoder, frozen):
    other = PaperEncoder(encoder.config, frozen)
    parameters = list(other.parameters())
    other.load_own_state(encoder.own_state())
    assert all(new is old for new, old in zip(other.parameters(), parameters, strict=True))
    assert torch.equal(other.task, encoder.task)
    with pytest.raises(RuntimeError, match="task"):
        other.load_own_state({name: value for name, value in encoder.own_state().items() if name != "task"})


def test_an_encoder_that_diverged_is_not_saved(encoder, folder):
    before = (folder / "model.safetensors").read_bytes()
    with torch.no_grad():
        encoder.task[0] = torch.nan
    with pytest.raises(CheckpointError, match="NaN"):
        save_encoder(folder, encoder, encoder.frozen, base="tiny")
    assert (folder / "model.safetensors").read_bytes() == before


def test_a_save_that_fails_leaves_the_old_encoder(encoder, frozen, folder, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with torch.no_grad():
        encoder.task.add_(1)
    with pytest.raises(CheckpointError, match="No space left"):
        save_encoder(folder, encoder, encoder.frozen, base="tiny")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert not torch.equal(load_encoder(folder, frozen, LENGTH)[0].task, encoder.task)


@pytest.mark.parametrize(
    ("base", "length", "message"),
    [
        ({"seed": 1}, LENGTH, "another text encoder, that of tiny"),
        ({"layers": 2}, LENGTH, "another text encoder, that of tiny"),
        ({"width": 32}, LENGTH, r"makes embeddings \[5, 16\], the base reads \[5, 32\]"),
        ({}, 77, r"makes embeddings \[5, 16\], the base reads \[77, 16\]"),
    ],
)
def test_another_base_is_refused(folder, base, length, message):
    assert re.search(message, refused(DoesNotFit, folder, make_frozen(**base), length))


def test_broken_folders_are_refused(folder, frozen, tmp_path):
    weights, config = folder / "model.safetensors", folder / "config.json"
    good_weights, good_config = weights.read_bytes(), config.read_text()

    weights.write_bytes(good_weights[:-4])
    assert "is not the file that its config.json describes" in refused(
        CheckpointError, folder, frozen, LENGTH
    )
    weights.unlink()
    assert "no readable model.safetensors" in refused(CheckpointError, folder, frozen, LENGTH)
    os.mkfifo(weights)
    assert "it is not a regular file" in refused(CheckpointError, folder, frozen, LENGTH)
    weights.unlink()
    weights.symlink_to("/dev/zero")
    assert "it is not a regular file" in refused(CheckpointError, folder, frozen, LENGTH)
    weights.unlink()
    with weights.open("wb") as sparse:
        sparse.truncate(1 << 40)
    assert "File too large" in refused(CheckpointError, folder, frozen, LENGTH)
    weights.write_bytes(good_weights)
    for text in ("", "[]", "{", '{"schema": "loraudit.encoder/1"}', "[" * 100_000, '"\\ud800"'):
        config.write_text(text)
        assert "describes no encoder" in refused(CheckpointError, folder, frozen, LENGTH)
    config.write_bytes(b"\xff\xfe")
    assert "describes no encoder" in refused(CheckpointError, folder, frozen, LENGTH)
    config.unlink()
    assert "no readable config.json" in refused(CheckpointError, folder, frozen, LENGTH)
    os.mkfifo(config)
    assert "it is not a regular file" in refused(CheckpointError, folder, frozen, LENGTH)
    config.unlink()
    config.write_text(good_config + " " * 20_000_000)
    assert "File too large" in refused(CheckpointError, folder, frozen, LENGTH)
    config.write_text(good_config)
    rewrite(folder, schema="evil\n\x1b[31m/9")
    assert "\x1b" not in refused(CheckpointError, folder, frozen, LENGTH)
    config.write_text(good_config)
    load_encoder(folder, frozen, LENGTH)
    with pytest.raises(LorauditError):
        read_checkpoint(tmp_path / "nowhere")


def test_weights_that_are_not_those_of_the_config_are_refused(encoder, folder, frozen):
    huge = [["unet.a.attn1.to_q", 10**15, 16], ["unet.a.attn2.to_v", 16, 40]]
    rewrite(folder, encoder={**encoder.config.to_json(), "sites": huge})
    assert "does not hold the tensors" in refused(CheckpointError, folder, frozen, LENGTH)
    rewrite(folder, encoder=encoder.config.to_json())

    def replace_weights(state):
        data = safetensors.torch.save(state)
        (folder / "model.safetensors").write_bytes(data)
        rewrite(folder, weights_sha256=sha256(data).hexdigest())

    state = encoder.own_state()
    replace_weights({**state, "task": state["task"].half()})
    assert "does not hold the tensors" in refused(CheckpointError, folder, frozen, LENGTH)
    replace_weights({**state, "task": state["task"] * torch.inf})
    assert "NaN or infinite" in refused(CheckpointError, folder, frozen, LENGTH)


def test_nothing_is_unpickled(encoder, folder, frozen):
    torch.save(encoder.own_state(), folder / "model.safetensors")
    data = (folder / "model.safetensors").read_bytes()
    rewrite(folder, weights_sha256=sha256(data).hexdigest())
    assert "not a sound safetensors file" in refused(CheckpointError, folder, frozen, LENGTH)


def test_a_lora_that_does_not_fit_is_refused(folder, tmp_path):
    checkpoint = read_checkpoint(folder)
    checkpoint.check_fits(make_lora(tmp_path))
    checkpoint.check_fits(
        make_lora(tmp_path, (*SITES, ("text_encoder.encoder.layers.0.self_attn.q_proj", 8, 8)))
    )
    cases = [
        (
            make_lora(tmp_path, SITES[:1]),
            "reads 2 modules; mine.safetensors lacks 1 of them, such as unet.a.attn2",
        ),
        (make_lora(tmp_path, rank=8), "reads rank 4, mine.safetensors has rank 8"),
        (
            make_lora(tmp_path, ((SITES[0][0], 24, 17), SITES[1])),
            r"of shape \(24, 16\), mine.safetensors has \(24, 17\)",
        ),
    ]
    mixed = make_lora(tmp_path)
    factors = {**mixed.factors, SITES[0][0]: make_lora(tmp_path, rank=2).factors[SITES[0][0]]}
    cases.append((replace(mixed, factors=factors), "has rank 2 to 4"))
    for lora, message in cases:
        with pytest.raises(DoesNotFit, match=message) as caught:
            checkpoint.check_fits(lora)
        assert caught.value.hint
        assert caught.value.exit_code == 4
