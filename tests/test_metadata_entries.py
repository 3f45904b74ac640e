"""Metadata below known keys: merged files, people's own keys, graphs, learned tokens."""

import json
import time
from pathlib import Path

import pytest

from loraudit.metadata.graphs import prompts
from loraudit.metadata.kinds import is_machine, kind_of
from loraudit.metadata.nested import read, texts
from tests.headers import DIFFUSERS, KOHYA, NO_METADATA, audit, write

SOURCE = {
    "ss_output_name": "ada_berg_v2",
    "ss_dataset_dirs": {"10_ada berg woman": {"n_repeats": 10, "img_count": 25}},
    "ss_tag_frequency": {"10_ada berg woman": {"red hair": 11}},
    "ss_training_comment": "trained for my sister",
    "ss_seed": 421337,
}


@pytest.fixture
def told(tmp_path: Path):
    def look(metadata, **tensors) -> dict:
        return audit(write(tmp_path / "x.safetensors", metadata, **tensors))

    return look


def as_texts(table: dict) -> dict:
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in table.items()}


@pytest.mark.parametrize(
    "merged",
    [
        json.dumps(SOURCE),
        json.dumps(as_texts(SOURCE)),
        json.dumps({"ss_v2": "False", "sshs_cp1": SOURCE}),
        json.dumps({"sshs_cp0": json.dumps({"sshs_cp0": json.dumps(as_texts(SOURCE))})}),
    ],
    ids=["object", "text", "merge of a merge", "merge of merges as text"],
)
@pytest.mark.parametrize("key", ["sshs_cp0", "sshs_cp12"])
def test_a_merge_tells_of_its_sources(told, key, merged) -> None:
    found = told({key: merged, "ss_output_name": "merged_lora"})
    assert {rule: (finding.severity.value, finding.quotes) for rule, finding in found.items()} == {
        "LA-NAME-001": ("high", ("ada berg woman",)),
        "LA-NAME-002": ("medium", ("ada_berg_v2",)),
        "LA-CAPTION-001": ("medium", ("red hair",)),
        "LA-CAPTION-002": ("low", ("trained for my sister",)),
        "LA-LINK-001": ("low", ("421337",)),
        "LA-DATASET-001": ("low", ()),
    }
    assert all(finding.detail.startswith("Found in sshs_cp.") for finding in found.values())
    assert found["LA-DATASET-001"].numbers == {"images": 25, "repeats": 10}


def test_a_merge_of_silent_files_is_silent(told) -> None:
    silent = {key: text for key, text in NO_METADATA.items() if key.startswith("ss_")}
    assert told({"sshs_cp0": json.dumps(silent), "sshs_cp1": json.dumps(DIFFUSERS)}) == {}
    assert set(told({"sshs_cp0": "{"})) == {"LA-HIDDEN-002"}


@pytest.mark.parametrize(
    ("metadata", "rule", "quote"),
    [
        ({"Trigger Words": '["ada berg woman"]'}, "LA-CAPTION-002", "ada berg woman"),
        ({"triggerWords": "adab"}, "LA-CAPTION-002", "adab"),
        ({"activation text": "adab, red hair"}, "LA-CAPTION-002", "adab, red hair"),
        ({"prompt": "adab at sea"}, "LA-CAPTION-002", "adab at sea"),
        ({"Author": "Bo Dahl"}, "LA-CONTACT-001", "Bo Dahl"),
        ({"info": '{"made by": ["Bo Dahl"]}'}, "LA-CONTACT-001", "Bo Dahl"),
        ({"Description": "my neighbour Ada"}, "LA-CAPTION-002", "my neighbour Ada"),
        ({"anything": "for Ada, with love"}, "LA-CAPTION-002", "for Ada, with love"),
        ({"anything": '{"a": [{"b": "for Ada, with love"}]}'}, "LA-CAPTION-002", "for Ada, with love"),
        ({"ss_before_falsification_output_name": "ada_berg"}, "LA-NAME-002", "ada_berg"),
        ({"ssmd_display_name": "Ada Berg"}, "LA-NAME-002", "Ada Berg"),
        ({"ssmd_tags": '["ada"]'}, "LA-CAPTION-002", "ada"),
        ({"ssmd_description": "of Ada"}, "LA-CAPTION-002", "of Ada"),
        ({"ssmd_author": "Bo"}, "LA-CONTACT-001", "Bo"),
        ({"Model Name": "Ada Berg"}, "LA-NAME-002", "Ada Berg"),
        ({"character": "Ada Berg"}, "LA-NAME-001", "Ada Berg"),
        ({"people": '{"Ada Berg": {"photos": 25}}'}, "LA-NAME-001", "Ada Berg"),
        ({"<ada-berg>": "<embed>"}, "LA-NAME-001", "ada-berg"),
        ({"ada-berg": "<embed>"}, "LA-NAME-001", "ada-berg"),
        ({"<ada-berg>": "1"}, "LA-NAME-001", "ada-berg"),
        ({"sd.artifact.v1": '{"name": "Ada Berg"}'}, "LA-NAME-002", "Ada Berg"),
        ({"sd.artifact.v1": '{"triggers": ["adab"]}'}, "LA-CAPTION-002", "adab"),
        ({"sd.artifact.v1": '{"example": {"prompt": "adab"}}'}, "LA-CAPTION-002", "adab"),
    ],
)  # fmt: skip
def test_keys_of_their_own(told, metadata, rule, quote) -> None:
    found = told(metadata)
    assert set(found) == {rule} and quote in found[rule].quotes
    ((key, _),) = metadata.items()
    shown = " ".join(finding.told(reveal=False) for finding in found.values())
    assert (
        "ada" not in shown.lower()
        and "Bo" not in shown
        and (key in shown) == key.startswith(("ss", "sd", "pr"))
    )


