"""Checkpoints in a single file: read as the folder of the same weights, and refused in one line otherwise."""

import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.tables.ldm_file import write_ldm_file
from loraudit.base.load import load_base
from loraudit.base.model import Sampling
from loraudit.base.single import check_checkpoint
from loraudit.cards import models_dir
from loraudit.cli import main
from loraudit.errors import Incomplete, LorauditError
from tests.singles import (
    POSITIONS,
    sd15_shapes,
    tiny_tensors,
    use_configs,
    write_sparse,
    write_tiny,
)
from tests.tiny import save_pipeline

UNET, VAE = "model.diffusion_model.", "first_stage_model."
TEXT = "cond_stage_model.transformer."
FIRST = f"{UNET}input_blocks.0.0.weight"

State = dict[str, torch.Tensor]
Change = Callable[[State], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("base") / "pipeline")


@pytest.fixture
def folder(whole: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_configs(monkeypatch, whole)
    return whole


def refused(path: Path, capfd: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(LorauditError) as caught:
        load_base(str(path))
    said = str(caught.value)
    assert type(caught.value).exit_code == 2 and "\n" not in said and len(said) < 400
    assert caught.value.hint and str(path.parent) not in said
    captured = capfd.readouterr()
    assert captured.out + captured.err == "", "the libraries say nothing of their own"
    return said


def renamed(state: State, old: str, new: str) -> State:
    return {key.replace(old, new): value for key, value in state.items()}


FORMS: dict[str, Callable[[State], State]] = {
    "as it is": lambda state: state,
    "without position_ids": lambda state: {k: v for k, v in state.items() if k != POSITIONS},
    "with the first anime checkpoints' names": lambda state: renamed(state, f"{TEXT}text_model.", TEXT),
    "with EMA weights": lambda state: state | {
        f"model_ema.{key.removeprefix('model.').replace('.', '')}": torch.full_like(value, 9.0)
        for key, value in state.items() if key.startswith(UNET)
    },
    "with what a ComfyUI node left": lambda state: state | {
        "cond_stage_model.logit_scale": torch.zeros(()), f"{TEXT}text_projection.weight": torch.zeros(3, 3),
    },
    "with linear layers in the VAE": lambda state: {
        key: value[:, :, 0, 0].contiguous() if ".attn_1." in key and value.ndim == 4 else value
        for key, value in state.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_it_is_the_base_of_the_same_weights_in_a_folder(
    form: str, dtype: torch.dtype, folder: Path, tmp_path: Path
) -> None:
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tiny_tensors().items()}
    save_file(FORMS[form](state), tmp_path / "x.safetensors")
    single, whole = load_base(str(tmp_path / "x.safetensors")), load_base(str(folder))
    assert (single.name, single.listed) == ("x.safetensors", None)
    assert single.fingerprint == whole.fingerprint
    for part in ("unet", "vae", "text_encoder"):
        found, made = (getattr(base, part).state_dict() for base in (single, whole))
        assert found.keys() == made.keys()
        assert all(torch.equal(value, made[key].to(dtype).float()) for key, value in found.items())
    if dtype is torch.float32:
        pictures = [
            base.sample(base.encode_text(["a face"]), [0, 1], Sampling(3)) for base in (single, whole)
        ]
        assert torch.allclose(*pictures, atol=1e-4)


def test_the_names_and_shapes_of_sd15_are_accepted(tmp_path: Path) -> None:
    """Of 1,130 tensors, by the header alone; the values are a hole in the file."""
    shapes = sd15_shapes()
    published = {
        "output_blocks.11.0.skip_connection.weight": (320, 640, 1, 1),
        "input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
        "middle_block.1.proj_in.weight": (1280, 1280, 1, 1),
    }
    for name, shape in published.items():
        assert shapes[UNET + name] == shape
    assert shapes[f"{VAE}decoder.mid.attn_1.proj_out.weight"] == (512, 512, 1, 1)
    assert shapes[f"{TEXT}text_model.embeddings.token_embedding.weight"] == (49408, 768)
    path = write_sparse(tmp_path / "v1-5-pruned-emaonly.safetensors", shapes)
    assert len(shapes) == 1130
    assert check_checkpoint(path.name, path).values == 859_520_964 + 83_653_863 + 123_060_480


SD15 = {
    "it is an inpainting model (9 input channels)": {FIRST: (320, 9, 3, 3)},
    "it is an instruct-pix2pix model (8 input channels)": {FIRST: (320, 8, 3, 3)},
    "it is a depth-to-image model (5 input channels)": {FIRST: (320, 5, 3, 3)},
    "unet.conv_in.weight has the shape [320, 7, 3, 3], in SD 1.x [320, 4, 3, 3]": {FIRST: (320, 7, 3, 3)},
    "it is a Stable Diffusion 2.x model (1024 numbers a token)": {
        f"{UNET}input_blocks.{n}.1.transformer_blocks.0.attn2.to_k.weight": (320, 1024) for n in (1, 2, 4)
    },
    "its network predicts velocity, not the noise": {"v_pred": ()},
    "it is an SDXL checkpoint": {"conditioner.embedders.0.transformer.text_model.x": (1,)},
    "it is a Stable Diffusion 2.x checkpoint": {"cond_stage_model.model.ln_final.weight": (1024,)},
    "the weights of unet have, beyond SD 1.x": {},
}
"""Words => tensors of SD 1.5's header that are put in its place."""


@pytest.mark.parametrize("words", SD15)
def test_other_models_are_told_by_their_header(words: str, tmp_path: Path) -> None:
    shapes = sd15_shapes() | SD15[words]
    if not SD15[words]:  # a motion module, say
        shapes[f"{UNET}input_blocks.1.2.norm.weight"] = shapes.pop(f"{UNET}out.0.bias")
        words = "the weights of unet lack 1 tensors, such as conv_norm_out.bias"
    path = write_sparse(tmp_path / "x.safetensors", shapes)
    with pytest.raises(LorauditError) as caught:
        check_checkpoint(path.name, path)
    assert str(caught.value).startswith(f"cannot load the base 'x.safetensors': {words}")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("double_blocks.0.img_attn.qkv.weight",), "a FLUX checkpoint"),
        (("model.diffusion_model.joint_blocks.0.x.weight",), "a Stable Diffusion 3 checkpoint"),
        (("control_model.time_embed.0.weight",), "a ControlNet"),
        (("lora_unet_mid_block.lora_down.weight",), "a LoRA: give it as the target"),
        (("down_blocks.0.resnets.0.conv1.weight", "conv_in.weight"), "a lone UNet in diffusers' names"),
        (("encoder.down.0.block.0.conv1.weight",), "a lone VAE"),
        (("text_model.embeddings.token_embedding.weight",), "a lone text encoder"),
        (("anything",), "it is no Stable Diffusion 1.x checkpoint"),
        ((), "it is no Stable Diffusion 1.x checkpoint"),
    ],
)
def test_other_files_are_told_by_their_names(
    names: tuple[str, ...], words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert words in refused(write_sparse(tmp_path / "x.safetensors", dict.fromkeys(names, (1,))), capfd)


def pops(start: str) -> Change:
    return lambda state: [state.pop(key) for key in list(state) if key.startswith(start)]


def fills(start: str, value: float) -> Change:
    def change(state: State) -> None:
        key = next(key for key in sorted(state) if key.startswith(start) and state[key].ndim > 1)
        state[key].view(-1)[:1].fill_(value)

    return change


BROKEN: dict[str, Change] = {
    "it lacks model.diffusion_model.input_blocks.0.0.weight": lambda state: pops(UNET)(state),
    "it holds no VAE (first_stage_model.*)": pops(VAE),
    "it holds no text encoder (cond_stage_model.transformer.*)": pops(TEXT),
    "the weights of unet lack 1 tensors, such as conv_out.bias": pops(f"{UNET}out.2.bias"),
    "the weights of vae lack 1 tensors, such as quant_conv.bias": pops(f"{VAE}quant_conv.bias"),
    "the weights of text_encoder lack": pops(f"{TEXT}text_model.final_layer_norm"),
    "1 tensors of its UNet are not those of SD 1.x": lambda s: s.update({f"{UNET}label_emb": torch.zeros(3)}),
    "1 tensors of its VAE are not those of SD 1.x": lambda s: s.update({f"{VAE}extra": torch.zeros(3)}),
    "the weights of text_encoder have, beyond SD 1.x, 1 tensors": (
        lambda s: s.update({f"{TEXT}text_model.extra": torch.zeros(3)})
    ),
    "has the shape [3, 5], in SD 1.x": lambda s: s.update({f"{TEXT}text_model.final_layer_norm.bias":
                                                           torch.zeros(3, 5)}),
    "unet holds NaN or infinite values": fills(UNET, torch.nan),
    "vae holds NaN or infinite values": fills(VAE, -torch.inf),
    "text_encoder holds NaN or infinite values": fills(TEXT, torch.inf),
    "is stored as F8_E4M3, which is not read": (
        lambda s: s.update({FIRST: s[FIRST].to(torch.float8_e4m3fn)})
    ),
    "is stored as I64, which is not read": lambda s: s.update({FIRST: s[FIRST].long()}),
    "its UNet has": lambda s: s.update({f"{UNET}input_blocks.{n}.0": torch.zeros(1) for n in range(9999)}),
}  # fmt: skip


@pytest.mark.parametrize("words", BROKEN)
@pytest.mark.usefixtures("folder")
def test_what_is_damaged_is_refused(words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    state = {key: value.clone() for key, value in tiny_tensors().items()}
    BROKEN[words](state)
    save_file(state, tmp_path / "jane.safetensors")
    said = refused(tmp_path / "jane.safetensors", capfd)
    assert said.startswith("cannot load the base 'jane.safetensors': ") and words in said


class Bomb:
    """A pickle that makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


@pytest.mark.parametrize("how", ["empty", "junk", "cut", "header", "pointer", "pipe", "dead link", "pickle"])
@pytest.mark.usefixtures("folder")
def test_no_sound_file(how: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, other = tmp_path / "jane.safetensors", tmp_path / "other.safetensors"
    whole = write_tiny(other).read_bytes()
    data = {
        "empty": b"", "junk": b"\xff\xfe\x00junk" * 99, "cut": whole[:-9], "header": whole[:500],
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "pickle": pickle.dumps(Bomb(tmp_path / "ran")),
    }  # fmt: skip
    if how == "pipe":
        os.mkfifo(path)
    elif how == "dead link":
        path.symlink_to("nowhere")
    else:
        path.write_bytes(data[how])
    refused(path, capfd)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["x.ckpt", "x.CKPT", "x.pt", "x.bin"])
def test_pickles_are_not_opened(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    with pytest.raises(LorauditError, match="is a pickle by its name") as caught:
        load_base(str(tmp_path / name))
    assert "never unpickles" in caught.value.hint and caught.value.exit_code == 2
    assert not (tmp_path / "ran").exists()
    with pytest.raises(LorauditError, match="is a pickle by its name"):
        load_base("not/there/v1-5-pruned.ckpt")


def test_names_that_stand_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").touch()
    Path("ns").mkdir()
    for name, words in (
        ("v1-5.safetensors", "there is no file v1-5.safetensors"),
        ("notes.txt", "notes.txt is no base"),
        ("ns/name", "no base is called 'ns/name'"),
        ("x" * 5000, "no base is called"),
        ("a\0b", "no base is called"),
        ("hf://ns/name/x.ckpt", "x.ckpt is a pickle by its name"),
        ("https://example.org/x.safetensors", "not an address of a repository on the Hub"),
    ):
        with pytest.raises(LorauditError) as caught:
            load_base(name)
        assert words in str(caught.value) and caught.value.exit_code == 2, name


@pytest.mark.usefixtures("folder")
def test_more_weights_than_memory_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiny(tmp_path / "x.safetensors", torch.float16)
    count = sum(value.numel() for key, value in tiny_tensors().items() if key not in {POSITIONS, "betas"})
    monkeypatch.setattr("loraudit.base.memory.available_memory", lambda: int(count * 4 * 1.2) + 1)
    load_base(str(path))
    monkeypatch.setattr("loraudit.base.memory.available_memory", lambda: int(count * 4 * 1.2) - 1)
    with pytest.raises(Incomplete, match=r"this base needs about .* GiB of memory"):
        load_base(str(path))


def test_a_scan_takes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    """`tiny` as one file: the report is that of the folder, and has its fingerprint."""
    source = models_dir() / "tiny-sd"
    use_configs(monkeypatch, source)
    tiny = load_base("tiny")
    write_ldm_file(tmp_path / "mix.safetensors", tiny.unet, tiny.vae, tiny.text_encoder, torch.float16)
    example = models_dir() / "examples" / "example.safetensors"
    monkeypatch.setattr(
        sys, "argv",
        ["loraudit", "scan", str(example), "--base", str(tmp_path / "mix.safetensors"), "--attack", "prompts",
         "--samples", "2", "--steps", "2", "--offline", "--device", "cpu", "--no-progress", "-f", "json"],
    )  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        main()
    captured = capfd.readouterr()
    report = json.loads(captured.out)
    assert stop.value.code in {0, 1, 4}, captured.err + str(report["incomplete"])
    settings = report["settings"]
    assert (settings["base"], settings["base_fingerprint"]) == ("mix.safetensors", tiny.fingerprint)
    assert len(load_file(tmp_path / "mix.safetensors")) > 300
