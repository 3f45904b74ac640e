"""The metadata audit finds what trainers leave behind, and nothing where they left nothing."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest

from loraudit.findings.finding import Confidence, Severity
from loraudit.lora import write_diffusers, write_kohya, write_peft
from loraudit.lora.write import serialize
from loraudit.metadata.judge import METADATA_RULES, Trace, judge_metadata
from loraudit.metadata.patterns import addresses, picture_type
from tests.headers import DIFFUSERS, KOHYA, NO_METADATA, TENSORS, audit, write
from tests.test_lora_file_header import frame

JPEG = base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(range(256)) * 2).decode()


@pytest.fixture
def told(tmp_path: Path):
    """The findings in a file with this metadata, under a name that says nothing."""

    def look(metadata, **tensors) -> dict:
        return audit(write(tmp_path / "x.safetensors", metadata, **tensors))

    return look


def test_a_kohya_file(told) -> None:
    found = told(KOHYA)
    assert {rule: finding.severity.value for rule, finding in found.items()} == {
        "LA-NAME-001": "high",
        "LA-NAME-002": "medium",
        "LA-CAPTION-001": "medium",
        "LA-CAPTION-002": "low",
        "LA-PATH-001": "medium",
        "LA-LINK-001": "low",
        "LA-LINK-002": "low",
        "LA-DATASET-001": "low",
    }
    assert found["LA-NAME-001"].quotes == ("jane doe person",)
    assert found["LA-NAME-002"].quotes == ("jane_doe_v3",)
    assert found["LA-CAPTION-002"].quotes == ("made by Jane",)
    assert set(found["LA-CAPTION-001"].quotes) == {"jane doe", "red hair", "photo of jane in her kitchen"}
    assert found["LA-PATH-001"].quotes == (KOHYA["ss_sd_model_name"],)
    assert found["LA-LINK-002"].quotes == ("UTC+02:00",)
    assert found["LA-DATASET-001"].numbers == {"images": 25, "repeats": 10, "epochs": 8}
    assert "ss_dataset_dirs and ss_tag_frequency" in found["LA-NAME-001"].detail


def test_no_words_of_the_file_outside_quotes(told) -> None:
    metadata = KOHYA | {
        "janes_secret_key": "/home/jane/x",
        "modelspec.author": "Jane",
        "trained_words": "jane",
    }
    for finding in told(metadata).values():
        shown = f"{finding.told(reveal=False)} {finding.title} {finding.summary} {finding.remedy}"
        assert "jane" not in f"{shown} {dict(finding.numbers)}".lower()
    assert "a key of its own" in told(metadata)["LA-PATH-001"].detail


def test_no_metadata_is_not_no_metadata(told) -> None:
    assert set(told(NO_METADATA)) == {"LA-NAME-002", "LA-LINK-001"}


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"format": "pt"},
        DIFFUSERS,
        {"format": "pt", "ss_base_model_version": "sd_v1", "ss_network_dim": "4", "ss_network_alpha": "4.0"},
        {
            "ss_output_name": "last",
            "ss_training_comment": "None",
            "ss_dataset_dirs": "{}",
            "ss_tag_frequency": "{}",
        },
        {"ss_training_comment": "dimension is resized from 32 to 8; None"},
        {"ss_dataset_dirs": '{"5_woman": {}}', "ss_tag_frequency": '{"5_woman": {"woman": 20}}'},
        {
            "ss_sd_model_name": "runwayml/stable-diffusion-v1-5",
            "ss_vae_name": "vae-ft-mse-840000.safetensors",
        },
        {"modelspec.title": "my_lora-000008", "modelspec.implementation": KOHYA["modelspec.implementation"]},
        {"software": '{"name": "ai-toolkit", "repo": "https://github.com/ostris/ai-toolkit"}'},
        {"training_info": '{"step": 1000, "epoch": 8}', "name": "my_first_lora_v1", "version": "1.0"},
        {
            "ss_optimizer": "prodigyopt.prodigy.Prodigy(betas=(0.9, 0.99),d_coef=1/2)",
            "ss_network_args": "null",
        },
    ],
)
def test_nothing_where_nothing_is_said(told, metadata) -> None:
    assert told(metadata) == {}


@pytest.mark.parametrize("writer", [write_diffusers, write_kohya, write_peft])
def test_what_loraudit_writes_says_nothing(tmp_path, sd1_factors, writer) -> None:
    writer(sd1_factors, tmp_path / "lora_v1")
    assert audit(tmp_path / "lora_v1") == {}


@pytest.mark.parametrize(
    ("metadata", "rule", "severity", "quote"),
    [
        # Other trainers
        ({"ss_dataset_dirs": '{"4_ada lovelace": {}}'}, "LA-NAME-001", "medium", "ada lovelace"),
        ({"ss_datasets": '[{"subsets": [{"class_tokens": "ada man"}]}]'}, "LA-NAME-001", "high", "ada man"),
        ({"ss_datasets": '[{"tag_frequency": {"2_ada": {"hat": 1}}}]'}, "LA-CAPTION-001", "medium", "hat"),
        ({"ss_datasets": '[{"subsets": [{"caption_prefix": "ada,"}]}]'}, "LA-CAPTION-001", "medium", "ada,"),
        ({"ot_config": '{"concepts": [{"name": "ada man"}]}'}, "LA-NAME-001", "high", "ada man"),
        ({"ot_config": '{"concepts": [{"path": "D:\\\\ada"}]}'}, "LA-PATH-001", "low", "D:\\ada"),
        ({"ot_config": '{"samples": [{"prompt": "ada at sea"}]}'}, "LA-CAPTION-001", "medium", "ada at sea"),
        ({"ot_config": '{"secrets": {"hf_token": "abcdefghij"}}'}, "LA-SECRET-001", "critical", "abcdef…"),
        ({"ss_tag_frequency": '{"1_ohwx": {"ohwx": 1}}'}, "LA-CAPTION-002", "low", "ohwx"),
        ({"trained_words": "a photo of zwx"}, "LA-CAPTION-002", "low", "a photo of zwx"),
        ({"ss_training_comment": "do not publish"}, "LA-CAPTION-002", "low", "do not publish"),
        # Shapes of text
        ({"modelspec.thumbnail": f"data:image/jpeg;base64,{JPEG}"}, "LA-IMAGE-001", "high", None),
        ({"modelspec.thumbnail": "data:image/svg+xml;base64,PHN2Zw=="}, "LA-IMAGE-001", "high", None),
        ({"ssmd_cover_images": json.dumps([JPEG, JPEG])}, "LA-IMAGE-001", "high", None),
        ({"anything": JPEG}, "LA-IMAGE-001", "high", None),
        ({"x": "see C:\\Users\\Ada L\\x"}, "LA-PATH-001", "medium", "C:\\Users\\Ada L\\x"),
        ({"x": "\\\\nas01\\share\\ada"}, "LA-PATH-001", "medium", "\\\\nas01\\share\\ada"),
        ({"x": "/workspace/kohya/ada"}, "LA-PATH-001", "low", "/workspace/kohya/ada"),
        ({"x": "mail ada@example.org"}, "LA-CONTACT-001", "medium", "ada@example.org"),
        ({"x": "https://www.instagram.com/ada.l"}, "LA-CONTACT-001", "medium", "instagram.com/ada.l"),
        ({"modelspec.author": "Ada"}, "LA-CONTACT-001", "low", "Ada"),
        ({"x": "hf_" + "aB3" * 12}, "LA-SECRET-001", "critical", "hf_aB3…"),
        ({"x": "https://ada:pw@host/x"}, "LA-SECRET-001", "critical", "https:…"),
        ({"x": "A" * 2000}, "LA-HIDDEN-001", "medium", None),
        ({"ss_tag_frequency": '{"a": {"b": 1}, "a": {}}'}, "LA-HIDDEN-001", "medium", None),
        ({"ss_tag_frequency": '{"a": '}, "LA-HIDDEN-002", "inconclusive", None),
        ({"ss_tag_frequency": "[" * 5000}, "LA-HIDDEN-002", "inconclusive", None),
        ({"modelspec.date": "2024-06-10T11:52:00+09:00"}, "LA-LINK-002", "low", "UTC+09:00"),
        ({"ss_num_train_images": "12"}, "LA-DATASET-001", "low", None),
    ],
)  # fmt: skip
def test_each_rule(told, metadata, rule, severity, quote) -> None:
    finding = told(metadata)[rule]
    assert finding.severity.value == severity
    assert quote is None or quote in finding.quotes


def test_pictures_are_counted_and_never_quoted(told) -> None:
    finding = told({"ssmd_cover_images": json.dumps([JPEG, JPEG])})["LA-IMAGE-001"]
    assert finding.quotes == ()
    assert finding.numbers == {"pictures": 2, "bytes": 2 * (len(JPEG) * 3 // 4)}
    assert picture_type(JPEG) == "JPEG"
    assert picture_type("no picture " * 40) is None


def test_a_word_bundled_in_the_tensor_names(told) -> None:
    vector = np.ones((1, 768), np.float32)
    found = told({}, **{"bundle_emb.ada woman.string_to_param": vector})
    assert found["LA-NAME-001"].quotes == ("ada woman",)
    found = told({}, **{"bundle_emb.ohwx.string_to_param": vector})
    assert set(found) == {"LA-CAPTION-002"}


def test_the_file_name(tmp_path: Path) -> None:
    assert audit(write(tmp_path / "Jane-Doe_v2.safetensors", {}))["LA-NAME-002"].severity is Severity.LOW
    for name in ("x", "pytorch_lora_weights", "my_lora-000008", "ada", "f3a9c0de77", "best_sd15_style_v2"):
        assert audit(write(tmp_path / f"{name}.safetensors", {})) == {}
    named = {"ss_dataset_dirs": '{"4_ada woman": {}}'}
    assert "LA-NAME-002" in audit(write(tmp_path / "ada.safetensors", named))


def test_side_files_of_a_folder(tmp_path: Path) -> None:
    tmp_path = tmp_path / "lora"
    tmp_path.mkdir()
    write(tmp_path / "pytorch_lora_weights.safetensors", DIFFUSERS)
    assert audit(tmp_path) == {}
    (tmp_path / "README.md").write_text(
        "---\nbase_model: /home/jdoe/sd\ninstance_prompt: a photo of zwx\nwidget:\n- text: zwx at sea\n"
        "  output:\n    url: image_0.png\n---\nBody with jane@example.org\n"
    )
    (tmp_path / "image_0.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    found = audit(tmp_path)
    assert set(found) == {"LA-CAPTION-002", "LA-PATH-001", "LA-IMAGE-002"}
    assert found["LA-CAPTION-002"].quotes == ("a photo of zwx", "zwx at sea")
    assert found["LA-IMAGE-002"].quotes == ("image_0.png",)
    (tmp_path / "README.md").write_text("No front matter.\ninstance_prompt: zwx\n")
    assert set(audit(tmp_path)) == {"LA-IMAGE-002"}


def test_pictures_beside_a_file_count_only_under_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", {})
    (tmp_path / "holiday.jpg").write_bytes(b"")
    assert audit(path) == {}
    (tmp_path / "x.preview.png").write_bytes(b"")
    assert audit(path)["LA-IMAGE-002"].quotes == ("x.preview.png",)


def test_a_peft_configuration(tmp_path: Path, sd1_factors) -> None:
    unet = {site: pair for site, pair in sd1_factors.items() if site.startswith("unet.")}
    write_peft(unet, tmp_path / "lora")
    config = tmp_path / "lora" / "adapter_config.json"
    assert audit(tmp_path / "lora") == {}
    config.write_text(
        json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "/Users/jdoe/sd"})
    )
    finding = audit(tmp_path / "lora")["LA-PATH-001"]
    assert finding.quotes == ("/Users/jdoe/sd",)
    assert finding.detail.startswith("Found in adapter_config.json.")


def test_what_no_loader_shows(tmp_path: Path) -> None:
    header = json.loads(serialize(TENSORS, {})[8:].split(b"}}", 1)[0] + b"}}")
    text = json.dumps(header)[1:-1].encode()
    first = text.replace(b'"dtype"', b'"mail":"jane@example.org","dtype"', 1)
    path = tmp_path / "x.safetensors"
    data = serialize(TENSORS, {})[-sum(array.nbytes for array in TENSORS.values()) :]
    path.write_bytes(frame(b'{"__metadata__":{"k":"/home/jane/x","k":""},' + first + b"}\t", data))
    found = audit(path)
    assert set(found) == {"LA-HIDDEN-001", "LA-PATH-001", "LA-CONTACT-001"}
    assert len(found["LA-HIDDEN-001"].quotes) == 3
    path.write_bytes(frame(b"{" + text + b"}", data))
    assert audit(path) == {}


def test_no_offset_from_utc_is_no_finding(told) -> None:
    assert "LA-LINK-002" not in told(KOHYA | {"modelspec.date": "2024-06-10T09:52:00"})


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("call +44 20 7946 0958!", "+44 20 7946 0958"),
        ("+1 (555) 010-9999", "+1 (555) 010-9999"),
        ("+49 (0)30 901820", "+49 (0)30 901820"),
        ("+33 6 12 34 56 78", "+33 6 12 34 56 78"),
        ("+81-90-1234-5678", "+81-90-1234-5678"),
        ("Tel: 020 7946 0958", "020 7946 0958"),
        ("whatsapp:+447946095800", "+447946095800"),
        ("phone=(555) 010-9999", "(555) 010-9999"),
    ],
)
def test_telephone_numbers(told, text, number) -> None:
    assert addresses(text) == [number]
    finding = told({"ss_training_comment": text})["LA-CONTACT-001"]
    assert (finding.severity, finding.quotes) == (Severity.MEDIUM, (number,))


def test_every_rule_is_worded_and_stable() -> None:
    for rule in METADATA_RULES.values():
        assert re.fullmatch(r"LA-[A-Z]+-\d{3}", rule.id)
        assert rule.title and rule.summary and rule.meaning and rule.remedy


def test_judging_is_monotone() -> None:
    low = Trace("LA-NAME-001", Severity.LOW, "a", "x", Confidence.LOW)
    high = Trace("LA-NAME-001", Severity.HIGH, "b", "y", Confidence.HIGH)
    (alone,), (both,) = judge_metadata([low]), judge_metadata([low, high])
    assert (alone.severity, both.severity) == (Severity.LOW, Severity.HIGH)
    assert both.quotes == ("x", "y")
    assert both.detail.startswith("Found in a and b.")
    assert judge_metadata([]) == ()
    many = [Trace("LA-NAME-001", Severity.LOW, "a", str(number)) for number in range(50)]
    (finding,) = judge_metadata(many)
    assert (len(finding.quotes), finding.numbers["texts"]) == (8, 50)
    assert "The first 8 of 50 texts" in finding.detail
