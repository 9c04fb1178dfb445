"""Settings and choices that cannot be are refused."""

from __future__ import annotations

import json

import pytest

from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.errors import DataError, DeflowError
from deflow_cli.workflows.pairs.plan import PairSettings, read_manifest
from tests.workflows.pairs.asking import NONE, ask


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: PairSettings(scale=5), "scale 5 is unknown"),
        (lambda: PairSettings(resize="lanczos"), "'lanczos'"),
        (lambda: PairSettings(format="zip"), "'zip'"),
        (lambda: PairSettings(kernel_sampling="nearest"), "'nearest'"),
        (lambda: PairSettings(crop=50), "crop 50 is no multiple of the scale 4"),
        (lambda: PairSettings(stride=24), "a stride without a crop"),
        (lambda: PairSettings(variants=0), "0 variants"),
        (lambda: PairSettings(temperature=(1.0, 0.5)), "temperature 1 to 0.5"),
        (lambda: DegraderChoice("blur"), "'blur'"),
        (lambda: DegraderChoice("white-noise"), "learns from degraded pictures"),
        (lambda: DegraderChoice("spectral"), "learns from degraded pictures"),
        (lambda: DegraderChoice("white-noise", sigma=300), "sigma 300"),
        (lambda: DegraderChoice("none", flattest=0), "share is 0"),
    ],
)
def test_what_cannot_be_is_told(build, words):
    with pytest.raises(DeflowError) as caught:
        build()
    assert words in str(caught.value)
    assert caught.value.next_step


@pytest.mark.parametrize("key", ["../secret.png", "sub/../../secret.png", "/etc/secret.png", ""])
def test_a_manifest_leads_to_no_image_outside_its_folder(hr, tmp_path, key):
    ask(hr, tmp_path / "out", choice=NONE)
    manifest = tmp_path / "out/deflow.json"
    content = json.loads(manifest.read_text("utf-8"))
    content["images"][0]["key"] = key
    manifest.write_text(json.dumps(content))
    with pytest.raises(DataError, match="names an image outside the folder") as caught:
        read_manifest(manifest, hr)
    assert str(manifest) in str(caught.value)
    with pytest.raises(DataError, match="names an image outside the folder"):
        ask(hr, tmp_path / "again", manifest=manifest)
