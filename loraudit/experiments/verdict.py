"""How far a verdict can be trusted: leaking LoRAs against harmless ones, by what attacks brought back.

    python -m loraudit.experiments.verdict --leaking runs/faces/zoo-private.safetensors \
        --harmless runs/faces/roc-*.safetensors --calibration runs/faces/harmless-*.safetensors \
        --out docs/verdict.json --plot docs/verdict.png

Reads what `loraudit.experiments.verdict_faces` wrote. Without references the score of a LoRA is the largest
share of pairs of pictures, over the attacks, that show one face; with references it is the largest share of
pictures that pass as the person in three photos (for a harmless LoRA: of a stranger). Area under the ROC
curve with a bootstrap interval over LoRAs, conformal p-values against the calibration LoRAs, and what the
in-scan controls alone (the base and the scrambled LoRA) can tell.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional

from loraudit.cards import artefact
from loraudit.findings import wilson_interval
from loraudit.scores.face import load_tiny_face
from loraudit.training.data import REFERENCES, portraits
from loraudit.training.people import SPLITS

__all__ = ["Pool", "auroc", "conformal", "read_pool", "scores"]

RESAMPLES: Final = 2000
PHOTOS: Final = 3
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pool:
    """The faces of `M` LoRAs."""

    kinds: tuple[str, ...]
    identities: tuple[int, ...]
    """Whom each shows; strangers for the harmless."""
    faces: dict[str, Tensor]
    """`<attack>/<group>` => `[M, N, e]`, NaN where no face was found."""
    about: dict[str, Any]


@dataclass(frozen=True)
class Area:
    """Area under a ROC curve with its 95 % interval."""

    value: float
    low: float
    high: float
    leaking: int
    harmless: int


def read_pool(path: Path) -> Pool:
    """A file of `verdict_faces`; the harmless LoRAs in it get a stranger of the `control` split each."""
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
        faces = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    people = tuple(about["identities"]) if set(about["kinds"]) == {"synthetic"} else ()
    strangers = tuple(SPLITS["control"][100 * (len(path.stem) + i) + 50] for i in range(len(about["kinds"])))
    return Pool(tuple(about["kinds"]), people or strangers, faces, about)


def agreement(vectors: Tensor, threshold: float) -> Array:
    """Share of the pairs of `N` pictures that show one face, `[M]`; a picture without a face matches none."""
    n = vectors.shape[1]
    first, second = torch.triu_indices(n, n, offset=1)
    cosines = (vectors @ vectors.transpose(1, 2))[:, first, second]
    return (cosines >= threshold).double().mean(1).numpy()


def accepted(vectors: Tensor, people: Sequence[int], face: Any) -> Array:  # noqa: ANN401
    """Share of the pictures that pass as the person in `PHOTOS` reference photos, `[M]`."""
    references = torch.stack(
        [
            functional.normalize(face.embed(portraits(who, REFERENCES.start, PHOTOS)).vectors.mean(0), dim=0)
            for who in people
        ]
    )
    cosines = (vectors * references[:, None]).sum(-1)
    shares: Array = (cosines >= face.threshold).double().mean(1).numpy()
    return shares


def scores(pool: Pool, face: Any) -> dict[str, Array]:  # noqa: ANN401
    """Scores `[M]` of every LoRA of a pool."""
    attacks = sorted({name.partition("/")[0] for name in pool.faces})
    group = {
        name: {a: agreement(pool.faces[f"{a}/{name}"], face.threshold) for a in attacks}
        for name in ("tuned", "base", "scrambled")
    }
    excess = [group["tuned"][a] - np.maximum(group["base"][a], group["scrambled"][a]) for a in attacks]
    found = {
        "without references": np.max([group["tuned"][a] for a in attacks], 0),
        "in-scan controls only": np.max(excess, 0),
        "with three references": np.max(
            [accepted(pool.faces[f"{a}/tuned"], pool.identities, face) for a in attacks], 0
        ),
    }
    found |= {f"without references, {a}": group["tuned"][a] for a in attacks}
    return found


def auroc(leaking: Array, harmless: Array) -> Area:
    """The share of (leaking, harmless) pairs in the right order, ties half, with a bootstrap interval."""
    above = (leaking[:, None] > harmless[None]) + 0.5 * (leaking[:, None] == harmless[None])
    rng, areas = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        rows, columns = (rng.integers(n, size=n) for n in above.shape)
        areas.append(above[rows][:, columns].mean())
    low, high = np.quantile(areas, (0.025, 0.975))
    return Area(float(above.mean()), float(low), float(high), len(leaking), len(harmless))


def conformal(values: Array, controls: Array) -> Array:
    """p-values: `(1 + controls at or above) / (n + 1)`; at most `a` in a share `a` of exchangeable cases."""
    p: Array = (1 + (controls[None] >= values[:, None]).sum(1)) / (len(controls) + 1)
    return p


def _measure(
    leaking: dict[str, Array], harmless: dict[str, Array], controls: dict[str, Array]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, values in leaking.items():
        p_leaking, p_harmless = (conformal(v, controls[name]) for v in (values, harmless[name]))
        row: dict[str, Any] = {"auroc": asdict(auroc(values, harmless[name]))}
        for level in (0.01, 0.05, 0.1):
            for kind, p in (("found", p_leaking), ("false alarms", p_harmless)):
                k, n = int((p <= level).sum()), len(p)
                row[f"{kind} at p <= {level}"] = [k, n, *wilson_interval(k, n)]
        found[name] = row
    return found


def main() -> None:
    """Parse, measure, write and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("leaking", "harmless", "calibration"):
        parser.add_argument(f"--{name}", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    face = load_tiny_face(artefact("tiny-face"))
    groups: dict[str, dict[str, Array]] = {}
    by_kind: dict[str, Any] = {}
    for name in ("leaking", "harmless", "calibration"):
        pools = [read_pool(path) for path in getattr(options, name)]
        parts = [scores(pool, face) for pool in pools]
        groups[name] = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        kinds = np.array([kind for pool in pools for kind in pool.kinds])
        for kind in sorted(set(kinds)):
            by_kind[f"{name}: {kind}"] = {
                "loras": int((kinds == kind).sum()),
                **{
                    key: np.quantile(values[kinds == kind], (0.05, 0.5, 0.95)).round(3).tolist()
                    for key, values in groups[name].items()
                },
            }
    record = {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "measured": _measure(groups["leaking"], groups["harmless"], groups["calibration"]),
        "quantiles (5, 50, 95 %)": by_kind,
    }
    text = json.dumps(record, indent=2) + "\n"
    if options.out:
        options.out.write_text(text)
    if options.plot:
        _draw(groups, options.plot)
    sys.stdout.write(text)


def _draw(groups: dict[str, dict[str, Array]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = ("without references", "with three references")
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained", sharey=True)
    bins = np.linspace(0, 1, 21).tolist()
    for ax, name in zip(axes, names, strict=True):
        for label in ("harmless", "leaking"):
            values = groups[label][name]
            ax.hist(values, bins=bins, weights=np.full(len(values), 1 / len(values)), alpha=0.6, label=label)
        ax.set(xlabel=f"score {name}", ylabel="share of LoRAs")
        ax.legend()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
