"""What may the flow cost? Architectures between the paper's and a small one, fitted alike.

    python tests/bench/base_ablation.py CLEAN NOISY --out DIR [--iterations 150] [--batch 4] [--patch 64]

Every architecture gets the same data, steps, rates and start: the base preset's, but for a single shift that
starts constant and is learned, and without averaging of weights, which few steps do not allow. Printed:
multiply-adds per pixel of one encoding with all that it needs of h, parameters, seconds per step, and
held-out bits per dimension. A finished run is not repeated.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from deflow_cli.config.model import ModelConfig
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.presets.reader import FIT

TRUNK = {4: "[0,1,2,3]", 6: "[1,2,4,5]", 8: "[1,3,5,7]"}  # blocks whose outputs are stacked


def small(steps: int, hidden: int, seen: int, blocks: int) -> list[str]:
    return [
        f"flow.steps={steps}",
        f"flow.hidden_channels={hidden}",
        f"flow.condition_channels={seen}",
        f"encoder.blocks={blocks}",
        f"encoder.stacked_blocks={TRUNK[blocks]}",
    ]


VARIANTS: dict[str, tuple[str, list[str]]] = {
    "paper (AIM)": ("aim", []),
    "paper (AIM), bounded scales": ("aim", ["flow.scale=bounded", "flow.scale_bound=0.01"]),
    "8 steps, 64 seen, 8 blocks": ("base", small(8, 64, 64, 8)),
    "8 steps, 64 seen, 6 blocks": ("base", small(8, 64, 64, 6)),
    "8 steps, 64 seen, 4 blocks": ("base", small(8, 64, 64, 4)),
    "8 steps, 48 seen, 4 blocks": ("base", small(8, 64, 48, 4)),
    "4 steps, 64 seen, 6 blocks": ("base", small(4, 64, 64, 6)),
    "4 steps, 96 wide, 64 seen, 4 blocks": ("base", small(4, 96, 64, 4)),
}
LIKE_BASE = ("splits", "downsample", "h_noise", "quantization_levels")


def settings_of(name: str, options: argparse.Namespace) -> list[str]:
    """What makes runs alike: the fit section of base, and what of the flow is no matter of size."""
    preset, own = VARIANTS[name]
    base = FIT.load("base")
    fit = dataclasses.asdict(base.fit) | {
        "iterations": options.iterations,
        "batch_size": options.batch,
        "patch_size": options.patch,
        "ema": 0.0,
        "start": "constant",  # of the shift: its closed forms encode hundreds of patches
        "shift_update": "gradient",
        "leak_test": False,
        "report": False,
        "log_every": 10,
        "validate_every": options.iterations,
        "preview_every": options.iterations,
    }
    alike = [f"fit.{key}={json.dumps(value)}" for key, value in fit.items() if value != ""]
    alike += [f"flow.{key}={getattr(base.flow, key)}" for key in LIKE_BASE]
    alike.append("flow.shift=correlated")
    return ["--preset", preset, *(word for setting in alike + own for word in ("--set", setting))]


def multiply_adds(config: ModelConfig) -> tuple[float, float]:
    """Thousands per pixel, and millions of parameters."""
    model, image = DeFlow(config), torch.rand(1, 3, 160, 160)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.encode_conditioned(image, model.prepare(model.condition_image(image)))
    count = sum(parameter.numel() for parameter in model.parameters())
    return counter.get_total_flops() / 2 / 160**2 / 1000, count / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clean", type=Path)
    parser.add_argument("noisy", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, default=64)
    options = parser.parse_args()
    print("| | k multiply-adds per pixel | M parameters | s per step | bits/dim clean | noisy |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for index, name in enumerate(VARIANTS):
        run = options.out / str(index)
        if not (run / "result.json").exists():
            command = [sys.executable, "-m", "deflow_cli", "fit", str(options.clean), str(options.noisy)]
            command += ["--out", str(run), "--device", "cpu", "--json", *settings_of(name, options)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            (run / "result.json").write_text(done.stdout, encoding="utf-8")
        result = json.loads((run / "result.json").read_text(encoding="utf-8"))
        cost, parameters = multiply_adds(FIT.load(run / "config.toml").model)
        row = [f"{cost:.0f}", f"{parameters:.1f}", f"{result['seconds'] / result['step']:.2f}"]
        row += [f"{result[f'bits_per_dim_{side}']:.3f}" for side in ("clean", "noisy")]
        print(f"| {name} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
