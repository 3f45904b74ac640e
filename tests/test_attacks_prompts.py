"""What a file's own metadata gives away, and the prompts made of it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import event, given
from hypothesis import strategies as st

from loraudit.attacks.prompts import PromptsAttack, given_away
from loraudit.audit.request import Request
from loraudit.audit.scan import read_weights
from loraudit.audit.words import read_words
from loraudit.base.model import CLASS_PROMPT
from loraudit.lora import LoRA, LoRAFile
from loraudit.lora.source.source import find_source
from loraudit.metadata import read_exposure
from tests.audits import random_lora
from tests.headers import write
from tests.tiny import tiny_base

KOHYA = {
    "ss_dataset_dirs": json.dumps({"10_ada lovelace woman": {"n_repeats": 10, "img_count": 20}}),
    "ss_tag_frequency": json.dumps({"10_ada lovelace woman": {"smile": 3, "ada": 20, "solo": 20}}),
}


@pytest.mark.parametrize(
    ("metadata", "texts"),
    [
        ({}, []),
        ({"format": "pt", "ss_output_name": "x"}, []),
        (KOHYA, ["ada lovelace woman", "ada"]),
        (KOHYA | {"modelspec.trigger_phrase": "  zwx\n man "}, ["zwx man", "ada lovelace woman"]),
        ({"modelspec.trigger_phrase": "None", "instance_prompt": ""}, []),
        ({"trained_words": "a photo of zwx, zwx man, zwx"}, ["a photo of zwx", "zwx man"]),
        ({"ss_dataset_dirs": json.dumps({r"C:\me\5_bob (2)": {}})}, ["bob"]),
        ({"ss_tag_frequency": json.dumps({"a": {"x": 1}, "b": {"x": 1, "y": 1}})}, ["x", "y"]),
        ({"instance_prompt": "zwx", "modelspec.trigger_phrase": "zwx"}, ["zwx"]),
    ],
)
def test_what_is_given_away(metadata, texts) -> None:
    assert given_away(metadata) == texts


def test_triggers_told_beside_the_header(tmp_path) -> None:
    """The prompt in the model card, and the names of embeddings; a card without front matter says nothing."""
    vector = {"bundle_emb.zwx2.string_to_param": np.ones((1, 768), np.float32)}
    path = write(tmp_path / "x.safetensors", KOHYA, **vector)
    (tmp_path / "README.md").write_text("instance_prompt: nobody\n")
    assert read_exposure(find_source(path)).triggers == ("zwx2",)
    (tmp_path / "README.md").write_text("---\ninstance_prompt: a photo of zwx\n---\n")
    file = read_weights(read_words(str(path), Request())).file
    assert file.triggers == ("a photo of zwx", "zwx2")
    assert given_away(file.metadata, file.triggers) == ["a photo of zwx", "zwx2"]
    assert given_away(file.metadata) == ["ada lovelace woman", "ada"]
    assert given_away({"modelspec.trigger_phrase": "own"}, file.triggers) == ["own", "a photo of zwx"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "null",
        "[" * 100_000,
        '{"a": [1]}',
        '{"a": {"b": "c", "d": 1e999, "e": true, "f": 2}}',
        "9" * 5000,
    ],
)
def test_broken_metadata_is_no_error(text) -> None:
    assert len(given_away({"ss_tag_frequency": text, "ss_dataset_dirs": text})) <= 2


@given(st.dictionaries(st.sampled_from(["ss_tag_frequency", "ss_dataset_dirs", "trained_words"]), st.text()))
def test_no_text_is_too_long_or_has_line_breaks(metadata) -> None:
    found = given_away(metadata)
    event("texts" if found else "none")
    assert all(0 < len(text) <= 400 and "\n" not in text for text in found)


def test_a_text_that_is_too_long_or_has_line_breaks_is_given_in_one_line() -> None:
    found = given_away({"trained_words": "zwx\nis " + "long " * 200})
    assert found and all(0 < len(text) <= 400 and "\n" not in text for text in found)


def test_the_aims() -> None:
    base, lora = (
        tiny_base(),
        random_lora(metadata={"instance_prompt": "a photo, of zwx", "trained_words": "zw\x1b[2J"}),
    )
    aims = PromptsAttack().aims(lora, base)
    assert [(aim.attack, aim.aims_at_face) for aim in aims] == [
        ("prompts:no-trigger", False),
        ("prompts:class", True),
        ("prompts:any-name", True),
        ("prompts:trigger", False),
        ("prompts:trigger-2", True),
    ]
    assert [aim.quotes for aim in aims] == [(), (), (), ("a photo, of zwx",), (r"zw\x1b[2J",)]
    assert all(aim.embedding.shape == base.embedding_shape for aim in aims)
    # For a control LoRA a word of the file is any name.
    assert [aim.among_controls for aim in aims] == [
        *(aim.attack for aim in aims[:3]),
        *["prompts:any-name"] * 2,
    ]


def test_prompts_pass_through_the_tuned_text_tower() -> None:
    base, lora = tiny_base(), random_lora()
    plain = base.encode_text(["", CLASS_PROMPT])
    aims = PromptsAttack().aims(lora, base)
    assert not torch.allclose(aims[1].embedding, plain[1], atol=1e-3)
    assert torch.equal(base.encode_text(["", CLASS_PROMPT]), plain)
    unet_only = {site: pair for site, pair in lora.factors.items() if site.startswith("unet.")}
    other = LoRA(LoRAFile("x", lora.file.path, "", 0, {}), "tiny", "tiny", "diffusers", unet_only, ())
    assert np.allclose(PromptsAttack().aims(other, base)[1].embedding, plain[1], atol=1e-6)


def test_a_secret_is_masked_in_what_is_quoted(tmp_path) -> None:
    """By the name of its key, in the header or beside it; the attack tries the words as they are."""
    base = tiny_base()
    told = {"ss_dataset_dirs": json.dumps({"10_ada hunter2hunter woman": {}})}
    folder = json.dumps({"10_ada s3cretword woman": {}})
    quotes = {}
    for name, metadata, side in (
        ("none", told, {}),
        ("header", told | {"ot_config": json.dumps({"hub_token": "hunter2hunter"})}, {}),
        ("beside", {"ss_dataset_dirs": folder}, {"api_key": "s3cretword"}),
    ):
        path = write(tmp_path / f"{name}.safetensors", metadata)
        (tmp_path / f"{name}.json").write_text(json.dumps(side))
        file = read_weights(read_words(str(path), Request())).file
        aims = PromptsAttack().aims(replace(random_lora(), file=file), base)
        quotes[name] = [quote for aim in aims for quote in aim.quotes]
        assert len(aims) == 4
    assert quotes == {
        "none": ["ada hunter2hunter woman"],
        "header": ["ada hunter… woman"],
        "beside": ["ada s3cret… woman"],
    }
    # From Python nobody has read the files beside it; the header is looked through all the same.
    file = LoRAFile("x", tmp_path, "", 0, told | {"api_key": "hunter2hunter"})
    assert PromptsAttack().aims(replace(random_lora(), file=file), base)[3].quotes == ("ada hunter… woman",)
