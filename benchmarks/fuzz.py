"""Hostile bytes by the million for each reader: header, metadata audit, reports, pictures, model cards.

    python benchmarks/fuzz.py header 600 -seed=1

Needs `pip install atheris`, which is no dependency of loraudit. The number is the seconds to run; further
arguments go to libFuzzer.

An input fails if an exception other than a `LorauditError` is raised, or if reading takes more than a
second. A report must hold no character that a terminal obeys. A failing input is kept as `crash-*`.
docs/fuzzing.md has the results.
"""

import json
import os
import platform
import resource
import sys
import time
import unicodedata
import zlib
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["loraudit"], exclude=["loraudit.report"]):
    from loraudit.errors import LorauditError
    from loraudit.findings.conditions import Settings
    from loraudit.findings.report import Report, Target
    from loraudit.lora.file.header import Header, Hidden, TensorInfo, parse_header
    from loraudit.metadata import header_exposure, traces
    from loraudit.metadata.front import CARD_BYTES, front_matter
    from loraudit.metadata.judge import METADATA_RULES, judge_metadata
    from loraudit.metadata.pictures import read_picture
    from loraudit.metadata.scrub import KEPT_KEYS, allowed_metadata
    from loraudit.report import FORMATS
    from loraudit.text import clean
    from loraudit.version import __version__

_SCRATCH: Final = Path(f"fuzz-{os.getpid()}.tmp")
LIMIT_SECONDS: Final = 1.0
"""Processor time that one input may take."""
HARMFUL: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
NUMBERS: Final = (
    "0", "-0", "1", "-1", "0.0", "1e999", "NaN", "01", "true", "null", str(2**31), str(2**47), str(2**48),
    str(2**63), str(2**64), "9" * 4301, '"1"', "[]", "{}",
)  # fmt: skip
KEYS: Final = (
    *sorted(KEPT_KEYS), "ss_dataset_dirs", "ss_reg_dataset_dirs", "ss_tag_frequency", "ss_datasets",
    "ot_config", "ss_output_name", "modelspec.title", "modelspec.trigger_phrase", "modelspec.date",
    "ss_training_finished_at", "ss_training_started_at", "ss_session_id", "ss_num_train_images",
    "ss_num_epochs", "ss_training_comment", "modelspec.thumbnail", "ssmd_cover_images", "modelspec.author",
    "trained_words", "ss_sd_model_name", "name", "api_key", "",
)  # fmt: skip
PIECES: Final = (
    "/home/jane/", "C:\\Users\\jane\\", "\\\\nas\\share\\", "~jane/", "jane@example.org", "x.com/jane",
    "hf_" + "aB3" * 12, "sk-" + "a1" * 12, "https://ada:pw@host/", "-----BEGIN PRIVATE KEY-----", "/9j/" * 60,
    "iVBORw0KGgo" * 20, "data:image/svg+xml;base64,", "A" * 1100, "10_jane doe person", "sks", "None",
    "2024-06-10T11:52:00", "1718013120.5", "+44 20 7946 0958", "(020) 7946-0958", "phone: ", "[red]", "[/]",
    "::error::", "##[error]", "\x1b[2J", "\x9b31m", "\u202e", "\u2028", "<script>", "![x](https://x)", "=1+1",
    "dimension is resized from 1 to 2; ", "1", "25", ",", "\n",
)  # fmt: skip
SHAPES: Final = (
    '{"10_%s person": {"n_repeats": 10, "img_count": 25}}',
    '{"10_%s": {"%s": 3, "%s": 1}}',
    '[{"subsets": [{"image_dir": "%s", "class_tokens": "%s", "caption_prefix": "%s"}]}]',
    '{"concepts": [{"name": "%s", "path": "%s"}], "samples": [{"prompt": "%s"}], "token": "%s"}',
    '{"unet.r": 4, "unet.target_modules": ["%s"], "base_model_name_or_path": "%s"}',
    '["%s", "%s"]',
)


def header(provider: atheris.FuzzedDataProvider, _data: bytes) -> None:
    """Read the first bytes of a file of any size, or refuse them in harmless words."""
    data = provider.ConsumeBytes(1 << 16) if provider.ConsumeBool() else _file(provider)
    size = len(data) if provider.ConsumeBool() else provider.ConsumeIntInRange(0, 1 << 50)
    try:
        found = parse_header(data, Path("x"), size)
    except LorauditError as error:
        _check_inert(str(error) + error.hint)
        return
    assert sum(info.size for info in found.tensors.values()) <= size


