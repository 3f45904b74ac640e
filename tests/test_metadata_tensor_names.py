"""Words in the names of tensors: learned tokens, names of adapters, names that no layer has."""

import warnings
from pathlib import Path

import numpy as np
import peft
import pytest
from torch import nn

from loraudit.findings.finding import Severity
from loraudit.hiding import is_public
from loraudit.lora import load_lora
from loraudit.lora.layouts.adapter_names import adapter_in, adapter_names, with_adapter, without_adapter_names
from loraudit.lora.write import serialize
from loraudit.metadata.scrub import scrub
from loraudit.metadata.tokens import embedded, token
from tests.headers import TENSORS, audit, write


@pytest.fixture
def told(tmp_path: Path):
    def look(metadata, **tensors) -> dict:
        return audit(write(tmp_path / "x.safetensors", metadata, **tensors))

    return look


VECTOR = np.ones((1, 768), np.float32)


@pytest.mark.parametrize(
    ("tensor", "word"),
    [
        ("<ada-berg>", "ada-berg"),
        ("learned_embeds.<ada berg>.weight", "ada berg"),
        ("clip_l:<ada>", "ada"),
        ("ada-berg", "ada-berg"),
        ("Ada Berg", "Ada Berg"),
        ("text_model.ada berg", "ada berg"),
        ("李小龍", "李小龍"),
    ],
)
def test_learned_tokens(told, tensor, word) -> None:
    finding = told({}, **{tensor: VECTOR})["LA-NAME-001"]
    assert (finding.severity, finding.quotes) == (Severity.MEDIUM, (word,))
    assert finding.detail.startswith("Found in the tensor names.")


def test_tensors_that_are_no_tokens(told) -> None:
    assert embedded(["unet:0:up", "unet:1:down", "lora_unet_x.alpha", "a.lora_A.weight"]) == []
    assert embedded(["x\x1b[2J\u202e[/]", "a-1", "(x)"]) == []
    assert told({}, **{"unet:0:up": VECTOR, "text_encoder:0:down": VECTOR}) == {}
    assert set(told({}, **{"<s0>": VECTOR})) == {"LA-CAPTION-002"}
    assert token("<ada>", "x") == "ada" and not token("ada", "x") and not token("<>", "")


def test_the_name_of_an_adapter(told) -> None:
    key = "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.{}.weight"
    found = told({}, **{key.format("ada_berg"): VECTOR})
    assert found["LA-NAME-001"].quotes == ("ada_berg",)
    assert told({}, **{key.format("default"): VECTOR}) == {}
    assert adapter_names([key.format("default_0"), key.format("x").replace(".x", "")]) == ["default_0"]


KEY = "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("lora_A.ada_berg.weight", "ada_berg"),
        ("lora_A.ada.berg.weight", "ada.berg"),
        ("lora_A.ada berg", "ada berg"),
        ("lora_magnitude_vector.ada_berg", "ada_berg"),
        ("ia3_l.ada_berg", "ada_berg"),
        ("oft_r.ada_berg", "ada_berg"),
        ("oft_R.ada_berg.weight", "ada_berg"),
        ("hada_w1_a.ada_berg", "ada_berg"),
        ("lokr_t2.ada_berg", "ada_berg"),
        ("vera_lambda_b.ada_berg", "ada_berg"),
        ("modules_to_save.ada_berg.conv1.weight", "ada_berg"),
        ("modules_to_save.ada_berg.weight", "ada_berg"),
        ("lora_B.017.012.345.67.weight", "017.012.345.67"),
        ("lora_A.weight", ""),
        ("lora_B.bias", ""),
        ("lora_B.0.weight", ""),
        ("lora_A.weight.absmax", ""),
        ("ia3_l", ""),
        ("hada_w1_a", ""),
        ("modules_to_save.conv1.weight", ""),
        ("alpha", ""),
    ],
)
def test_the_name_of_an_adapter_is_known_by_one_rule(told, tmp_path, key, name) -> None:
    """A scan reports what `scrub` renames, and reports nothing of the copy."""
    full = f"{KEY}.{key}"
    assert adapter_in(full) == name
    assert with_adapter(full, "x") == (full.replace(name, "x") if name else full)
    found = told({}, **{full: VECTOR})
    assert [one.quotes for one in found.values()] == ([(name,)] if name else [])
    assert {one.places for one in found.values()} <= {("the tensor names",)}
    done = scrub(tmp_path / "x.safetensors", tmp_path / "copy.safetensors")
    assert (done.left, audit(tmp_path / "copy.safetensors")) == ((), {})
    assert [one.characters for one in done.removed] == ([len(name)] if name else [])


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_k, self.to_q = nn.Linear(64, 64), nn.Linear(64, 64)


