"""Words wrapped in base64, in JSON or in escapes, lines that are no JSON, and keys that are words."""

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraudit.findings.finding import Finding
from loraudit.metadata.base_names import says_more
from loraudit.metadata.kinds import says_something
from loraudit.metadata.lines import pairs
from loraudit.metadata.wrapped import unwrapped
from tests.headers import DIFFUSERS, KOHYA, audit, write


def code(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


WRAPPERS: dict[str, Callable[[str], str]] = {
    "JSON": json.dumps,
    "JSON twice": lambda text: json.dumps(json.dumps(text)),
    "base64": code,
    "base64 twice": lambda text: code(json.dumps(code(text))),
    "base64 without its end": lambda text: code(text).rstrip("="),
    "base64 for addresses": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "escapes": lambda text: quote(text, safe=""),
    "a mark of byte order": lambda text: f"\ufeff \n{text}",
    "nothing": str,
}
TABLE = json.dumps(
    {"person": "Zo\u00eb Bergstr\u00f6m", "Trigger Words": "zo\u00ebb in \u00d6rebro"}, ensure_ascii=False
)


@pytest.fixture
def look(tmp_path: Path):
    def looked(metadata: dict) -> dict[str, Finding]:
        return audit(write(tmp_path / "pytorch_lora_weights.safetensors", metadata))

    return looked


@pytest.mark.parametrize("outer", [key for key in WRAPPERS if "mark" not in key])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_table_is_read_however_it_is_wrapped(look, wrapper, outer) -> None:
    found = look({"config": WRAPPERS[outer](WRAPPERS[wrapper](TABLE))})
    assert found["LA-NAME-001"].quotes == ("Zo\u00eb Bergstr\u00f6m",)
    assert found["LA-CAPTION-002"].quotes == ("zo\u00ebb in \u00d6rebro",)
    # The same inside of other JSON, and not at all.
    found = look({"x": json.dumps({"deep": [WRAPPERS[outer](WRAPPERS[wrapper](TABLE))]})})
    assert found["LA-NAME-001"].quotes == ("Zo\u00eb Bergstr\u00f6m",)
    assert look({"config": WRAPPERS[outer](WRAPPERS[wrapper]('{"lr": "0.00001"}'))}) == {}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_secret_in_a_wrapper_is_masked(look, wrapper) -> None:
    token, password = "hf_" + "aB3dE" * 7, "hunterTwoNine"
    words = json.dumps({"note": f"ada at sea {token} {password}", "hub_token": password})
    found = look({"x": WRAPPERS[wrapper](words), "ss_output_name": f"ada {password}"})
    told = "\n".join(finding.told(reveal=True) for finding in found.values())
    assert {"LA-SECRET-001", "LA-CAPTION-002"} <= set(found) and "ada at sea hf_aB3… hunter…" in told
    assert "TwoNine" not in told and token[8:] not in told


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_note_and_an_address_in_a_wrapper(look, wrapper) -> None:
    found = look({"x": WRAPPERS[wrapper]("ada at sea, ada@example.org, /home/ada/x")})
    assert {"LA-CONTACT-001", "LA-PATH-001", "LA-CAPTION-002"} == set(found)


@pytest.mark.parametrize(
    "text",
    [
        "networks.lora", "stable-diffusion-v1/lora", "https://github.com/Stability-AI/generative-models",
        "deadbeef" * 8, "photographofawoman", "A" * 2_000, "100%", "50 %20 x", "sha256:abc",
        "bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.1)", "None", "", '"', '"a', "=", "====", "%zz",
        "%ff%fe", "2024-06-10T11:52:00",
        code("nospaces_in_these_words"), base64.b64encode(b"\xff\xd8\xff" + bytes(600)).decode(),
    ],
)  # fmt: skip
def test_what_only_looks_wrapped_stays_as_it_is(text) -> None:
    assert unwrapped(text) == text


@given(st.text(max_size=80), st.sampled_from(sorted(WRAPPERS)))
def test_any_text_comes_to_an_end(text, wrapper) -> None:
    assert isinstance(unwrapped(WRAPPERS[wrapper](text)), str)


def test_wrappers_without_end_cost_little() -> None:
    text = "ada at sea"
    for _ in range(12):
        text = code(text + " ")
    assert unwrapped(text) != text  # six of them
    start = time.process_time()
    for hostile in ('"' * 4_000_000, "%41" * 2_000_000, "A" * 7_999_999, '"' + "\\u0041" * 1_000_000 + '"'):
        unwrapped(hostile)
    assert time.process_time() - start < 5


YAML = 'job: extension\nconfig:\n  name: "ada_berg_v1"\n  - trigger_word: adab\n  lr: 1e-4\n'
TOML = 'output_name = "ada_berg_v1"\ntrigger_word = "adab"\nlearning_rate = 1e-4\n'
COMMAND = 'train.py --output_name "ada_berg_v1" --trigger_word=adab --lr 1e-4'
NAMESPACE = "Namespace(output_name='ada_berg_v1', trigger_word='adab', lr=0.1)"


@pytest.mark.parametrize(
    "text", [YAML, TOML, COMMAND, NAMESPACE], ids=["YAML", "TOML", "command", "arguments"]
)
@pytest.mark.parametrize("deep", [False, True], ids=["alone", "in JSON"])
def test_a_configuration_that_is_no_json_is_read(look, text, deep) -> None:
    found = look({"config": json.dumps({"file": text}) if deep else text})
    assert found["LA-NAME-002"].quotes == ("ada_berg_v1",)
    assert "adab" in found["LA-CAPTION-002"].quotes
    assert set(look({"config": "job: extension\nlr: 1e-4\nrank = 4\n"})) == {"LA-CAPTION-002"}
    assert look({"training_info": "job: extension\nlr: 1e-4\nrank = 4\n"}) == {}


def test_pairs_cost_little() -> None:
    assert list(pairs("a: b\n c = 'd'\nE:f\n--g h --i='j k' l=\"m\"")) == [
        ("a", "b"), ("c", "d"), ("g", "h"), ("i", "j k"), ("l", "m"),
    ]  # fmt: skip
    start = time.process_time()
    for hostile in (
        "a: " * 1_000_000,
        "a:\n" * 1_000_000,
        'a="' * 1_000_000,
        "--a " * 1_000_000,
        " " * 1_000_000,
    ):
        list(pairs(hostile))
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("ada berg", True), ("Zo\u00eb", True), ("\u674e\u5c0f\u9f8d", True), ("\U0001f642ada", True),
        ("Ada Berg (my sister)", True),
        ("ada_berg", False), ("lr", False), ("Learning Rate", False), ("Batch Size", False),
        ("Base Model", False),
        ("sd version", False), ("preferred weight", False), ("Api Key", False),
        ("Network Dim", False), ("", False), (" ", False), ("\u00b5", False),
    ],
)  # fmt: skip
def test_a_key_that_is_words_is_told(look, key, says) -> None:
    assert says_something(key) == says
    for text in ("1", "", "None"):
        found = look({key: text})
        assert (found["LA-CAPTION-002"].quotes if "LA-CAPTION-002" in found else ()) == (
            (key,) if says else ()
        )
        found = look({"x": json.dumps({"y": {key: 1}})})
        assert ("LA-CAPTION-002" in found) == says


