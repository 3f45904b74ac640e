"""What a training leaves: the encoder and its card."""

from dataclasses import replace

import pytest

from loraudit.encoder import frozen_transformer, load_encoder
from loraudit.training.encoder_card import finish, shown_command
from loraudit.training.train_encoder import train_encoder
from tests.encoder_training import SETTINGS, equal, model_of, source_of, zoo_in
from tests.tiny import LENGTH, WIDTH, tiny_base


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return zoo_in(tmp_path_factory.mktemp("zoo"))


def test_what_is_left_is_an_encoder_with_a_card(zoo, tmp_path) -> None:
    folder = tmp_path / "enc"
    model = model_of("paper", timestep=False)
    train_encoder(tiny_base(), source_of("zoo", zoo), model, replace(SETTINGS, steps=20), folder)
    about = {"steps": 20, "recipe": {"rank": 2, "unet_targets": ["to_q", "to_v"]}}
    finish(
        folder,
        model,
        model.frozen,
        "random",
        about,
        ["train-encoder", "--zoo", "/home/me/zoo", "--out=/x/enc"],
    )
    loaded, checkpoint = load_encoder(folder, frozen_transformer(tiny_base().text_encoder), LENGTH)
    assert equal(loaded, model) and not loaded.training
    assert checkpoint.training == about and checkpoint.config.timestep is False
    card = (folder / "CARD.md").read_text()
    assert "`loraudit train-encoder --zoo zoo --out=enc`" in card
    assert "rank 2, unet targets to_q to_v" in card and "**Limits.**" in card and "(ablation)" in card
    assert "/home" not in card and "/x" not in card
    assert {file.name for file in folder.iterdir()} == {
        "CARD.md", "config.json", "loss.png", "metrics.jsonl", "model.safetensors", "run.json",
    }  # fmt: skip


def test_the_constant_leaves_its_embedding(zoo, tmp_path) -> None:
    import numpy as np

    model = model_of("constant")
    train_encoder(tiny_base(), source_of("zoo", zoo), model, replace(SETTINGS, steps=2), tmp_path)
    finish(tmp_path, model, frozen_transformer(tiny_base().text_encoder), "random", {}, [])
    saved = np.load(tmp_path / "embedding.npy")
    assert saved.shape == (LENGTH, WIDTH) and (saved == model.mean.detach().numpy()).all()
    assert "reading any" in (tmp_path / "CARD.md").read_text()


def test_a_card_shows_no_folder_of_this_machine() -> None:
    words = ["--data", "folders:/home/me/faces", "--zoo", "/x/y/zoo", "--out", "models/enc", "--lr", "1e-3"]
    assert shown_command(words) == "--data folders:faces --zoo zoo --out models/enc --lr 1e-3"
