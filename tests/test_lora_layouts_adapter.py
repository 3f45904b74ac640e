"""The scale follows peft's own rules, and no expression from a file is run."""

import json
import math
import time
from pathlib import Path

import pytest

from loraudit.errors import NotScannable
from loraudit.lora.layouts.adapter import DIFFUSERS_KEY, AdapterConfig


def config(tmp_path: Path, **fields: object) -> AdapterConfig:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"} | fields))
    return AdapterConfig.from_file(tmp_path / "adapter_config.json")


def test_scales_are_those_of_peft(tmp_path: Path) -> None:
    """The same configuration, applied by peft to a network with these modules."""
    import torch
    from peft import LoraConfig, get_peft_model

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.to_q = torch.nn.Linear(8, 8)
            self.to_k = torch.nn.Linear(8, 8)

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.ba = Block(), Block()

    for stabilised in (False, True):
        patterns = {"^a.to_q": 3, "ba.to_k": 5, "to_k": 7}
        theirs = LoraConfig(
            r=4,
            lora_alpha=6,
            use_rslora=stabilised,
            alpha_pattern=patterns,
            rank_pattern={"ba.to_q": 2},
            target_modules=["to_q", "to_k"],
        )
        network = get_peft_model(Network(), theirs)
        theirs.save_pretrained(str(tmp_path))
        ours = AdapterConfig.from_file(tmp_path / "adapter_config.json")
        layers = {
            name: layer
            for name, layer in network.base_model.model.named_modules()
            if hasattr(layer, "scaling")
        }
        assert len(layers) == 4
        for name, layer in layers.items():
            assert ours.scale(name, layer.r["default"]) == pytest.approx(layer.scaling["default"]), name


def test_defaults(tmp_path: Path) -> None:
    assert config(tmp_path).scale("to_q", 8) == 1.0
    assert config(tmp_path, lora_alpha=27).scale("to_q", 1) == 27.0
    assert config(tmp_path, lora_alpha=27, use_rslora=True).scale("to_q", 4) == 27 / math.sqrt(4)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"peft_type": "OFT"}, "type OFT"),
        ({"peft_type": "\x1b[2J"}, r"type \(hidden\)$"),
        ({"lora_alpha": "8"}, "no alpha"),
        ({"lora_alpha": True}, "no alpha"),
        ({"lora_alpha": [8]}, "no alpha"),
        ({"alpha_pattern": ["to_q"]}, "not a JSON object"),
        ({"alpha_pattern": {"(a+)+$": 8}}, "regular expression"),
        ({"alpha_pattern": {"to_q|to_k": 8}}, "regular expression"),
        ({"alpha_pattern": {"to_q": None}}, "no alpha"),
        ({"peft_type": ["LORA"]}, "not a text"),
        ({"peft_type": {}, "lora_alpha": 10**400}, "no alpha"),  # an empty one counts as none
        ({"lora_alpha": 10**400}, "no alpha"),
        ({"lora_alpha": -(10**400)}, "no alpha"),
        ({"lora_alpha": 1e30}, "no alpha"),
        ({"alpha_pattern": {"to_q": 10**400}}, "no alpha"),
        ({"r": 0}, "no rank"),
        ({"r": -8, "use_rslora": True}, "no rank"),
        ({"r": 10**400}, "no rank"),
        ({"r": True}, "no rank"),
        ({"r": "8"}, "no rank"),
        ({"rank_pattern": {"to_q": 0}}, "no rank"),
        ({"rank_pattern": {"to_q": 1e-300}}, "no rank"),
        ({"rank_pattern": {"to_q": [4]}}, "no rank"),
        ({"rank_pattern": {f"m{at}": 4 for at in range(10_001)}}, "more than 10000"),
        ({"use_rslora": "false"}, "neither true nor false"),
        ({"use_dora": 1}, "neither true nor false"),
        ({"modules_to_save": "conv_in"}, "no list of names"),
        ({"modules_to_save": [["conv_in"]]}, "no list of names"),
        ({"init_lora_weights": ["pissa"]}, "neither a text nor true or false"),
    ],
)
def test_unsound_configurations_are_refused(tmp_path: Path, fields: dict, words: str) -> None:
    with pytest.raises(NotScannable, match=words):
        config(tmp_path, **fields)


