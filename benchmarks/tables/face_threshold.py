"""The cosine from which a face model calls two faces one person, at stated rates of false accepts.

    python -m benchmarks.tables.face_threshold lfw/ --out models/facenet/threshold.json

The folder is laid out as LFW is: a folder of photos for each person, `NAME/NAME_0001.jpg`. Pictures are
those that its `pairs.txt` names, if there is one, and otherwise the first `--pictures` of each person.
Every picture goes through the very crop of a scan (`loraudit.scores`). Strangers are all pairs of faces of
different people, as a list of 3,000 pairs cannot tell 1 false accept in 1,000. One person are the pairs that
`pairs.txt` lists, or all pairs of faces of one person.

Pairs that share a person are not independent. So the 95 % intervals are those of a bootstrap that draws
people, each with all of their pairs. The pigeonhole bootstrap (Owen 2007) of pairs is conservative.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import combinations, islice
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from loraudit.audit.photos import read_photo
from loraudit.cli.failures import in_one_line
from loraudit.cli.progress import progress
from loraudit.errors import LorauditError
from loraudit.evidence.intervals import wilson_interval
from loraudit.files import file_sha256, write_atomic
from loraudit.runs import OnStep, unheard
from loraudit.scores import FaceScorer
from loraudit.scores.facenet import CROP
from loraudit.scores.scorers import open_face
from loraudit.text import clean

Numbers: TypeAlias = NDArray[Any]

__all__ = ["FARS", "Album", "main", "measure", "open_album"]

FARS: Final = (1e-2, 1e-3, 1e-4)
"""False-accept rates whose thresholds are measured."""
_LEAST: Final = 10
"""False accepts from which on a threshold is told; fewer pairs would decide by themselves."""
_DRAWS: Final = 1000
"""Draws of the bootstrap."""
_KEPT: Final = 5
"""Strangers above the lowest threshold that the bootstrap keeps, as a multiple of those that pass it."""
_BINS: Final = 20_000
"""Bins of a cosine, -1..1, in which all strangers are counted."""
_ROWS: Final = 1024
"""Faces whose cosines to all others are in memory at once."""
_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class Album:
    """Pictures of many people."""

    files: tuple[Path, ...]
    people: tuple[int, ...]
    """Number of the person on each picture."""
    same: tuple[tuple[int, int], ...]
    """Pairs of pictures of one person."""


def open_album(folder: Path, most: int = 4) -> Album:
    """List the pictures in `folder` that are to be compared: those of `pairs.txt`, or `most` of a person.

    Raises `LorauditError` if the folder is laid out otherwise, or a pair names a picture that is not there.
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        found = {
            name: sorted(file for file in (folder / name).iterdir() if file.suffix.lower() in _SUFFIXES)
            for name in names
        }
    except OSError as error:
        raise LorauditError(
            f"cannot look into {clean(str(folder), 300)}: {error.strerror}", "give a folder laid out as LFW"
        ) from None
    listed = folder / "pairs.txt"
    if listed.is_file():
        pairs = _listed(listed.read_text(encoding="utf-8"), found)
        files = sorted({file for pair in pairs for file in pair})
    else:
        files = [file for name in names for file in islice(found[name], most)]
        pairs = [pair for name in names for pair in combinations(found[name][:most], 2)]
    if len({file.parent for file in files}) < 2:
        raise LorauditError(
            f"there are no two people in {clean(str(folder), 300)}",
            "give a folder with a folder of photos for each person",
        )
    place = {file: at for at, file in enumerate(files)}
    same = [(place[one], place[other]) for one, other in pairs if one.parent == other.parent]
    return Album(tuple(files), tuple(names.index(file.parent.name) for file in files), tuple(same))


def _listed(text: str, found: Mapping[str, Sequence[Path]]) -> list[tuple[Path, Path]]:
    """Read LFW's list: lines `NAME 1 2` and `NAME 1 OTHER 2` after one of numbers alone."""
    pairs = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("\t") if "\t" in line else line.split()
        if not words or (len(words) < 3 and all(word.isdigit() for word in words)):
            continue
        if len(words) not in {3, 4}:
            raise LorauditError(f"line {number} of pairs.txt is no pair", "write NAME 1 2, or NAME 1 OTHER 2")
        sides = [(words[0], words[1]), (words[0], words[2]) if len(words) == 3 else (words[2], words[3])]
        at = [
            next((one for one in found.get(name, ()) if one.stem == f"{name}_{index.zfill(4)}"), None)
            for name, index in sides
        ]
        if at[0] is None or at[1] is None:
            raise LorauditError(f"line {number} of pairs.txt names a picture that is not there", "add it")
        pairs.append((at[0], at[1]))
    return pairs


