"""`deflow fit`: from two unpaired folders to one degradation model."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deflow_cli.checkpoints.foreign import load_encoder, read_state_dict
from deflow_cli.checkpoints.format import save_model, write_atomically
from deflow_cli.config.fit import RunConfig
from deflow_cli.data.unpaired import Prefetcher, eval_crops
from deflow_cli.errors import CheckpointError
from deflow_cli.models.deflow.initialization import start_constant, start_flow
from deflow_cli.models.deflow.model import CLEAN, DEGRADED, DeFlow
from deflow_cli.models.deflow.moments import LatentSample, start_from_moments
from deflow_cli.paths import CONFIG_FILE, MODEL_FILE
from deflow_cli.presets.reader import FIT
from deflow_cli.runtime.device import choose_device, choose_precision
from deflow_cli.runtime.progress import Reporter, Silent
from deflow_cli.runtime.seeding import generator
from deflow_cli.training.engine import Engine, can_resume
from deflow_cli.training.run_folder import record_folders, training_facts
from deflow_cli.workflows.fit.data import Domains, StepBatch, choose_settings, open_domains, samplers
from deflow_cli.workflows.fit.previews import component_grid, preview_grid
from deflow_cli.workflows.fit.step import LossStep
from deflow_cli.workflows.report.run import report_of_fit

START_PATCHES = 64  # patches that start the ActNorms
MOMENT_PATCHES = 600  # patches of each domain that start mu and M, or renew them
FINAL_PATCHES = 1200  # the same for the last closed form, on the averaged flow
HELD_OUT_PATCHES = 32


@dataclass(frozen=True)
class FitRequest:
    """What `deflow fit` was asked to do. out: the run's folder."""

    clean: Path
    noisy: Path
    out: Path
    config: RunConfig
    pairs: Path | None = None
    device: str = "auto"
    resume: bool = False


@dataclass(frozen=True)
class FitResult:
    """What came of it. Bits per dimension are of held-out patches, with the training's dequantisation.

    report_path: the page about the model; None where ``fit.report`` is off or it could not be written.
    """

    run_dir: Path
    model_path: Path
    step: int
    interrupted: bool
    bits_per_dim_clean: float
    bits_per_dim_noisy: float
    seconds: float
    report_path: Path | None = None


def default_preset(device: str) -> str:
    """The preset for a machine: base with a GPU, tiny without."""
    return "base" if choose_device(device).type == "cuda" else "tiny"


def fit(request: FitRequest, reporter: Reporter | None = None) -> FitResult:
    """Fit a model. Raises DataError, ConfigError, CheckpointError or TrainingError with the next step."""
    started = time.monotonic()
    reporter = reporter or Silent()
    device = choose_device(request.device)
    resumes = request.resume and can_resume(request.out, reporter)
    has_pairs = request.pairs is not None
    domains = open_domains(request.clean, request.noisy, request.config, has_pairs, reporter)
    config, colour, facts = choose_settings(domains, request.config, reporter)
    model = DeFlow(config.model, seed=config.fit.seed)
    if config.fit.encoder_weights and not resumes:
        _start_encoder(model, Path(config.fit.encoder_weights), reporter)
    if colour is not None:
        model.statistics.set(colour.mean, colour.std)
    model.to(device)
    model.set_net_precision(choose_precision(config.fit.precision, device))
    run = _Run(request, config, domains, model, {**domains.facts, **facts}, reporter, started)
    if not resumes:  # from here on it is a run: what is refused above leaves no trace
        write_atomically(request.out / CONFIG_FILE, FIT.to_toml(config).encode())
    record_folders(request.out, request.clean, request.noisy, request.pairs)
    return run.go(resumes)


def _start_encoder(model: DeFlow, path: Path, reporter: Reporter) -> None:
    """Start the encoder from an ESRGAN file. Raises CheckpointError naming it."""
    state = read_state_dict(path)
    try:
        unused = load_encoder(model, state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}", next_step=error.next_step) from error
    reporter.note(f"encoder starts from {path} ({len(unused)} tensors unused)")


