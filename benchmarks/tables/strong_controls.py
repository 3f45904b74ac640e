"""A test of the scrambled copy: levels of LoRAs of people and of nobody, judged by controls of a scan alone.

    python -m benchmarks.tables.strong_controls runs/strong --leaking runs/people --harmless runs/styles

Each LoRA is searched as in a scan, and draws 8 pictures by either guidance. Three rows of controls are
compared: none but the base, a scrambled copy of the LoRA's size, and the three copies as strong as the LoRA
that a scan draws on a base without calibration data. Effect is the mean change of a pixel, in shares of that
of the LoRA. The faces are kept in the folder, and drawn once.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from loraudit.attacks.controls import as_strong, scrambled
from loraudit.attacks.plan import FIRST_LOOK, draw
from loraudit.attacks.search.search import SearchAttack
from loraudit.base.load import load_base
from loraudit.base.lowrank import Terms
from loraudit.base.model import Base, Sampling
from loraudit.bench.cases import evidence_of, judged, share
from loraudit.bench.faces import AIMS, SCRAMBLED, Pool, zoos_in
from loraudit.cards import artefact
from loraudit.cli.failures import in_one_line
from loraudit.encoder import frozen_transformer, load_encoder
from loraudit.evidence.holding import holding
from loraudit.findings.finding import Severity
from loraudit.people.sources import Synthetic, portraits
from loraudit.runs import Run
from loraudit.scores.face import load_tiny_face
from loraudit.training.zoo import Zoo
from loraudit.verdict.policy import Policy

__all__ = ["main", "table"]

SIZE: Final = "of the LoRA's size"
OWN: Final = "own prompt"
CONTROLS: Final = {"base alone": (), "a copy of the LoRA's size": (SIZE,), "copies as strong": SCRAMBLED}
_LEVELS: Final = (Severity.HIGH, Severity.MEDIUM, Severity.LOW, Severity.NONE, Severity.INCONCLUSIVE)


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, draw what is not there yet, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--leaking", type=Path, nargs="*", default=[], help="zoos of one person each")
    parser.add_argument("--harmless", type=Path, nargs="*", default=[], help="zoos of nobody in particular")
    parser.add_argument("--people", type=int, default=1000, help="LoRAs of each zoo, at most")
    parser.add_argument("--encoder", default="probe-tiny")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    run, base = Run(options.folder), load_base("tiny")
    frozen, length = frozen_transformer(base.text_encoder), base.embedding_shape[0]
    encoder, _ = load_encoder(options.encoder, frozen, length)
    face, sampling = load_tiny_face(artefact("tiny-face")), Sampling(base.card.steps, base.card.guidance)
    rows: list[dict[str, Any]] = []
    for side, folders in (("leaking", options.leaking), ("harmless", options.harmless)):
        for zoo in zoos_in(folders):
            for row in range(min(options.people, len(zoo.members))):
                name = "-".join((*zoo.folder.absolute().parts[-4:], f"{row:03d}.safetensors"))
                if not (run.folder / name).exists():
                    print(name, file=sys.stderr, flush=True)
                    terms = zoo.rows([(row, zoo.plan.snapshots[-1])])
                    with torch.no_grad():
                        start = encoder(terms)[0]
                        found = _drawn(base, terms, start, zoo.members[row].prompt, sampling, face)
                    run.keep(name, partial(save_file, found))
                rows.append({"side": side, "kind": zoo.plan.data, **_told(run.folder / name, zoo, row, face)})
    text = json.dumps(table(rows), indent=1) + "\n"
    run.write("table.json", text)
    sys.stdout.write(text)


def _drawn(
    base: Base,
    terms: Terms,
    start: Tensor,
    prompt: str,
    sampling: Sampling,
    face: Any,  # noqa: ANN401
) -> dict[str, Tensor]:
    """Draw one LoRA's pictures and controls; return face vectors `[N, e]` by `<aim>/<group>`, and effects."""
    tuned, seeds, search = base.with_lora(terms), range(FIRST_LOOK), SearchAttack()
    embedding = search.best(tuned, base, start).embeddings
    plain = base.sample(embedding, seeds, sampling)
    secret = tuned.sample(tuned.encode_text([prompt]), seeds, sampling)
    found = {OWN: face.embed(secret).vectors}
    copies = [as_strong(terms, 8 + number, base, embedding, plain[None]) for number in range(len(SCRAMBLED))]
    models = {
        "tuned": tuned,
        SIZE: base.with_lora(scrambled(terms, 8)),
        **{group: base.with_lora(copy.terms) for group, copy in zip(SCRAMBLED, copies, strict=True)},
    }
    for aim in search.ways(embedding[0]):
        found[f"{aim.attack}/base"] = face.embed(plain).vectors
        for group, model in models.items():
            pictures = draw(model, base, embedding, seeds, sampling, aim.against_base)
            found[f"{aim.attack}/{group}"] = face.embed(pictures).vectors
            found[f"effect/{aim.attack}/{group}"] = (pictures - plain).abs().mean()[None]
    return found


