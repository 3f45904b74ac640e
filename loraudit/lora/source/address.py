"""Addresses of LoRAs on the Hugging Face Hub, and names of files that can be one.

An address may come from a stranger's page, and a path from the Hub. Neither leads out of its repository, and
nothing unsound is shown or sent.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loraudit.errors import LorauditError, NotScannable
from loraudit.text import clean

__all__ = ["PEFT_CONFIG", "PEFT_WEIGHTS", "PICKLES", "WEIGHTS", "HubSpec", "parse_spec", "sound_path"]


PEFT_WEIGHTS: Final = "adapter_model.safetensors"
PEFT_CONFIG: Final = "adapter_config.json"

WEIGHTS: Final = ".safetensors"
PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill")
"""Endings of files that are never opened."""
_BARE: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_REVISION: Final = re.compile(r"[\w.+-]+(?:/[\w.+-]+)*", re.ASCII)


@dataclass(frozen=True)
class HubSpec:
    """File on the Hub, as asked for."""

    repo: str
    """Repository, `namespace/name`."""
    revision: str | None = None
    """Branch, tag or commit; None: the default branch."""
    path: str = ""
    """Path within the repository; empty: the only LoRA there."""


def parse_spec(target: str) -> HubSpec | None:
    """Parse `target` as an address on the Hub; None if it is a local path.

    An address is `hf://ns/name[@revision][/path]`, a page or download link of the Hub, or `ns/name` if there
    is no such local path. Raises `LorauditError` if it is not sound, `NotScannable` if it cannot be a LoRA.
    """
    bare = _BARE.fullmatch(target) is not None
    if bare:
        # A mistyped local path may be private and is not sent.
        local = os.path.lexists(target) or Path(target).parent.exists()
        if local or target.lower().endswith((WEIGHTS, *PICKLES)):
            return None
    elif not target.lower().startswith(("hf://", "https://", "http://")):
        return None
    from huggingface_hub import constants, parse_hf_uri
    from huggingface_hub.errors import HfUriError

    shown = clean(target, 300)
    try:
        uri = parse_hf_uri(f"hf://{target}" if bare else target, endpoint=constants.ENDPOINT)
    except HfUriError:
        raise LorauditError(
            f"not an address of a repository on the Hub: {shown}",
            "give hf://namespace/name[@revision]/path, or download the file first",
        ) from None
    if uri.type != "model":
        raise LorauditError(f"not a model repository: {shown}", "loraudit reads models of the Hub")
    revision = uri.revision
    if revision is not None and (".." in revision or not _REVISION.fullmatch(revision)):
        raise LorauditError(f"not a revision: {clean(revision)}", "give a branch, a tag or a commit")
    return HubSpec(uri.id, revision, sound_path(uri.path_in_repo) if uri.path_in_repo else "")


def sound_path(path: str) -> str:
    """Return `path` within a repository if it stays there and can be a LoRA by its name.

    Raises `LorauditError` if the path leads out, `NotScannable` if its name is not that of a LoRA.
    """
    shown = clean(path, 300)
    if any(part in {"", ".", ".."} for part in path.split("/")) or "\\" in path or clean(path, 1000) != path:
        raise LorauditError(f"not a path within a repository: {shown}", "give one without . and ..")
    if path.lower().endswith(PICKLES):
        raise NotScannable(
            f"{shown} is a pickle by its name", "loraudit never unpickles; ask for the .safetensors file"
        )
    if not path.lower().endswith(WEIGHTS):
        raise NotScannable(f"{shown} is not a {WEIGHTS} file by its name", f"name the {WEIGHTS} file")
    return path
