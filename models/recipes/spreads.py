"""Directions of further LoRAs of one person, added to calibration data.

    python -m models.recipes.spreads models/calibration-tiny runs/second/people/*/loras/000.safetensors

The rule for merged LoRAs asks how much LoRAs of one person vary from recipe to recipe
(`loraudit.evidence.merging`). One LoRA of each recipe is therefore enough, and its weights alone are read.
Nothing else in the data changes. `loraudit calibrate` writes the same rows for LoRAs that it is given anew.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from loraudit.cli.failures import in_one_line
from loraudit.evidence.calibration import load_calibration
from loraudit.lora import load_lora
from loraudit.lora.directions import directions

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments and write the calibration data anew; rows that are there already are left out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("calibration", type=Path, help="folder of the calibration data")
    parser.add_argument("loras", type=Path, nargs="+", help="LoRAs of one person, one of each recipe")
    options = parser.parse_args(arguments)
    data = load_calibration(options.calibration)
    found = [dict(directions(load_lora(str(path)))) for path in options.loras]
    new = [spread for spread in found if spread not in data.spreads]
    replace(data, spreads=(*data.spreads, *new)).write(options.calibration)
    print(f"{len(new)} rows added, {len(data.spreads) + len(new)} in all")


if __name__ == "__main__":
    in_one_line(main)