TUNERS = {
    "BOFT": {}, "C3A": {"block_size": 8}, "Deft": {}, "Delora": {}, "FourierFT": {"n_frequency": 8},
    "Frod": {}, "Glora": {}, "Gralora": {}, "HRA": {}, "Hira": {}, "IA3": {"feedforward_modules": []},
    "LNTuning": {}, "Lily": {}, "LoHa": {}, "LoKr": {}, "OFT": {},
    "Lora": {"modules_to_save": ["to_q"], "use_dora": True},
    "OSF": {}, "Peanut": {}, "Pvera": {}, "RandLora": {}, "Road": {}, "TinyLora": {},
    "VBLoRA": {"vector_length": 8}, "Vera": {}, "WaveFT": {"n_frequency": 8},
}  # fmt: skip
"""Tuners of peft that take any linear layer, with what they need."""


@pytest.mark.parametrize("tuner", TUNERS)
def test_no_tuner_of_peft_hides_the_name_of_its_adapter(tuner) -> None:
    config = getattr(peft, f"{tuner}Config")(target_modules=["to_k"], **TUNERS[tuner])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(Network(), config, adapter_name="ada_berg")
    keys = list(model.state_dict())
    assert any("ada_berg" in key for key in keys)
    assert {name.partition(".")[0] for name in adapter_names(keys)} == {"ada_berg"}
    after = without_adapter_names(keys)
    assert len(set(after.values())) == len(keys)
    assert not any("ada_berg" in key for key in after.values())
    assert all(after[key] == key for key in keys if "ada_berg" not in key)


def test_several_adapters_are_numbered_and_no_two_tensors_get_one_name() -> None:
    keys = [f"x.lora_A.{name}.weight" for name in ("ada", "mara", "default", "adapter_1")]
    after = without_adapter_names(keys)
    assert len(set(after.values())) == 4 and after[keys[2]] == keys[2]
    assert not any("ada." in key or "mara" in key for key in after.values())
    alone = without_adapter_names(["x.lora_A.ada.weight", "y.ia3_l.ada", "x.bias"])
    assert list(alone.values()) == ["x.lora_A.default.weight", "y.ia3_l.default", "x.bias"]


@pytest.mark.parametrize("name", ["ada_berg", "ada.berg"])
def test_an_adapter_of_any_name_is_read_as_one_that_peft_named(tmp_path, name) -> None:
    down, up = TENSORS.values()
    for called, path in ((name, "a"), ("default", "b")):
        matrices = {f"{KEY}.lora_A.{called}.weight": down, f"{KEY}.lora_B.{called}.weight": up}
        (tmp_path / f"{path}.safetensors").write_bytes(serialize(matrices, {}))
    one, other = (load_lora(tmp_path / f"{path}.safetensors") for path in "ab")
    assert len(one.factors) == 1 and list(one.factors) == list(other.factors)
    assert [item.key for item in one.unread] == [item.key for item in other.unread] == ["adapter_config.json"]


@pytest.mark.parametrize(
    ("tensor", "word"),
    [
        ("adaberg", "adaberg"),
        ("AdaBerg", "AdaBerg"),
        ("adaberg_lora.weight", "adaberg_lora"),
        ("adaberg.lora_A.weight", "adaberg"),
        ("base_model.model.adaberg.lora_A.weight", "adaberg"),
        ("ada_berg.down_blocks.0.attentions.0.proj_in.lora.up.weight", "ada_berg"),
        ("learned_embeds.adaberg", "adaberg"),
        ("tokens.ada_berg", "ada_berg"),
    ],
)
def test_a_name_that_is_no_layers_is_found(told, tensor, word) -> None:
    """Such a file once was one of which nothing was found."""
    finding = told({}, **{tensor: VECTOR})["LA-NAME-001"]
    assert (finding.quotes, finding.places) == ((word,), ("the tensor names",))


def test_a_number_for_a_name_is_a_trigger(told) -> None:
    assert told({}, **{"491701234567": VECTOR})["LA-CAPTION-002"].quotes == ("491701234567",)


KNOWN = """
clip_l clip_g t5xxl emb_params text_encoders_0 betas alphas_cumprod sqrt_one_minus_alphas_cumprod
model_ema.num_updates global_step scaled_fp8 logit_scale score.weight classifier.bias lm_head.weight
base_model.model.score.weight base_model.model.lm_head.lora_A.weight h.0.attn.c_attn.weight wte.weight
visual.blocks.0.attn.qkv.weight multi_modal_projector.linear_1.weight roberta.encoder.layer.0.x
x_embedder.weight img_in.weight double_blocks.0.img_attn.qkv.weight caption_projection.linear_1.weight
adaln_single.linear.weight pos_embed.proj.weight cap_embedder.0.weight noise_refiner.0.x rope.freqs
vace_blocks.0.x time_in.in_layer.weight final_layer.linear.weight distilled_guidance_layer.in_proj.weight
first_stage_model.encoder.conv_in.weight motion_modules.0.x ip_adapter.1.to_k.weight image_proj.x
lora_controlnet string_to_param.* unet:0:up post_quant_conv.weight quant_conv.bias lora_unet_x.alpha
to_q.lora_A.weight base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight
"""


def test_no_layer_of_other_networks_is_taken_for_a_name() -> None:
    known = KNOWN.split()
    assert {name: embedded([name]) for name in known if embedded([name])} == {}
    # The rule has something to find.
    assert not is_public("adaberg") and embedded([*known, "adaberg"]) == ["adaberg"]
