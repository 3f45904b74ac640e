"""Second opinion of the safetensors library: what other programs see in a file that was accepted."""

from safetensors import SafetensorError, safe_open

from loraudit.errors import NotScannable
from loraudit.lora.file.header import Header
from loraudit.text import clean

__all__ = ["require_agreement"]


def require_agreement(header: Header) -> None:
    """Raise `NotScannable` if the safetensors library refuses the file of `header`, or reads it otherwise.

    Names, dtypes, shapes and metadata are compared; no tensor is read. An `OSError` passes through.
    """
    name = clean(header.path.name)
    try:
        # The default backend maps the file, and a mapped file that shrinks kills the process.
        with safe_open(header.path, "numpy", backend="pread") as theirs:
            slices = {key: theirs.get_slice(key) for key in theirs.keys()}  # noqa: SIM118
            seen = {key: (part.get_dtype(), tuple(part.get_shape())) for key, part in slices.items()}
            metadata = theirs.metadata() or {}
    except SafetensorError:
        # What it says may be words of the file.
        raise NotScannable(
            f"the safetensors library refuses {name}: it cannot read it",
            "download or export it again",
        ) from None
    if (seen, metadata) != (
        {key: (info.dtype, info.shape) for key, info in header.tensors.items()},
        header.metadata,
    ):
        raise NotScannable(
            f"the safetensors library and loraudit read the header of {name} differently",
            "download or export it again",
        )
