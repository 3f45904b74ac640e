"""Bases from the list, a folder or the Hub: which files are read, on which device, in which type."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError

from loraudit.base.fingerprint import fingerprint
from loraudit.base.folder import check_complete, check_folder, check_loaded, refusing
from loraudit.base.memory import is_out_of_memory, require_memory
from loraudit.base.model import Base
from loraudit.base.schedule import signal_variance
from loraudit.cards import base_card, verify
from loraudit.errors import LorauditError
from loraudit.text import clean

__all__ = ["NoBase", "load_base", "pick_device"]

_WEIGHTS: Final = ("unet", "vae", "text_encoder")
"""Folders of a diffusers pipeline that hold weights."""
_UNLOADABLE: Final = (
    OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, SafetensorError,
)  # fmt: skip
"""Errors that diffusers, transformers and safetensors answer a missing, cut or foreign file with."""


class NoBase(LorauditError):
    """Base of the list that is not on this machine and cannot be fetched. Exit code 2."""


def load_base(name: str, device: str = "cpu", offline: bool = False) -> Base:
    """Load the base `name` of `models/cards.toml`, or the diffusers pipeline folder at that path.

    Weights come from safetensors only. On CUDA they take the card's dtype (float16 for a folder), on a CPU
    float32. `offline` takes a base from the Hub's cache alone. Raises `LorauditError` if there is no such
    base or it is damaged, `NoBase` if it cannot be fetched, `Incomplete` if memory does not suffice.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.models.attention_processor import AttnProcessor
    from huggingface_hub.utils import logging as hub_logging
    from transformers import CLIPTextModel, CLIPTokenizer
    from transformers.utils import logging

    # transformers shows a bar for each file of weights, which is read faster than the bar is seen.
    logging.disable_progress_bar()
    # The Hub client warns of every try before it gives up; the user then gets one error from here.
    hub_logging.get_logger().setLevel("ERROR")
    # diffusers 0.42 passes an outdated argument to the Hub client; the user can do nothing about that.
    warnings.filterwarnings("ignore", "The `local_dir_use_symlinks` argument", UserWarning)
    folder = Path(name)
    if folder.is_dir():
        where, revision, half = str(folder), None, True
    else:
        card = base_card(name)
        if card.folder is not None:
            verify(card.folder, card.hashes)
        where, revision, half = str(card.folder or card.where), card.revision, card.dtype == "float16"
    dtype = torch.float16 if half and device.startswith("cuda") else torch.float32
    hub = {} if Path(where).is_dir() else {"revision": revision, "local_files_only": offline}
    given = folder.is_dir()
    if given:
        check_folder(folder)
    if Path(where).is_dir():
        require_memory(Path(where), _WEIGHTS, widened=dtype == torch.float32)
    try:
        safe = {"use_safetensors": True, "output_loading_info": True, **hub}
        with refusing(name) if given else nullcontext():
            unet, of_unet = UNet2DConditionModel.from_pretrained(
                where, subfolder="unet", torch_dtype=dtype, **safe
            )
            vae, of_vae = AutoencoderKL.from_pretrained(where, subfolder="vae", torch_dtype=dtype, **safe)
            text, of_text = CLIPTextModel.from_pretrained(
                where, subfolder="text_encoder", dtype=dtype, **safe
            )
            tokenizer = CLIPTokenizer.from_pretrained(where, subfolder="tokenizer", **hub)
    except MemoryError:
        raise
    except _UNLOADABLE as error:
        if is_out_of_memory(error):
            raise
        # Both libraries raise OSError for a missing file and for an unreachable Hub alike. Their text names
        # folders of the user.
        if hub:
            reason = "--offline is set" if offline else "it cannot be fetched"
            raise NoBase(
                f"the base '{name}' is not on this machine, and {reason}",
                f"fetch it once, where there is a network, with: {base_card(name).fetch_command}; or name a "
                "diffusers folder with --base FOLDER",
            ) from error
        raise LorauditError(f"cannot load the base '{clean(name, 300)}'", "install loraudit again") from error
    with refusing(name) if given else nullcontext():
        if given:
            check_complete(folder, {"unet": of_unet, "vae": of_vae, "text_encoder": of_text})
        identity = fingerprint(unet, vae, text)
        for part in (unet, vae, text):
            part.eval().requires_grad_(False).to(device)
        if device == "cpu" and unet.config.sample_size <= 16:
            # Over a few dozen positions plain products are faster on a CPU than torch's fused attention.
            unet.set_attn_processor(AttnProcessor())
            text.set_attn_implementation("eager")
        shown, listed = (folder.name, None) if given else (name, base_card(name))
        base = Base(shown, unet, vae, text, tokenizer, signal_variance(), listed=listed, fingerprint=identity)
        if given:
            check_loaded(folder, base)
    return base


def pick_device(asked: str | None) -> str:
    """Return the device asked for; None means CUDA where there is one, else the CPU.

    Raises `LorauditError` if CUDA is asked for and not there.
    """
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise LorauditError("there is no CUDA device on this machine", "leave --device out")
    return asked or ("cuda" if available else "cpu")
