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
        ({"peft_type": "\x1b[2J"}, r"type \\x1b"),
        ({"lora_alpha": "8"}, "no alpha"),
        ({"lora_alpha": True}, "no alpha"),
        ({"lora_alpha": [8]}, "no alpha"),
        ({"alpha_pattern": ["to_q"]}, "not a JSON object"),
        ({"alpha_pattern": {"(a+)+$": 8}}, "regular expression"),
        ({"alpha_pattern": {"to_q|to_k": 8}}, "regular expression"),
        ({"alpha_pattern": {"to_q": None}}, "no alpha"),
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
