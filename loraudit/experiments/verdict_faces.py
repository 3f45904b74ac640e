"""The faces that attacks bring back from zoos of LoRAs, with controls: what verdicts are measured on.

    python -m loraudit.experiments.verdict_faces runs/zoo-private runs/roc/crowds \
        --encoder models/probe-tiny --out runs/faces

For every LoRA and attack, pictures of the same seeds by the tuned model, the untouched base and the scrambled
LoRA (`loraudit.attacks.controls`), as face vectors: one safetensors file a zoo, `<zoo>.safetensors`, tensors
`<attack>/<group> [M, N, e]`, rows of NaN where no face was found. A finished file is not made again.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from loraudit.attacks.controls import scrambled
from loraudit.attacks.plan import draw
from loraudit.attacks.prompts import ANY_NAME
from loraudit.base import Base, Sampling, load_base
from loraudit.cards import artefact
from loraudit.encoder import Encoder, frozen_transformer, load_encoder
from loraudit.lowrank import Terms
from loraudit.scores import FaceScorer
from loraudit.scores.face import load_tiny_face
from loraudit.training.captions import instance_prompt
from loraudit.training.zoo import Zoo, open_zoo

__all__ = ["faces_of", "merged", "pools"]

MERGE: Final = 8
"""LoRAs in a merged one, each at an eighth of its strength: no person is at half of its own."""
SCRAMBLE_SEED: Final = 7


def pools(zoo: Zoo, step: int, extra: bool) -> Iterator[tuple[str, Terms]]:
    """`(kind, terms)` of every pass of a zoo at a saved step; with `extra`, LoRAs made of them that hold
    nobody: `merged`, and `noise`, which are scrambled ones.
    """
    kind = zoo.plan.data
    for first in range(0, len(zoo.members), zoo.plan.people_per_pass):
        terms = zoo.terms(first, step)
        if not extra:
            yield kind, terms
            continue
        yield "merged", merged(terms)
        few = {site: (up[::MERGE], down[::MERGE]) for site, (up, down) in terms.items()}
        yield "noise", scrambled(few, SCRAMBLE_SEED + 1 + first)


def merged(terms: Terms) -> Terms:
    """Every `MERGE` LoRAs of `terms` merged into one, by their mean update."""

    def side_by_side(matrix: Tensor, dim: int) -> Tensor:
        count = len(matrix) // MERGE
        groups = matrix[: count * MERGE].view(count, MERGE, *matrix.shape[1:])
        return torch.cat(groups.unbind(1), dim)

    return {site: (side_by_side(up / MERGE, 2), side_by_side(down, 1)) for site, (up, down) in terms.items()}


@torch.no_grad()
def faces_of(
    base: Base, terms: Terms, encoder: Encoder, seeds: range, settings: Sampling, face: FaceScorer
) -> dict[str, Tensor]:
    """`<attack>/<group>` => unit face vectors `[M, N, e]`, NaN where no face is found."""
    count = len(next(iter(terms.values()))[0])
    text = {site: pair for site, pair in terms.items() if site.startswith("text_encoder.")}
    with base.tuned(text):
        any_name = base.encode_text([instance_prompt(ANY_NAME)] * count)
    aims = {"encoder": encoder(terms)[0], "guidance:any-name": any_name}
    noise = scrambled(terms, SCRAMBLE_SEED)
    found = {}
    for attack, embedding in aims.items():
        for group in ("tuned", "base", "scrambled"):
            if group == "base":
                pictures = base.sample(embedding, seeds, settings, count)
            else:
                lora = terms if group == "tuned" else noise
                pictures = draw(base, lora, embedding, seeds, settings, against_base=True, loras=count)
            faces = face.embed(pictures)
            vectors = torch.where(torch.tensor(faces.found)[:, None], faces.vectors, torch.nan)
            found[f"{attack}/{group}"] = vectors.view(count, len(seeds), -1)
    return found


def main() -> None:
    """Parse, draw and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("zoos", type=Path, nargs="+")
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--extra", action="store_true", help="merged and scrambled LoRAs of the zoos instead")
    parser.add_argument("--step", type=int, help="a saved step; the last by default")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    base = load_base("tiny")
    encoder, _ = load_encoder(options.encoder, frozen_transformer(base.text_encoder), base.embedding_shape[0])
    face = load_tiny_face(artefact("tiny-face"))
    settings = Sampling(options.steps, options.guidance)
    options.out.mkdir(parents=True, exist_ok=True)
    for path in options.zoos:
        zoo = open_zoo(path)
        step = options.step or zoo.plan.snapshots[-1]
        ending = ("-extra" if options.extra else "") + (f"-{options.step}" if options.step else "")
        target = options.out / f"{path.parent.name}-{path.name}{ending}.safetensors"
        if target.exists():
            continue
        parts: dict[str, list[Tensor]] = {}
        kinds: list[str] = []
        for kind, terms in pools(zoo, step, options.extra):
            print(f"{target.stem}: {len(kinds)} done", file=sys.stderr, flush=True)
            faces = faces_of(base, terms, encoder, range(options.samples), settings, face)
            for name, vectors in faces.items():
                parts.setdefault(name, []).append(vectors)
            kinds += [kind] * len(vectors)
        about = {
            "kinds": kinds,
            "identities": [] if options.extra else [member.identity for member in zoo.members],
            "rank": zoo.plan.recipe.rank,
            "targets": zoo.plan.recipe.unet_targets,
            "step": step,
            "samples": options.samples,
            "steps": options.steps,
            "guidance": options.guidance,
        }
        partial = target.with_suffix(".partial")
        save_file(
            {name: torch.cat(vectors) for name, vectors in parts.items()},
            partial,
            {"about": json.dumps(about)},
        )
        partial.replace(target)


if __name__ == "__main__":
    main()
