"""Names on the Hub where a model is edited by, imported or trained from: the revision asked for alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from deflow_cli.checkpoints.restorer import load_restorer, save_restorer
from deflow_cli.checkpoints.srflow.files import save_srflow
from deflow_cli.checkpoints.translation.files import load_translator
from deflow_cli.cli.main import app
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.config.translation import ResidualGeneratorConfig
from deflow_cli.data.images.files import Image, to_pixels, write_image
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.models.srflow.model import SRFlow
from deflow_cli.models.translation.generators import ResidualGenerator
from tests.checkpoints.fake_hub import FakeHub, FakeRepo, connect, fake_hub
from tests.checkpoints.srflow.published_files import config as srflow_config
from tests.checkpoints.srflow.published_files import published_state
from tests.inference.small_srflow import images, started_srflow

RESTORER = "restorer.safetensors"

Deflow = Callable[..., Result]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub() as served:
        connect(monkeypatch, served.url, tmp_path / "cache")
        served.repos["ann/model"] = FakeRepo(private=False)
        yield served


@pytest.fixture
def deflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deflow:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args], prog_name="deflow")


def commit(hub: FakeHub, branch: str, path: Path) -> None:
    hub.commit("ann/model", branch, {path.name: path.read_bytes()}, {path.name})


# -- edit ---------------------------------------------------------------------------------------------


def test_edit_takes_the_revision_that_is_named(deflow: Deflow, hub: FakeHub, tmp_path: Path) -> None:
    for branch, seed in (("v1", 1), ("main", 2)):
        save_srflow(tmp_path / branch / RESTORER, _disturbed(seed), {})
        commit(hub, branch, tmp_path / branch / RESTORER)
    write_image(tmp_path / "in.png", Image(to_pixels(images(1, 24, 24))))
    written = {}
    for target, model in (
        ("here-v1", "v1"),
        ("here-main", "main"),
        ("hub-v1", "hf://ann/model@v1"),
        ("hub-main", "hf://ann/model"),
    ):
        done = deflow("edit", "vary", "in.png", f"{target}.png", "--model", model, "--device", "cpu")
        assert done.exit_code == 0, done.output
        written[target] = (tmp_path / f"{target}.png").read_bytes()
        assert ("from the Hub, revision " in done.stdout) == target.startswith("hub")
    assert written["hub-v1"] == written["here-v1"]
    assert written["hub-main"] == written["here-main"]
    assert written["hub-v1"] != written["hub-main"]


def _disturbed(seed: int) -> SRFlow:
    model, generator = started_srflow(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.002 * torch.randn(parameter.shape, generator=generator))
    return model


def test_edit_says_why_the_hub_gives_no_model(deflow: Deflow, hub: FakeHub, tmp_path: Path) -> None:
    write_image(tmp_path / "in.png", Image(to_pixels(images(1, 24, 24))))
    absent = deflow("edit", "vary", "in.png", "out.png", "--model", "hf://ann/absent")
    assert absent.exit_code == 1
    assert "hf://ann/absent: cannot be had" in absent.stderr
    assert "hf auth login" in absent.stderr
    hub.commit("ann/model", "main", {"README.md": b"x"}, set())
    empty = deflow("edit", "vary", "in.png", "out.png", "--model", "hf://ann/model")
    assert "the repository has no restorer.safetensors" in empty.stderr
    assert "name its file: hf://ann/model/FILE" in empty.stderr
    save_restorer(tmp_path / RESTORER, RRDBNet(RestorerConfig(scale=2, channels=8, blocks=1)), {})
    commit(hub, "main", tmp_path / RESTORER)
    other = deflow("edit", "vary", "in.png", "out.png", "--model", "hf://ann/model")
    assert "an ESRGAN has no latents to edit" in other.stderr
    assert "pass an SRFlow as --model" in other.stderr
    assert not (tmp_path / "out.png").exists()


# -- import-weights -----------------------------------------------------------------------------------


def test_published_weights_are_imported_by_name(deflow: Deflow, hub: FakeHub, tmp_path: Path) -> None:
    generators = {}
    for branch, seed in (("v1", 1), ("main", 2)):
        sizes = ResidualGeneratorConfig(channels=4, blocks=1)
        generators[branch] = ResidualGenerator(sizes, torch.Generator().manual_seed(seed))
        torch.save(generators[branch].state_dict(), tmp_path / "dsgan.pth")
        commit(hub, branch, tmp_path / "dsgan.pth")
    for branch, name in (("v1", "hf://ann/model/dsgan.pth@v1"), ("main", "hf://ann/model/dsgan.pth")):
        done = deflow("import-weights", name, f"{branch}.safetensors")
        assert done.exit_code == 0, done.output
        assert name in done.stdout
        found = load_translator(tmp_path / f"{branch}.safetensors")
        assert (found.method, found.facts["title"]) == ("dsgan", "dsgan")
        assert found.facts["imported_from"] == "dsgan.pth"
        expected = generators[branch].state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in found.generator.state_dict().items())


def test_an_srflow_is_imported_under_the_name_of_restorers(
    deflow: Deflow, hub: FakeHub, tmp_path: Path
) -> None:
    of = srflow_config(blocks=5, stacked=(0, 1, 3, 4), steps=1, levels=2, affine_eps=1e-3)
    torch.save(published_state(of), tmp_path / RESTORER)
    commit(hub, "main", tmp_path / RESTORER)
    options = ["--blocks", "0,1,3,4", "--eps", "1e-3"]
    done = deflow("import-weights", "hf://ann/model", "srflow.safetensors", *options)
    assert done.exit_code == 0, done.output
    assert load_restorer(tmp_path / "srflow.safetensors")[0].config == of


def test_an_import_that_fails_names_the_model_and_writes_nothing(
    deflow: Deflow, hub: FakeHub, tmp_path: Path
) -> None:
    hub.commit("ann/model", "main", {"README.md": b"x", "broken.pth": b"none"}, {"broken.pth"})
    for name, told in (
        ("hf://ann/absent", "hf://ann/absent: cannot be had"),
        ("hf://ann/model", "has no model.safetensors and no restorer.safetensors"),
        ("hf://ann/model@v9", "hf://ann/model@v9: cannot be had"),
        ("hf://ann/model/broken.pth", "broken.pth"),
    ):
        refused = deflow("import-weights", name, "out.safetensors")
        assert refused.exit_code == 1, refused.output
        assert told in refused.stderr
    assert not (tmp_path / "out.safetensors").exists()


# -- reproduce (more: tests/workflows/reproduce) ------------------------------------------------------


def test_reproduce_says_why_the_hub_gives_no_start(deflow: Deflow, hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    refused = deflow("reproduce", "aim", "data", "--init", "hf://ann/absent", "--out", "out")
    assert refused.exit_code == 1
    assert "hf://ann/absent: cannot be had" in refused.stderr
    assert "hf auth login" in refused.stderr
    assert not (tmp_path / "out").exists()
