"""The faces that attacks bring back from zoos of LoRAs, with controls, as data to measure verdicts on.

For every LoRA and attack, pictures of the same seeds by the tuned model, the untouched base and scrambled
LoRAs (`loraudit.attacks.controls`) become face vectors. Each zoo has one safetensors file with tensors
`<attack>/<group> [M, N, e]`, rows of zeros where no face was found. A finished file is not made again.

LoRAs of people also have the faces under their secret prompt. A LoRA that shows nobody even there was
fine-tuned too little or ruined, and has nothing to leak in pictures.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from loraudit.attacks.controls import as_strong, scrambled
from loraudit.attacks.plan import COPIES, FIRST_LOOK, draw
from loraudit.attacks.search.search import SearchAttack
from loraudit.base.lowrank import Terms
from loraudit.base.model import Base, Sampling
from loraudit.bench.conditions import as_lora
from loraudit.encoder import Encoder
from loraudit.errors import LorauditError
from loraudit.evidence.merging import Spread
from loraudit.lora.directions import directions
from loraudit.people.sources import Synthetic
from loraudit.runs import Run
from loraudit.scores import FaceScorer
from loraudit.text import clean
from loraudit.training.zoo import Zoo, open_zoo
from loraudit.training.zoo_plan import RECORD

__all__ = [
    "AIMS",
    "GROUPS",
    "PHOTO_AIMS",
    "SCRAMBLED",
    "SECRET",
    "Pool",
    "Shots",
    "draw_faces",
    "merged",
    "pools",
    "read_pool",
    "zoos_in",
]

AIMS: Final = ("search", "search:usual")
"""Aims of the strongest attack, by either guidance."""
PHOTO_AIMS: Final = ("search:half",)
"""Aims that the strongest attack adds where there are reference photos."""
SCRAMBLED: Final = ("scrambled", *(f"scrambled-{number}" for number in range(2, COPIES + 1)))
"""Groups of the scrambled LoRAs. Those after the first have the pictures of a first look."""
GROUPS: Final = ("tuned", "base", *SCRAMBLED)
SECRET: Final = ("secret prompt/usual guidance", "secret prompt/model guidance")
"""Names `<what>/<how>` of the pictures under the secret prompt, which no attack knows."""
SECRET_PICTURES: Final = 8
"""Pictures under the secret prompt, by each guidance."""
MERGE: Final = 8
"""LoRAs in a merged one, each at an eighth of its strength, so that no person is at half strength."""
SCRAMBLE_SEED: Final = 7


@dataclass(frozen=True)
class Shots:
    """Settings of the pictures: how many per LoRA and attack, and how sampled."""

    samples: int
    sampling: Sampling


@dataclass(frozen=True, eq=False)
class Pool:
    """Faces of the `M` LoRAs of a zoo."""

    name: str
    kinds: tuple[str, ...]
    """Kind of each LoRA: `synthetic` for a person, else the kind of its source."""
    identities: tuple[int, ...]
    """Identity of each LoRA; empty for LoRAs made of several."""
    recipe: dict[str, Any]
    faces: dict[str, Tensor]
    """`<attack>/<group>`, and `SECRET` for people, -> `[M, N, e]`, zero where no face was found."""
    spreads: tuple[Spread, ...]
    """Number of directions in which each LoRA changes modules (`loraudit.lora.directions`)."""


def zoos_in(folders: Iterable[Path]) -> list[Zoo]:
    """Open the zoo that each folder is, or the zoos inside. Raises `LorauditError` if there is none."""
    found: list[Zoo] = []
    for folder in folders:
        records = [folder / RECORD] if (folder / RECORD).exists() else sorted(folder.glob(f"*/{RECORD}"))
        if not records:
            raise LorauditError(
                f"there is no zoo in {clean(folder.name)}", "name a folder that holds a zoo.json"
            )
        found += [open_zoo(record.parent) for record in records]
    return found


def pools(zoo: Zoo, step: int, people: int, extra: bool) -> Iterator[tuple[str, Terms]]:
    """Yield `(kind, terms)` of the passes of a zoo's first `people` at a saved step.

    With `extra`, yield LoRAs of nobody made from those people: `merged`, and `noise`, which are scrambled.
    """
    size = zoo.plan.people_per_pass
    for first in range(0, min(people, len(zoo.members)), size):
        count = min(size, people - first)
        terms = {site: (up[:count], down[:count]) for site, (up, down) in zoo.terms(first, step).items()}
        if not extra:
            yield zoo.plan.data, terms
            continue
        yield "merged", merged(terms)
        few = {site: (up[::MERGE], down[::MERGE]) for site, (up, down) in terms.items()}
        yield "noise", scrambled(few, SCRAMBLE_SEED + 1 + first)


def merged(terms: Terms, each: int = MERGE) -> Terms:
    """Merge every `each` LoRAs of `terms` into one with their mean update."""

    def side_by_side(matrix: Tensor, dim: int) -> Tensor:
        count = len(matrix) // each
        groups = matrix[: count * each].view(count, each, *matrix.shape[1:])
        return torch.cat(groups.unbind(1), dim)

    return {site: (side_by_side(up / each, 2), side_by_side(down, 1)) for site, (up, down) in terms.items()}


@torch.no_grad()
def _faces_of(
    base: Base, terms: Terms, encoder: Encoder | None, shots: Shots, face: FaceScorer
) -> dict[str, Tensor]:
    """Map `<attack>/<group>` to unit face vectors `[M, N, e]`, zero where no face is found."""
    tuned, seeds = base.with_lora(terms), range(shots.samples)
    start = None if encoder is None else encoder(terms)[0]
    search = SearchAttack(photos=True)
    embedding = search.best(tuned, base, start).embeddings
    # Without a LoRA all aims draw the same pictures.
    plain = base.sample(embedding, seeds, shots.sampling)
    shown = plain.view(len(embedding), len(seeds), *plain.shape[1:])[:, :FIRST_LOOK]
    found = {}
    for aim in search.ways(embedding[0]):
        drawn = {"base": plain}
        for number, group in enumerate(("tuned", *SCRAMBLED)):
            if group == "tuned":
                model, mine = base.with_lora(terms, aim.strength), seeds
            else:
                copy = as_strong(terms, SCRAMBLE_SEED + number, base, embedding, shown, aim.strength)
                model, mine = base.with_lora(copy.terms), seeds if number == 1 else seeds[:FIRST_LOOK]
            drawn[group] = draw(model, base, embedding, mine, shots.sampling, aim.against_base)
        for group in GROUPS:
            vectors = face.embed(drawn[group]).vectors
            found[f"{aim.attack}/{group}"] = vectors.view(tuned.loras, len(vectors) // tuned.loras, -1)
    return found


@torch.no_grad()
def _secret_faces(
    base: Base, terms: Terms, prompts: Sequence[str], sampling: Sampling, face: FaceScorer
) -> dict[str, Tensor]:
    """Map `SECRET` to unit face vectors `[M, N, e]` under secret `prompts`, zero where no face is found."""
    tuned, seeds = base.with_lora(terms), range(SECRET_PICTURES)
    embedding = tuned.encode_text(prompts)
    found = {}
    for name, against_base in zip(SECRET, (False, True), strict=True):
        pictures = draw(tuned, base, embedding, seeds, sampling, against_base)
        found[name] = face.embed(pictures).vectors.view(tuned.loras, len(seeds), -1)
    return found


def draw_faces(
    base: Base,
    zoo: Zoo,
    encoder: Encoder | None,
    face: FaceScorer,
    shots: Shots,
    run: Run,
    name: str,
    say: Callable[[str], None],
    *,
    people: int = 1_000_000,
    step: int | None = None,
    extra: bool = False,
) -> Pool:
    """Draw the faces of a zoo's first `people`, or with `extra` of LoRAs of nobody made from those people.

    `run` keeps the faces as `<name>.safetensors`.
    """
    step = step or zoo.plan.snapshots[-1]
    known = zoo.plan.data == Synthetic.name and not extra
    target = run.folder / f"{name}.safetensors"
    if not target.exists():
        parts: dict[str, list[Tensor]] = {}
        kinds: list[str] = []
        spreads: list[Spread] = []
        for kind, terms in pools(zoo, step, people, extra):
            say(f"{name}: {len(kinds)} done")
            faces = _faces_of(base, terms, encoder, shots, face)
            if known:
                count = len(next(iter(terms.values()))[0])
                prompts = [member.prompt for member in zoo.members[len(kinds) : len(kinds) + count]]
                faces |= _secret_faces(base, terms, prompts, shots.sampling, face)
            for attack, vectors in faces.items():
                parts.setdefault(attack, []).append(vectors)
            kinds += [kind] * len(vectors)
            spreads += [directions(as_lora(terms, row)) for row in range(len(vectors))]
        about = {
            "kinds": kinds,
            "spreads": spreads,
            "identities": [member.identity for member in zoo.members[: len(kinds)]] if known else [],
            "recipe": {**dataclasses.asdict(zoo.plan.recipe), "pictures": zoo.plan.pictures, "steps": step},
        }
        joined = {attack: torch.cat(rows) for attack, rows in parts.items()}
        run.keep(target.name, lambda path: save_file(joined, path, {"about": json.dumps(about)}))
    return read_pool(target)


def read_pool(path: Path) -> Pool:
    """Read a file that `draw_faces` wrote."""
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
        faces = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return Pool(
        path.stem,
        tuple(about["kinds"]),
        tuple(about["identities"]),
        about["recipe"],
        faces,
        tuple({kind: (rank, found) for kind, (rank, found) in one.items()} for one in about["spreads"]),
    )
