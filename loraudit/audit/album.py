"""Pictures of an audit: an album on disk, a contact sheet, a sheet for the report.

An album shows a person's face: folders are for the owner alone (0700), files too (0600), and PNGs carry no
metadata. File names are made of the attack and the seed, never of words of the audited file. A report's sheet
is pixelated unless faces were asked for: the pictures hold no more than their few squares.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from loraudit.errors import LorauditError
from loraudit.files import write_atomic
from loraudit.findings.exhibits import Sheet, SheetRow
from loraudit.text import clean

__all__ = ["Album", "Gallery", "Row", "contact_sheet"]

_CELL: Final = 192
"""Side of a picture on the contact sheet in pixels: three times 64."""
_GAP: Final = 6
"""Pixels between two pictures."""
_CAPTION: Final = 30
"""Height of a caption in pixels."""
_FEWEST_COLUMNS: Final = 5
"""Columns that the photos in the first row may take, even if all other rows are shorter."""
_REPORTED: Final = 8
"""Pictures in a row of a report at most."""
_THUMBNAIL: Final = 256
"""Side of a report's picture in pixels, at most."""
_SQUARES: Final = 5
"""Squares along the side of a pixelated picture.

With 8, one picture lets `tiny-face` tell a synthetic person among 100 in 55 % of cases; with 5, in 4 %.
"""


@dataclass(frozen=True, eq=False)
class Row:
    """A line of the contact sheet."""

    caption: str
    pictures: Sequence[Tensor]
    """Pictures `[3, H, W]` in 0..1, of any size."""


@dataclass(frozen=True, eq=False)
class Album:
    """Folder of the pictures of one audit."""

    folder: Path
    _rows: list[Row] = field(default_factory=list)

    @classmethod
    def create(cls, folder: Path) -> "Album":
        """Open a new or empty folder. Raises `LorauditError` if the folder has files, or cannot be made."""
        shown = clean(str(folder), 300)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise LorauditError(
                    f"the folder {shown} is not empty", "give a new folder: pictures never replace files"
                )
            folder.chmod(0o700)
        except OSError as error:
            raise LorauditError(
                f"cannot make the folder {shown}: {error.strerror}", "choose another folder"
            ) from None
        return cls(folder)

    def within(self, name: str) -> "Album":
        """Open an album in a new folder `name` inside. Raises as `create` does."""
        return Album.create(self.folder / name)

    def add(self, attack: str, seeds: Sequence[int], tuned: Tensor, base: Tensor, scrambled: Tensor) -> None:
        """Write the pictures `[K, 3, H, W]` in 0..1 of one attack to `attack-seed.png`.

        Names of the controls' pictures end in `-base` and `-scrambled`; there may be fewer, or none. Raises
        `LorauditError` if a picture cannot be written.
        """
        name = attack.replace(":", "-")
        for end, pictures in (("", tuned), ("-base", base), ("-scrambled", scrambled)):
            for seed, picture in zip(seeds, pictures, strict=False):
                write_atomic(self.folder / f"{name}-{seed}{end}.png", _png(_image(picture)), 0o600)
        self._rows.append(Row(_of_file(attack), list(tuned)))
        if len(base):
            self._rows.append(Row(f"{attack}: base model alone, the same input and seeds", list(base)))
        if len(scrambled):
            self._rows.append(Row(f"{attack}: a scrambled copy of the file, the same", list(scrambled)))

    def finish(self, photos: Sequence[Tensor], decides: str | None = None, first: str | None = None) -> None:
        """Write `sheet.png`: the reference photos, if there are any, above the rows of every attack.

        The row of the attack named `decides` is marked. The rows of the attack `first` come first.
        """
        above = [Row("your reference photos", photos)] if photos else []
        rows = [
            replace(row, caption=f"{row.caption} (decides)") if row.caption == _of_file(decides) else row
            for row in sorted(self._rows, key=lambda row: not row.caption.startswith(f"{first}: "))
        ]
        if above or rows:
            write_atomic(self.folder / "sheet.png", _png(contact_sheet([*above, *rows])), 0o600)


class Gallery:
    """Pictures of one scan for its report, encoded as they come."""

    def __init__(self, photos: Sequence[Tensor], clear: bool) -> None:
        """Encode the reference `photos` `[3, H, W]` in 0..1; faces can be made out only if `clear`."""
        self._clear = clear
        self._photos = self._row("reference", photos)
        self._rows: dict[str, tuple[tuple[int, ...], tuple[SheetRow, ...]]] = {}

    def add(self, attack: str, seeds: Sequence[int], tuned: Tensor, base: Tensor, scrambled: Tensor) -> None:
        """Keep the first pictures `[K, 3, H, W]` in 0..1 of one attack and of its controls, if any."""
        kinds = (("tuned", tuned), ("base", base), ("scrambled", scrambled))
        rows = tuple(self._row(kind, list(pictures)) for kind, pictures in kinds if len(pictures))
        self._rows[attack] = (tuple(seeds[:_REPORTED]), rows)

    def sheet(self, attack: str | None) -> Sheet | None:
        """Return the pictures of `attack`, or of the first attack, below the photos; None if none ran."""
        name = attack if attack in self._rows else next(iter(self._rows), None)
        if name is None:
            return None
        seeds, rows = self._rows[name]
        photos = (self._photos,) if self._photos.pngs else ()
        return Sheet(name, seeds, (*photos, *rows), pixelated=not self._clear)

    def _row(self, kind: str, pictures: Sequence[Tensor]) -> SheetRow:
        return SheetRow(kind, tuple(_png(self._small(_image(picture))) for picture in pictures[:_REPORTED]))

    def _small(self, image: Image.Image) -> Image.Image:
        side = min(*image.size, _THUMBNAIL)
        if self._clear:
            return ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS)
        return ImageOps.fit(image, (_SQUARES, _SQUARES), Image.Resampling.BOX)


def contact_sheet(rows: Sequence[Row]) -> Image.Image:
    """Return captioned rows of pictures, each fitted to the same square; there is at least one row.

    The sheet is as wide as the longest row, but a first row longer than all others (reference photos) is cut.
    """
    longest = max((len(row.pictures) for row in rows[1:]), default=len(rows[0].pictures))
    columns = max(longest, min(len(rows[0].pictures), _FEWEST_COLUMNS), 1)
    pitch = _CELL + _GAP
    sheet = Image.new("RGB", (columns * pitch + _GAP, len(rows) * (pitch + _CAPTION) + _GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for number, row in enumerate(rows):
        top = number * (pitch + _CAPTION) + _GAP
        draw.text((_GAP, top), row.caption, fill="black", font=font)
        for column, picture in enumerate(row.pictures[:columns]):
            cell = ImageOps.fit(_image(picture), (_CELL, _CELL), Image.Resampling.BICUBIC)
            sheet.paste(cell, (_GAP + column * pitch, top + _CAPTION))
    return sheet


def _of_file(attack: str | None) -> str:
    return f"{attack}: reconstructed from the file"


def _image(picture: Tensor) -> Image.Image:
    pixels = picture.detach().float().cpu().nan_to_num().clamp(0, 1).mul(255).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def _png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()