class _Run:
    """One run: the model, its data and its records."""

    def __init__(
        self,
        request: FitRequest,
        config: RunConfig,
        domains: Domains,
        model: DeFlow,
        facts: dict[str, Any],
        reporter: Reporter,
        started: float,
    ) -> None:
        self.request, self.config, self.domains, self.model = request, config, domains, model
        self.facts, self.reporter = facts, reporter
        self.device = next(model.parameters()).device
        self.samplers = samplers(domains, request.pairs, config)
        self.unpaired = self.samplers.unpaired
        self.post_hoc = config.flow.shift == "post-hoc"
        self.closed_form = config.fit.shift_update == "moments" and not self.post_hoc
        if self.post_hoc or self.closed_form:
            model.prior.requires_grad_(False)
        step = LossStep(model, config.fit, self.loss_of)
        self.engine = Engine([step.network], step, config.fit, request.out, reporter, started)
        self.batches: Prefetcher[StepBatch] | None = None
        self.held = tuple(
            eval_crops(pool, config.fit.patch_size, HELD_OUT_PATCHES, config.fit.seed)
            for pool in (domains.held_clean, domains.held_noisy)
        )
        self.bits = (float("nan"), float("nan"))

    # -- the story ------------------------------------------------------------------------------------

    def go(self, resumes: bool) -> FitResult:
        """Train from the start, or from the state on disk, to the end; write the model."""
        fit, engine = self.config.fit, self.engine
        self._describe()
        if resumes:
            engine.restore()
            self.facts = engine.progress.facts
            self.reporter.note(f"resumed at step {engine.progress.step}")
        else:
            engine.progress.facts = self.facts
            self._start()
            engine.begin()
        hooks = {
            "validate": (fit.validate_every, self.validate),
            "preview": (fit.preview_every, self.preview),
        }
        if self.closed_form:
            hooks = {"shift": (fit.moments_every, self.renew_shift), **hooks}
        self._next_step, pin = engine.progress.step, self.device.type == "cuda"
        with Prefetcher(
            self.samplers.batch, self._next_step, self.samplers.unpaired_size, pin=pin
        ) as self.batches:
            finished = engine.run(hooks)
        for path, reason in self.unpaired.dropped:
            self.reporter.warn(f"{path} left out: {reason}")
        return self._finish(finished)

    def _describe(self) -> None:
        flow, fit = self.config.flow, self.config.fit
        count = sum(p.numel() for p in self.model.parameters())
        length = f"{fit.iterations} iterations" if fit.iterations else f"{fit.time_budget:.0f} s"
        precision = next(
            (m.autocast_dtype for m in self.model.modules() if hasattr(m, "autocast_dtype")), None
        )
        self.reporter.note(
            f"model: {count / 1e6:.2f} M parameters, {flow.levels} levels x {flow.steps} steps, h = x / "
            f"{flow.downsample} + noise {flow.h_noise:g}, shift {flow.shift}"
        )
        self.reporter.note(
            f"training: {length}, batch {fit.batch_size} x {fit.patch_size} px, rate {fit.learning_rate:g}, "
            f"{'bf16 nets' if precision else 'fp32'} on {self.device}, seed {fit.seed}"
        )

    def _finish(self, finished: bool) -> FitResult:
        engine = self.engine
        model = self._averaged_model()
        # an interrupted post-hoc run has no shift of its own yet, and its model is to be used
        if self.post_hoc or (finished and self.closed_form):
            clusters = self._match_moments(model, "last moments", FINAL_PATCHES)
            self._show_components(clusters)
        if finished or self.bits[0] != self.bits[0]:
            self._measure(model)
        path = self.request.out / MODEL_FILE
        progress, out = engine.progress, self.request.out
        facts = training_facts(self.facts, self.config, progress, self.bits, self.device)
        save_model(path, model, facts, title=out.resolve().name)
        self.preview(progress.step)
        page = None
        if self.config.fit.report:
            folders = (self.request.clean, self.request.noisy)
            seconds = progress.seconds if finished else 0.0  # who interrupts wants to go
            page = report_of_fit(out, self.domains, folders, seconds, self.device, self.reporter)
        return FitResult(
            out,
            path,
            progress.step,
            not finished,
            *self.bits,
            progress.seconds,
            page,
        )

    def _averaged_model(self) -> DeFlow:
        """A copy with the averaged weights, for use."""
        model = DeFlow(self.config.model)
        model.load_state_dict(self.engine.averaged())
        return model.eval().to(self.device)

    # -- start ----------------------------------------------------------------------------------------

    def _start(self) -> None:
        """The data-dependent start: ActNorms, the linear part, then mu and M."""
        fit = self.config.fit
        self.reporter.start("start", None)
        images, labels = self._start_batch(START_PATCHES, 0)
        random = generator(fit.seed, "start", device=self.device)
        x, h = self._inputs(images, labels, random)
        start_flow(self.model, x, h, whiten=fit.whiten)
        if fit.start == "moments" and not self.post_hoc:
            clusters = self._match_moments(self.model, "moments", MOMENT_PATCHES)
            if len(clusters) > 1:
                sizes = ", ".join(str(len(members)) for members in clusters)
                self.reporter.note(f"mixture starts from clusters of {sizes} noisy images")
        elif fit.start == "constant":
            start_constant(self.model.prior)
        self.reporter.finish()

    def _start_batch(self, count: int, step: int) -> tuple[Tensor, Tensor]:
        """Patches of a stream of their own: step numbers that training never reaches."""
        batch = self.unpaired.batch(2**40 + step, count)
        return batch.images_bchw.to(self.device), batch.labels_b.to(self.device)

    @torch.no_grad()
    def _latents(self, model: DeFlow, purpose: str, count: int) -> tuple[LatentSample, LatentSample]:
        """Latents of many patches of both domains, with the image each comes from."""
        result = (LatentSample(), LatentSample())
        random = generator(self.config.fit.seed, purpose, device=self.device)
        chunk = 20
        for step in range(2 * count // chunk):
            batch = self.unpaired.batch(2**41 + step, chunk)
            images, labels = batch.images_bchw.to(self.device), batch.labels_b.to(self.device)
            x, h = self._inputs(images, labels, random)
            latents, _ = model.encode_conditioned(x, model.prepare(h))
            order = torch.argsort(labels, stable=True).tolist()
            # without an encoder nothing promises that h hides the domain: then no strata of its detail
            told = h if model.encoder is not None else torch.zeros_like(h)
            for row, source in enumerate(order):
                part = [z[row : row + 1] for z in latents]
                result[int(labels[source])].add(batch.keys[source], part, told[row : row + 1])
        return result

    def _match_moments(self, model: DeFlow, purpose: str, count: int) -> list[list[str]]:
        """Set mu and M by the closed form; returns the noisy images of each component."""
        clean, noisy = self._latents(model, purpose, count)
        return start_from_moments(model.prior, clean, noisy, generator(self.config.fit.seed, purpose))

    def renew_shift(self, step: int) -> None:
        """mu and M by the closed form for the flow as it is now; averaging roots would mix their signs."""
        self._match_moments(self.model, f"moments {step}", MOMENT_PATCHES)
        if self.engine.average is not None:
            for key, value in self.model.prior.state_dict().items():
                self.engine.average[f"prior.{key}"].copy_(value)

    # -- training -------------------------------------------------------------------------------------

    def _inputs(self, images: Tensor, labels: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Dequantised images and noisy h, clean ones first: what the flow is trained on."""
        images = images.float() / 255
        return self._prepare(images[labels == CLEAN], images[labels == DEGRADED], random)

    def _prepare(self, clean: Tensor, noisy: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        model, flow = self.model, self.config.flow
        h = torch.cat((model.condition_image(clean), model.condition_image(noisy, DEGRADED)))
        x = torch.cat((clean, model.statistics.to_clean(noisy)))
        uniform = torch.rand(x.shape, generator=random, device=x.device) - 0.5
        noise = torch.randn(h.shape, generator=random, device=h.device)
        return x + uniform / flow.quantization_levels, h + flow.h_noise * noise

    def loss_of(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean bits per dimension of a step's batch (eq. 4), with eq. 5 for pairs."""
        batch, pairs = self._batch(step)
        random = generator(self.config.fit.seed, "step", step, device=self.device)
        images = self._pixels(batch.images_bchw)
        clean, noisy = images[0::2], images[1::2]  # the sampler alternates the domains
        x, h = self._prepare(clean, noisy, random)
        bits = self._bits(x, h, len(clean))
        clean_bits, noisy_bits = bits[: len(clean)].mean(), bits[len(clean) :].mean()
        loss, figures = 0.5 * (clean_bits + noisy_bits), {"clean": clean_bits, "noisy": noisy_bits}
        if pairs is not None:
            pair_bits = self._pair_bits(*pairs, random)
            share = self.config.fit.pair_share
            loss = (1 - share) * loss + share * pair_bits
            figures["pairs"] = pair_bits
        return loss, figures

    def _batch(self, step: int) -> StepBatch:
        """The step's batch; after a restore the prefetched ones are of other steps."""
        assert self.batches is not None
        if step == self._next_step:
            self._next_step += 1
            return next(self.batches)
        return self.samplers.batch(step, self.samplers.unpaired_size)

    def _pixels(self, images: Tensor) -> Tensor:
        """uint8 images as float32 in [0, 1] on the device; the host does not wait for pinned ones."""
        return images.to(self.device, non_blocking=True).float() / 255

    def _bits(self, x: Tensor, h: Tensor, clean_count: int, model: DeFlow | None = None) -> Tensor:
        model = model or self.model
        low = self.config.fit.memory == "low" and torch.is_grad_enabled()
        latents, log_det = model.encode(x, h, low_memory=low)
        log_prior = torch.cat(
            (
                model.prior.log_prob_clean([z[:clean_count] for z in latents]),
                model.prior.log_prob_degraded([z[clean_count:] for z in latents]),
            )
        )
        return model.nats_to_bits_per_dim(log_prior + log_det, x.shape)

    def _pair_bits(self, clean: Tensor, noisy: Tensor, random: torch.Generator) -> Tensor:
        """Bits per dimension of noisy given clean, both encoded with the clean image's h."""
        count = len(clean)
        x, h = self._prepare(self._pixels(clean), self._pixels(noisy), random)
        low = self.config.fit.memory == "low"
        latents, log_det = self.model.encode(x, torch.cat((h[:count], h[:count])), low_memory=low)
        log_prob = self.model.pair_log_prob(
            [z[:count] for z in latents], [z[count:] for z in latents], log_det[count:]
        )
        return self.model.nats_to_bits_per_dim(log_prob, x.shape).mean()

    # -- records --------------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self, step: int) -> None:
        """Held-out bits per dimension of both domains and the shift's spectrum, into the log."""
        model = self._averaged_model()
        self._measure(model)
        spectra = {}
        for index, latent in enumerate(model.prior.shared()):
            values = latent.spectrum()
            spectra[f"latent{index}"] = {
                "largest": [round(float(v), 4) for v in values[:, 0]],
                "trace": [round(float(v), 3) for v in values.sum(1)],
                "mean_norm": [round(float(v), 4) for v in latent.mean.norm(dim=1)],
            }
        self.engine.log.write(
            {
                "step": step,
                "held_out_clean": round(self.bits[0], 6),
                "held_out_noisy": round(self.bits[1], 6),
                "shift": spectra,
                "weights": [round(float(w), 4) for w in model.prior.log_weights().exp()],
            }
        )

    @torch.no_grad()
    def _measure(self, model: DeFlow) -> None:
        random = generator(self.config.fit.seed, "held-out", device=self.device)
        totals = [0.0, 0.0]
        for start in range(0, HELD_OUT_PATCHES, 8):
            clean, noisy = (t[start : start + 8].to(self.device).float() / 255 for t in self.held)
            x, h = self._prepare(clean, noisy, random)
            bits = self._bits(x, h, len(clean), model)
            totals[0] += float(bits[: len(clean)].sum())
            totals[1] += float(bits[len(clean) :].sum())
        self.bits = (totals[0] / len(self.held[0]), totals[1] / len(self.held[1]))

    def _show_components(self, clusters: list[list[str]]) -> None:
        """Name images of each component of a mixture, and draw them."""
        if len(clusters) < 2:
            return
        examples = [members[:: max(1, len(members) // 4)][:4] for members in clusters]
        self.facts["components"] = [[Path(key).name for key in members] for members in examples]
        path = self.request.out / "previews" / "components.png"
        component_grid(path, [[Path(key) for key in members] for members in examples])

    def preview(self, step: int) -> None:
        """A grid of real clean, real noisy and three samples."""
        model = self._averaged_model()
        path = self.request.out / "previews" / f"{step:07d}.png"
        preview_grid(path, model, self.held[0][:4], self.held[1][:4], self.config.fit.seed)
