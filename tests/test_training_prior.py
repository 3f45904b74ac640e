"""Class pictures are drawn once for a base and its settings, and never taken from a file that changed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from loraudit.cards import PRIOR_FOLDER, cache_folder
from loraudit.training.finetune import TINY_PRIOR, Recipe
from loraudit.training.prior import kept_latents
from tests.tiny import tiny_base

RECIPE = Recipe(class_images=3, class_prompt="A face of zxqw.")
BASE = replace(tiny_base(), fingerprint="0" * 64)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder() / PRIOR_FOLDER


class Draw:
    """Latents that differ with every draw."""

    def __init__(self, count: int = 3) -> None:
        self.times, self.count = 0, count

    def __call__(self) -> torch.Tensor:
        self.times += 1
        return torch.full((self.count, *BASE.latent_shape), float(self.times))


def kept(draw: Draw, base=BASE, recipe=RECIPE, sampling=TINY_PRIOR) -> torch.Tensor:
    return kept_latents(base, recipe, sampling, draw)


def test_what_was_drawn_is_found_again(folder) -> None:
    draw = Draw()
    first, second = kept(draw), kept(draw)
    assert draw.times == 1 and torch.equal(first, second)
    assert len(list(folder.iterdir())) == 2
    # The prompt is the user's own, and stands in no name and no byte.
    assert all(b"zxqw" not in file.read_bytes() and "zxqw" not in file.name for file in folder.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"base": replace(BASE, fingerprint="1" * 64)},
        {"recipe": replace(RECIPE, class_prompt="A face.")},
        {"sampling": replace(TINY_PRIOR, steps=3)},
        {"sampling": replace(TINY_PRIOR, guidance=1.5)},
        {"sampling": replace(TINY_PRIOR, negative="hat")},
    ],
)
def test_whatever_decides_the_pictures_draws_others(change) -> None:
    draw = Draw()
    kept(draw)
    kept(draw, **change)
    assert draw.times == 2
    kept(draw, recipe=replace(RECIPE, lr=0.5, steps=7, rank=3))
    assert draw.times == 2, "what does not decide them draws none"


def test_another_number_draws_others() -> None:
    draw, fewer = Draw(), Draw(2)
    kept(draw)
    assert len(kept(fewer, recipe=replace(RECIPE, class_images=2))) == 2 and fewer.times == 1


@pytest.mark.parametrize(
    "damage", ["a byte", "cut", "no record", "no text", "another's", "wrong shape", "no file"]
)
def test_a_file_that_changed_is_drawn_again(damage, folder) -> None:
    draw = Draw()
    kept(draw)
    file, record = sorted(folder.iterdir())
    whole = file.read_bytes()
    if damage == "a byte":
        file.write_bytes(whole[:-1] + b"\x01")
    elif damage == "cut":
        file.write_bytes(whole[:-4])
    elif damage == "no record":
        record.unlink()
    elif damage == "no text":
        record.write_bytes(b"\xff" * 64)
    elif damage == "another's":
        record.write_text("0" * 64)
    elif damage == "wrong shape":
        import hashlib

        save_file({"latents": torch.zeros(2, *BASE.latent_shape)}, file)
        record.write_text(hashlib.sha256(file.read_bytes()).hexdigest())
    else:
        file.unlink()
    assert float(kept(draw).mean()) == 2.0
    assert float(kept(draw).mean()) == 2.0 and draw.times == 2, "and what replaces it is kept"


def test_without_a_fingerprint_or_a_place_nothing_is_kept(folder) -> None:
    draw = Draw()
    for _ in range(2):
        kept(draw, base=tiny_base())
    assert draw.times == 2 and not folder.exists()
    folder.parent.parent.mkdir(parents=True)
    folder.parent.write_text("a file where the folder should be")
    for _ in range(2):
        kept(draw)
    assert draw.times == 4
