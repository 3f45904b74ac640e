"""tiny-clip: its tokenizer, its losses, its training and the text tower that tiny-sd takes over from it."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

from loraudit.people.captions import CLASS_PROMPT, WORDS, caption, full_caption, instance_prompt
from loraudit.people.identity import FACTORS, identity, nuisance
from models.recipes.clip import (
    PHRASES,
    Budget,
    clip_loss,
    phrase_loss,
    phrase_targets,
    train_pictures,
    train_text,
)
from models.recipes.clip_metrics import measure
from models.recipes.clip_model import encode_text, export_text_tower, new_clip, save_clip, text_model
from models.recipes.dataset import draw_dataset
from models.recipes.tokenizer import (
    CONTEXT,
    CaptionEncoder,
    build_vocabulary,
    load_tokenizer,
    write_tokenizer,
)

SHIPPED = Path(__file__).parents[1] / "models" / "tiny-clip"
CAPTIONS = [
    CLASS_PROMPT,
    instance_prompt("qwxzt"),
    full_caption(identity(5)),
    "a face of hjkl with wide jaw",
    "Weird, LOW quality; 42 caf\u00e9s",
    "",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random-weight tiny-clip."""
    path = tmp_path_factory.mktemp("clip")
    write_tokenizer(WORDS, path)
    torch.manual_seed(0)
    save_clip(new_clip(len(load_tokenizer(path))), path)
    return path


def opened(folder: Path) -> open_clip.CLIP:
    model = open_clip.create_model(f"local-dir:{folder}")
    return model.eval()


