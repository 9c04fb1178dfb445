"""Restorers on several ranks: both trainings, both stages, as one process takes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from deflow_cli.layers.networks.batch_norm import SharedBatchNorm2d, share_batch_statistics
from deflow_cli.presets.reader import SR, SRFLOW
from deflow_cli.workflows.restorer.data import SrSource
from deflow_cli.workflows.restorer.run import SrRequest, sr_train
from deflow_cli.workflows.restorer.srflow.run import SRFlowRequest, train_srflow
from tests.rank_processes import ends, start_ranks
from tests.workflows.restorer.srflow.test_srflow_train import SMALL as SMALL_SRFLOW
from tests.workflows.restorer.test_sr_train import SMALL, write_pairs

COMMON = ["sr.batch_size=4", "sr.log_every=1", "sr.validate_every=10", "sr.checkpoint_every=5"]
# every discriminator with batch statistics learns as the patch one does
ESRGAN = [*SMALL, *COMMON, "psnr.iterations=10", "gan.iterations=10", "loss.discriminator=vgg"]
RATES = ["psnr.learning_rate=1e-4", "gan.learning_rate=1e-4"]
# the encoder rests at first, samples are drawn for their texture; the closed form of the other start would
# magnify what rounding in the first stage made of the encoder
FLOW = [*SMALL_SRFLOW, *COMMON, "sr.batch_size=8", "pretrain.iterations=8", "flow.iterations=12"]
FLOW += ["flow.texture=0.001", "sr.start=published", "sr.encoder_freeze=0.5"]
FLOW_RATES = [
    "sr.start=published",
    "sr.encoder_freeze=0.5",
    "pretrain.learning_rate=1e-4",
    "flow.learning_rate=1e-4",
]

BOTH = """
import sys
from pathlib import Path
import torch
from deflow_cli.presets.reader import SR, SRFLOW
from deflow_cli.workflows.restorer.data import SrSource
from deflow_cli.workflows.restorer.run import SrRequest, sr_train
from deflow_cli.workflows.restorer.srflow.run import SRFlowRequest, train_srflow
torch.set_num_threads(1)
pairs, out = map(Path, sys.argv[1:])
torch.distributed.init_process_group("gloo")  # a caller's own, which both trainings use
config = SR.parse_toml((out / "esrgan.toml").read_text(), "test")
result = sr_train(SrRequest(SrSource(pairs), out / "esrgan", config, device="cpu"))
print("esrgan", result.step, result.best_step)
config = SRFLOW.parse_toml((out / "srflow.toml").read_text(), "test")
result = train_srflow(SRFlowRequest(SrSource(pairs), out / "srflow", config, device="cpu"))
print("srflow", result.step, result.best_step)
torch.distributed.destroy_process_group()
"""


def assert_same_training(run: Path, alone: Path, tolerance: float) -> None:
    ours, theirs = (
        [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (run, alone)
    )
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        assert our.keys() == their.keys()
        if "real_logit" in our:  # losses see the difference alone: what both share is rounding
            for row in (our, their):
                row["logits"] = row.pop("real_logit") - row.pop("fake_logit")
        for name in our.keys() - {"seconds", "gradient_norm"}:
            error = 5e-6 if name == "logits" else 2e-6  # of six decimals each
            # of samples whose energy is a hundred times too large, as a flow begins: they magnify rounding
            share = 1e-4 if name == "texture" else 1e-6
            assert our[name] == pytest.approx(their[name], rel=share, abs=error), (our["step"], name)
    for name in ("restorer.safetensors", "restorer-last.safetensors"):
        first, second = (load_file(folder / name) for folder in (run, alone))
        worst = max((float((first[key] - second[key]).abs().max()), key) for key in first)
        assert worst[0] < tolerance, worst


@pytest.mark.slow(seconds=41)
def test_two_ranks_train_restorers_as_one_does(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "x2", 2)
    esrgan = SR.apply_overrides(SR.load("tiny"), [*ESRGAN, *RATES])
    srflow = SRFLOW.apply_overrides(SRFLOW.load("tiny"), [*FLOW, *FLOW_RATES])
    (tmp_path / "esrgan.toml").write_text(SR.to_toml(esrgan))
    (tmp_path / "srflow.toml").write_text(SRFLOW.to_toml(srflow))
    processes = start_ranks(2, BOTH, pairs, tmp_path)
    alone = tmp_path / "alone"
    first = sr_train(SrRequest(SrSource(pairs), alone / "esrgan", esrgan, device="cpu"))
    second = train_srflow(SRFlowRequest(SrSource(pairs), alone / "srflow", srflow, device="cpu"))
    for code, output in ends(processes):
        assert code == 0, output
        assert f"esrgan {first.step} {first.best_step}" in output
        assert f"srflow {second.step} {second.best_step}" in output
    assert_same_training(tmp_path / "esrgan", alone / "esrgan", 1e-5)
    assert_same_training(tmp_path / "srflow", alone / "srflow", 1e-5)


def test_shared_statistics_of_one_part_are_those_of_batch_norm() -> None:
    random = torch.Generator().manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    with torch.no_grad():
        plain[1].weight.uniform_(0.5, 2, generator=random)
        plain[1].bias.normal_(generator=random)
    shared = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    shared.load_state_dict(plain.state_dict())
    share_batch_statistics(shared, lambda values: values, 1)
    assert isinstance(shared[1], SharedBatchNorm2d)
    x = torch.randn(5, 3, 8, 8, generator=random)
    weights = torch.randn(5, 4, 6, 6, generator=random)
    for module in (plain, shared):
        for _ in range(2):
            module.zero_grad()
            (module(x) * weights).sum().backward()
    for (name, one), (_, other) in zip(plain.named_parameters(), shared.named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name, rtol=1e-4, atol=1e-4)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(value, shared.state_dict()[key])
    torch.testing.assert_close(plain.eval()(x), shared.eval()(x))
