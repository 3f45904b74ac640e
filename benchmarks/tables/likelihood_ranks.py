"""A test that the likelihood test knows the person of a LoRA, and takes no stranger for that person.

    python -m benchmarks.tables.likelihood_ranks --zoo runs/people --harmless runs/styles --out out.json

LoRAs of a person are tested with unused photos of that person and with a stranger's, LoRAs of nobody with a
stranger's. The record has p-values among the bundled decoys, at the embedding that the search finds without
an encoder, and the resulting levels.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from loraudit.attacks.likelihood import LikelihoodTest, read_decoys
from loraudit.attacks.search.search import SearchAttack
from loraudit.base.load import load_base
from loraudit.bench.cases import PHOTOS, POLICY, auroc, share, strangers
from loraudit.bench.faces import zoos_in
from loraudit.cards import models_dir
from loraudit.cli.failures import in_one_line
from loraudit.findings.finding import Severity
from loraudit.people.sources import REFERENCES, portraits
from loraudit.training.zoo import Zoo
from loraudit.verdict.likelihood import judge_likelihood

__all__ = ["main"]

OWN, STRANGER, HARMLESS = "own", "stranger", "stranger, LoRA of nobody"


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, measure, write the record to `--out` and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--zoo", type=Path, action="append", required=True, help="zoo of people, or folder of such zoos"
    )
    parser.add_argument(
        "--harmless", type=Path, action="append", default=[], help="zoo of nobody, or folder of such zoos"
    )
    parser.add_argument(
        "--decoys", type=Path, default=models_dir() / "decoys-tiny", help="folder of photos of other people"
    )
    parser.add_argument("--people", type=int, default=48, help="LoRAs of each zoo at most")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    base = load_base("tiny")
    decoys = read_decoys(options.decoys).latents
    jobs = list(_jobs(options.zoo, options.harmless, options.people))
    found: dict[str, list[float]] = {who: [] for _, _, shown in jobs for who in shown}
    levels: dict[str, list[Severity]] = {who: [] for who in found}
    zoos = {
        who: [f"{zoo.folder.parent.name}/{zoo.folder.name}" for zoo, _, shown in jobs if who in shown]
        for who in found
    }
    for number, (zoo, row, shown) in enumerate(jobs, 1):
        tuned = base.with_lora(zoo.rows([(row, zoo.plan.snapshots[-1])]))
        embedding = SearchAttack().best(tuned, base).embeddings[0]
        for who, identity in shown.items():
            photos = base.encode_images(portraits(identity, REFERENCES.start, PHOTOS))
            known = LikelihoodTest(photos, decoys).run(tuned, base, embedding)
            found[who].append(known.p_value)
            levels[who].append(judge_likelihood(known, POLICY).severity)
        print(f"{number} of {len(jobs)}", file=sys.stderr, flush=True)
    own, other = ([-p for p in found[who]] for who in (OWN, STRANGER))
    record = {
        "LoRAs": len(jobs),
        "photos": PHOTOS,
        "decoys": len(decoys),
        "auroc": vars(auroc(own, other, (zoos[OWN], zoos[STRANGER]))),
        **{
            f"{who}, p <= {level:g}": share([p <= level + 1e-9 for p in values])
            for who, values in found.items()
            for level in (0.01, 0.05, 0.1, 0.5)
        },
        **{
            f"{who}, {level.name.lower()} or above": share([one >= level for one in values])
            for who, values in levels.items()
            for level in (Severity.HIGH, Severity.MEDIUM, Severity.LOW)
        },
    }
    text = json.dumps(record, indent=1) + "\n"
    options.out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def _jobs(
    leaking: list[Path], harmless: list[Path], most: int
) -> Iterator[tuple[Zoo, int, Mapping[str, int]]]:
    """Yield the zoo and index of each LoRA, and the people whose photos test that LoRA."""
    number = 0
    for folders, knows in ((leaking, True), (harmless, False)):
        for zoo in zoos_in(folders):
            for member in zoo.members[:most]:
                (other,) = strangers(1, number)
                number += 1
                shown = {OWN: member.identity, STRANGER: other} if knows else {HARMLESS: other}
                yield zoo, member.index, shown


if __name__ == "__main__":
    in_one_line(main)
