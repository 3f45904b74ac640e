"""The LoRAs of zoos as files, a folder a kind: what `loraudit calibrate --controls` measures.

    python -m loraudit.experiments.control_files runs/control/crowds runs/control/styles runs/control/things \
        --merge runs/validation --out runs/control-files

With `--merge`, LoRAs that hold nobody made of those of people: merged ones and scrambled ones.
"""

import argparse
from pathlib import Path

import torch

from loraudit.experiments.conditions import as_lora
from loraudit.experiments.verdict_faces import pools
from loraudit.lora import export_lora
from loraudit.training.zoo import open_zoo

__all__ = ["main"]


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    """Parse and write; a file that exists is left alone."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+", help="zoos, or folders of zoos")
    parser.add_argument("--merge", type=Path, nargs="*", default=[], help="zoos of people")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    counts: dict[str, int] = {}
    for extra, folders in ((False, options.folders), (True, options.merge)):
        paths = [path.parent for folder in folders for path in sorted(folder.rglob("zoo.json"))]
        for zoo in map(open_zoo, paths):
            for kind, terms in pools(zoo, zoo.plan.snapshots[-1], len(zoo.members), extra):
                (options.out / kind).mkdir(parents=True, exist_ok=True)
                for row in range(len(next(iter(terms.values()))[0])):
                    counts[kind] = counts.get(kind, 0) + 1
                    target = options.out / kind / f"{kind}-{counts[kind]:03d}.safetensors"
                    if not target.exists():
                        export_lora(as_lora(terms, row), "diffusers", target)
    print(", ".join(f"{count} {kind}" for kind, count in counts.items()))


if __name__ == "__main__":
    main()