ADAPTER = "lora_adapter_metadata"


@pytest.mark.parametrize(
    ("key", "text", "quote"),
    [
        ("ss_base_model_version", "jane_doe_born_1990_berlin", None),
        ("modelspec.architecture", "jane-doe/mueller-strasse-5", None),
        ("ss_network_module", "networks.jane_doe.geb_1990", None),
        ("ss_network_dim", "491701234567", None),
        ("ss_network_dim", "+49 170 1234567", None),
        ("modelspec.implementation", "https://github.com/jane/doe-lora", None),
        ("ss_network_args", json.dumps({"conv_dim": 4, "note": "made by Jane"}), "made by Jane"),
        ("ss_network_args", json.dumps({"made by Jane": 4}), "made by Jane"),
        (ADAPTER, json.dumps({"unet.target_modules": ["lives_in_Berlin_Mitte"]}), "lives_in_Berlin_Mitte"),
        ("ss_base_model_version", "sd_v1", ""),
        ("ss_base_model_version", "qwen_image_edit", ""),
        ("modelspec.architecture", "chroma1-hd/lora", ""),
        ("ss_network_module", "library.network.lora", ""),
        ("ss_network_dim", "128", ""),
        ("ss_network_alpha", "1.0000000149011612", ""),
        ("modelspec.implementation", "https://github.com/kohya-ss/sd-scripts", ""),
        ("ss_network_args", json.dumps({"conv_dim": 4, "exclude_patterns": "['x_embedder']"}), ""),
        (ADAPTER, json.dumps({"unet.target_modules": ["single_blocks.0.img_mod"]}), ""),
        (ADAPTER, json.dumps({"unet.qalora_group_size": 16}), ""),
        (ADAPTER, json.dumps({"unet.base_model_name_or_path": "SG161222/RealVisXL_V4.0"}), ""),
    ],
)  # fmt: skip
def test_words_where_programs_have_theirs_are_told(look, key, text, quote) -> None:
    """What `scrub` drops may be somebody's name, and a scan of such a file found nothing."""
    found = look({key: text})
    told = found.get("LA-CAPTION-002")
    assert (told.quotes if told else ()) == (() if quote == "" else (quote or text,))
    assert told is None or told.places == (key,)


def test_what_programs_write_says_no_more() -> None:
    for metadata in (KOHYA, DIFFUSERS):
        plain = {key: text for key, text in metadata.items() if key != "ss_network_args"}
        assert not any(
            says_more(text, 2) for key, text in plain.items() if key.startswith(("ss_base", "ss_network"))
        )
        assert not any(says_something(key) for key in metadata)