def measure(face: FaceScorer, album: Album, seed: int = 0, on_step: OnStep = unheard) -> dict[str, Any]:
    """Measure the thresholds of `face` on the pictures of `album`, and the rates of the threshold in use.

    Raises `LorauditError` if there are too few faces for any threshold.
    """
    faces, found, unread = _embedded(face, album.files, on_step)
    seen = np.flatnonzero(found)
    who, people = np.unique(np.array(album.people)[seen], return_inverse=True)
    ones = np.ones(len(who))
    total = _all_strangers(ones, people)
    if total * max(FARS) < _LEAST:
        raise LorauditError(f"{int(total)} pairs of strangers are too few", "give photos of more people")
    place = {int(at): number for number, at in enumerate(seen)}
    same = [(place[a], place[b]) for a, b in album.same if a in place and b in place]
    one, other = (torch.tensor([pair[side] for pair in same], dtype=torch.long) for side in (0, 1))
    alike = _Pairs((faces[one] * faces[other]).sum(1).numpy(), people[one.numpy()], None)
    strangers = _strangers(faces, people, min(_cut(faces, people, total), face.threshold))
    told = [far for far in FARS if total * far >= _LEAST]
    thresholds = [_threshold(strangers, ones, total, far) for far in told]
    low, high = _drawn(strangers, people, face.threshold, told, seed, on_step)
    passed = int((strangers.cosines >= face.threshold).sum())
    bounds = {"far low": low[-1], "far high": high[-1]} if passed >= _LEAST else {}
    return {
        "face": face.name,
        "pictures": len(album.files),
        "unread": unread,
        "faces": len(seen),
        "people": len(who),
        "strangers": int(total),
        "one person": len(alike.cosines),
        "thresholds": [
            {"far": far, "threshold": row, "low": low[at], "high": high[at], **_accepted(alike, row)}
            for at, (far, row) in enumerate(zip(told, thresholds, strict=True))
        ],
        "in use": {
            "threshold": face.threshold,
            "stated far": face.far,
            "strangers that pass": passed,
            "far": passed / total,
            **bounds,
            **_accepted(alike, face.threshold),
        },
    }


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of faces, by falling cosine where they are of strangers."""

    cosines: Numbers
    one: Numbers
    """Place of one of the people in the list of all."""
    other: Numbers | None
    """Place of the other; None where pairs are of one person."""

    def weights(self, people: Numbers) -> Numbers:
        """Weigh each pair as often as its people were drawn together."""
        return people[self.one] if self.other is None else people[self.one] * people[self.other]


def _drawn(
    strangers: _Pairs,
    people: Numbers,
    threshold: float,
    fars: Sequence[float],
    seed: int,
    on_step: OnStep,
) -> tuple[list[float], list[float]]:
    """Draw people anew; return both ends of intervals: the threshold at each FAR, the FAR of `threshold`."""
    rng, size, drawn = np.random.default_rng([seed, 40]), int(people.max()) + 1, []
    for number in range(_DRAWS):
        on_step(number, _DRAWS, "drawing people anew")
        times = np.bincount(rng.integers(size, size=size), minlength=size).astype(float)
        total, passing = _all_strangers(times, people), strangers.cosines >= threshold
        rate = float(strangers.weights(times)[passing].sum()) / max(total, 1.0)
        drawn.append([*(_threshold(strangers, times, total, far) for far in fars), rate])
    low, high = np.quantile(np.array(drawn), [0.025, 0.975], axis=0).tolist()
    return low, high


def _accepted(alike: _Pairs, threshold: float) -> dict[str, float]:
    """Compute the share of pairs of one person that pass; Wilson's interval counts each person as a pair."""
    if not len(alike.cosines):
        return {}
    share, people = float((alike.cosines >= threshold).mean()), len(np.unique(alike.one))
    low, high = wilson_interval(share * people, people)
    return {"accepted": share, "accepted low": low, "accepted high": high}


