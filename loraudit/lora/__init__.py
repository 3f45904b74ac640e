"""LoRA files: any layout on disk to one canonical form, in numpy.

`load_lora(target)` is the door. A file's strings and numbers are hostile. Sizes are checked before anything
is allocated, nothing is unpickled, no expression from a file is run, and text is shown only through `clean`.

The public names load on first use, so that reading headers alone (`lora.file`, `lora.source`) costs no numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loraudit.lora.canonical import canonicalize
    from loraudit.lora.export import export_lora
    from loraudit.lora.load import load_lora
    from loraudit.lora.matrices import Factors, LoRA, LoRAFile, Site, Unread
    from loraudit.lora.write import write_diffusers, write_kohya, write_peft

__all__ = [
    "Factors",
    "LoRA",
    "LoRAFile",
    "Site",
    "Unread",
    "canonicalize",
    "export_lora",
    "load_lora",
    "write_diffusers",
    "write_kohya",
    "write_peft",
]

_HOMES = {
    "Factors": "matrices",
    "LoRA": "matrices",
    "LoRAFile": "matrices",
    "Site": "matrices",
    "Unread": "matrices",
    "canonicalize": "canonical",
    "export_lora": "export",
    "load_lora": "load",
    "write_diffusers": "write",
    "write_kohya": "write",
    "write_peft": "write",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(f"module 'loraudit.lora' has no attribute '{name}'")
    return getattr(import_module(f"loraudit.lora.{_HOMES[name]}"), name)
