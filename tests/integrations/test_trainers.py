"""The data set for trainers: in BasicSR itself where it is installed, in both registries as documented."""

from __future__ import annotations

import pickle
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from deflow_cli.checkpoints.format import save_model
from deflow_cli.data.images.files import Image, to_pixels, to_tensor, write_image
from deflow_cli.data.images.resize import downsample
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.integrations.strength import Strength
from deflow_cli.integrations.trainers import DegradingPairs, PairOptions, register_datasets
from tests.inference.small import small_model, smooth_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and clean images in a folder and one below it."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("data")
    save_model(folder / "model.safetensors", small_model(), {})
    (folder / "gt/more").mkdir(parents=True)
    for index, picture in enumerate(smooth_images(3, 67, 82)):
        place = "gt/more" if index == 2 else "gt"
        write_image(folder / place / f"{index}.png", Image(to_pixels(picture[None])))
    return folder


def pairs(folder: Path, seed: int | None = None, **options: object) -> DegradingPairs:
    given = {"folders": [str(folder / "gt")], "scale": 2, "gt_size": 32, **options}
    return DegradingPairs(PairOptions(**given), Strength.of(folder / "model.safetensors", seed=seed))


def test_training_crops(folder):
    data = pairs(folder)
    assert len(data) == 3
    torch.manual_seed(1)
    first, second = data[0], data[0]
    assert (first["lq"].shape, first["gt"].shape) == ((3, 16, 16), (3, 32, 32))
    assert first["lq"].dtype == first["gt"].dtype == torch.float32
    assert first["gt_path"].endswith("gt/0.png")
    assert not torch.equal(first["gt"], second["gt"])
    torch.manual_seed(1)
    assert all(torch.equal(data[0][key], first[key]) for key in ("lq",))
    small = to_tensor(downsample(to_pixels(first["gt"][None]), 2))[0]
    assert 0.01 < float((first["lq"] - small).std()) < 0.3
    assert torch.equal(first["lq"] * 255, (first["lq"] * 255).round())


def test_validation_is_whole_and_always_the_same(folder):
    data = pairs(folder, phase="val", gt_size=None)
    item = data[1]
    assert (item["lq"].shape, item["gt"].shape) == ((3, 33, 41), (3, 66, 82))
    assert torch.equal(data[1]["lq"], item["lq"])


def test_workers(folder):
    data = pickle.loads(pickle.dumps(pairs(folder)))
    torch.manual_seed(2)
    loader = DataLoader(data, batch_size=1, num_workers=2)
    seen = {batch["lq"].numpy().tobytes() for _ in range(2) for batch in loader}
    assert len(seen) == 6


def test_options_that_will_not_do(folder):
    with pytest.raises(ConfigError, match="gt_size"):
        pairs(folder, gt_size=None)
    with pytest.raises(DataError, match="smaller than gt_size 90"):
        pairs(folder, gt_size=90)[0]
    (folder / "empty").mkdir(exist_ok=True)
    with pytest.raises(DataError, match="no image found"):
        pairs(folder, folders=[str(folder / "empty")])
    with pytest.raises(ConfigError, match="dataroot_gt"):
        PairOptions.of({"scale": 2})


# -- the registries of trainers, as their sources document them ---------------------------------------------


class DocumentedRegistry:
    """``register(class)`` under its name; traiNNer-redux keeps names in small letters."""

    def __init__(self, *, small: bool) -> None:
        self.small = small
        self.classes: dict[str, type] = {}

    def _key(self, name: str) -> str:
        return name.lower() if self.small else name

    def register(self, made: type) -> None:
        assert self._key(made.__name__) not in self.classes
        self.classes[self._key(made.__name__)] = made

    def get(self, name: str) -> type:
        return self.classes[self._key(name)]

    def __contains__(self, name: str) -> bool:
        return self._key(name) in self.classes


def install(monkeypatch: pytest.MonkeyPatch, package: str, **modules: dict[str, object]) -> None:
    """Put modules of a package where an import finds them."""
    for name in ["", *modules]:
        full = f"{package}.{name.replace('__', '.')}" if name else package
        module = ModuleType(full)
        module.__spec__ = __import__("importlib.machinery").machinery.ModuleSpec(full, None)
        vars(module).update(modules.get(name, {}))
        monkeypatch.setitem(sys.modules, full, module)


