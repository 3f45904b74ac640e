"""A scan of Stable Diffusion 1.x at full size, with random weights: exit code, time and memory.

    python -m benchmarks.tables.sd14_shape runs/sd14

One base, with SD 1.4's configuration (CompVis/stable-diffusion-v1-4: `unet`, `vae` and
`text_encoder/config.json`) and CLIP's real vocabulary, is written in the forms that people have:

- `single`: one file in float32, under the names of the latent-diffusion code (4.3 GB);
- `half`: a pipeline folder with nothing but `*.fp16.safetensors` (2.1 GB);
- `hub`: an entry of the Hub's cache, in float32, which a scan finds by `namespace/name` (4.3 GB).

For each form a process of its own scans a LoRA of kohya's layout (all attention and the text encoder, rank
32), and a line of JSON is printed. The face model is FaceNet with random weights, behind the real MTCNN; CLIP
is not at hand, so the scan ends as incomplete. Weights are random, so the pictures show nothing; time and
memory do not depend on weights. A form is deleted before the next one is written, unless `--keep` is given.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks.tables.ldm_file import write_ldm_file
from loraudit.base.vocabulary import LENGTH, clip_tokenizer
from loraudit.cards import FACE_FILE, FACE_RECORD
from loraudit.lora import Factors, write_kohya
from loraudit.lora.layouts.topology import topologies

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "FORMS",
    "NAME",
    "TEXT",
    "UNET",
    "VAE",
    "write_form",
    "write_lora",
    "write_pipeline",
]

UNET: Final[Mapping[str, Any]] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "attention_head_dim": 8,  # the number of heads, by diffusers' historical name
    "cross_attention_dim": 768,
}
"""Configuration of 859,520,964 parameters; every other field is diffusers' default, as in SD-1.4."""
VAE: Final[Mapping[str, Any]] = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "sample_size": 512,
}
TEXT: Final[Mapping[str, Any]] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
}
FORMS: Final = ("single", "half", "hub")
NAME: Final = "made-up/full-size"
"""Name of the base on the Hub, whose cache alone has it."""
_COMMIT: Final = "0123456789abcdef0123456789abcdef01234567"


def _parts(
    unet: Mapping[str, Any], vae: Mapping[str, Any], text: Mapping[str, Any]
) -> tuple[Callable[[], Any], ...]:
    """Return makers of UNet, VAE and text tower; a maker draws the same weights at each call."""

    def seeded(number: int, make: Callable[[], Any]) -> Any:  # noqa: ANN401
        with torch.random.fork_rng():
            torch.manual_seed(number)
            return make()

    ids = {"max_position_embeddings": LENGTH, "bos_token_id": 49406, "eos_token_id": 49407}
    return (
        partial(seeded, 0, lambda: UNet2DConditionModel(**unet)),
        partial(seeded, 1, lambda: AutoencoderKL(**vae)),
        partial(seeded, 2, lambda: CLIPTextModel(CLIPTextConfig(**text, **ids))),
    )


def write_pipeline(
    folder: Path,
    unet: Mapping[str, Any] = UNET,
    vae: Mapping[str, Any] = VAE,
    text: Mapping[str, Any] = TEXT,
    half: bool = False,
) -> None:
    """Write a diffusers folder of these shapes, one part in memory at a time.

    Weights are float32 as on the Hub; with `half`, the variant in float16 alone.
    """
    for name, make in zip(("unet", "vae", "text_encoder"), _parts(unet, vae, text), strict=True):
        part = make().half() if half else make()
        part.save_pretrained(folder / name, variant="fp16" if half else None)
    clip_tokenizer().save_pretrained(folder / "tokenizer")


def write_single(
    file: Path,
    unet: Mapping[str, Any] = UNET,
    vae: Mapping[str, Any] = VAE,
    text: Mapping[str, Any] = TEXT,
) -> None:
    """Write a checkpoint of these shapes in a single file, float32."""
    file.parent.mkdir(parents=True, exist_ok=True)
    drawn = [make() for make in _parts(unet, vae, text)]
    write_ldm_file(file, drawn[0], drawn[1], drawn[2], torch.float32)


