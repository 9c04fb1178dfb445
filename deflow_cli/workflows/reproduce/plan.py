"""Plan: the steps of an experiment in order, from the data to the last score."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from deflow_cli.config.restorer import SrConfig
from deflow_cli.workflows.fit.closed_form import SampleSizes
from deflow_cli.workflows.reproduce.experiments import SR_SCALE, Experiment
from deflow_cli.workflows.reproduce.layouts import ChallengeLayout
from deflow_cli.workflows.reproduce.methods import Method
from deflow_cli.workflows.reproduce.rates import Rates
from deflow_cli.workflows.reproduce.recipes import Recipe
from deflow_cli.workflows.reproduce.steps.base import (
    KERNELS,
    PREPARED,
    TUNED,
    Cost,
    ExperimentStep,
    Stage,
    config_facts,
    fit_name,
)
from deflow_cli.workflows.reproduce.steps.degrading import (
    BaselineFitStep,
    FitStep,
    PairsStep,
    baseline_of_seed,
    fit_of_seed,
)
from deflow_cli.workflows.reproduce.steps.ledger import Facts
from deflow_cli.workflows.reproduce.steps.preparing import RULE, SAMPLING, KernelsStep, PrepareStep
from deflow_cli.workflows.reproduce.steps.realism import RealismStep, realism_name
from deflow_cli.workflows.reproduce.steps.restoring import (
    START,
    ScoreStep,
    StartStep,
    TrainRestorerStep,
    lacking_weights,
    pairs_name,
    restorer_name,
    scores_name,
)
from deflow_cli.workflows.reproduce.steps.tuning import ChooseNoiseStep, TryNoiseStep

SMALL_SAMPLES = SampleSizes(start=16, moments=40, final=40, held_out=8)  # with --scale-down


@dataclass
class ExperimentPlan:
    """What the steps are made of.

    init, kernels: digests of the restorer to start from and of the blur kernels, where they were given.
    restores: whether restorers are trained and scored, or the degradations alone.
    """

    experiment: Experiment
    layout: ChallengeLayout
    recipe: Recipe
    methods: Sequence[Method]
    seeds: int
    small: bool
    init: str = ""
    kernels: str = ""
    restores: bool = True
    _prints: dict[str, str] = field(default_factory=dict)

    @property
    def rates(self) -> Rates:
        return Rates(self.small)

    def steps(self) -> list[ExperimentStep]:
        """All steps, each after those that it needs."""
        found: list[ExperimentStep] = [*self._estimate_kernels(), self._prepare()]
        fitted = [step for seed in self._seeds for method in self.methods for step in self._fit(method, seed)]
        tunes = self.restores and any(method.fit == "sigma" for method in self.methods)
        start = [self._start("degraders" if tunes else "restorers")] if self._start_needs else []
        restored = [(method, seed) for seed in self._seeds for method in self.methods if self.restores]
        found += fitted
        if tunes:
            found += [*start, *self._tuning()]
            start = []
        found += [self._pairs(method, seed) for method, seed in restored if not self._is_fresh(method)]
        found += start
        found += [self._restorer(method, seed) for method, seed in restored]
        for seed in self._seeds:
            for method in self.methods:
                if self.restores:
                    found.append(self._scores(method, seed))
                found.append(self._realism(method, seed))
        return found

    @property
    def trainings(self) -> int:
        """How many models are trained, which share a budget of time."""
        return sum(step.trains for step in self.steps())

    @property
    def _seeds(self) -> range:
        return range(self.seeds)

    def _is_fresh(self, method: Method) -> bool:
        return self.experiment.name in method.fresh

    def _print(self, role: str) -> str:
        """The fingerprint of a part of the data, read once."""
        if role not in self._prints:
            self._prints[role] = self.layout.parts[role].fingerprint()
        return self._prints[role]

    def _data(self, *roles: str) -> Facts:
        return {role: self._print(role) for role in roles if role in self.layout.parts}

    def _where(self, role: str) -> str:
        part = self.layout.parts[role]
        return f"{part.folder} ({len(part.images)} images)"

    @property
    def _hr(self) -> str:
        return "noisy" if self.experiment.clean_is_noisy else "clean"

    # -- degraders ------------------------------------------------------------------------------------------

    @property
    def _kernel_needs(self) -> tuple[str, ...]:
        return (KERNELS,) if self.experiment.blurs and not self.kernels else ()

    def _estimate_kernels(self) -> Iterator[ExperimentStep]:
        if not self._kernel_needs:
            return
        kernels, images = self.recipe.kernels, self.recipe.kernel_images
        yield KernelsStep(
            KERNELS,
            "prepare",
            (),
            {**self._data("noisy"), **config_facts(kernels), "images": images},
            f"blur kernels of {images} images, by {kernels.text}",
            (self._where("noisy"),),
            self.rates.kernels(images),
            images,
            kernels,
        )

    def _prepare(self) -> ExperimentStep:
        parts = self.layout.parts
        roles = [role for role in (self._hr, "valid_truth") if role in parts]
        costs = [self.rates.pictures(parts[role]) for role in roles]
        settings: Facts = {
            "data": self._data(*roles),
            "factor": self.experiment.factor,
            "rule": RULE,
            "kernels": self.kernels,
            **({"sampling": SAMPLING} if self.experiment.blurs else {}),
        }
        return PrepareStep(
            PREPARED,
            "prepare",
            self._kernel_needs,
            settings,
            f"clean images made small by {SR_SCALE}",
            tuple(self._where(role) for role in roles),
            Cost(sum(cost.seconds for cost in costs), sum(cost.bytes for cost in costs)),
        )

    def _fit(self, method: Method, seed: int) -> Iterator[ExperimentStep]:
        if method.fit == "network":
            yield self._baseline(method, seed)
        if method.fit != "flow":
            return
        config = fit_of_seed(self.recipe.fit, method, seed)
        samples = SMALL_SAMPLES if self.small else SampleSizes()
        yield FitStep(
            fit_name(method.name, seed),
            "degraders",
            (PREPARED,),
            {**self._data("noisy"), **config_facts(config), "samples": config_facts(samples)},
            f"fit of {method.title}, seed {seed}",
            (f"{PREPARED}/clean", self._where("noisy")),
            self.rates.fit(config),
            config,
            samples,
        )

    def _baseline(self, method: Method, seed: int) -> ExperimentStep:
        config = baseline_of_seed(self.recipe.baselines[method.name], method, seed)
        clean = method.learns_from.get(self.experiment.name, self._hr)
        return BaselineFitStep(
            fit_name(method.name, seed),
            "degraders",
            (),
            {**self._data(clean, "noisy"), **config_facts(config)},
            f"fit of {method.title}, seed {seed}",
            (self._where(clean), self._where("noisy")),
            self.rates.baseline(config),
            method,
            config,
        )

    def _tuning(self) -> list[ExperimentStep]:
        restorer = self.recipe.restorer
        sr = dataclasses.replace(restorer.sr, keep_at=())
        config = dataclasses.replace(restorer, sr=sr)
        if self.recipe.tuning:
            gan = dataclasses.replace(restorer.gan, iterations=self.recipe.tuning)
            config = dataclasses.replace(config, gan=gan)
        cost, scores = self.rates.restorer(config), self._scores_cost(1)
        found: list[ExperimentStep] = [
            TryNoiseStep(
                f"tune/white-noise/sigma{sigma:g}",
                "degraders",
                self._start_needs,
                {**self._restorer_settings(config, "hr"), **self._scored_on, "sigma": sigma},
                f"white noise of {sigma:g} grey levels, tried for {self.recipe.tuning or 'some'} steps",
                (self._where(self._hr), self._where("valid_input")),
                Cost(cost.seconds + scores.seconds, cost.bytes + scores.bytes),
                sigma,
                config,
            )
            for sigma in self.recipe.sigmas
        ]
        tried = tuple(step.name for step in found)
        choice = ChooseNoiseStep(
            TUNED, "degraders", tried, {}, "the white noise with the best LPIPS", tried, Cost()
        )
        return [*found, choice]

    # -- pairs and restorers --------------------------------------------------------------------------------

    def _degrader_needs(self, method: Method, seed: int) -> tuple[str, ...]:
        model = fit_name(method.name, seed)
        fitted = {"flow": model, "network": model, "sigma": TUNED}
        made = (PREPARED,) if "clean_small" in method.folders.values() else ()
        return (*made, *([fitted[method.fit]] if method.fit else []))

    def _folders(self, method: Method) -> tuple[str, ...]:
        """The parts of the data that a method's degrader reads itself, in words."""
        return tuple(self._where(role) for role in method.folders.values() if role in self.layout.parts)

    def _degrader_settings(self, method: Method) -> Facts:
        roles = [role for role in method.folders.values() if role in self.layout.parts]
        options = method.options_for(self.experiment.name, self.small)
        return {"degrader": method.degrader, "options": str(sorted(options.items())), **self._data(*roles)}

    def _pairs(self, method: Method, seed: int) -> ExperimentStep:
        blurs = self._kernel_needs if method.blurred else ()
        needs = (*blurs, *self._degrader_needs(method, seed))
        settings: Facts = {
            "hr": self._print(self._hr),
            "rule": RULE,
            "seed": seed,
            "kernels": self.kernels if method.blurred else "",
            **self._degrader_settings(method),
        }
        return PairsStep(
            pairs_name(method.name, seed),
            "pairs",
            needs,
            settings,
            f"pairs by {method.title}, seed {seed}",
            (self._where(self._hr), *self._folders(method), *needs),
            self.rates.pairs(self.layout.parts[self._hr]),
            method,
            seed,
        )

    @property
    def _start_needs(self) -> tuple[str, ...]:
        return (START,) if self.restores and not self.init else ()

    def _start(self, stage: Stage) -> ExperimentStep:
        """The first stage that needs it has it: that of the degraders where white noise is tuned."""
        config = self.recipe.start
        return StartStep(
            START,
            stage,
            (),
            self._restorer_settings(config, "hr"),
            "the restorer that all others start from, by L1 alone",
            (self._where(self._hr),),
            self.rates.restorer(config),
            config,
        )

    def _restorer_settings(self, config: SrConfig, trained_on: str) -> Facts:
        hr = {"hr": self._print(self._hr)} if trained_on == "hr" else {}
        unused = ("gan", "loss") if config.sr.stage == "psnr" else ("psnr",)
        facts = {name: part for name, part in config_facts(config).items() if name not in unused}
        return {**hr, "init": self.init, **facts}

    def _restorer(self, method: Method, seed: int) -> ExperimentStep:
        restorer = self.recipe.restorer
        sr = dataclasses.replace(restorer.sr, seed=restorer.sr.seed + seed)
        config = dataclasses.replace(restorer, sr=sr)
        fresh = self._is_fresh(method)
        source = self._degrader_needs(method, seed) if fresh else (pairs_name(method.name, seed),)
        settings = self._restorer_settings(config, "hr" if fresh else "pairs")
        return TrainRestorerStep(
            restorer_name(method.name, seed),
            "restorers",
            (*self._start_needs, *source),
            {**settings, **(self._degrader_settings(method) if fresh else {})},
            f"restorer of {method.title}, seed {seed}",
            ((self._where(self._hr), *self._folders(method)) if fresh else ())
            + (*self._start_needs, *source),
            self.rates.restorer(config),
            method,
            seed,
            config,
            None if fresh else pairs_name(method.name, seed),
        )

    # -- figures --------------------------------------------------------------------------------------------

    @property
    def _scored_on(self) -> Facts:
        """The data, and the measures whose weights are here: those brought later are measured then."""
        data = self._data("valid_input", "valid_truth")
        lacking = lacking_weights(self.experiment.measures)
        return {**data, "measures": [name for name in self.experiment.measures if name not in lacking]}

    def _scores_cost(self, models: int) -> Cost:
        return self.rates.scores(self.layout.parts["valid_input"], models)

    def _scores(self, method: Method, seed: int) -> ExperimentStep:
        trained = restorer_name(method.name, seed)
        return ScoreStep(
            scores_name(method.name, seed),
            "score",
            (trained,),
            self._scored_on,
            f"scores of {method.title}, seed {seed}",
            (trained, self._where("valid_input")),
            self._scores_cost(len(self.recipe.kept) or 2),
            trained,
        )

    def _realism(self, method: Method, seed: int) -> ExperimentStep:
        needs = (PREPARED, *(need for need in self._degrader_needs(method, seed) if need != PREPARED))
        recipe = self.recipe
        settings = {**self._data("valid_input"), "seed": seed, "images": recipe.images, "quick": recipe.small}
        return RealismStep(
            realism_name(method.name, seed),
            "score",
            needs,
            {**settings, **self._degrader_settings(method)},
            f"realism of {method.title}, seed {seed}",
            (*needs, self._where("valid_input")),
            self.rates.realism(self.layout.parts["valid_input"]),
            method,
            seed,
        )
