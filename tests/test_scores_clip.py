"""CLIP scorers: a small random open_clip model, ViT-L/14's shapes, preprocessing against open_clip's own."""

import hashlib
import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage import data
from torch import Tensor

from loraudit.cards import CLIP_FILE, CLIP_REPO, CLIP_REVISION
from loraudit.errors import Incomplete, LorauditError
from loraudit.scores.clip import (
    OpenClip,
    load_openai_clip,
    load_tiny_clip,
    openai_clip_config,
    openai_clip_weights,
)
from tests.test_cli_cache import put

MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
SMALL: dict[str, Any] = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 64, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 514, "width": 32, "heads": 2, "layers": 1},
}


def small_model() -> Any:
    torch.manual_seed(0)
    return open_clip.CLIP(**SMALL)


def letters(texts: list[str]) -> Tensor:
    """One token a letter, `[N, 16]`, closed and padded by the highest id."""
    ids = torch.full((len(texts), 16), 513)
    for row, text in zip(ids, texts, strict=True):
        row[0] = 512
        row[1 : 1 + len(text)] = torch.tensor([ord(letter) for letter in text])
    return ids


def write_folder(folder: Path) -> Path:
    """What training/tiny_clip.py leaves: configuration, weights and a CLIPTokenizer."""
    folder.mkdir()
    config = {"model_cfg": SMALL, "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(
        {k: v.contiguous() for k, v in small_model().state_dict().items()}, folder / "model.safetensors"
    )
    symbols = [chr(256 + i) for i in range(230)] + list("abcdefghijklmnopqrstuvwxyz")
    symbols += [symbol + "</w>" for symbol in symbols]
    ids = {symbol: i for i, symbol in enumerate([*symbols, "<|startoftext|>", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(ids))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    end = "<|endoftext|>"
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "pad_token": end, "eos_token": end, "unk_token": end})
    )
    return folder


def test_vectors_are_unit_and_do_not_depend_on_the_batch() -> None:
    scorer = OpenClip("small", small_model(), letters, MEAN, STD)
    pictures = torch.rand((5, 3, 80, 100), generator=torch.Generator().manual_seed(0))
    texts = ["a man", "a woman", "", "hat", "red hat"]
    images, words = scorer.image_embeddings(pictures), scorer.text_embeddings(texts)
    assert images.shape == words.shape == (5, 24)
    assert torch.allclose(images.norm(dim=1), torch.ones(5), atol=1e-5)
    assert torch.allclose(words.norm(dim=1), torch.ones(5), atol=1e-5)
    for index in range(5):
        alone = scorer.image_embeddings(pictures[index : index + 1])
        assert torch.allclose(alone[0], images[index], atol=1e-5)
        assert torch.allclose(scorer.text_embeddings([texts[index]])[0], words[index], atol=1e-5)
    assert not torch.allclose(images[0], images[1], atol=1e-4)
    assert not torch.allclose(words[0], words[1], atol=1e-2)


def test_preprocessing_equals_open_clips_own() -> None:
    photograph = data.astronaut()[:400]
    scorer = OpenClip("small", small_model(), letters, MEAN, STD)
    pixels = torch.from_numpy(photograph.copy()).permute(2, 0, 1).float() / 255
    ours = scorer._prepare(pixels[None])[0]
    theirs = open_clip.image_transform(64, is_train=False, mean=MEAN, std=STD)(Image.fromarray(photograph))
    assert ours.shape == theirs.shape == (3, 64, 64)
    # in 8-bit steps; Pillow rounds and clips after each of its two passes, so a few overshoots differ more
    steps = (ours - theirs).abs() * torch.tensor(STD).view(3, 1, 1) * 255
    assert steps.mean() < 0.5 and steps.flatten().quantile(0.99) < 1.5
    squashed = open_clip.image_transform(64, is_train=False, mean=MEAN, std=STD, resize_mode="squash")
    assert (ours - squashed(Image.fromarray(photograph).resize((64, 64)))).abs().max() > 1


def test_the_tiny_folder_loads_and_reads_text(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tiny-clip")
    scorer = load_tiny_clip(folder)
    assert scorer.name == "tiny-clip"
    picture = torch.rand(1, 3, 64, 64)
    expected = OpenClip("small", small_model(), letters, MEAN, STD).image_embeddings(picture)
    assert torch.equal(scorer.image_embeddings(picture), expected)
    words = scorer.text_embeddings(["ab", "ba", "ab " * 40])
    assert words.shape == (3, 24)
    assert not torch.allclose(words[0], words[1], atol=1e-3)


@pytest.mark.parametrize("damage", ["no folder", "no tokenizer", "truncated", "other shape"])
def test_a_damaged_folder_is_one_clear_line(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "tiny-clip"
    if damage != "no folder":
        write_folder(folder)
    if damage == "no tokenizer":
        for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
            (folder / name).unlink()
    elif damage == "truncated":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "other shape":
        config = {"model_cfg": {**SMALL, "embed_dim": 8}, "preprocess_cfg": {"mean": MEAN, "std": STD}}
        (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(LorauditError) as caught:
        load_tiny_clip(folder)
    assert "\n" not in str(caught.value) and caught.value.hint


def test_openai_vit_l_14_has_its_shapes() -> None:
    with torch.device("meta"):
        model = open_clip.CLIP(**openai_clip_config())
        images = model.encode_image(torch.zeros(2, 3, 224, 224))
        texts = model.encode_text(torch.zeros(2, 77, dtype=torch.long))
    assert sum(parameter.numel() for parameter in model.parameters()) == 427_616_513
    assert images.shape == texts.shape == (2, 768)
    activation = type(model.visual.transformer.resblocks[0].mlp.gelu).__name__
    assert activation == "QuickGELU"


def test_offline_without_weights_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Incomplete, match="--offline") as caught:
        openai_clip_weights(offline=True)
    assert "\n" not in str(caught.value) and f"hf download {CLIP_REPO}" in caught.value.hint


def test_only_the_published_weights_at_the_pinned_commit_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    data = b"anything"
    for commit, ref in (("c" * 40, "main"), (CLIP_REVISION, "")):
        put(tmp_path, CLIP_REPO, commit, {CLIP_FILE: data}, ref)
        if ref:  # another commit, whatever the branch says
            with pytest.raises(Incomplete):
                openai_clip_weights(offline=True)
    with pytest.raises(LorauditError, match="is not the published file") as caught:
        openai_clip_weights(offline=True)
    assert "\n" not in str(caught.value) and str(tmp_path) not in str(caught.value)
    monkeypatch.setattr("loraudit.scores.clip.CLIP_SHA256", hashlib.sha256(data).hexdigest())
    assert openai_clip_weights(offline=True).read_bytes() == data


def test_damaged_openai_weights_are_one_clear_line(tmp_path: Path) -> None:
    weights = tmp_path / "open_clip_model.safetensors"
    weights.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{\x22a")
    with pytest.raises(LorauditError, match="cannot be read"):
        load_openai_clip(weights)
