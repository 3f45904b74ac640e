"""Hostile configurations by the hundred thousand: adapter_config.json, metadata of headers, alphas, cards.

    python benchmarks/fuzz_config.py 100000 --seed 1

Each input is a sound LoRA of a few modules whose configuration is a sound one with some members changed:
types swapped, numbers out of any range, keys doubled, nested or cut. It is scanned with its weights, judged
and reported as JSON. An input fails if anything but a `LorauditError` is raised, if it takes more than a
second, or if the report is no JSON. Memory may grow by 500 MB. docs/fuzzing.md has the results.
"""

import argparse
import json
import platform
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np

from loraudit.audit.request import Request
from loraudit.audit.scan import scan
from loraudit.errors import LorauditError
from loraudit.lora.write import serialize
from loraudit.report import FORMATS
from loraudit.version import __version__

LIMIT_SECONDS: Final = 1.0
"""Processor time that one input may take."""
LIMIT_BYTES: Final = 500_000_000
"""Memory that all inputs together may take beyond the imports."""
BLOCK: Final = "down_blocks.0.attentions.0.transformer_blocks.0"
MODULES: Final = {"attn1.to_q": (320, 320), "attn2.to_k": (320, 768), "attn2.to_v": (320, 768)}
CONFIG: Final[Mapping[str, Any]] = {
    "peft_type": "LORA", "r": 2, "lora_alpha": 4, "alpha": 4, "use_rslora": False, "use_dora": False,
    "rank_pattern": {"to_q": 2}, "alpha_pattern": {"^attn1.to_q": 3}, "init_lora_weights": True,
    "bias": "none", "modules_to_save": None, "target_modules": ["to_q", "to_k"],
    "base_model_name_or_path": None,
    "lora_dropout": 0.0, "fan_in_fan_out": False, "layers_to_transform": None, "auto_mapping": {"a": "b"},
    "rank_dropout": 0.0, "decompose_both": False, "decompose_factor": -1, "module_dropout": 0.0,
}  # fmt: skip
"""Configuration that peft could have written, for any of the three kinds."""
HEADER: Final[Mapping[str, str]] = {
    "ss_network_dim": "2", "ss_network_alpha": "4.0", "ss_v2": "False", "ss_base_model_version": "sd_v1",
    "ss_network_module": "networks.lora", "ss_network_args": '{"conv_dim": "4"}', "ss_num_epochs": "8",
    "ss_dataset_dirs": '{"10_ada": {"n_repeats": 10, "img_count": 25}}', "ss_num_train_images": "250",
    "ss_tag_frequency": '{"10_ada": {"ada": 25}}', "ss_training_finished_at": "1718013120.5",
    "modelspec.date": "2024-06-10T11:52:00", "modelspec.architecture": "stable-diffusion-v1/lora",
    "ss_datasets": '[{"subsets": [{"image_dir": "/x", "num_repeats": 1}]}]', "unet": '["Attention"]',
    "ot_config": '{"concepts": [{"name": "ada"}]}', "sshs_cp0": '{"ss_output_name": "ada"}',
}  # fmt: skip
NUMBERS: Final[tuple[Any, ...]] = (
    0, 1, -1, 2, 0.5, -0.0, 1e-308, 5e-324, 1e30, -1e30, 1e308, 10**400, -(10**400), 2**31, 2**63, 2**64,
    7919, 65_536, 65_537, 1_000_001, 1e6, True, False,
)  # fmt: skip
WORDS: Final = (
    "", "LORA", "LOHA", "LOKR", "OFT", "pissa", "pissa_niter_4", "olora", "gaussian", "eva", "loftq", "all",
    "lora_only", "to_q", "^to_q$", "attn1\\.to_q", ".*", "(a+)+$", "unet.", "NaN", "1e999", "\x1b[2J",
    "\u202e", "::error::x", "[red]", "<script>", "x" * 5000, "\ud83d\ude00", "None", "null",
    "lora_alpha", "9" * 4400,
)  # fmt: skip
ALPHAS: Final = (0.0, -0.0, 1.0, -1.0, 4.0, 1e-45, 1e38, -1e38, float("nan"), float("inf"), float("-inf"))


