"""Secrets beside names: each stays hidden wherever it is read, and hides nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest

from loraudit.findings.finding import Finding
from loraudit.metadata.beside import Beside, Said
from loraudit.metadata.exposure import Exposure
from loraudit.metadata.masking import without_secrets
from loraudit.metadata.nested import parse
from tests.headers import ATTN, audit, write

PASSWORD = 'hunter "two" ü9'.replace(" ", "_")
"""Secret without a shape, which JSON spells with escapes."""


def told(findings: dict[str, Finding]) -> str:
    return "\n".join(finding.told(reveal=True) for finding in findings.values())


@pytest.fixture
def look(tmp_path: Path):
    def looked(metadata: dict, **tensors: object) -> dict[str, Finding]:
        return audit(write(tmp_path / "x.safetensors", metadata, **tensors))

    return looked


def merged(password: str) -> str:
    """Metadata of a merge, as JSON in JSON, that says a password over and over."""
    source = {
        "api_key": password,
        "ss_output_name": f"ada_berg {password}",
        "ss_dataset_dirs": json.dumps({f"10_ada berg {password} woman": {"img_count": 2, "n_repeats": 1}}),
        "prompt": json.dumps({"3": {"inputs": {"text": f"ada at sea {password}"}}}),
        "person": {f"Ada {password}": 1},
    }
    return json.dumps({"sshs_cp0": json.dumps(source)})


@pytest.mark.parametrize("key", ["api_key", "note"])
def test_a_password_in_a_merge_is_masked_in_all_that_is_read(look, key) -> None:
    metadata = {"sshs_cp0": merged(PASSWORD).replace("api_key", key), f"<{PASSWORD}>": "<embed>"}
    found = look(metadata)
    assert {"LA-NAME-001", "LA-NAME-002", "LA-CAPTION-002", "LA-DATASET-001"} <= found.keys()
    assert "ada" in told(found)
    hidden = key == "api_key"
    assert ("LA-SECRET-001" in found) == hidden
    assert ("two" not in told(found)) == hidden, "a key that says nothing is the control"


@pytest.mark.parametrize("secret", ["name", "person", "author", "ss_output", "prompt", "workflow"])
def test_a_secret_that_is_spelled_like_a_key_hides_no_key(look, secret) -> None:
    metadata = {"ss_output_name": "ada_berg_v2", "person": "jane", "Trigger Words": "adab at sea"}
    metadata |= {"sd.artifact.v1": json.dumps({"author": "Berta", "prompt": "adab smiles"})}
    without = look(metadata)
    found = look({**metadata, "api_key": secret})
    assert found.keys() - without.keys() == {"LA-SECRET-001"}
    assert all(found[rule].quotes == finding.quotes for rule, finding in without.items())


@pytest.mark.parametrize("key", ["trigger_token", "placeholder_token", "Trigger Token"])
def test_a_word_of_a_prompt_is_no_secret(look, key) -> None:
    found = look({key: "adab", "ss_training_comment": "adab smiles"})
    assert set(found) == {"LA-CAPTION-002"} and "adab smiles" in found["LA-CAPTION-002"].quotes
    assert "LA-SECRET-001" in look({"hub_token": "adab"})


@pytest.mark.parametrize(
    "key",
    [
        "password", "API-Key", "apiKey", "Api Key", "HF_TOKEN", "civitaiToken", "wandb_key", "secretKey",
        "private_key", "passphrase", "access-token", "clientSecret", "session_cookie", "x-api-key",
        "token_hf", "Authorization", "credentials",
    ],
)  # fmt: skip
def test_a_key_names_a_secret_in_any_spelling(look, key) -> None:
    found = look({key: "hunterTwoNine", "ss_output_name": "adab hunterTwoNine"})
    assert found["LA-SECRET-001"].quotes == ("hunter…",) and "TwoNine" not in told(found)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("initializer_token", "hunterTwoNine"), ("eos_token", "hunterTwoNine"), ("tokens", "hunterTwoNine"),
        ("tokenizer", "hunterTwoNine"), ("author", "hunterTwoNine"), ("use_auth_token", "True"),
        ("api_key", "null"), ("keyword", "hunterTwoNine"), ("token", "two words"),
    ],
)  # fmt: skip
def test_a_key_that_only_looks_so_names_none(look, key, text) -> None:
    assert "LA-SECRET-001" not in look({key: text})


def test_a_passphrase_has_spaces(look) -> None:
    found = look({"passphrase": "correct horse battery", "note": "it is correct horse battery, adab"})
    assert "horse" not in told(found) and "adab" in told(found)


def test_a_name_given_twice_beside_a_secret_is_told(look) -> None:
    once = '{"api_key": "hunter2hunter", "a": "1"}'
    assert "LA-HIDDEN-001" not in look({"x": once})
    assert "LA-HIDDEN-001" in look({"x": once.replace('"a"', '"a": "2", "a"')})


def test_a_masked_layer_is_no_embedding(look) -> None:
    ones = np.ones((1, 768), np.float32)
    assert set(look({"api_key": "transformer_blocks"})) == {"LA-SECRET-001"}
    found = look({}, **{f"{ATTN}.hf_aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH.weight": ones})
    assert set(found) == {"LA-SECRET-001"}
    assert "LA-NAME-001" in look({}, **{f"{ATTN}.jäne_dœ.weight": ones}), "the control"


def test_json_is_written_back_as_it_was_but_for_the_secret() -> None:
    text = '{"a": [1, 2.5, null, true, "s3cretword"], "a": {"b": "x s3cretword"}, "name": "s3cretword"}'
    exposure = Exposure(("x",), (Said("header", "k", text),), (), (), 1, Beside())
    masked = without_secrets(exposure, {"s3cretword": None}).said[0].text
    assert parse(masked) == parse(text.replace("s3cretword", "s3cret…"))


def test_every_place_of_a_secret_is_told(look, tmp_path) -> None:
    """Who takes it out of the file alone must know that it lies beside the file, too."""
    token = "hf_" + "aB3dE" * 7
    (tmp_path / "x.json").write_text(json.dumps({"note": token}))
    finding = look({"x": f"{token} {token}", "ss_output_name": token})["LA-SECRET-001"]
    assert finding.places == ("ss_output_name", "a key of its own", "the .json beside it")
    assert finding.quotes == ("hf_aB3…",) and "beside the file is not scrubbed" in finding.remedy