def _embedded(
    face: FaceScorer, files: Sequence[Path], on_step: OnStep
) -> tuple[Tensor, tuple[bool, ...], int]:
    """Look at pictures one by one: vectors of the faces, flags of all pictures, number of unread ones."""
    vectors, found, unread = [], [], 0
    for number, file in enumerate(files):
        on_step(number, len(files), "looking at faces")
        try:
            seen = face.embed(read_photo(file)[None])
        except LorauditError:
            unread += 1
            found.append(False)
            continue
        found.append(seen.found[0])
        vectors.append(seen.vectors[: int(seen.found[0])])
    return torch.cat(vectors or [torch.zeros(0, 1)]), tuple(found), unread


def _all_strangers(weights: Numbers, people: Numbers) -> float:
    """Count the pairs of faces of different people, each as often as its people were drawn."""
    faces = np.bincount(people, minlength=len(weights)) * weights
    return float((faces.sum() ** 2 - (faces**2).sum()) / 2)


def _blocks(faces: Tensor, people: Numbers) -> Iterator[tuple[Numbers, Numbers, Numbers]]:
    """Yield cosines of strangers with the places of their two people, each pair once."""
    for first in range(0, len(faces), _ROWS):
        cosines = (faces[first : first + _ROWS] @ faces[first:].T).numpy()
        mine, others = people[first : first + _ROWS], people[first:]
        row, column = np.nonzero(np.triu(mine[:, None] != others[None], 1))
        yield cosines[row, column], mine[row], others[column]


def _cut(faces: Tensor, people: Numbers, total: float) -> float:
    """Find a cosine that a few times as many strangers reach as the lowest threshold lets pass."""
    counts = sum(np.histogram(block[0], _BINS, (-1.01, 1.01))[0] for block in _blocks(faces, people))
    reaching = np.cumsum(np.asarray(counts)[::-1])[::-1]
    at = int(np.flatnonzero(reaching >= min(total, _KEPT * max(FARS) * total))[-1])
    return float(np.linspace(-1.01, 1.01, _BINS + 1)[at])


def _strangers(faces: Tensor, people: Numbers, cut: float) -> _Pairs:
    """List the pairs of strangers that reach `cut`, the most alike first."""
    parts = [tuple(part[block[0] >= cut] for part in block) for block in _blocks(faces, people)]
    cosines, one, other = (np.concatenate(side) for side in zip(*parts, strict=True))
    order = np.argsort(-cosines, kind="stable")
    return _Pairs(cosines[order], one[order], other[order])


def _threshold(strangers: _Pairs, weights: Numbers, total: float, far: float) -> float:
    """Find the lowest cosine that at most a share `far` of the strangers reaches."""
    passed = np.cumsum(strangers.weights(weights))
    # A draw of people all alike may pass more pairs than were kept.
    at = min(int(np.searchsorted(passed, far * total, side="right")), len(passed) - 1)
    return float(np.nextafter(strangers.cosines[at], np.float32(2)))


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, measure, and print the result; write it with `--out`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder of people, and pairs.txt if there is one")
    parser.add_argument("--face", choices=["facenet", "tiny-face"], default="facenet")
    parser.add_argument("--pictures", type=int, default=4, help="pictures of a person without pairs.txt")
    parser.add_argument("--out", type=Path, help="file to write; the result is always printed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    album = open_album(options.folder, options.pictures)
    weights, face = open_face(options.face, torch.device("cpu"), offline=False)
    with progress("measuring the threshold") as on_step:
        measured = measure(face, album, options.seed, on_step)
    with safe_open(weights, "pt") as file:
        source = (file.metadata() or {}).get("source_sha256")
    about = {
        "weights": source or file_sha256(weights),
        "crop": CROP if options.face == "facenet" else None,
        "versions": {name: version(name) for name in ("facenet-pytorch", "torch", "pillow")},
    }
    text = json.dumps({**measured, **about}, indent=1) + "\n"
    if options.out is not None:
        write_atomic(options.out, text.encode())
    sys.stdout.write(text)


if __name__ == "__main__":
    in_one_line(main)
