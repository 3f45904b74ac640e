"""The LoRAs of zoos as files, for `loraudit calibrate --controls` and `--identities`.

    python -m models.recipes.control_files runs/control/crowds runs/control/styles runs/control/things \
        --merge runs/validation --out runs/control-files
    python -m models.recipes.control_files --people runs/validation --weights runs/one \
        --out runs/people-files

Controls get one folder per kind. `--merge` adds LoRAs of nobody made from LoRAs of people: merged and
scrambled ones. `--people` adds LoRAs of one person each, a folder per person with photos that no LoRA saw.
`--weights` adds the same without photos, so that only the weights are read.
"""

import argparse
from pathlib import Path

import torch
from torchvision.utils import save_image

from loraudit.bench.cases import PHOTOS
from loraudit.bench.conditions import as_lora
from loraudit.bench.faces import pools, zoos_in
from loraudit.cli.failures import in_one_line
from loraudit.lora import export_lora
from loraudit.people.sources import REFERENCES, portraits

__all__ = ["main"]


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments and write the files; a file that exists is left alone."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="*", help="zoos, or folders of zoos")
    parser.add_argument("--merge", type=Path, nargs="*", default=[], help="zoos of people")
    parser.add_argument("--people", type=Path, nargs="*", default=[], help="zoos of people, for --identities")
    parser.add_argument(
        "--weights", type=Path, nargs="*", default=[], help="zoos of people, for --identities without photos"
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    counts: dict[str, int] = {}
    for extra, folders in ((False, options.folders), (True, options.merge)):
        for zoo in zoos_in(folders):
            for kind, terms in pools(zoo, zoo.plan.snapshots[-1], len(zoo.members), extra):
                (options.out / kind).mkdir(parents=True, exist_ok=True)
                for row in range(len(next(iter(terms.values()))[0])):
                    counts[kind] = counts.get(kind, 0) + 1
                    target = options.out / kind / f"{kind}-{counts[kind]:03d}.safetensors"
                    if not target.exists():
                        export_lora(as_lora(terms, row), "diffusers", target)
    for name, photos, folders in (("person", PHOTOS, options.people), ("weights", 0, options.weights)):
        for zoo in zoos_in(folders):
            step = zoo.plan.snapshots[-1]
            for row, member in enumerate(zoo.members):
                counts[name] = counts.get(name, 0) + 1
                folder = options.out / f"{name}-{counts[name]:03d}"
                folder.mkdir(parents=True, exist_ok=True)
                shown = portraits(member.identity, REFERENCES.start, photos) if photos else ()
                for number, photo in enumerate(shown):
                    save_image(photo, folder / f"{number}.png")
                if not (folder / "lora.safetensors").exists():
                    lora = as_lora(zoo.rows([(row, step)]), 0)
                    export_lora(lora, "diffusers", folder / "lora.safetensors")
    print(", ".join(f"{count} {kind}" for kind, count in counts.items()))


if __name__ == "__main__":
    in_one_line(main)
