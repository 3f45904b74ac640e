"""The face model of photographs: facenet-pytorch 2.5.3, MTCNN and InceptionResnetV1 trained on VGGFace2.

The crop and `(x - 127.5) / 128` are part of the model, not a choice: its own evaluation on LFW has both.
A threshold holds for one crop. `benchmarks.tables.face_threshold` measures it on this one; until the result
lies in `models/facenet`, the threshold is borrowed, and every report says so.

The weights are published as a pickle, so they are converted once, with `weights_only` and after a check of
the hash. From then on only the safetensors copy is read, while it has the hash that was recorded then.
MTCNN's three small networks come inside the installed package and share its trust.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from loraudit.cards import FACE_FILE, FACE_RECORD, models_dir
from loraudit.errors import Incomplete, LorauditError
from loraudit.files import file_sha256, read_within, replacing
from loraudit.scores import FaceEmbeddings
from loraudit.scores.threshold import Threshold, measured_threshold

__all__ = [
    "BORROWED",
    "CROP",
    "SOURCE_SHA256",
    "SOURCE_URL",
    "Facenet",
    "convert_facenet",
    "facenet_weights",
    "load_facenet",
]

SOURCE_URL = (
    "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt"
)
"""Address of the published weights."""
SOURCE_SHA256 = "281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b"
"""Hash of the 111,898,327 bytes at `SOURCE_URL`."""
CROP: Final = {"image_size": 160, "margin": 14, "selection_method": "largest_over_threshold"}
"""Arguments of MTCNN; its least probability, 0.9, stays: with a smaller one it sees faces in texture."""
BORROWED: Final = Threshold(0.5912, 1e-3, "the code of AMT-GAN")
"""Threshold from the literature. AMT-GAN's code has three for this network, 0.2566, 0.4091 and 0.5912, for
whole pictures without MTCNN. It calls the middle one that of FAR 0.01; that the third is for 0.001 is
inferred."""

_BATCH = 32
"""Faces in a forward pass, at most."""


class Facenet:
    """Face model of photographs, a `FaceScorer` of the largest face on each."""

    name = "facenet-vggface2"

    def __init__(
        self, network: nn.Module, device: str | torch.device = "cpu", threshold: Threshold = BORROWED
    ) -> None:
        from facenet_pytorch import MTCNN

        self.threshold = threshold.cosine
        """Cosine of one person; strangers of one sex and origin reach it more often than `far` says."""
        self.far = threshold.far
        """False-accept rate at `threshold`, 0..1."""
        self.threshold_from = threshold.taken_from
        """Source of a threshold that was never measured on this crop; empty: it was measured."""
        self._network = network.eval().to(device)
        self._device = torch.device(device)
        self._detector = MTCNN(**CROP, device=self._device).eval()

    @torch.inference_mode()
    def embed(self, images: Tensor) -> FaceEmbeddings:
        """Embed the largest face on each photograph `[N, 3, H, W]` in 0..1 as a vector, `[N, 512]`."""
        crops = [self._crop(image) for image in images]
        found = tuple(crop is not None for crop in crops)
        vectors = torch.zeros(len(crops), 512)
        faces = [crop for crop in crops if crop is not None]
        if faces:
            batches = torch.stack(faces).split(_BATCH)
            embedded = [self._network(batch.to(self._device)).float().cpu() for batch in batches]
            vectors[torch.tensor(found)] = torch.cat(embedded)
        return FaceEmbeddings(vectors, found)

    def _crop(self, image: Tensor) -> Tensor | None:
        """Cut the largest face, standardised `[3, 160, 160]`, out of a picture `[3, H, W]` in 0..1."""
        if min(image.shape[1:]) < self._detector.min_face_size:
            return None  # MTCNN fails on a picture smaller than the smallest face it looks for, 20 px
        # one picture at a time: a detection near its threshold must not depend on the pictures beside it
        pixels = (image.float().nan_to_num().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu()
        crop: Tensor | None = self._detector(Image.fromarray(np.asarray(pixels)))
        return crop


def convert_facenet(source: Path, converted: Path, sha256: str = SOURCE_SHA256) -> None:
    """Write the pickle at `source` as safetensors to `converted`, whole or not at all, and record its hash.

    The record is the file `FACE_RECORD` beside `converted`; a cut between the two leaves weights that
    `facenet_weights` converts again. Raises `LorauditError` if the hash of `source` is not `sha256`, before
    the pickle is read.
    """
    digest = file_sha256(source)
    if digest != sha256:
        raise LorauditError(
            f"{source.name} is not the published face model (sha256 {digest[:12]}, expected {sha256[:12]})",
            "delete the file and try again",
        )
    state = torch.load(source, map_location="cpu", weights_only=True)
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    # save_file raises no OSError where the disk is full
    data = save(tensors, {"source_sha256": sha256})
    with replacing(converted, converted.with_name(FACE_RECORD)) as (weights, record):
        weights.write_bytes(data)
        record.write_bytes(f"{hashlib.sha256(data).hexdigest()}\n".encode())


def _is_recorded(converted: Path) -> bool:
    """Tell whether the weights at `converted` are those that were converted, by the hash recorded then."""
    try:
        said = read_within(converted.with_name(FACE_RECORD), 100).decode("ascii").strip()
        return converted.is_file() and file_sha256(converted) == said
    except (OSError, UnicodeDecodeError):
        return False


def facenet_weights(cache: Path, *, offline: bool) -> Path:
    """Find the converted weights in the folder `cache`, or convert facenet-pytorch's download or our own.

    Weights that differ from their recorded hash are converted again. `offline` fetches nothing. Raises
    `Incomplete` if the weights cannot be fetched or stored.
    """
    converted = cache / FACE_FILE
    if _is_recorded(converted):
        return converted
    source = SOURCE_URL.rpartition("/")[2]
    theirs = _torch_home() / "checkpoints" / source
    at_hand = theirs.exists()
    # A hint ends up in reports, which must not name the user's folders; the shell fills them in.
    place = f"${{TORCH_HOME:-${{XDG_CACHE_HOME:-$HOME/.cache}}/torch}}/checkpoints/{source}"
    hint = f'fetch it with: curl -L --create-dirs -o "{place}" {SOURCE_URL}'
    if offline and not at_hand:
        what = "changed since it was converted" if converted.exists() else "is not on this machine"
        raise Incomplete(f"the face model for photographs {what}, and --offline is set", hint)
    fetched = cache / source
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if at_hand:
            convert_facenet(theirs, converted)
        else:
            torch.hub.download_url_to_file(SOURCE_URL, str(fetched), progress=False)
            convert_facenet(fetched, converted)
    except OSError as error:
        why = error.strerror or error
        if at_hand:
            raise Incomplete(
                f"the face model for photographs cannot be converted ({why})",
                "make loraudit's cache folder writable, or make room on its disk",
            ) from error
        raise Incomplete(f"the face model for photographs cannot be fetched ({why})", hint) from error
    finally:
        with suppress(OSError):
            fetched.unlink()
    return converted


def load_facenet(weights: Path, device: str | torch.device = "cpu") -> Facenet:
    """Load the face model with the converted `weights`, and its measured threshold where one ships.

    Raises `LorauditError` if a file is damaged or another network's.
    """
    from facenet_pytorch import InceptionResnetV1

    network = InceptionResnetV1(pretrained=None, classify=False)
    try:
        state = load_file(weights)
        # an embedding does without the head over VGGFace2's 8631 people
        network.load_state_dict({k: v for k, v in state.items() if not k.startswith("logits.")})
    except (OSError, RuntimeError, SafetensorError) as error:
        raise LorauditError(
            f"the face model {weights.name} cannot be read ({type(error).__name__})",
            "delete the file and try again",
        ) from error
    shipped = models_dir() / "facenet" / "threshold.json"
    measured = measured_threshold(shipped, BORROWED.far, SOURCE_SHA256, CROP)
    return Facenet(network, device, measured or BORROWED)


def _torch_home() -> Path:
    """Find the folder of facenet-pytorch's downloads (its `inception_resnet_v1.get_torch_home`)."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser()