def words(provider: atheris.FuzzedDataProvider, data: bytes) -> None:
    """Audit, judge and report a sound header of any content; check that a scrubbed one has no finding."""
    metadata = {_key(provider): _value(provider) for _ in range(provider.ConsumeIntInRange(0, 5))}
    names = [f"{_word(provider)}.{_word(provider)}" for _ in range(provider.ConsumeIntInRange(0, 2))]
    names += [f"bundle_emb.{_word(provider)}.x" for _ in range(provider.ConsumeIntInRange(0, 1))]
    tensors = {name: TensorInfo("U8", (0,), 8, 0) for name in names}
    kinds = ("metadata key", "tensor name", "tensor field", "padding")
    hidden = tuple(
        Hidden(provider.PickValueInList(list(kinds)), _key(provider), _value(provider))
        for _ in range(provider.ConsumeIntInRange(0, 1))
    )
    path = Path(f"{_word(provider)}.safetensors".replace("/", "_").replace("\x00", "_"))
    found = judge_metadata(traces(header_exposure(Header(path, tensors, metadata, 8, hidden))))
    assert {finding.id for finding in found} <= METADATA_RULES.keys()
    target = Target(clean(path.name), size_bytes=8)
    report = Report(__version__, target, found, settings=Settings(depth="metadata"))
    _check_inert(json.dumps(json.loads(FORMATS["json"]([report], reveal=True)), ensure_ascii=False))
    # Rich takes ten times as long as all the rest. A hash chooses, so that mutants are chosen apart.
    if zlib.crc32(data) % 64 == 0:
        for text in (FORMATS["text"]([report], reveal=reveal) for reveal in (True, False)):
            _check_inert(text)
            assert not any(line.lstrip().startswith("::") for line in text.splitlines())
    kept = Header(Path("x"), {}, allowed_metadata(metadata), 8)
    assert not judge_metadata(traces(header_exposure(kept)))


def picture(provider: atheris.FuzzedDataProvider, _data: bytes) -> None:
    """Read a picture beside the file whose first parts are sound."""
    kind = provider.PickValueInList(
        ["png", "hex", "jpg", "exif", "iptc", "xmp", "webp", "gif", "tiff", "heic"]
    )
    body = provider.ConsumeBytes(1 << 16)
    tags = b"MM\0*\0\0\0\x08" + body
    if kind in {"png", "hex"}:
        text = provider.PickValueInList([b"tEXt", b"zTXt", b"iTXt", b"eXIf"]) if kind == "png" else b"tEXt"
        profile = provider.PickValueInList([b"exif", b"APP1", b"iptc", b"xmp"])
        inside = b"Raw profile type " + profile + b"\0\n\n\n" + (tags.hex().encode())
        content = b"\x89PNG\r\n\x1a\n" + _chunk(text, body if kind == "png" else inside) + body
    elif kind == "jpg":
        content = b"\xff\xd8" + _segment(b"\xfe", body) + b"\xff\xe1" + body
    elif kind == "exif":
        content = b"\xff\xd8" + _segment(b"\xe1", b"Exif\0\0" + tags)
    elif kind == "iptc":
        block = b"8BIM\x04\x04\0\0" + len(body).to_bytes(4, "big") + b"\x1c\2" + body
        content = b"\xff\xd8" + _segment(b"\xed", b"Photoshop 3.0\0" + block)
    elif kind == "xmp":
        content = b"\xff\xd8" + _segment(b"\xe1", b"http://ns.adobe.com/xap/1.0/\0<dc:title>" + body)
    elif kind == "webp":
        content = b"RIFF\0\0\0\0WEBPEXIF" + len(body).to_bytes(4, "little") + b"II*\0\x08\0\0\0" + body
    elif kind == "gif":
        content = b"GIF89a\1\0\1\0\0\0\0" + body
    elif kind == "tiff":
        content = tags
    else:
        content = b"\0\0\0\x10ftypheic\0\0\0\0" + (len(body) + 12).to_bytes(4, "big") + b"meta\0\0\0\0" + body
    _SCRATCH.write_bytes(content)
    found = read_picture(_SCRATCH)
    assert found is None or sum(len(text) for _, text in found.texts) <= 1_000_000


def card(provider: atheris.FuzzedDataProvider, _data: bytes) -> None:
    """Read the front matter of a model card."""
    read = front_matter("---\n" + provider.ConsumeUnicode(1 << 16))
    assert sum(len(text) for _, text in read.texts) <= CARD_BYTES


TARGETS: Final[Mapping[str, Callable[[atheris.FuzzedDataProvider, bytes], None]]] = {
    "header": header,
    "words": words,
    "picture": picture,
    "card": card,
}


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + bytes(4)


def _segment(marker: bytes, data: bytes) -> bytes:
    return b"\xff" + marker + min(len(data) + 2, 65_535).to_bytes(2, "big") + data


def _check_inert(text: str) -> None:
    bad = {char for char in set(text) - {"\n"} if unicodedata.category(char) in HARMFUL}
    assert not bad, f"a report holds {sorted(map(ascii, bad))}"


def _word(provider: atheris.FuzzedDataProvider) -> str:
    if provider.ConsumeBool():
        return provider.PickValueInList(list(PIECES))
    return provider.ConsumeUnicodeNoSurrogates(provider.ConsumeIntInRange(0, 24))