@dataclass
class ReduxOptions:
    """The fields of a data set in traiNNer-redux that matter here; unknown ones are errors there."""

    name: str
    type: str
    dataroot_gt: list[str]
    scale: int | None = None
    phase: str | None = None
    gt_size: int | None = None
    lq_size: int | None = None
    use_hflip: bool = True
    use_rot: bool = True
    io_backend: dict[str, str] = field(default_factory=lambda: {"type": "disk"})


def test_in_basicsr_as_documented(folder, monkeypatch):
    registry = DocumentedRegistry(small=False)
    monkeypatch.setattr("deflow_cli.integrations.trainers.TRAINERS", ("stand_in_sr",))
    install(monkeypatch, "stand_in_sr", utils={}, utils__registry={"DATASET_REGISTRY": registry})
    assert register_datasets(folder / "none") == ["stand_in_sr"]
    register_datasets(folder / "none")  # a second file of a data folder may do it again
    options = {"type": "DeflowDataset", "dataroot_gt": str(folder / "gt"), "scale": 4, "gt_size": 64}
    options |= {"phase": "train", "use_hflip": True, "use_rot": False, "io_backend": {"type": "disk"}}
    data = registry.get("DeflowDataset")(
        {**options, "model": str(folder / "model.safetensors"), "temperature": 0.5}
    )
    assert data.opt["scale"] == 4
    assert data[0]["lq"].shape == (3, 16, 16)
    assert data.strength.high == 0.5


def test_in_redux_as_documented(folder, monkeypatch):
    class BaseDataset(Dataset[object]):
        def __init__(self, opt: object) -> None:
            raise AssertionError("the class builds itself")

    registry = DocumentedRegistry(small=True)
    install(
        monkeypatch,
        "traiNNer",
        utils={},
        utils__registry={"DATASET_REGISTRY": registry},
        data={},
        data__base_dataset={"BaseDataset": BaseDataset},
    )
    monkeypatch.setattr("deflow_cli.integrations.trainers.TRAINERS", ("traiNNer",))
    assert register_datasets(folder / "model.safetensors", (0.5, 1.0)) == ["traiNNer"]
    options = ReduxOptions("train", "DeflowDataset", [str(folder / "gt")], scale=2, phase="train", lq_size=16)
    data = registry.get("deflowdataset")(options)
    assert isinstance(data, BaseDataset)
    assert data.opt is options
    assert data[2]["gt"].shape == (3, 32, 32)
    assert isinstance(pickle.loads(pickle.dumps(data))[0]["lq"], torch.Tensor)


def test_without_a_trainer(monkeypatch):
    monkeypatch.setattr("deflow_cli.integrations.trainers.TRAINERS", ("no_such_trainer",))
    with pytest.raises(ConfigError, match="is installed here"):
        register_datasets()


def test_in_basicsr_itself(folder, monkeypatch):
    """BasicSR 1.4.2 looks for a module that torchvision has renamed; with the old name there it runs."""
    pytest.importorskip("torchvision")
    from torchvision.transforms import functional

    if "torchvision.transforms.functional_tensor" not in sys.modules:
        renamed = ModuleType("torchvision.transforms.functional_tensor")
        renamed.rgb_to_grayscale = functional.rgb_to_grayscale  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, renamed.__name__, renamed)
    basicsr_data = pytest.importorskip("basicsr.data", reason="BasicSR is not installed")
    monkeypatch.setattr("deflow_cli.integrations.trainers.TRAINERS", ("basicsr",))
    register_datasets(folder / "model.safetensors", temperature=0.8)
    options = {"name": "ours", "type": "DeflowDataset", "phase": "train", "scale": 2, "gt_size": 32}
    options |= {"dataroot_gt": str(folder / "gt"), "use_hflip": True, "use_rot": True}
    options |= {"io_backend": {"type": "disk"}, "batch_size_per_gpu": 3, "num_worker_per_gpu": 2}
    data = basicsr_data.build_dataset(options)
    loader = basicsr_data.build_dataloader(data, options, num_gpu=0, seed=1)
    [batch] = list(loader)
    assert batch["lq"].shape == (3, 3, 16, 16)
    assert len({np.asarray(lq).tobytes() for lq in batch["lq"]}) == 3
