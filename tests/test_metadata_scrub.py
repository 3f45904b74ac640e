"""What `scrub` keeps of a file's metadata, and that loaders read the copy as they read the file."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file

from loraudit.lora import load_lora, write_diffusers, write_kohya
from loraudit.lora.file.header import read_header
from loraudit.lora.write import serialize
from loraudit.metadata.scrub import KEPT_KEYS, allowed_metadata, scrub
from tests.headers import DIFFUSERS, KOHYA, TENSORS, audit, tensor_bytes, write
from tests.test_lora_file_header import GOOD, frame
from tests.test_metadata_hostile import HOSTILE, NESTED


def test_stock_safetensors_reads_the_same_tensors(tmp_path) -> None:
    more = {"odd": np.zeros((0, 3), np.float32), "last": np.arange(5, dtype=np.float32)}
    source = write(tmp_path / "a.safetensors", KOHYA, **more)
    scrub(source, tmp_path / "b.safetensors")
    old, new = load_file(source), load_file(tmp_path / "b.safetensors")
    assert old.keys() == new.keys()
    for key in old:
        assert np.array_equal(old[key], new[key])
    with safe_open(tmp_path / "b.safetensors", "np") as file:
        assert file.metadata()["ss_network_dim"] == "4"
    assert int.from_bytes((tmp_path / "b.safetensors").read_bytes()[:8], "little") % 8 == 0


@pytest.mark.parametrize("writer", [write_diffusers, write_kohya])
def test_the_scale_survives(tmp_path, sd1_factors, writer) -> None:
    writer(sd1_factors, tmp_path / "a.safetensors", KOHYA if writer is write_kohya else DIFFUSERS)
    scrub(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    old, new = load_lora(tmp_path / "a.safetensors"), load_lora(tmp_path / "b.safetensors")
    assert old.dialect == new.dialect
    assert list(old.factors) == list(new.factors)
    for site, pair in old.factors.items():
        assert pair.scale == new.factors[site].scale
        assert np.array_equal(pair.up, new.factors[site].up)


ARGS, ADAPTER = "ss_network_args", "lora_adapter_metadata"


@pytest.mark.parametrize(
    ("key", "said", "kept"),
    [
        ("format", "pt; made by jane", None),
        ("format", "pt\n", None),
        ("ss_base_model_version", "/home/jane/model", None),
        ("ss_base_model_version", "sdxl_base_v1-0", "sdxl_base_v1-0"),
        ("ss_network_module", "jane.networks", None),
        ("ss_network_module", "lycoris.kohya", "lycoris.kohya"),
        ("ss_network_dim", "16", "16"),
        ("ss_network_dim", "1" * 400, None),
        ("modelspec.implementation", "https://github.com/jane/lora", None),
        (ARGS, '{"path": "/home/jane", "conv_dim": "8"}', '{"conv_dim": "8"}'),
        (ARGS, '{"conv_dim": 1, "conv_dim": 2}', None),
        (ARGS, '{"conv_dim": 1e999, "conv_alpha": 11111111111}', "{}"),
        (ARGS, '{"preset": "my secret plan"}', "{}"),
        (ARGS, '{"block_dims": "4,4,8,8", "algo": "lokr", "use_tucker": "True"}', ...),
        (ARGS, "null", "null"),
        (ARGS, "jane", None),
        (ADAPTER, '{"unet.r": 4, "unet.who": "jane"}', '{\n  "unet.r": 4\n}'),
        (ADAPTER, '{"unet.target_modules": ["/home/jane"]}', "{}"),
        (ADAPTER, '{"unet.alpha_pattern": {"to_q": {"jane": 1}}}', "{}"),
        (ADAPTER, '{"unet.target_modules": ["to_out.0", "49.170.123.456"]}', "{}"),  # a telephone number
        (ADAPTER, '{"unet.rank_pattern": {"17.01.990": 4}}', "{}"),
        (ADAPTER, '{\n  "unet.target_modules": [\n    "input_blocks.4.1.attn1.to_out.0"\n  ]\n}', ...),
        (ADAPTER, '{\n  "unet.alpha_pattern": {\n    "^mid_block.to_q": 8\n  }\n}', ...),
        (ADAPTER, '{"unet.target_modules": ["to_q", "hf_' + "A1" * 20 + '"]}', None),  # found by fuzzing
        ("ss_base_model_version", "sk-" + "a1" * 12, None),  # found by benchmarks/fuzz.py
        ("ss_base_model_version", "sd_v1.5-pruned", "sd_v1.5-pruned"),
        (ADAPTER, "[" * 5000, None),
        ("ss_training_comment", "None", None),
    ],
)
def test_the_allow_list_checks_values(key, said, kept) -> None:
    assert allowed_metadata({key: said}).get(key) == (said if kept is ... else kept)


KEPT_WORDS = {
    "ss_base_model_version": "jane_doe_born_1990_berlin",
    "modelspec.architecture": "jane-doe/mueller-strasse-5",
    "ss_network_module": "networks.jane_doe.geb_1990",
    "ss_network_dim": "491701234567",
    "ss_network_alpha": "52.520008",
    "ss_network_args": json.dumps(
        {"conv_dim": "491701234567", "use_jane_doe_berlin": 1, "block_dims": "52.520008,13.404954"}
    ),
    "modelspec.implementation": "https://github.com/huggingface/jane-doe",
    "modelspec.prediction_type": "jane",
    "modelspec.resolution": "1990x1203",
    "modelspec.sai_model_spec": "17.01.23",
    "lora_adapter_metadata": json.dumps(
        {
            "unet.target_modules": ["jane_doe", "lives_in_Muellerstrasse_5", "geb.1990"],
            "jane_doe.r": 4,
            "unet.rank_pattern": {"Jane.Doe.IBAN.DE02120300000000202051": 4},
            "unet.bias": "jane",
            "unet.lora_alpha": 52.520008,
        }
    ),
}


@pytest.mark.parametrize("key", KEPT_WORDS)
def test_no_free_text_is_called_harmless(key) -> None:
    kept = allowed_metadata({key: KEPT_WORDS[key]}).get(key, "{}")
    assert json.loads(kept) == {}


@pytest.mark.parametrize(
    ("key", "said"),
    [
        *(("ss_base_model_version", one) for one in ("sd_v1", "sdxl_base_v1-0", "sd3.5_medium", "flux1")),
        *(("modelspec.architecture", f"{one}/lora") for one in ("stable-diffusion-v1", "flux-1-dev")),
        ("modelspec.architecture", "stable-diffusion-v2-768-v/lora"),
        ("modelspec.architecture", "stable-diffusion-xl-v1-base/lora"),
        ("ss_network_alpha", "0.5"),
        ("modelspec.resolution", "1024x1024"),
        (ARGS, '{"preset": "attn-mlp", "factor": "8", "use_scalar": "True"}'),
    ],
)
def test_what_trainers_write_there_stays(key, said) -> None:
    assert allowed_metadata({key: said}) == {key: said}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(sorted(KEPT_KEYS | {"ss_tag_frequency", "x"})),
        HOSTILE | NESTED.map(json.dumps),
        max_size=5,
    )
)
def test_whatever_it_said_a_scrubbed_file_scans_clean(tmp_path: Path, metadata) -> None:
    source = tmp_path / "a.safetensors"
    source.write_bytes(frame(GOOD | {"__metadata__": metadata}))
    (tmp_path / "b.safetensors").unlink(missing_ok=True)
    scrub(source, tmp_path / "b.safetensors")
    assert audit(tmp_path / "b.safetensors") == {}
    assert tensor_bytes(tmp_path / "b.safetensors") == bytes(16)
    with safe_open(tmp_path / "b.safetensors", "np") as file:
        assert set(file.metadata() or {}) <= KEPT_KEYS


def test_a_file_that_shrinks_is_no_half_copy(tmp_path, monkeypatch) -> None:
    import loraudit.metadata.scrub as module

    source = write(tmp_path / "a.safetensors", {})
    header = read_header(source)
    source.write_bytes(source.read_bytes()[:-100])
    monkeypatch.setattr(module, "read_header", lambda _path: header)
    with pytest.raises(Exception, match="shrank while it was read"):
        scrub(source, tmp_path / "b.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_stock_diffusers_saves_nothing_and_reads_a_copy_alike(tmp_path) -> None:
    import torch
    from diffusers.loaders import StableDiffusionLoraLoaderMixin as Stock
    from peft import LoraConfig

    layers = {
        f"{module}.lora_{side}.weight": torch.ones(4, 4)
        for module in (
            "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
            "mid_block.resnets.0.conv1",
        )
        for side in "AB"
    }
    config = LoraConfig(
        r=4, lora_alpha=2, target_modules=["to_q", "conv1"], rank_pattern={"to_q": 8}, use_rslora=True
    )
    Stock.save_lora_weights(tmp_path, unet_lora_layers=layers, unet_lora_adapter_metadata=config.to_dict())
    (source,) = tmp_path.iterdir()
    assert "lora_adapter_metadata" in read_header(source).metadata
    assert audit(source) == {}
    scrub(source, tmp_path / "b.safetensors")
    assert audit(tmp_path / "b.safetensors") == {}
    old, old_alphas, old_config = Stock.lora_state_dict(source, return_lora_metadata=True)
    new, new_alphas, new_config = Stock.lora_state_dict(tmp_path / "b.safetensors", return_lora_metadata=True)
    assert old.keys() == new.keys() and old_alphas == new_alphas
    for key in ("r", "lora_alpha", "rank_pattern", "use_rslora", "peft_type"):
        assert new_config[f"unet.{key}"] == old_config[f"unet.{key}"]
    assert sorted(new_config["unet.target_modules"]) == ["conv1", "to_q"]
    kept = {name.partition(".")[2]: value for name, value in new_config.items()}
    assert LoraConfig(**kept).lora_alpha == 2  # as diffusers makes its configuration of it


def test_an_adapter_of_another_name_is_the_same_update(tmp_path) -> None:
    down, up = TENSORS.values()
    name = "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_{}.jane.weight"
    (tmp_path / "adapter_model.safetensors").write_bytes(
        serialize({name.format("A"): down, name.format("B"): up}, {})
    )
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1, "lora_alpha": 3}')
    out = tmp_path.parent / f"{tmp_path.name}-copy" / "adapter_model.safetensors"
    out.parent.mkdir()
    scrub(tmp_path / "adapter_model.safetensors", out, config=tmp_path / "adapter_config.json")
    (old,), (new,) = load_lora(tmp_path).factors.values(), load_lora(out.parent).factors.values()
    assert old.scale == new.scale == 3
    assert np.array_equal(old.up, new.up) and np.array_equal(old.down, new.down)


@pytest.mark.parametrize("said", ["491701234567", "0491701234", "19900117", "0x19900117"])
def test_digits_alone_are_no_hash(said) -> None:
    for key in ("sshs_model_hash", "sshs_legacy_hash", "ss_sd_model_hash", "modelspec.hash_sha256"):
        assert not allowed_metadata({key: said}, provenance=True)
        assert allowed_metadata({key: f"{said[:-1]}a"}, provenance=True), "the control"
