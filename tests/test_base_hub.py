"""A base on the Hub: what is fetched, what is refused before that, and what the cache is enough for."""

import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import hub as fake
import pytest
import torch
from safetensors.torch import load, load_file, save, save_file

from loraudit.base.hub import NoBase
from loraudit.base.load import load_base
from loraudit.cards import _cards
from loraudit.errors import LorauditError
from loraudit.lora import write_kohya
from tests.singles import use_configs, write_tiny
from tests.tiny import save_pipeline

NAME = "hf://ns/name"
UNET, VAE = "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
WEIGHTS = (UNET, VAE, TEXT)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("base") / "pipeline")


@pytest.fixture
def files(pipeline: Path, hub: fake.Hub) -> Iterator[dict[str, bytes]]:
    """A repository with the pipeline, and with what lies beside it on the Hub."""
    for path in pipeline.rglob("*"):
        if path.is_file():
            hub.files[path.relative_to(pipeline).as_posix()] = path.read_bytes()
    hub.files |= {
        "README.md": b"# A model", "unet/diffusion_pytorch_model.bin": b"\x80\x04.", "v1.ckpt": b"PK\x03\x04",
        "safety_checker/model.safetensors": b"x", "unet/diffusion_pytorch_model.non_ema.safetensors": b"x",
    }  # fmt: skip
    return hub.files


def halved(name: str) -> str:
    return name.replace(".safetensors", ".fp16.safetensors")


def in_half(data: bytes) -> bytes:
    return save({key: value.half() for key, value in load(data).items()}, {"format": "pt"})


def got(hub: fake.Hub) -> set[str]:
    """Paths of the files that were sent."""
    return {
        "/".join(entry[1].split(" ")[1].strip("/").split("/")[4:])
        for entry in hub.gets()
        if "/resolve/" in entry[1]
    }


@pytest.mark.parametrize("name", ["ns/name", NAME, f"{NAME}@v1", f"{NAME}@{fake.COMMIT}"])
def test_it_is_the_base_in_the_folder(
    name: str, hub: fake.Hub, files: dict[str, bytes], pipeline: Path
) -> None:
    base, whole = load_base(name), load_base(str(pipeline))
    assert (base.name, base.listed) == (f"ns/name@{fake.COMMIT}", None)
    assert base.fingerprint == whole.fingerprint
    sent = got(hub)
    assert set(WEIGHTS) <= sent <= files.keys()
    assert all(one.split("/")[0] in {"unet", "vae", "text_encoder", "tokenizer", "scheduler"} for one in sent)
    assert sent & {f"{part}/config.json" for part in ("unet", "vae")} and not [
        one for one in sent if "non_ema" in one or one.endswith(".bin")
    ]
    hub.seen.clear()
    # A commit that the cache holds is not asked for again; without a network the cache has the branch too.
    assert load_base(name, offline=True).fingerprint == base.fingerprint and not hub.seen
    assert load_base(f"{NAME}@{fake.COMMIT}").fingerprint == base.fingerprint and not hub.seen


def test_the_hub_is_down_and_the_cache_is_enough(hub: fake.Hub, files: dict[str, bytes]) -> None:
    before = load_base(NAME).fingerprint
    files.clear()
    hub.status = 503
    assert load_base(NAME).fingerprint == before


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kept", ["both", "half"])
def test_the_variant_in_half_precision(
    dtype: str, kept: str, hub: fake.Hub, files: dict[str, bytes], pipeline: Path
) -> None:
    """It is fetched where it is asked for, or where there is nothing else; the base is the same."""
    for name in WEIGHTS:
        files[halved(name)] = in_half(files[name])
        if kept == "half":
            del files[name]
    base = load_base(NAME, dtype=dtype)
    assert base.fingerprint == load_base(str(pipeline)).fingerprint
    half = kept == "half" or dtype == "float16"
    assert {name for name in got(hub) if name.endswith(".safetensors")} == {
        halved(name) if half else name for name in WEIGHTS
    }


