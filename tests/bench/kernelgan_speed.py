"""How fast is KernelGAN's step with its generator merged into a kernel, beside layer by layer? In one run.

    OMP_NUM_THREADS=1 python tests/bench/kernelgan_speed.py [--runs 15] [--device cpu]

"generator": down-sampling a 64 px crop and the gradient of all weights. "step": a whole training step of both
networks. "step, 4 at once": the same of four pictures, by picture. Rivals take turns run by run, so that a
busy machine is busy for both. Medians, after three runs that do not count.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from deflow_cli.models.kernelgan import training
from deflow_cli.models.kernelgan.generator import DeepLinearGenerator, apply_kernels
from deflow_cli.models.kernelgan.training import LARGE_CROP, SMALL_CROP, KernelGANTraining

Action = Callable[[], object]


class LayerByLayer(KernelGANTraining):
    """The same training with the generator as it stands; its kernel is merged for the constraints alone."""

    def step(self, large: Tensor, small: Tensor) -> tuple[Tensor, Tensor]:
        usual = training.apply_kernels
        training.apply_kernels = lambda images, kernels: self.generator.layer_by_layer(images)
        try:
            return super().step(large, small)
        finally:
            training.apply_kernels = usual


def generators(crops: Tensor) -> dict[str, Action]:
    network = DeepLinearGenerator([0]).to(crops.device)
    weights = list(network.parameters())

    def merged() -> object:
        return torch.autograd.grad(apply_kernels(crops, network.kernels()).sum(), weights)

    def layers() -> object:
        return torch.autograd.grad(network.layer_by_layer(crops).sum(), weights)

    return {"merged": merged, "layer by layer": layers}


def steps(crops: Tensor) -> dict[str, Action]:
    seeds = list(range(len(crops)))
    small = crops[..., :SMALL_CROP, :SMALL_CROP].clone()
    trainings = {"merged": KernelGANTraining, "layer by layer": LayerByLayer}
    made = {name: kind(seeds, crops.device) for name, kind in trainings.items()}

    def action(run: KernelGANTraining) -> Action:
        return lambda: run.step(crops, small)

    return {name: action(run) for name, run in made.items()}


def medians(actions: dict[str, Action], runs: int, device: torch.device) -> dict[str, float]:
    """Milliseconds of each action, taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for run in range(runs + 3):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if run >= 3:
                seconds[name].append(time.perf_counter() - started)
    return {name: 1000 * statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_flush_denormal(True)
    crops = torch.rand(4, 3, LARGE_CROP, LARGE_CROP, generator=torch.Generator().manual_seed(0)) * 2 - 1
    crops = crops.to(device)
    print("| | merged, ms | layer by layer, ms | ratio |\n|---|---:|---:|---:|")
    for name, actions, pictures in (
        ("generator", generators(crops[:1]), 1),
        ("step", steps(crops[:1]), 1),
        ("step, 4 at once", steps(crops), 4),
    ):
        found = medians(actions, options.runs, device)
        ours, theirs = (found[rival] / pictures for rival in ("merged", "layer by layer"))
        print(f"| {name} | {ours:.2f} | {theirs:.1f} | {theirs / ours:.1f} |", flush=True)


if __name__ == "__main__":
    main()