def _told(path: Path, zoo: Zoo, row: int, face: Any) -> dict[str, Any]:  # noqa: ANN401
    """Judge one LoRA by each row of controls."""
    kept = load_file(path)
    faces = {name: vectors[None] for name, vectors in kept.items() if not name.startswith("effect/")}
    pool = Pool(path.stem, (zoo.plan.data,), (), {}, faces, ())
    policy = Policy()
    levels = {}
    for name, controls in CONTROLS.items():
        seen = tuple(evidence_of(pool, aim, 0, face, None, None, controls or (SIZE,)) for aim in AIMS)
        if not controls:
            seen = tuple(replace(one, scrambled=None, scrambled_cross=(), disturbed=()) for one in seen)
        levels[name] = judged(seen, None, sequential=False).level
    here = holding(seen, policy.min_faces, policy.high_p, policy.medium_p)
    shown = None
    if zoo.plan.data == Synthetic.name:
        photos = face.embed(portraits(zoo.members[row].identity, 5, 3)).vectors.mean(0)
        passed = kept[OWN] @ torch.nn.functional.normalize(photos, dim=0) >= face.threshold
        shown = int(passed.sum()) >= 2
    return {
        "name": path.stem,
        "shown": shown,
        "levels": levels,
        "holds": here.kind,
        "faces": {one.attack: (one.tuned.found, [k for k, _ in one.disturbed]) for one in seen},
        "effects": {
            group: [float(kept[f"effect/{aim}/{group}"] / kept[f"effect/{aim}/tuned"]) for aim in AIMS]
            for group in (SIZE, *SCRAMBLED)
        },
    }


def table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Count levels by side, by kind and by row of controls; LoRAs whose own prompt shows nobody apart."""
    found: dict[str, Any] = {"rows": [{**row, "levels": _words(row["levels"])} for row in rows]}
    for name, mine in _groups(rows):
        found[name] = {
            controls: {
                level.value: share([row["levels"][controls] is level for row in mine]) for level in _LEVELS
            }
            for controls in CONTROLS
        }
        found[name]["shown to draw no face"] = share([row["holds"] == "no face" for row in mine])
        found[name]["kinds"] = dict(Counter(row["kind"] for row in mine))
    found["effect, in shares of the LoRA's (medians)"] = {
        group: round(median(one for row in rows for one in row["effects"][group]), 3)
        for group in (SIZE, *SCRAMBLED)
    }
    return found


def _groups(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    groups = {
        "leaking, shown by the own prompt": [row for row in rows if row["shown"]],
        "leaking, not shown": [row for row in rows if row["shown"] is False],
        "harmless": [row for row in rows if row["side"] == "harmless"],
    }
    yield from ((name, mine) for name, mine in groups.items() if mine)


def _words(levels: Mapping[str, Severity]) -> dict[str, str]:
    return {name: level.value for name, level in levels.items()}


if __name__ == "__main__":
    in_one_line(main)
