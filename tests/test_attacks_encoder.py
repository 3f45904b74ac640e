"""The paper's attack: which encoder it takes, what it reads, and how many steps it believes in."""

import json

import pytest
import torch

from loraudit.attacks.encoder import open_encoder
from loraudit.encoder import save_encoder, stack_loras
from loraudit.encoder.checkpoint import DoesNotFit
from loraudit.findings.conditions import EncoderUsed
from loraudit.lora.recorded import recorded_clip_skip, recorded_step
from tests.audits import random_encoder, random_lora
from tests.tiny import tiny_base


@pytest.fixture
def folder(tmp_path):
    encoder = random_encoder(tiny_base())
    save_encoder(tmp_path / "enc", encoder, encoder.frozen, base="tiny")
    return tmp_path / "enc"


def expected(lora, step):
    encoder = random_encoder(tiny_base())
    matrices = stack_loras([lora], [site for site, _, _ in encoder.config.sites], 2)
    with torch.no_grad():
        return encoder(matrices, torch.tensor([step]))[0][0]


@pytest.mark.parametrize(
    ("metadata", "step"),
    [({}, 10), ({"ss_steps": "4"}, 4), ({"ss_steps": "4000"}, 10), ({"ss_steps": "0"}, 10)],
)
def test_the_aim_is_the_mean_at_the_recorded_step(folder, metadata, step) -> None:
    attack, lora = open_encoder(folder, tiny_base()), random_lora(metadata)
    (aim,) = attack.aims(lora, tiny_base())
    assert torch.allclose(aim.embedding, expected(lora, step), atol=1e-6)
    assert (aim.attack, aim.aims_at_face, aim.quotes) == ("paper", True, ())
    assert aim.encoder == EncoderUsed("enc", attack.checkpoint.sha256)
    other = step - 1 if step > 1 else step + 1
    assert not torch.allclose(aim.embedding, expected(lora, other), atol=1e-6)


def test_another_lora_gives_another_embedding(folder) -> None:
    attack = open_encoder(folder, tiny_base())
    one, two = (attack.aims(random_lora(seed=seed), tiny_base())[0].embedding for seed in (0, 1))
    assert not torch.allclose(one, two, atol=1e-6)


def test_another_rank_does_not_fit(folder) -> None:
    attack = open_encoder(folder, tiny_base())
    with pytest.raises(DoesNotFit, match=r"reads rank 2, x\.safetensors has rank 3"):
        attack.aims(random_lora(rank=3), tiny_base())


@pytest.mark.parametrize(
    ("metadata", "step"),
    [
        ({}, None),
        ({"ss_steps": "120"}, 120),
        ({"ss_steps": "None", "global_step": "7"}, 7),
        ({"training_info": json.dumps({"step": 500, "epoch": 1})}, 500),
        ({"training_info": "[" * 100_000}, None),
        ({"training_info": "[1]"}, None),
        ({"training_info": '{"step": [1]}'}, None),
        ({"ss_steps": "9" * 5000}, None),
        ({"ss_steps": "-3"}, None),
        ({"ss_steps": "²"}, None),
        ({"ss_steps": "0"}, None),
    ],
)
def test_recorded_step(metadata, step) -> None:
    assert recorded_step(metadata) == step


@pytest.mark.parametrize(
    ("told", "layer"), [("2", 2), ("1", 1), ("None", None), ("0", None), ("-2", None), ("9" * 5000, None)]
)
def test_recorded_clip_skip(told, layer) -> None:
    assert recorded_clip_skip({"ss_clip_skip": told}) == layer
    assert recorded_clip_skip({}) is None