def write_form(
    form: str,
    folder: Path,
    unet: Mapping[str, Any] = UNET,
    vae: Mapping[str, Any] = VAE,
    text: Mapping[str, Any] = TEXT,
) -> str:
    """Write the base in one of `FORMS` below `folder`; return what names it on the command line."""
    place = folder / form
    if form == "single":
        write_single(place / "full-size.safetensors", unet, vae, text)
        return str(place / "full-size.safetensors")
    if form == "hub":
        entry = place / "hub" / f"models--{NAME.replace('/', '--')}"
        write_pipeline(entry / "snapshots" / _COMMIT, unet, vae, text)
        (entry / "refs").mkdir()
        (entry / "refs" / "main").write_text(_COMMIT)
        return NAME
    write_pipeline(place, unet, vae, text, half=form == "half")
    return str(place)


def write_lora(file: Path, rank: int = 32) -> None:
    """Write a random LoRA of kohya's layout: every attention of the UNet, and the text encoder."""
    rng = np.random.default_rng(0)
    factors = {}
    for site, shape in topologies()[0].shapes.items():
        if ".attn" in site or site.startswith("text_encoder."):
            up, down = (
                rng.standard_normal(size, np.float32) for size in ((shape[0], rank), (rank, shape[1]))
            )
            factors[site] = Factors(0.02 * up, down / np.float32(shape[1]) ** 0.5, 1.0)
    write_kohya(factors, file, {"ss_steps": "1000"})


def write_face_model(cache: Path) -> None:
    """Write FaceNet with random weights into the folder `cache`, with the record that a scan asks for."""
    from facenet_pytorch import InceptionResnetV1

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = InceptionResnetV1(pretrained=None, classify=False)
    cache.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), cache / FACE_FILE)
    digest = hashlib.sha256((cache / FACE_FILE).read_bytes()).hexdigest()
    (cache / FACE_RECORD).write_text(f"{digest}\n", encoding="ascii")


def scan(base: str, folder: Path, form: str, arguments: list[str]) -> dict[str, object]:
    """Scan the LoRA in `folder` on `base` in a process of its own; measure it, and read its report."""
    report = folder / f"{form}.json"
    command = [
        sys.executable, "-m", "loraudit", "scan", str(folder / "lora.safetensors"), "--base", base,
        "--offline", "--device", "cpu", "--format", "json", "-o", str(report),
        "--save-images", str(folder / f"{form}-pictures"), *arguments,
    ]  # fmt: skip
    places = {"XDG_CACHE_HOME": str(folder / "cache"), "HF_HOME": str(folder / "hub")}
    start = time.perf_counter()
    child = subprocess.Popen(command, env=os.environ | places)  # noqa: S603
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    told: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {}
    # Linux counts in KiB, macOS in bytes.
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "form": form,
        "exit code": os.waitstatus_to_exitcode(status),
        "seconds": round(seconds, 1),
        "CPU seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak GiB": round(peak / 2**30, 2),
        "level": told.get("verdict", {}).get("level"),
        "modules": told.get("target", {}).get("modules"),
        "fingerprint": told.get("settings", {}).get("base_fingerprint"),
        "evaluations": told.get("settings", {}).get("evaluations"),
        "incomplete": [entry["what"] for entry in told.get("incomplete", ())],
        "pictures": len(list((folder / f"{form}-pictures").glob("*.png"))),
    }


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments; write, scan and delete one form after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--keep", action="store_true", help="leave the bases where they are")
    parser.add_argument("scan", nargs="*", help="options of the scan, after --")
    options = parser.parse_args(arguments)
    folder: Path = options.folder
    write_face_model(folder / "cache" / "loraudit")
    write_lora(folder / "lora.safetensors")
    for form in options.forms:
        # In a process of its own: the peak of a child begins with what its parent holds.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            base = pool.apply(write_form, (form, folder))
        try:
            wanted = options.scan or ["--attack", "prompts", "--samples", "1", "--steps", "2"]
            print(json.dumps(scan(base, folder, form, wanted)), flush=True)
        finally:
            if not options.keep:
                shutil.rmtree(folder / form)


if __name__ == "__main__":
    main()