def _key(provider: atheris.FuzzedDataProvider) -> str:
    return _word(provider) if provider.ConsumeIntInRange(0, 3) == 0 else provider.PickValueInList(list(KEYS))


def _value(provider: atheris.FuzzedDataProvider) -> str:
    kind = provider.ConsumeIntInRange(0, 7)
    if kind == 0:
        return _word(provider) * provider.PickValueInList([1, 2, 300, 5000])
    if kind < 4:
        shape = provider.PickValueInList(list(SHAPES))
        inner = [json.dumps(_word(provider))[1:-1] for _ in range(shape.count("%s"))]
        text = shape % tuple(inner)
        # A text that is cut is no JSON.
        return text if kind < 3 else text[: provider.ConsumeIntInRange(0, len(text))]
    if kind == 4:
        return provider.PickValueInList(list(NUMBERS))
    if kind == 5:
        return provider.PickValueInList(["[", '{"a":', "[{"]) * provider.PickValueInList([1, 900, 5000])
    return "".join(_word(provider) for _ in range(provider.ConsumeIntInRange(0, 4)))


def _file(provider: atheris.FuzzedDataProvider) -> bytes:
    """Lay out tensors end to end, with metadata and with the faults that the bytes choose."""

    def seldom(usual: object) -> str:
        strange = provider.ConsumeIntInRange(0, 31) == 31
        return provider.PickValueInList(list(NUMBERS)) if strange else str(usual)

    members, end = [], 0
    for _ in range(provider.ConsumeIntInRange(0, 4)):
        shape = [provider.ConsumeIntInRange(0, 4) for _ in range(provider.ConsumeIntInRange(0, 3))]
        count = 1
        for size in shape:
            count *= size
        dtype, width = provider.PickValueInList([("F32", 4), ("F16", 2), ("BF16", 2), ("U8", 1)])
        sizes = ",".join(seldom(size) for size in shape)
        places = f"{seldom(end)},{seldom(end + count * width)}"
        more = provider.PickValueInList(["", "", "", "", ',"x":1', ',"dtype":"F32"', ',"x":[[[{}]]]'])
        named = json.dumps(_word(provider))
        members.append(f'{named}:{{"dtype":"{dtype}","shape":[{sizes}],"data_offsets":[{places}]{more}}}')
        end += count * width
    for _ in range(provider.ConsumeIntInRange(0, 2)):
        pairs = [
            f"{json.dumps(_key(provider))}:{seldom(json.dumps(_value(provider)))}"
            for _ in range(provider.ConsumeIntInRange(0, 3))
        ]
        members.append(f'"__metadata__":{{{",".join(pairs)}}}')
    text = bytearray(("{" + ",".join(members) + "}").encode("utf-8", "surrogatepass"))
    for _ in range(provider.ConsumeIntInRange(0, 3)):
        at = provider.ConsumeIntInRange(0, len(text))
        text[at : at + provider.ConsumeIntInRange(0, 3)] = provider.ConsumeBytes(3)
    length = len(text) if provider.ConsumeIntInRange(0, 15) else provider.ConsumeIntInRange(0, 2**64 - 1)
    return (
        length.to_bytes(8, "little")
        + bytes(text)
        + bytes(max(0, end + provider.PickValueInList([0, 0, 1, -1])))
    )


class Run:
    """Target under libFuzzer, with counts and times."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name, self.target, self.seconds = name, TARGETS[name], seconds
        self.inputs = 0
        self.longest = 0.0
        self.started = time.monotonic()

    def __call__(self, data: bytes) -> None:
        """Run the target on one input, and exit when the time is up."""
        self.inputs += 1
        start = time.process_time()
        self.target(atheris.FuzzedDataProvider(data), data)
        took = time.process_time() - start
        self.longest = max(self.longest, took)
        assert took < LIMIT_SECONDS, f"{took:.2f} s"
        if time.monotonic() - self.started > self.seconds:
            self.tell()
            os._exit(0)  # libFuzzer's own end runs no code of ours

    def tell(self) -> None:
        """Print all numbers as one line of JSON."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        told = {
            "target": self.name,
            "inputs": self.inputs,
            "seconds": round(time.monotonic() - self.started),
            "longest_ms": round(1000 * self.longest),
            "peak_rss_mib": round(peak),
            "python": platform.python_version(),
            "loraudit": __version__,
            "date": str(date.today()),  # noqa: DTZ011 (the day where it ran)
        }
        print(json.dumps(told), flush=True)


def main() -> None:
    """Run the target named first."""
    if len(sys.argv) < 3 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: {sys.argv[0]} {{{'|'.join(TARGETS)}}} SECONDS [-libFuzzer-option=value ...]")
    program, name, seconds, *options = sys.argv
    atheris.Setup([program, "-len_control=0", "-max_len=512", *options], Run(name, float(seconds)))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
