"""Names: what files may be called. Their content is sound, so each must come through every command."""

from __future__ import annotations

import os
import unicodedata

from tests.zoo.animals import Animal, picture, right
from tests.zoo.pngs import png_of

NAMES: dict[str, str | bytes] = {
    "not UTF-8": b"caf\xe9.png",
    "all bytes above 127": bytes(range(128, 256)) + b".png",
    "half a character": "ä".encode()[:1] + b"x.png",
    "a newline": "new\nline.png",
    "a carriage return": "carriage\rreturn.png",
    "a tab and a bell": "tab\tbell\a.png",
    "escape codes": "\x1b[31mred\x1b[0m.png",
    "a leading dash": "-dash.png",
    "an option": "--help.png",
    "255 bytes": "l" * 251 + ".png",
    "255 bytes of 2 each": "ä" * 125 + "l.png",
    "one letter": "a.png",
    "case twin, lower": "twin.png",
    "case twin, upper": "TWIN.png",
    "case twin, suffix": "Twin.PNG",
    "composed": unicodedata.normalize("NFC", "é.png"),
    "decomposed": unicodedata.normalize("NFD", "é.png"),
    "blanks": " two  blanks .png",
    "several dots": "a.b..png.png",
    "quotes": "'single' \"double\" `back`.png",
    "a pattern": "*?[ab]{c,d}.png",
    "formats": "%s %d {0} {{}} $HOME.png",
    "a comma and a semicolon": "a,b;c=d.png",
    "markup": "<script>alert(1)<script>&amp;.png",
    "a formula": "=1+1.png",
    "a backslash": "back\\slash.png",
    "a colon": "C:drive.png",
    "a device of Windows": "con.png",
    "right to left": "\u202egnp.png",
    "no width": "a\u200bb\ufeff.png",
    "an emoji": "\U0001f9a6.png",
    "a scale at its end": "0001x4.png",
    "looks like a sample": "name_s01.png",
    "a tilde": "~.png",
}


def names() -> list[Animal]:
    """Each in a picture of its own."""
    found = []
    for seed, (title, name) in enumerate(NAMES.items()):
        samples = picture(3, seed=1000 + seed)
        file = os.fsdecode(name)
        found.append(Animal("names", title, png_of(samples), right(samples), file=file))
    return found