def test_every_caption_word_is_one_token(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    for word in WORDS:
        assert len(tokenizer.encode(word, add_special_tokens=False)) == 1, word
    assert len(tokenizer.encode("qwxzt", add_special_tokens=False)) > 3  # a trigger is no word


def test_vocabulary_is_laid_out_as_clips(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    size = len(tokenizer)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (
        size - 2,
        size - 1,
        size - 1,
    )
    assert tokenizer.model_max_length == CONTEXT
    assert sorted(tokenizer.get_vocab().values()) == list(range(size))
    assert build_vocabulary(WORDS) == build_vocabulary(reversed(WORDS))
    assert build_vocabulary(WORDS) != build_vocabulary(WORDS[:-1])


def test_caption_encoder_equals_the_tokenizer(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    rng = np.random.default_rng(0)
    captions = CAPTIONS + [caption(identity(s), nuisance(s, 0), rng) for s in range(60)] + ["jaw " * 90]
    expected = tokenizer(captions, padding="max_length", truncation=True).input_ids
    assert CaptionEncoder(tokenizer)(captions).tolist() == expected


def test_captions_fit_the_context(folder: Path) -> None:
    encoder, rng = CaptionEncoder(load_tokenizer(folder)), np.random.default_rng(1)
    end = encoder._end
    ids = encoder([caption(identity(s), nuisance(s, 0), rng) for s in range(400)])
    assert (ids[:, -2] == end).all()  # the end itself, or padding, never a word that was cut


def test_encode_text_skips_padding_only(folder: Path) -> None:
    model = opened(folder)
    ids = torch.from_numpy(CaptionEncoder(load_tokenizer(folder))(CAPTIONS))
    with torch.no_grad():
        expected = model.encode_text(ids)
        for chunks in (1, 3):
            assert torch.allclose(encode_text(model, ids, chunks), expected, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 1e-2


def test_text_model_equals_open_clips_tower(folder: Path, tmp_path: Path) -> None:
    model = opened(folder)
    ids = torch.from_numpy(CaptionEncoder(load_tokenizer(folder))(CAPTIONS))
    export_text_tower(folder, tmp_path)
    saved = CLIPTextModel.from_pretrained(tmp_path / "text_encoder").eval()
    with torch.no_grad():
        x = model.token_embedding(ids) + model.positional_embedding
        expected = model.ln_final(model.transformer(x, attn_mask=model.attn_mask))
        for tower in (text_model(folder), saved):
            answer = tower(input_ids=ids)
            assert (answer.last_hidden_state - expected).abs().max() < 1e-5
            assert (answer.pooler_output @ model.text_projection - model.encode_text(ids)).abs().max() < 1e-5
        saved.embeddings.position_embedding.weight.data.roll(1, 0)
        saved.encoder.layers[0].self_attn.q_proj.weight.data.neg_()
        assert (saved(input_ids=ids).last_hidden_state - expected).abs().max() > 1e-2
    assert saved.dtype == torch.float32
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert tokenizer(CAPTIONS, padding="max_length", truncation=True).input_ids == ids.tolist()


def test_phrase_targets_name_what_the_caption_names() -> None:
    who = identity(9)
    full = phrase_targets([full_caption(who)])
    assert [PHRASES[f][k] for f, k in enumerate(full[0].tolist())] == list(who.phrases())
    one = phrase_targets(["a face of wide with square jaw red shirt"])[0]
    named = (one >= 0).nonzero().flatten().tolist()
    assert [FACTORS[f].name for f in named] == ["jaw"]
    assert PHRASES[named[0]][int(one[named[0]])] == "square jaw"


def test_losses_prefer_the_truth() -> None:
    torch.manual_seed(0)
    sizes = [len(phrases) for phrases in PHRASES]
    phrases = torch.eye(sum(sizes))
    targets = phrase_targets([full_caption(identity(s)) for s in range(6)])
    offsets = torch.tensor([0, *np.cumsum(sizes)[:-1]])
    vectors = torch.zeros(6, sum(sizes)).scatter_(1, targets + offsets, 1.0)
    scale = torch.tensor(20.0)
    assert phrase_loss(vectors, phrases, targets, scale) < 1e-6
    assert phrase_loss(vectors, phrases, targets.roll(1, 0), scale) > 1.0
    silent = targets.clone()
    silent[:, 3:] = -100
    assert phrase_loss(vectors, phrases, silent, scale) < 1e-6
    unit = torch.nn.functional.normalize(torch.randn(8, 16), dim=-1)
    assert clip_loss(unit, unit, scale) < clip_loss(unit, unit.roll(1, 0), scale) - 1.0


def test_training_resumes_to_the_same_weights(tmp_path: Path) -> None:
    def text(name: str, *stops: int, seed: int = 0) -> dict[str, torch.Tensor]:
        for stop in stops:
            # a budget so long that the clock does not move the learning rate
            train_text(tmp_path / name, tmp_path / f"run-{name}", Budget(1e9, 4, 1e-3, seed, stop))
        return load_file(tmp_path / name / "model.safetensors")

    straight, resumed, other = text("a", 4), text("b", 2, 4), text("c", 4, seed=1)
    assert all(torch.equal(straight[k], resumed[k]) for k in straight)
    assert not torch.equal(straight["token_embedding.weight"], other["token_embedding.weight"])
    record = json.loads((tmp_path / "run-a" / "run.json").read_text())
    assert record["config"]["model"]["text_cfg"]["context_length"] == CONTEXT
    assert "open_clip_torch" in record["versions"]


def test_picture_stage_leaves_the_text_tower_alone(tmp_path: Path) -> None:
    draw_dataset(tmp_path / "people", 0, 8, 1, workers=1)
    out = tmp_path / "clip"
    train_text(out, tmp_path / "run-text", Budget(1e9, 4, 1e-3, 0, 1))
    before = load_file(out / "model.safetensors")
    train_pictures(tmp_path / "people", out, tmp_path / "run-pictures", Budget(1e9, 8, 1e-3, 0, 2))
    after = load_file(out / "model.safetensors")
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved <= {"visual", "logit_scale"}
    assert "visual" in moved


@pytest.fixture(scope="module")
def shipped() -> open_clip.CLIP:
    return opened(SHIPPED)


def test_shipped_vocabulary_is_what_the_code_builds() -> None:
    assert json.loads((SHIPPED / "vocab.json").read_text()) == build_vocabulary(WORDS).ids


def test_shipped_text_tower_keeps_captions_apart() -> None:
    """Regression: prototype runs whose text embeddings were nearly equal trained a base that ignores text."""
    found = measure(SHIPPED, galleries=2, probe=600)
    assert found.hidden_spread > 0.3
    assert found.padding_spread > 0.3
    assert np.mean(list(found.text_phrases.values())) > 0.8
    assert all(found.text_phrases[name] > chance + 0.15 for name, chance in found.chance.items())
    assert found.rank1 > 0.95 > 0.1 > found.rank1_shuffled
    assert found.other_cosine < 0.3 < found.flip_cosine < 0.99
