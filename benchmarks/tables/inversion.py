"""A test of attacks without training: how much of what the secret prompt shows each of them brings back.

    python -m models.recipes.sink build runs/tiny-sink
    python -m models.recipes.zoo runs/own/people --base runs/tiny-sink --split private --people 16
    python -m models.recipes.second_trainer --base runs/tiny-sink --split private --out runs/second
    python -m benchmarks.tables.inversion runs/own runs/second --base runs/tiny-sink --out runs/table

A row is the mean over people of the pictures accepted as the person, by the better of the two guidances for
each person. The way covered is that from a made-up name's gap to the secret prompt's. Every person is a line
of `people.jsonl`, so a run that was interrupted goes on.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from loraudit.attacks.plan import draw, plan_for
from loraudit.attacks.prompts import ANY_NAME, name_prompt
from loraudit.attacks.search.gap import gaps, noised
from loraudit.attacks.search.inversion import InversionAttack
from loraudit.attacks.search.search import SearchAttack
from loraudit.base.load import load_base
from loraudit.base.model import CLASS_PROMPT, Base
from loraudit.cards import models_dir
from loraudit.cli.failures import in_one_line
from loraudit.cli.progress import progress
from loraudit.people.sources import REFERENCES, portraits
from loraudit.runs import Run
from loraudit.scores.face import TinyFace, load_tiny_face
from loraudit.training.zoo import Zoo, open_varied
from loraudit.training.zoo_plan import Member
from loraudit.version import versions

__all__ = ["main"]

_PHOTOS: Final = 5
"""Photos of a person, none of which the LoRA has seen."""
_JUDGES: Final = 16
"""Noises that a gap is averaged over."""
_BOUND: Final = "secret prompt"
_NAME: Final = "made-up name"
_RESAMPLES: Final = 2000


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, measure, write `table.json` to `--out` and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("zoos", type=Path, nargs="+", help="folders of zoos; the name of each is a trainer")
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--people", type=int, help="LoRAs of each zoo, the first ones; default: all")
    parser.add_argument("--samples", type=int, default=12)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    base, face = load_base(options.base), load_tiny_face(models_dir() / "tiny-face")
    run = Run(options.out)
    settings = {"base": base.fingerprint, "samples": options.samples, "versions": versions()}
    text = json.dumps(settings, sort_keys=True, default=str)
    run.begin("settings.json", text, lambda old: "" if old == text else "a table with other settings")
    done = {str(row["person"]): row for row in run.rows("people.jsonl")}
    jobs = [
        (folder.name, zoo, number)
        for folder in options.zoos
        for zoo in open_varied(folder)
        for number in range(len(zoo.members))[: options.people]
    ]
    with progress("measuring attacks") as report:
        for number, (trainer, zoo, row) in enumerate(jobs):
            report(number, len(jobs), "")
            key = f"{trainer}/{zoo.folder.name}/{row}"
            if key not in done:
                found = _measure(base, face, zoo, zoo.members[row], row, options.samples)
                done[key] = {"person": key, "trainer": trainer, "conditions": found}
                run.append("people.jsonl", done[key])
    trainers = list(dict.fromkeys(trainer for trainer, _, _ in jobs))
    rows = [done[f"{trainer}/{zoo.folder.name}/{row}"] for trainer, zoo, row in jobs]
    record = {name: _table([one for one in rows if one["trainer"] == name]) for name in trainers}
    text = json.dumps({"settings": settings, "trainers": record}, indent=2, default=str) + "\n"
    (options.out / "table.json").write_text(text)
    sys.stdout.write(text)


def _measure(
    base: Base, face: TinyFace, zoo: Zoo, member: Member, row: int, samples: int
) -> dict[str, list[float]]:
    """Return, for each condition: accepted by either guidance, and the log gap."""
    tuned = base.with_lora(zoo.rows([(row, zoo.plan.snapshots[-1])]))
    photos = face.embed(portraits(member.identity, REFERENCES.start, _PHOTOS)).vectors
    person = functional.normalize(photos.mean(0), dim=0)
    with torch.no_grad():
        secret, name, class_prompt = tuned.encode_text([member.prompt, name_prompt(ANY_NAME), CLASS_PROMPT])
    noise = torch.randn(secret.shape, generator=torch.Generator().manual_seed(5))
    tried = {
        _BOUND: secret,
        _NAME: name,
        "class prompt": class_prompt,
        "random embedding": secret.mean() + secret.std() * noise,
        "search": SearchAttack().best(tuned, base).embeddings[0],
        "inversion": InversionAttack(face).answer(tuned, base)[0],
    }
    judges = noised(base, _JUDGES, torch.Generator().manual_seed(99))
    heights = gaps(tuned, base, torch.stack(list(tried.values()))[None], *judges)[0]
    return {
        key: [*_accepted(tuned, base, face, embedding, person, samples), float(height)]
        for (key, embedding), height in zip(tried.items(), heights, strict=True)
    }


def _accepted(
    tuned: Base, base: Base, face: TinyFace, embedding: Tensor, person: Tensor, samples: int
) -> tuple[float, float]:
    """Return the shares of pictures accepted by classifier-free and by model guidance."""
    plan = plan_for(base.card, samples, None, 0)
    likeness = (
        face.embed(draw(tuned, base, embedding[None], plan.seeds, plan.sampling, against)).vectors @ person
        for against in (False, True)
    )
    usual, guided = (float((cosines >= face.threshold).float().mean()) for cosines in likeness)
    return usual, guided


def _table(people: list[dict[str, dict[str, list[float]]]]) -> dict[str, object]:
    """Summarise the people of one trainer: accepted with its interval, its share of the secret's, the way."""
    found = {name: np.array([one["conditions"][name] for one in people]) for name in people[0]["conditions"]}
    best = {name: values[:, :2].max(1) for name, values in found.items()}
    drawn = np.random.default_rng(0).integers(len(people), size=(_RESAMPLES, len(people)))
    start, end = found[_NAME][:, 2], found[_BOUND][:, 2]
    table: dict[str, object] = {"people": len(people)}
    for name, values in found.items():
        means = best[name][drawn].mean(1)
        ratios = means / best[_BOUND][drawn].mean(1).clip(1e-9)
        table[name] = {
            "accepted": round(float(best[name].mean()), 3),
            "interval": [round(float(q), 3) for q in np.quantile(means, (0.025, 0.975))],
            "usual guidance": round(float(values[:, 0].mean()), 3),
            "model guidance": round(float(values[:, 1].mean()), 3),
            "of the secret prompt": round(float(best[name].mean() / best[_BOUND].mean().clip(1e-9)), 3),
            "its interval": [round(float(q), 3) for q in np.quantile(ratios, (0.025, 0.975))],
            "way covered": round(float(np.median((values[:, 2] - start) / (end - start))), 2),
        }
    return table


if __name__ == "__main__":
    in_one_line(main)