@pytest.mark.parametrize(
    "metadata",
    [
        {"Base Model": "Stable Diffusion 1.5", "author": "None", "trigger": ""},
        {"Trigger Words": "[]", "notes": '{"a": [1, 2, {"b": null}]}'},
        {"<s0>x": "1", "optimizer": "AdamW(weight decay, betas)", "license": "CreativeML Open RAIL M"},
        {"anything": "https://example.org/a-b", "dtype": "bfloat16", "loss": "smooth_huber"},
        {"unet": '["CrossAttention", "Attention", "GEGLU"]', "unet:0:rank": "4"},
        {"sd.artifact.v1": '{"type": "lora", "base_model": "Stable Diffusion 1.5"}'},
    ],
)
def test_what_programs_write_under_such_keys_is_nothing(told, metadata) -> None:
    assert told(metadata) == {}


GRAPH = {
    "6": {
        "class_type": "CLIPTextEncode",
        "inputs": {"text": "adab at sea", "clip": ["4", 1]},
        "_meta": {"title": "CLIP Text Encode (Prompt)"},
    },
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI"}},
}
WORKFLOW = {
    "nodes": [
        {
            "id": 6,
            "type": "CLIPTextEncode",
            "title": "Positive Prompt of mine",
            "properties": {"Node name for S&R": "CLIP Text Encode"},
            "widgets_values": ["adab at sea"],
        },
        {"id": 3, "type": "KSampler", "widgets_values": [421337, "fixed", 20, 8, "euler", "normal", 1]},
        {"id": 4, "type": "CheckpointLoaderSimple", "widgets_values": ["v1-5-pruned.safetensors"]},
    ]
}


@pytest.mark.parametrize("graph", [GRAPH, WORKFLOW])
@pytest.mark.parametrize("key", ["prompt", "workflow", "extra_pnginfo", "own"])
def test_graphs_of_comfyui(told, key, graph) -> None:
    # Deeper, where a sidecar or a merge has it.
    text = json.dumps({"meta": {"workflow": json.dumps(graph)}} if key == "own" else graph)
    found = told({key: text})
    assert set(found) == {"LA-CAPTION-002"}
    assert found["LA-CAPTION-002"].quotes == ("adab at sea",)


def test_prompts_of_other_programs() -> None:
    assert prompts("adab\nNegative prompt: bad\nSteps: 20") == ["adab"]
    assert prompts(json.dumps(json.dumps(GRAPH))[1:-1]) == [json.dumps(json.dumps(GRAPH))[1:-1]]  # broken
    assert prompts(json.dumps({"extra": json.dumps(GRAPH)})) == ["adab at sea"]
    assert prompts("{}") == []


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("Trigger Words", "trigger"),
        ("trainedWords", "trigger"),
        ("modelspec.trigger_phrase", "trigger"),
        ("ss_output_name", "title"),
        ("ss_sd_model_name", ""),
        ("ss_seed", ""),
        ("Author", "author"),
        ("\ud800", ""),
        ("", ""),
    ],
)
def test_kinds_of_keys(key, kind) -> None:
    assert kind_of(key) == kind


def test_every_key_of_kohya_has_its_rule_or_none() -> None:
    told = {key for key in KOHYA if kind_of(key)}
    assert told == {"modelspec.title", "ss_output_name", "ss_training_comment"}
    assert is_machine("ss_optimizer") and not is_machine("ss_output_name")


@pytest.mark.parametrize("key", ["own", "sshs_cp0", "people", "workflow"])
def test_keys_without_end_cost_little_and_are_said(told, key) -> None:
    table = {"people": {f"Ada Berg{number}": {"note": "some words"} for number in range(60_000)}}
    start = time.process_time()
    found = told({key: json.dumps(table)})
    assert time.process_time() - start < 2  # some 0.1 s where nothing else runs
    assert "LA-HIDDEN-002" in found
    table["people"] = dict(list(table["people"].items())[:2_000])
    assert "LA-HIDDEN-002" not in told({key: json.dumps(table)})


def test_json_as_text_unfolds_so_deep_and_no_deeper() -> None:
    text = "adab"
    for _ in range(20):
        text = json.dumps({"a": text})
    left = [text for key, text in texts(read(text)) if key]
    assert len(left) == 1 and left[0].startswith('{"a"')  # deeper ones are searched for patterns as they are
    shallow = json.dumps([json.dumps({"a": json.dumps(["adab"])}), "[1girl] adab", "{broken"])
    assert [text for _, text in texts(read(shallow))] == ["a", "adab", "[1girl] adab", "{broken"]
