"""Every way a folder given as a base can be broken is one line, and nothing in it is unpickled or run."""

import json
import os
import pickle
import resource
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from loraudit.base.load import load_base
from loraudit.cards import models_dir
from loraudit.errors import Incomplete, LorauditError
from tests.tiny import save_pipeline, tiny_base

UNET, VAE = "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
WEIGHTS = (UNET, VAE, TEXT)
CONFIGS = ("unet/config.json", "vae/config.json", "text_encoder/config.json")

Break = Callable[[Path], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = save_pipeline(tmp_path_factory.mktemp("base") / "whole")
    for name in ("vocab.json", "merges.txt"):  # older files of a tokenizer, as SD 1.x has them
        shutil.copy(models_dir() / "tiny-clip" / name, folder / "tokenizer")
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "jane")


class Bomb:
    """A pickle that makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


def refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(LorauditError) as caught:
        load_base(str(folder))
    said = str(caught.value)
    assert type(caught.value).exit_code == 2 and "\n" not in said and len(said) < 400
    assert said.startswith("cannot load the base 'jane'") and caught.value.hint
    assert str(folder.parent) not in said
    captured = capfd.readouterr()
    assert captured.out + captured.err == "", "the libraries say nothing of their own"
    assert not (folder.parent / "ran").exists(), "nothing was unpickled"
    return said


def sets(name: str, **values: object) -> Break:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def tensors(name: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Break:
    def changed(folder: Path) -> None:
        state = load_file(folder / name)
        change(state)
        save_file(state, folder / name)

    return changed


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def first(state: dict[str, torch.Tensor]) -> str:
    return next(key for key in sorted(state) if state[key].ndim > 1)


def in_turn(first: Iterable, second: Iterable) -> list[tuple]:
    """Pairs in which each of both stands twice at least: all pairs would take minutes."""
    one, other = list(first), list(second)
    most = max(len(one), len(other))
    pairs = [(one[at % len(one)], other[(at + step) % len(other)]) for step in (0, 1) for at in range(most)]
    return [pair for at, pair in enumerate(pairs) if pair not in pairs[:at]]


def index(name: str, named: object) -> Break:
    return lambda folder: (folder / f"{name}.index.json").write_text(
        named if isinstance(named, str) else json.dumps({"metadata": {}, "weight_map": named})
    )


def test_a_whole_folder_loads_and_changes_no_bit(whole: Path) -> None:
    """The control: what the tests below break is a base like any other."""
    base, made = load_base(str(whole)), tiny_base()
    for loaded, own in ((base.unet, made.unet), (base.vae, made.vae), (base.text_encoder, made.text_encoder)):
        state = own.state_dict()
        assert state.keys() == loaded.state_dict().keys()
        assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())


FILES = (*CONFIGS, *WEIGHTS, "tokenizer/vocab.json", "tokenizer/merges.txt", "tokenizer/tokenizer.json")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "how", ["missing", "empty", "junk", "cut", "folder", "pipe", "dead link", "other json"]
)
def test_every_file_broken_in_every_way(
    name: str, how: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = folder / name
    if how == "missing" and name.startswith("tokenizer/"):
        for other in path.parent.iterdir():
            if other.suffix in {".json", ".txt"} and other.name != "tokenizer_config.json":
                other.unlink()
    elif how in {"missing", "folder", "dead link"}:
        path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "dead link":
        path.symlink_to("nowhere")
    elif how == "pipe":
        pipe(path)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3 + 1])
    elif how in {"empty", "junk", "other json"}:
        path.write_bytes({"empty": b"", "junk": b"\xff\xfe\x00junk" * 99, "other json": b"[[[1]]]"}[how])
    if name == "tokenizer/merges.txt" and how in {"empty", "cut", "other json"}:
        pytest.skip("a text of merges, shorter: the tokenizer reads it")
    refused(folder, capfd)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer"])
def test_a_folder_that_lacks_a_part(part: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(folder / part)
    assert f"it lacks the folder {part}" in refused(folder, capfd)
    (folder / part).touch()
    refused(folder, capfd)


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("how", ["bin", "shard", "renamed", "path", "away"])
def test_no_pickle_is_opened(
    name: str, how: str, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "ran"))
    path, keys = folder / name, list(load_file(folder / name))
    if how == "renamed":
        path.write_bytes(bomb)
    else:
        path.unlink()
        place = tmp_path if how == "away" else path.parent
        for pickled in ("pytorch_model.bin", "diffusion_pytorch_model.bin"):
            (place / pickled).write_bytes(bomb)
    if how in {"shard", "path", "away"}:
        named = {"shard": "pytorch_model.bin", "path": f"../{path.parent.name}/pytorch_model.bin"}
        shards = dict.fromkeys(keys, named.get(how, str(tmp_path / "pytorch_model.bin")))
        index(name, shards)(folder)
    said = refused(folder, capfd)
    assert {"bin": "pickle", "shard": "no safetensors file"}.get(how, "") in said
    pickle.loads(bomb)  # noqa: S301
    assert (tmp_path / "ran").exists(), "the control: the pickle does run where it is opened"


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize(
    "named",
    ["junk", "[]", "{}", {}, [1], {"a": 3}, {"a": "gone.safetensors"}, {"a": "../x.safetensors"}],
    ids=repr,
)
def test_a_broken_index(name: str, named: object, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    index(name, named)(folder)
    refused(folder, capfd)


CHANGES: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "a tensor less": lambda state: state.pop(first(state)),
    "none": lambda state: state.clear(),
    "a tensor more": lambda state: state.update({"another.weight": torch.zeros(3)}),
    "another shape": lambda state: state.update({first(state): torch.zeros(3, 5)}),
    "no number": lambda state: state.update({first(state): torch.zeros(0)}),
    "NaN": lambda state: state[first(state)].view(-1)[:1].fill_(torch.nan),
    "infinite": lambda state: state[first(state)].view(-1)[:1].fill_(-torch.inf),
}


@pytest.mark.parametrize(("name", "change"), in_turn(WEIGHTS, CHANGES))
def test_weights_that_do_not_fit(
    name: str, change: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tensors(name, CHANGES[change])(folder)
    refused(folder, capfd)


BAD = (0, -1, 10**9, 10**400, "many", [1] * 500, {}, float("nan"))
BLOCKS = (
    [], [0, 0, 0], [-8, 8, 16], [8, 8], [10**9] * 3, [2**13] * 3, ["a"] * 3, [None] * 3, 8, [8] * 10**4,
    [1e400] * 3, [10**400] * 3,
)  # fmt: skip
SIZES = {
    "unet/config.json": (
        "layers_per_block", "transformer_layers_per_block", "attention_head_dim", "cross_attention_dim",
        "in_channels", "out_channels", "norm_num_groups", "sample_size",
    ),
    "vae/config.json": ("latent_channels", "layers_per_block", "scaling_factor", "in_channels"),
    "text_encoder/config.json": (
        "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings", "vocab_size",
        "intermediate_size",
    ),
}  # fmt: skip
SET = [
    *((name, "block_out_channels", value) for name, value in in_turn(CONFIGS[:2], BLOCKS)),
    *((*key, value) for key, value in in_turn([(name, key) for name in SIZES for key in SIZES[name]], BAD)),
    ("text_encoder/config.json", "vocab_size", 10),
    ("text_encoder/config.json", "hidden_act", "rm"),
    ("unet/config.json", "act_fn", "rm"),
    ("unet/config.json", "down_block_types", ["AttnBlock"] * 3),
    ("unet/config.json", "_class_name", "UNet3DConditionModel"),
    ("vae/config.json", "_class_name", "../../x"),
]


@pytest.mark.parametrize(
    "change",
    [
        *(
            pytest.param(sets(name, **{key: value}), id=f"{name}-{key}-{value!r:.20}")
            for name, key, value in SET
        ),
        lambda folder: (folder / "unet/config.json").write_text("[" * 10**6),
        lambda folder: (folder / "unet/config.json").write_text('{"a":' * 400 + "1" + "}" * 400),
        lambda folder: (folder / "vae/config.json").write_text(" " * 2_000_000),
    ],
)
def test_configurations_that_describe_no_network(
    change: Break, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    change(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(folder, capfd)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000, "kB"


KEYS = (
    "auto_map", "quantization_config", "_attn_implementation", "attn_implementation", "transformers_weights",
)  # fmt: skip


@pytest.mark.parametrize(("name", "key"), in_turn(CONFIGS, KEYS))
def test_nothing_else_is_fetched_or_run(
    name: str, key: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sets(name, **{key: "kernels/x"})(folder)
    assert f"sets {key}, which is not followed" in refused(folder, capfd)


def test_an_adapter_beside_the_model_is_refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """transformers would fetch the model that it names, and take its weights from a pickle."""
    (folder / "text_encoder/adapter_config.json").write_text('{"base_model_name_or_path": "ns/other"}')
    assert "adapter" in refused(folder, capfd)


def test_a_tokenizer_of_other_words(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = folder / "tokenizer" / "tokenizer.json"
    values = json.loads(path.read_text())
    values["model"]["vocab"] = {**values["model"]["vocab"], **{f"word{i}": 10_000 + i for i in range(5000)}}
    path.write_text(json.dumps(values))
    refused(folder, capfd)


def test_more_weights_than_memory_are_not_read(folder: Path) -> None:
    """A sparse file of 4 TB, whose header says so too."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    with (folder / UNET).open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 4 * 10**12)
    with pytest.raises(LorauditError) as caught:
        load_base(str(folder))
    assert isinstance(caught.value, Incomplete) or "cannot load" in str(caught.value)


