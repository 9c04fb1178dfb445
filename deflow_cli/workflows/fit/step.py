"""Step of a fit: one loss of a batch and its noise, one backward pass, one AdamW; how its rates fall."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from deflow_cli.config.fit import FitConfig
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.objective import TrainingNoise, draw_training_noise, part_of_noise
from deflow_cli.runtime.compiling import can_compile
from deflow_cli.runtime.cuda_graphs import GraphedFunction
from deflow_cli.runtime.distributed import Ranks
from deflow_cli.runtime.progress import Reporter
from deflow_cli.runtime.seeding import generator
from deflow_cli.training.batches import BatchStream
from deflow_cli.training.deferred_metrics import Outcome
from deflow_cli.training.network import Network
from deflow_cli.training.shared_loss import SharedLoss, mean_figures
from deflow_cli.workflows.fit.data import Samplers, StepBatch

Inputs = tuple[Tensor, ...]
BatchObjective = Callable[..., tuple[Tensor, Mapping[str, Tensor]]]
"""Called as ``Objective`` is; returns a loss and the figures to log."""
LONG_RUN = (2000, 600.0)  # steps, or seconds, from which compiling (40 s on a GPU) pays


class BatchLoss:
    """What a step of a fit is computed from, and the objective on it.

    samplers: of the run, which know the sizes of a batch. batches: made by them ahead.
    """

    def __init__(
        self,
        model: DeFlow,
        fit: FitConfig,
        samplers: Samplers,
        batches: BatchStream[StepBatch],
        objective: BatchObjective,
        device: torch.device,
    ) -> None:
        self.model, self.fit, self.samplers, self.batches = model, fit, samplers, batches
        self.objective, self.device = objective, device

    def inputs_of(self, step: int) -> Inputs:
        """Batch and random numbers of a step: images (uint8), uniform, normal; then those of pairs.

        Each rank draws the noise of the whole batch, and uses that of its part.
        """
        batch, pairs = self.batches.of_step(step)
        random = generator(self.fit.seed, "step", step, device=self.device)
        noise = self._noise(self.samplers.unpaired_size // 2, random)
        inputs = (self._on_device(batch.images_bchw), *noise)
        if pairs is None:
            return inputs
        clean, noisy = (self._on_device(images) for images in pairs)
        return (*inputs, clean, noisy, *self._noise(self.samplers.paired_size, random))

    def _noise(self, half: int, random: torch.Generator) -> TrainingNoise:
        """This rank's part of the noise of a batch with ``half`` clean patches and as many degraded ones."""
        side = self.fit.patch_size
        shape = (2 * half, self.model.config.flow.in_channels, side, side)
        return part_of_noise(draw_training_noise(self.model, shape, random), self.samplers.ranks.part(half))

    def loss_of(
        self, images: Tensor, uniform: Tensor, normal: Tensor, *pairs: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The objective on the inputs of a step, and its figures."""
        images, noise = images.float() / 255, TrainingNoise(uniform, normal)
        clean, noisy = images[0::2], images[1::2]  # the sampler alternates the domains
        if not pairs:
            return self.objective(clean, noisy, noise)
        paired_clean, paired_noisy, *paired_noise = pairs
        partners = (paired_clean.float() / 255, paired_noisy.float() / 255, TrainingNoise(*paired_noise))
        return self.objective(clean, noisy, noise, partners)

    def _on_device(self, images: Tensor) -> Tensor:
        """The host does not wait for the copy of images in page-locked memory."""
        return images.to(self.device, non_blocking=True)


class LossStep:
    """Takes a step of a network down a loss; the host waits for the device nowhere in it.

    inputs_of(step): all that the step is computed from, batch and random numbers, as tensors on the device.
    loss_of(*inputs): the loss and the figures to log, a function of the inputs and the weights alone. On a
    CUDA device forward and backward pass, clipping and update are replayed as one CUDA graph;
    before_recording: asks the device what the loss would ask it, as a recording must not.

    Several ranks compute the loss of their parts of the batch and average gradients and figures, without a
    CUDA graph.
    """

    def __init__(
        self,
        model: nn.Module,
        fit: FitConfig,
        inputs_of: Callable[[int], Inputs],
        loss_of: Callable[..., tuple[Tensor, Mapping[str, Tensor]]],
        before_recording: Callable[[], object] = lambda: None,
    ) -> None:
        self.fit, self.inputs_of, self.loss_of = fit, inputs_of, loss_of
        device = next(model.parameters()).device
        groups = parameter_groups(model, fit)
        optimizer = torch.optim.AdamW(
            groups,
            lr=fit.learning_rate,
            betas=fit.betas,
            fused=device.type in ("cuda", "cpu"),
            capturable=device.type == "cuda",
        )
        self.network = Network(model, optimizer)
        self.base_rates = [group["lr"] for group in optimizer.param_groups]
        if device.type == "cuda":  # a graph reads rates from memory
            for group in optimizer.param_groups:
                group["lr"] = torch.tensor(float(group["lr"]), device=device)
        self._names: tuple[str, ...] = ()

        def before() -> None:
            before_recording()
            optimizer.zero_grad(set_to_none=True)

        self._loss = SharedLoss(lambda *inputs: self.loss_of(*inputs), [model])
        alone = Ranks.current().size == 1
        self._update = GraphedFunction(self._computed, before_recording=before, enabled=alone)
        self._replacements = self.network.replacements

    def __call__(self, step: int, share: float, rate_factor: float) -> Outcome:
        factor = schedule_factor(self.fit, share) * rate_factor
        for group, rate in zip(self.network.optimizer.param_groups, self.base_rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * factor)
            else:
                group["lr"] = rate * factor
        if self._replacements != self.network.replacements:
            self._update.forget()
            self._replacements = self.network.replacements
        *figures, norm, finite = self._update(*self.inputs_of(step))
        named = dict(zip(self._names, figures, strict=True))
        return Outcome({**named, "gradient_norm": norm}, factor, finite)

    def _computed(self, *inputs: Tensor) -> list[Tensor]:
        """The update of the weights; returns the figures, the gradients' norm, and whether it was finite."""
        loss, figures = self._loss(*inputs)
        self._names = tuple(figures)
        self.network.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        limit = self.fit.clip_gradients or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters, limit)
        finite = Ranks.current().all_true(torch.isfinite(norm) & torch.isfinite(loss.detach()))
        self.network.update(finite)
        return [*mean_figures(figures).values(), norm, finite]


