"""Records of a fit: held-out bits per dimension, the spectrum of the shift, and preview pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from deflow_cli.config.fit import RunConfig
from deflow_cli.data.unpaired import eval_crops
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.objective import draw_training_noise, flow_inputs, unpaired_bits
from deflow_cli.runtime.seeding import generator
from deflow_cli.training.domains import Domains
from deflow_cli.workflows.fit.previews import component_grid, preview_grid

HELD_OUT_CHUNK = 8  # patches of each domain that are measured together
PREVIEW_PATCHES = 4  # of each domain
COMPONENT_EXAMPLES = 4  # images shown of a mixture component
BITS_UNKNOWN = (math.nan, math.nan)


class FitRecords:
    """Measures and draws a model on held-out patches, which are the same throughout a run."""

    def __init__(
        self, domains: Domains, config: RunConfig, out: Path, patches: int, device: torch.device
    ) -> None:
        self.out, self.seed, self.patches, self.device = out, config.fit.seed, patches, device
        self.clean, self.noisy = (
            eval_crops(pool, config.fit.patch_size, patches, config.fit.seed)
            for pool in (domains.held_clean, domains.held_noisy)
        )

    @torch.no_grad()
    def measure(self, model: DeFlow) -> tuple[float, float]:
        """Mean held-out bits per dimension of clean and of noisy patches."""
        random = generator(self.seed, "held-out", device=self.device)
        totals = [0.0, 0.0]
        for start in range(0, self.patches, HELD_OUT_CHUNK):
            clean, noisy = (
                images[start : start + HELD_OUT_CHUNK].to(self.device).float() / 255
                for images in (self.clean, self.noisy)
            )
            noise = draw_training_noise(model, (2 * len(clean), *clean.shape[1:]), random)
            x, h = flow_inputs(model, clean, noisy, noise)
            bits = unpaired_bits(model, x, h, len(clean))
            totals[0] += float(bits[: len(clean)].sum())
            totals[1] += float(bits[len(clean) :].sum())
        return totals[0] / len(self.clean), totals[1] / len(self.noisy)

    @torch.no_grad()
    def validation_row(self, step: int, model: DeFlow, bits: tuple[float, float]) -> dict[str, object]:
        """A line of the log: held-out bits per dimension and the spectrum of the shift's covariance."""
        spectra = {}
        for index, latent in enumerate(model.prior.shared()):
            values = latent.spectrum()
            spectra[f"latent{index}"] = {
                "largest": [round(float(v), 4) for v in values[:, 0]],
                "trace": [round(float(v), 3) for v in values.sum(1)],
                "mean_norm": [round(float(v), 4) for v in latent.mean.norm(dim=1)],
            }
        return {
            "step": step,
            "held_out_clean": round(bits[0], 6),
            "held_out_noisy": round(bits[1], 6),
            "shift": spectra,
            "weights": [round(float(w), 4) for w in model.prior.log_weights().exp()],
        }

    def draw_components(self, clusters: Sequence[Sequence[str]]) -> list[list[str]]:
        """Draw some noisy images of each mixture component; returns their file names."""
        examples = [
            members[:: max(1, len(members) // COMPONENT_EXAMPLES)][:COMPONENT_EXAMPLES]
            for members in clusters
        ]
        path = self.out / "previews" / "components.png"
        component_grid(path, [[Path(key) for key in members] for members in examples])
        return [[Path(key).name for key in members] for members in examples]

    def draw_preview(self, step: int, model: DeFlow) -> None:
        """Draw real clean patches, real noisy ones, and three samples of each clean one."""
        path = self.out / "previews" / f"{step:07d}.png"
        preview_grid(path, model, self.clean[:PREVIEW_PATCHES], self.noisy[:PREVIEW_PATCHES], self.seed)