def test_shards_are_read(whole: Path, folder: Path) -> None:
    """The control of the index: a model in two files is the same model."""
    state = load_file(folder / UNET)
    halves = sorted(state)[::2], sorted(state)[1::2]
    names = [f"diffusion_pytorch_model-{i}-of-00002.safetensors" for i in ("00001", "00002")]
    for keys, name in zip(halves, names, strict=True):
        save_file({key: state[key] for key in keys}, folder / "unet" / name, {"format": "pt"})
    (folder / UNET).unlink()
    shards = {key: name for keys, name in zip(halves, names, strict=True) for key in keys}
    (folder / f"{UNET}.index.json").write_text(
        json.dumps({"metadata": {"total_size": sum(v.nbytes for v in state.values())}, "weight_map": shards})
    )
    mended, base = load_base(str(folder)).unet.state_dict(), load_base(str(whole)).unet.state_dict()
    assert all(torch.equal(mended[key], base[key]) for key in base)


def test_the_command_says_so_in_two_lines(scan, folder: Path, tmp_path: Path) -> None:
    (folder / "unet/config.json").write_text("{")
    example = models_dir() / "examples" / "example.safetensors"
    code, out, err = scan(example, "--base", folder, "--device", "cpu", "--offline", "--no-progress")
    said = "cannot load the base 'jane': unet/config.json is not JSON"
    assert code == 2 and said in " ".join(out.split())
    assert [line for line in err.splitlines() if said in line] and "internal error" not in err
    assert not (tmp_path / "ran").exists()