def test_a_configuration_must_be_small_strict_json(tmp_path: Path) -> None:
    path = tmp_path / "adapter_config.json"
    for text, words in [
        ("[]", "not a JSON object"),
        ("", "not valid JSON"),
        ('{"lora_alpha": NaN}', "not valid JSON"),
        ('{"lora_alpha": 1, "lora_alpha": 2}', "twice"),
        (" " * 2_000_000, "larger than"),
    ]:
        path.write_text(text)
        with pytest.raises(NotScannable, match=words):
            AdapterConfig.from_file(path)


def test_a_hostile_pattern_costs_no_time(tmp_path: Path) -> None:
    started = time.process_time()
    with pytest.raises(NotScannable, match="regular expression"):
        config(tmp_path, alpha_pattern={"(" + "a?" * 5000 + ")*": 1})
    assert time.process_time() - started < 1


def test_the_header_of_a_diffusers_file() -> None:
    both = {DIFFUSERS_KEY: json.dumps({"unet.lora_alpha": 8, "unet.r": 4, "text_encoder.lora_alpha": 2})}
    unet, text = (AdapterConfig.from_metadata(both, component) for component in ("unet", "text_encoder"))
    assert unet is not None
    assert text is not None
    assert (unet.scale("to_q", 4), text.scale("q_proj", 4)) == (2.0, 0.5)
    alone = {DIFFUSERS_KEY: json.dumps({"lora_alpha": 8})}
    bare = AdapterConfig.from_metadata(alone, "unet")
    assert bare is not None
    assert bare.scale("to_q", 4) == 2.0
    assert AdapterConfig.from_metadata({"format": "pt"}, "unet") is None
    only_unet = {DIFFUSERS_KEY: json.dumps({"unet.lora_alpha": 8})}
    assert AdapterConfig.from_metadata(only_unet, "text_encoder") is None
    for broken in ("", "[]", "{"):
        with pytest.raises(NotScannable, match=DIFFUSERS_KEY):
            AdapterConfig.from_metadata({DIFFUSERS_KEY: broken}, "unet")
    long = {DIFFUSERS_KEY: json.dumps({"lora_alpha": 8, "note": "x" * 1_000_000})}
    with pytest.raises(NotScannable, match="longer than"):
        AdapterConfig.from_metadata(long, "unet")


@pytest.mark.parametrize(
    "start", ["pissa", "pissa_niter_16", "PiSSA", "olora", "OLoRA", "corda", "loftq", "lora_ga", "a new one"]
)
def test_matrices_that_began_as_a_part_of_the_base_are_no_update(start: str, tmp_path: Path) -> None:
    with pytest.raises(NotScannable, match=r"init_lora_weights|own weights"):
        config(tmp_path, init_lora_weights=start)
    header = {DIFFUSERS_KEY: json.dumps({"unet.r": 4, "unet.init_lora_weights": start})}
    with pytest.raises(NotScannable):
        AdapterConfig.from_metadata(header, "unet")


@pytest.mark.parametrize("start", [None, True, False, "gaussian", "eva", "orthogonal", "mica", "MiCA"])
def test_other_starts_leave_the_base_as_it_is(start: object, tmp_path: Path) -> None:
    assert config(tmp_path, init_lora_weights=start, lora_alpha=16).scale("to_q", 8) == 2.0


@pytest.mark.parametrize("start", ["pissa", "olora", True])
def test_what_peft_does_to_the_base_decides(start: object, tmp_path: Path) -> None:
    """The facts behind the refusal: peft moves a part of the base's weight into the matrices, or does not."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(8, 8))
    before = network[0].weight.detach().clone()
    tuned = get_peft_model(network, LoraConfig(r=2, init_lora_weights=start, target_modules=["0"]))
    moved = not torch.allclose(tuned.base_model.model[0].base_layer.weight, before)
    tuned.save_pretrained(str(tmp_path))
    try:
        AdapterConfig.from_file(tmp_path / "adapter_config.json")
    except NotScannable:
        refused = True
    else:
        refused = False
    assert moved == refused


def test_thousands_of_patterns_cost_no_time(tmp_path: Path) -> None:
    """The first that matches wins, wherever it stands."""
    many = {f"x{at}.to_k": 3 for at in range(9_000)}
    found = config(tmp_path, alpha_pattern=many | {"a.to_q": 5, "to_q": 7, "b.a.to_q": 9})
    started = time.process_time()
    scales = [found.scale(f"b{at}.a.to_q", 1) for at in range(500)]
    assert time.process_time() - started < 1
    assert set(scales) == {5.0}
    assert (found.scale("b.a.to_q", 1), found.scale("c.to_q", 1), found.scale("x8999.to_k", 1)) == (5, 7, 3)
    assert found.scale("to_v", 1) == 8.0