class Maker:
    """Maker of inputs from one seed: equal seeds give equal inputs."""

    def __init__(self, seed: int) -> None:
        """Start the sequence of `seed`."""
        self.random = random.Random(seed)

    def value(self, depth: int = 0) -> Any:  # noqa: ANN401
        """Make a value of any JSON type."""
        kind = self.random.randrange(8 if depth < 3 else 5)
        if kind < 3:
            return self.random.choice(NUMBERS)
        if kind == 3:
            return self.random.choice(WORDS)
        if kind == 4:
            return None
        count = self.random.choice((0, 1, 2, 2, 3))
        if kind == 5:
            return [self.value(depth + 1) for _ in range(count)]
        return {self.key(): self.value(depth + 1) for _ in range(count)}

    def key(self) -> str:
        """Make a key: one that is known, or any word."""
        return self.random.choice((*CONFIG, *WORDS))

    def changed(self, table: Mapping[str, Any]) -> dict[str, Any]:
        """Change a few members of a table: another value, a member more, a member less."""
        made = {key: value for key, value in table.items() if self.random.random() < 0.9}
        for _ in range(self.random.choice((0, 1, 1, 2, 3, 6))):
            made[self.random.choice(tuple(CONFIG)) if self.random.random() < 0.8 else self.key()] = (
                self.value()
            )
        for key in ("rank_pattern", "alpha_pattern"):
            if self.random.random() < 0.2:
                count = self.random.choice((1, 3, 3, 20, 400))
                made[key] = {f"{self.random.choice(WORDS)[:40]}{at}": self.value(3) for at in range(count)}
                made[key][self.random.choice(("to_q", "attn2.to_k", "^to_v"))] = self.value(3)
        return made

    def text(self, value: Any) -> str:  # noqa: ANN401
        """Write JSON, with the faults of a text in one of eight."""
        text = json.dumps(value)
        fault = self.random.randrange(24)
        if fault == 0:
            return text[: self.random.randrange(len(text) + 1)]
        if fault == 1:
            at = self.random.randrange(len(text) + 1)
            return (
                text[:at]
                + self.random.choice(('"', "{", "]", ",", ":", "\\u", "NaN", "-", "1e9"))
                + text[at:]
            )
        if fault == 2:
            return self.random.choice(("[", '{"a":', '[{"r":')) * self.random.choice((1, 500, 3000))
        if fault == 3 and self.random.random() < 0.05:
            unit = self.random.choice(("{}", '"["', '{"r":{"r":1}}', json.dumps(text), "[" * 500 + "]" * 500))
            return f"[{','.join([unit] * (self.random.choice((100_000, 5_000_000)) // (len(unit) + 1)))}]"
        return text

    def tensors(self, layout: str) -> dict[str, np.ndarray]:
        """Make one to three modules in `layout`, `peft`, `lokr`, `diffusers` or `kohya`, of few numbers."""
        made: dict[str, np.ndarray] = {}
        for name, (outputs, inputs) in list(MODULES.items())[: self.random.randint(1, 3)]:
            path = f"{BLOCK}.{name}"
            scale = self.random.choice((1.0, 1.0, 1.0, 0.0, 1e-40, 1e15, 1e30))
            up, down = np.full((outputs, 2), scale, np.float32), np.full((2, inputs), scale, np.float32)
            if layout == "lokr":
                made[f"base_model.model.{path}.lokr_w1"] = np.ones((8, 8), np.float32)
                made[f"base_model.model.{path}.lokr_w2"] = np.ones((outputs // 8, inputs // 8), np.float32)
            elif layout == "kohya":
                flat = "lora_unet_" + path.replace(".", "_")
                made |= {f"{flat}.lora_up.weight": up, f"{flat}.lora_down.weight": down}
                size = self.random.choice(((), (1,), (1, 1), (2,), (0,)))
                made[f"{flat}.alpha"] = np.full(size, self.random.choice(ALPHAS), np.float32)
            else:
                start = "base_model.model." if layout == "peft" else "unet."
                made |= {f"{start}{path}.lora_B.weight": up, f"{start}{path}.lora_A.weight": down}
        return made

    def write(self, folder: Path) -> Path:
        """Write one input into `folder` and return what is to be scanned."""
        layout = self.random.choice(("peft", "peft", "lokr", "diffusers", "diffusers", "kohya"))
        header: dict[str, str] = {}
        for key, value in HEADER.items():
            if self.random.random() < 0.3:
                parsed = json.loads(value) if value[0] in "{[" else value
                strange = self.random.random() < 0.5
                header[key] = self.text(
                    self.value() if strange else self.changed(parsed) if isinstance(parsed, dict) else parsed
                )
        if layout == "diffusers":
            parts = self.random.choice((("unet.",), ("unet.", "text_encoder."), ("",), ("unet.", "")))
            table = {f"{part}{key}": value for part in parts for key, value in self.changed(CONFIG).items()}
            header["lora_adapter_metadata"] = self.text(
                table if self.random.random() < 0.95 else self.value()
            )
        (folder / "adapter_model.safetensors").write_bytes(serialize(self.tensors(layout), header))
        config = folder / "adapter_config.json"
        config.unlink(missing_ok=True)
        if layout in {"peft", "lokr"} and self.random.random() < 0.97:
            table = self.changed({**CONFIG, "peft_type": "LOKR" if layout == "lokr" else "LORA"})
            text = self.text(table if self.random.random() < 0.95 else self.value())
            if self.random.random() < 0.02:
                text = text.replace('"r":', '"r": 4, "r":', 1)
            config.write_text(text, encoding="utf-8", errors="surrogatepass")
        return folder


def run_one(target: Path) -> str:
    """Scan one input as the command does and return how it ended: `read` or the start of the refusal."""
    (done,) = scan([str(target)], Request(depth="weights"))
    json.loads(FORMATS["json"]([done.report], reveal=True))
    if done.error is None:
        return "read"
    return type(done.error).__name__


def main(run: Callable[[Path], str] = run_one) -> None:
    """Run the number of inputs that the command line asks for, and print all numbers as a line of JSON."""
    parser = argparse.ArgumentParser(description="fuzz the configurations beside and in LoRA files")
    parser.add_argument("inputs", type=int)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    maker = Maker(asked.seed)
    ended: Counter[str] = Counter()
    longest, started, failures = 0.0, time.monotonic(), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(maker.write(folder))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        for number in range(asked.inputs):
            target = maker.write(folder)
            start = time.process_time()
            try:
                ended[run(target)] += 1
            except LorauditError as error:
                ended[type(error).__name__] += 1
            except Exception as error:
                failures += 1
                print(f"input {number}: {type(error).__name__}: {error}", file=sys.stderr)
            took = time.process_time() - start
            longest = max(longest, took)
            if took > LIMIT_SECONDS:
                failures += 1
                print(f"input {number}: {took:.2f} s", file=sys.stderr)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if peak - before > LIMIT_BYTES:
        failures += 1
        print(f"memory grew by {(peak - before) / 1e6:.0f} MB", file=sys.stderr)
    told = {
        "inputs": asked.inputs, "seed": asked.seed, "ended": dict(sorted(ended.items())),
        "failures": failures,
        "seconds": round(time.monotonic() - started), "longest_ms": round(1000 * longest),
        "peak_rss_mib": round(peak / 2**20), "python": platform.python_version(), "loraudit": __version__,
        "date": str(date.today()),  # noqa: DTZ011 (the day where it ran)
    }  # fmt: skip
    print(json.dumps(told))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
