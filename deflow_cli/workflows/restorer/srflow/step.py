"""Step of an SRFlow's training: L1 of encoder and head in the first stage, the likelihood in the second."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from deflow_cli.config.restorer import StageConfig
from deflow_cli.config.srflow import SRFlowRunConfig
from deflow_cli.models.srflow.model import SRFlow
from deflow_cli.models.srflow.objective import DequantisationNoise, SRFlowObjective, draw_dequantisation
from deflow_cli.models.srflow.pretraining import RestorerHead, pretraining_loss
from deflow_cli.runtime.cuda_graphs import GraphedFunction
from deflow_cli.runtime.distributed import Ranks
from deflow_cli.runtime.seeding import generator
from deflow_cli.training.deferred_metrics import Outcome
from deflow_cli.training.network import Network
from deflow_cli.training.shared_loss import Loss, SharedLoss, mean_figures
from deflow_cli.workflows.restorer.step import Moment, rate_factor, set_rates, stage_adam


class SRFlowStep:
    """Trains an SRFlow, and in the first stage its encoder with a head, on the batch of a step.

    batch_of(step): images y and x, float32 in [0, 1]. moment_of(step, share): the step's stage. A step whose
    loss or gradients are not finite changes no weight. On a CUDA device all that follows from a batch is
    replayed as one CUDA graph, recorded anew for a stage and where the encoder begins to train. Several ranks
    have a part of the batch each, and take the step of the whole batch, without a CUDA graph.
    """

    def __init__(
        self,
        model: SRFlow,
        head: RestorerHead | None,
        config: SRFlowRunConfig,
        batch_of: Callable[[int], tuple[Tensor, Tensor]],
        moment_of: Callable[[int, float], Moment],
    ) -> None:
        self.config, self.batch_of, self.moment_of = config, batch_of, moment_of
        self.device = next(model.parameters()).device
        self.model, self.head, self.ranks = model, head, Ranks.current()
        flow, sr = config.flow, config.sr
        self.objective = SRFlowObjective(
            model,
            flow.l1,
            flow.texture,
            flow.consistency,
            sr.temperature,
            sr.memory == "low",
            self._batch_mean,
        )
        self.flow_network = Network(model, stage_adam(model, self.device))
        self.head_network = None if head is None else Network(head, stage_adam(head, self.device), "head.")
        self._state: tuple[object, ...] = ()
        self._stage = ""
        self._names: tuple[str, ...] = ()
        self._update = GraphedFunction(
            self._computed, before_recording=self._clear_gradients, enabled=self.ranks.size == 1
        )
        heads = [] if head is None else [head]
        self._losses = {
            "pretrain": SharedLoss(self._pretraining_loss, [model.encoder, *heads]),
            "flow": SharedLoss(self._flow_loss, [model]),
        }

    @property
    def networks(self) -> list[Network]:
        return [network for network in (self.flow_network, self.head_network) if network is not None]

    def forget(self) -> None:
        """Begin a stage with optimisers that have seen nothing."""
        for network in self.networks:
            network.optimizer.state.clear()
        self._update.forget()

    def noise(self, step: int, shape: torch.Size) -> DequantisationNoise:
        """The random numbers of a step, the same on every device up to its generator."""
        return draw_dequantisation(
            shape, generator(self.config.sr.seed, "dequantisation", step, device=self.device)
        )

    def __call__(self, step: int, share: float, restored_factor: float) -> Outcome:
        moment = self.moment_of(step, share)
        stage: StageConfig = getattr(self.config, moment.stage)
        factor = rate_factor(stage, moment) * restored_factor
        set_rates(self.networks, stage, factor)
        rests = moment.stage == "flow" and moment.share < self.config.sr.encoder_freeze
        state = (moment.stage, rests, *(network.replacements for network in self.networks))
        if state != self._state:
            self._update.forget()
            for loss in self._losses.values():
                loss.forget()
            self._state, self._stage = state, moment.stage
            self.model.encoder.requires_grad_(not rests)
        y, x = self.batch_of(step)
        whole = torch.Size((self.ranks.size * len(y), *y.shape[1:]))
        part = self.ranks.part(whole[0])
        noise = (values[part.start : part.stop] for values in self.noise(step, whole))
        *figures, finite = self._update(y, x, *noise)
        return Outcome(dict(zip(self._names, figures, strict=True)), factor, finite)

    def _clear_gradients(self) -> None:
        for network in self.networks:
            network.optimizer.zero_grad(set_to_none=True)

    def _computed(self, y: Tensor, x: Tensor, *noise: Tensor) -> list[Tensor]:
        """The update of the stage; returns the figures to log, and whether all was finite."""
        loss, figures = self._losses[self._stage](y, x, *noise)
        self._clear_gradients()
        loss.backward()
        trained = [p for network in self.networks for p in network.parameters if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(trained, self.config.sr.clip_gradients or math.inf)
        finite = self.ranks.all_true(torch.isfinite(loss.detach()) & torch.isfinite(norm))
        for network in self.networks:
            network.update(finite)
        self._names = (*figures, "gradient_norm")
        return [*mean_figures(figures).values(), norm, finite]

    def _pretraining_loss(self, y: Tensor, x: Tensor, *noise: Tensor) -> Loss:
        assert self.head is not None
        loss = pretraining_loss(self.model, self.head, y, x)
        return loss, {"pixel": loss}

    def _flow_loss(self, y: Tensor, x: Tensor, *noise: Tensor) -> Loss:
        return self.objective(y, x, DequantisationNoise(*noise))

    def _batch_mean(self, values: Tensor) -> Tensor:
        return self.ranks.differentiable_mean(values.mean())
