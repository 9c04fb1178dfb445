"""Texts: bytes of names survive in hashes, files and JSON."""

import json
import os

from deflow_cli.texts import encoded, json_text, readable

NAME = os.fsdecode(b"caf\xe9 \xc3\xa9.png")


def test_bytes_survive() -> None:
    assert encoded(NAME) == b"caf\xe9 \xc3\xa9.png"
    assert json.loads(json_text({"name": NAME})) == {"name": NAME}
    json_text({"name": NAME}).encode("utf-8")


def test_json_stays_readable() -> None:
    assert json_text(["é×"], indent=1) == '[\n "é×"\n]'
    assert readable(NAME) == "caf\\xe9 é.png"