def schedule_factor(fit: FitConfig, share: float) -> float:
    """The learning rate's factor at a share (0 to 1) of the run."""
    if fit.schedule == "published":
        factor = 0.5 ** sum(share >= at for at in (0.5, 0.75, 0.9, 0.95))
    elif fit.schedule == "cosine":
        after = max(share - fit.warmup, 0.0) / max(1.0 - fit.warmup, 1e-9)
        factor = 0.5 * (1.0 + math.cos(math.pi * min(after, 1.0)))
    else:
        factor = 1.0
    warm = min(1.0, (share + 1e-3) / fit.warmup) if fit.warmup else 1.0
    return max(factor * warm, 1e-3)


def parameter_groups(model: nn.Module, fit: FitConfig) -> list[dict[str, Any]]:
    """Weights with decay; ActNorm, biases and logs without; couplings and the shift at their own rates."""
    rate = fit.learning_rate
    rates = {
        "prior": fit.shift_learning_rate or rate,
        "coupling": rate * fit.coupling_rate,
        "other": rate,
    }
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        kind = "prior" if name.startswith("prior.") else "coupling" if ".coupling." in name else "other"
        if kind == "coupling" and not fit.coupling_rate:
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            decays = kind != "prior" and name.endswith(("weight", "weight_in", "weight_mid"))
            groups.setdefault((kind, decays), []).append(parameter)
    return [
        {"params": parameters, "lr": rates[kind], "weight_decay": fit.weight_decay if decays else 0.0}
        for (kind, decays), parameters in groups.items()
    ]


def accelerate(model: DeFlow, fit: FitConfig, device: torch.device, reporter: Reporter) -> None:
    """Choose by the device how steps are computed; the values stay the same up to rounding."""
    on_gpu = device.type == "cuda"
    steps, seconds = LONG_RUN
    is_long = fit.iterations >= steps or (not fit.iterations and fit.time_budget >= seconds)
    compiled = fit.compile == "yes" or (fit.compile == "auto" and on_gpu and is_long)
    compiled = compiled and can_compile(device, reporter)
    if on_gpu:
        model.to(memory_format=torch.channels_last)  # as the convolutions want their weights
    if on_gpu or compiled:
        model.train_in_runs(compiled=compiled)