def test_a_single_file_on_the_hub(
    hub: fake.Hub, pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_configs(monkeypatch, pipeline)
    hub.files["models/mix.safetensors"] = write_tiny(tmp_path / "x.safetensors").read_bytes()
    base = load_base(f"{NAME}/models/mix.safetensors")
    assert base.name == f"ns/name@{fake.COMMIT}/models/mix.safetensors"
    assert base.fingerprint == load_base(str(pipeline)).fingerprint
    with pytest.raises(LorauditError, match="has no file models/other"):
        load_base(f"{NAME}/models/other.safetensors")
    hub.files["mix.safetensors"] = b"x"
    with pytest.raises(LorauditError, match="it is no diffusers pipeline; name one") as caught:
        load_base(NAME)
    assert "hf://ns/name/FILE: mix.safetensors" in str(caught.value)


def config(files: dict[str, bytes], name: str, **values: object) -> None:
    files[name] = json.dumps({**json.loads(files[name]), **values}).encode()


REFUSED = {
    "it is an SDXL or SD 3 pipeline": lambda files: files.update({"text_encoder_2/config.json": b"{}"}),
    "it is a pipeline with a transformer": lambda files: files.update({"transformer/config.json": b"{}"}),
    "it is an inpainting model": lambda files: config(files, "unet/config.json", in_channels=9),
    "it is a Stable Diffusion 2.x model": lambda f: config(f, "unet/config.json", cross_attention_dim=1024),
    "it is an SDXL model": lambda files: config(files, "unet/config.json", cross_attention_dim=2048),
    "predicts v_prediction": lambda files: config(
        files, "scheduler/scheduler_config.json", prediction_type="v_prediction"
    ),
    "unet/config.json sets layers_per_block beyond": lambda f: config(
        f, "unet/config.json", layers_per_block=99
    ),
    "sets auto_map, which is not followed": lambda f: config(f, "vae/config.json", auto_map={"x": "y"}),
    "it lacks vae/config.json": lambda files: files.pop("vae/config.json"),
    "unet holds a pickle, which is not fetched": lambda files: files.pop(UNET),
    "text_encoder lacks weights": lambda files: files.pop(TEXT),
    "unet/config.json is not JSON": lambda files: files.update({"unet/config.json": b"{"}),
}
"""Words of a refusal => change; no weights are fetched."""


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_refused_before_its_weights_are_fetched(
    words: str, hub: fake.Hub, files: dict[str, bytes]
) -> None:
    REFUSED[words](files)
    with pytest.raises(LorauditError) as caught:
        load_base(NAME)
    assert words in str(caught.value) and caught.value.exit_code == 2
    assert str(caught.value).startswith("cannot load the base 'ns/name': ")
    assert UNET not in got(hub)


def test_what_is_refused_after(hub: fake.Hub, files: dict[str, bytes], tmp_path: Path) -> None:
    def spoiled(name: str, change) -> bytes:
        state = load(files[name])
        change(state)
        return save(state)

    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    good = files[UNET]
    for data, words in (
        (spoiled(UNET, lambda s: s["conv_in.bias"].fill_(torch.nan)), "unet holds NaN or infinite values"),
        (spoiled(UNET, lambda s: s.pop("conv_in.bias")), "the weights of unet lack 1 tensors"),
        (spoiled(UNET, lambda s: s.update(x=torch.zeros(1))), "the weights of unet have"),
        (pickle.dumps(Bomb()), "is a Python pickle"),
        (good[:-5], "is truncated"),
    ):
        files[UNET] = data
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        with pytest.raises(LorauditError) as caught:
            load_base(NAME)
        assert words in str(caught.value), words
    assert not (tmp_path / "ran").exists()
    files[UNET], hub.sizes[UNET] = good, 10**12
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(LorauditError, match=r"has 1000\.0 GB, more than"):
        load_base(NAME)


def test_names_that_lead_elsewhere_are_not_asked_for(hub: fake.Hub, files: dict[str, bytes]) -> None:
    for name in ("unet/../../x.json", "../config.json", "tokenizer/../../y.json", "/etc/passwd", "unet\\z"):
        files[name] = b"{}"
    load_base(NAME)
    assert not [name for name in got(hub) if ".." in name or "passwd" in name or name[-1] == "z"]


def test_without_the_base(hub: fake.Hub, files: dict[str, bytes]) -> None:
    with pytest.raises(NoBase, match="the base 'ns/name' is not on this machine, and --offline is set"):
        load_base(NAME, offline=True)
    assert not hub.seen
    hub.status = 503
    with pytest.raises(NoBase, match="is not on this machine, and it cannot be fetched"):
        load_base(NAME)
    for status, code, words in (
        (401, "GatedRepo", "ns/name is gated"), (404, "RepoNotFound", "no such repository"),
        (403, "", "the Hub refuses access"),
    ):  # fmt: skip
        hub.status, hub.error_code = status, code
        with pytest.raises(LorauditError, match=words) as caught:
            load_base(NAME)
        assert not isinstance(caught.value, NoBase) and caught.value.exit_code == 2
    hub.status = 200
    with pytest.raises(LorauditError, match="has no revision nowhere"):
        load_base(f"{NAME}@nowhere")
    # Half of it in the cache is not enough.
    weights = files.pop(TEXT)
    with pytest.raises(LorauditError):
        load_base(NAME)
    files[TEXT] = weights
    with pytest.raises(NoBase):
        load_base(NAME, offline=True)


def test_a_scan_without_the_base_is_incomplete(hub: fake.Hub, scan, tmp_path: Path, sd1_factors) -> None:
    write_kohya(sd1_factors, tmp_path / "x.safetensors")
    hub.status = 503
    code, out, err = scan(tmp_path / "x.safetensors", "--base", "ns/name", "-f", "json")
    assert code == 4, err
    (gap,) = json.loads(out)["incomplete"]
    assert gap["what"] == "the attack" and "the base 'ns/name' is not on this machine" in gap["why"]
    hub.status, hub.error_code = 404, "RepoNotFound"
    code, out, err = scan(tmp_path / "x.safetensors", "--base", "ns/name")
    assert (code, "no such repository on the Hub" in err) == (2, True)


@pytest.fixture
def listed(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A row of the list that lies on the Hub, as sd14 and sd15 do."""
    import hashlib

    row = {
        **_cards()["base"]["sd15"],
        "where": "ns/name",
        "revision": fake.COMMIT,
        "embedding_shape": [12, 16],
    }
    row["hashes"] = {name: hashlib.sha256(files[name]).hexdigest() for name in WEIGHTS}
    cards = {**_cards(), "base": {**_cards()["base"], "mini": row}}
    monkeypatch.setattr("loraudit.cards._cards", lambda: cards)
    return row


def test_a_listed_base_is_checked_against_its_card(
    hub: fake.Hub, files: dict[str, bytes], listed: dict[str, object], pipeline: Path
) -> None:
    files[halved(UNET)] = in_half(files[UNET])
    base = load_base("mini", dtype="float16")
    assert (base.name, base.fingerprint) == ("mini", load_base(str(pipeline)).fingerprint)
    assert base.listed is not None and base.card.revision == fake.COMMIT
    assert halved(UNET) not in got(hub), "the hashes are those of the whole files"
    hub.seen.clear()
    load_base("mini")
    load_base("mini", offline=True)
    assert not hub.seen, "the commit is in the cache"
    listed["hashes"] = {UNET: "0" * 64}
    with pytest.raises(LorauditError, match="is not the file that loraudit was tested with"):
        load_base("mini")


@pytest.mark.parametrize("status", [401, 404, 503])
def test_a_listed_base_that_cannot_be_had(status: int, hub: fake.Hub, listed: dict[str, object]) -> None:
    """Nobody chose its repository: whatever the Hub says, the base is not here."""
    assert listed["where"] == "ns/name"
    hub.status = status
    with pytest.raises(
        NoBase, match="the base 'mini' is not on this machine, and it cannot be fetched"
    ) as no:
        load_base("mini")
    assert "hf download ns/name --revision" in no.value.hint


def test_a_folder_with_nothing_but_half_precision(pipeline: Path, tmp_path: Path, capfd) -> None:
    folder = tmp_path / "half"
    save_pipeline(folder)
    for name in WEIGHTS:
        state = {key: value.half() for key, value in load_file(folder / name).items()}
        save_file(state, folder / halved(name), {"format": "pt"})
        (folder / name).unlink()
    capfd.readouterr()
    base = load_base(str(folder))
    assert base.fingerprint == load_base(str(pipeline)).fingerprint
    assert (base.dtype, load_base(str(folder), dtype="float16").dtype) == (torch.float32, torch.float16)
    (folder / halved(VAE)).write_bytes((folder / halved(VAE)).read_bytes()[:-3])
    with pytest.raises(LorauditError, match="is truncated"):
        load_base(str(folder))
    (folder / halved(VAE)).unlink()
    with pytest.raises(LorauditError, match=r"vae lacks diffusion_pytorch_model\.safetensors"):
        load_base(str(folder))
    captured = capfd.readouterr()
    assert captured.out + captured.err == "", "the libraries say nothing of their own"
