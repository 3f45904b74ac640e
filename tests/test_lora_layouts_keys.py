"""Names to sites: the layouts agree, every spelling is understood, and what is not understood is said."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from loraudit.lora.file.header import TensorInfo
from loraudit.lora.layouts.dialects import DIALECTS
from loraudit.lora.layouts.keys import Reading, read_keys
from loraudit.text import clean

SITE = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0"
TEXT = "text_encoder.encoder.layers.3.self_attn.out_proj"
KOHYA = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0"


def tensors(shapes: Mapping[str, Sequence[int]], dtype: str = "F32") -> dict[str, TensorInfo]:
    return {key: TensorInfo(dtype, tuple(shape), 0, 0) for key, shape in shapes.items()}


def read(file: Mapping[str, TensorInfo]) -> Reading:
    return read_keys(file, {})


def pair_of(down: str, up: str) -> dict[str, TensorInfo]:
    return tensors({down: (4, 1280), up: (1280, 4)})


@pytest.mark.parametrize(
    ("dialect", "down", "up", "site"),
    [
        ("diffusers", f"{SITE}.lora.down.weight", f"{SITE}.lora.up.weight", SITE),
        ("diffusers", f"{SITE}.lora_A.weight", f"{SITE}.lora_B.weight", SITE),
        ("diffusers", f"{TEXT}.lora_linear_layer.down.weight", f"{TEXT}.lora_linear_layer.up.weight", TEXT),
        (
            "diffusers",
            "text_encoder.text_model.encoder.layers.3.self_attn.out_proj.lora_linear_layer.down.weight",
            "text_encoder.text_model.encoder.layers.3.self_attn.out_proj.lora_linear_layer.up.weight",
            TEXT,
        ),
        ("kohya", f"{KOHYA}.lora_down.weight", f"{KOHYA}.lora_up.weight", SITE),
        (
            "kohya",
            "lora_te_text_model_encoder_layers_3_self_attn_out_proj.lora_down.weight",
            "lora_te_text_model_encoder_layers_3_self_attn_out_proj.lora_up.weight",
            TEXT,
        ),
        (
            "kohya",
            "lora_te1_encoder_layers_3_self_attn_out_proj.lora_down.weight",
            "lora_te1_encoder_layers_3_self_attn_out_proj.lora_up.weight",
            TEXT,
        ),
        (
            "peft",
            f"base_model.model.{SITE.removeprefix('unet.')}.lora_A.weight",
            f"base_model.model.{SITE.removeprefix('unet.')}.lora_B.weight",
            SITE,
        ),
        (
            "peft",
            "base_model.model.text_model.encoder.layers.3.self_attn.out_proj.lora_A.weight",
            "base_model.model.text_model.encoder.layers.3.self_attn.out_proj.lora_B.weight",
            TEXT,
        ),
    ],
)
def test_every_spelling_names_its_site(dialect: str, down: str, up: str, site: str) -> None:
    reading = read(pair_of(down, up))
    assert reading.dialect == dialect
    (update,) = reading.updates
    assert (update.site, update.keys, update.size.rank) == (site, {"down": down, "up": up}, 4)
    assert reading.unread == ()


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({f"{KOHYA}.lora_mid.weight": (4, 5, 3, 3)}, "do not multiply"),
        ({f"{KOHYA}.scalar": ()}, "more than a plain LoRA pair"),
        ({f"{KOHYA}.hada_w1_a": (1280, 4)}, "mixes the matrices of several kinds"),
        ({f"{KOHYA}.dora_scale": (640, 2)}, "is no magnitude of DoRA"),
        ({f"{KOHYA}.diff_b": (1280,)}, "an update of the bias"),
        ({"lora_unet_mid_block_resnets_0_norm1.w_norm": (1280,)}, "normalisation layer"),
        ({"lora_unet_conv_in.hada_w1_a": (320, 4)}, "lacks one of its matrices"),
        ({"lora_unet_nowhere.lora_down.weight": (4, 8)}, "no base has a module of this name"),
        ({"lora_unet_conv_in.alpha": ()}, "lacks one of its two matrices"),
        ({"lora_unet_conv_in.lora_up.weight": (320, 4)}, "lacks one of its two matrices"),
        ({"bundle_emb.ada.clip_l": (2, 768)}, "textual inversion embedding that rides along"),
        ({"anything": (2, 768)}, "no known layout"),
        ({f"{SITE}.lora.down.weight": (4, 1280)}, "differs from that of the rest"),
        ({"": (1,)}, "no known layout"),
        ({"lora_unet_" + "a." * 100_000: (1,)}, "no base has a module"),
    ],
)
def test_what_is_not_understood_is_said(extra: Mapping[str, Sequence[int]], words: str) -> None:
    plain = "lora_unet_conv_out"
    file = tensors(
        {f"{KOHYA}.lora_down.weight": (4, 1280), f"{KOHYA}.lora_up.weight": (1280, 4), f"{KOHYA}.alpha": ()}
        | {f"{plain}.lora_down.weight": (4, 320, 3, 3), f"{plain}.lora_up.weight": (4, 4, 1, 1)}
        | dict(extra)
    )
    reading = read(file)
    assert any(words in item.why for item in reading.unread)
    used = {key for update in reading.updates for key in update.all_keys}
    assert len(used) + len(reading.unread) == len(file), "every tensor is read or said to be unread"


@pytest.mark.parametrize(
    ("down", "up", "dtype", "words"),
    [
        ((4, 1280), (1280, 8), "F32", "do not multiply"),
        ((0, 1280), (1280, 0), "F32", "do not multiply"),
        ((4,), (1280, 4), "F32", "do not multiply"),
        ((4, 1280), (1280, 4, 3, 3), "F32", "do not multiply"),
        ((4, 1280), (1280, 4), "I32", "matrices are I32, no floating-point"),
        ((4, 1280), (1280, 4), "F8_E4M3FNUZ", "matrices are F8_E4M3FNUZ, no floating-point"),
        ((4, 1280), (1280, 4), "C64", "matrices are C64, no floating-point"),
    ],
)
def test_matrices_that_make_no_pair(down: Sequence[int], up: Sequence[int], dtype: str, words: str) -> None:
    reading = read(tensors({f"{KOHYA}.lora_down.weight": down, f"{KOHYA}.lora_up.weight": up}, dtype))
    assert (reading.dialect, reading.updates) == ("", ())
    assert [words in item.why for item in reading.unread] == [True, True]


_STARTS = (
    "unet.conv_in.", "conv_in.", "lora_unet_conv_in.", "lora_unet_input_blocks_0_0.", "unet:0:",
    "lora_unet_no.", "diffusion_model.out.2.", "lycoris_conv_out.", "text_encoder.encoder.layers.0.mlp.fc1.",
    "base_model.model.conv_in.",
)  # fmt: skip
_SUFFIXES = sorted(
    {suffix for dialect in DIALECTS for spelling in dialect.spellings for suffix in spelling.suffixes}
)


_SHAPES = ((4, 4), (4, 4, 1, 1), (4, 320), ())


@settings(max_examples=400)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.sampled_from(_STARTS), st.text(max_size=9)),
            st.one_of(
                st.just(["lora_down.weight", "lora_up.weight", "alpha"]),
                st.just(["lora_A.weight", "lora_B.weight"]),
                st.lists(st.sampled_from([*_SUFFIXES, "up", "weight", "x.y"]), max_size=4),
            ),
            st.sampled_from(_SHAPES),
            st.sampled_from(["F32", "BF16", "F8_E4M3", "I64"]),
        ),
        max_size=5,
    )
)
def test_every_tensor_is_read_once_or_said_to_be_unread(modules: list) -> None:
    file = {
        f"{start}{suffix}": TensorInfo(dtype, () if suffix == "alpha" else shape, 0, 0)
        for start, suffixes, shape, dtype in modules
        for suffix in suffixes
    }
    reading = read(file)
    used = [key for update in reading.updates for key in (*update.keys.values(), update.alpha) if key]
    event(f"{len(reading.updates)} modules read")
    assert len(set(used)) == len(used)
    assert sorted(item.key for item in reading.unread) == sorted(clean(key) for key in set(file) - set(used))


def test_a_module_given_twice_is_not_read() -> None:
    once = pair_of(f"{TEXT}.lora_A.weight", f"{TEXT}.lora_B.weight")
    again = pair_of(*(key.replace("encoder.layers", "text_model.encoder.layers", 1) for key in once))
    assert len(read(once).updates) == 1
    both = read(once | again)
    assert both.updates == ()
    assert {item.why for item in both.unread} == {"this module is given twice"}


def test_a_convolution_flattens() -> None:
    name = "lora_unet_conv_in"
    shapes = {f"{name}.lora_down.weight": (2, 4, 3, 3), f"{name}.lora_up.weight": (320, 2, 1, 1)}
    (update,) = read(tensors(shapes)).updates
    assert (update.size.shape, update.size.inputs) == ((320, 36), (4, 3, 3))
