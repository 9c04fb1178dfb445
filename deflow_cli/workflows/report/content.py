"""Report content: facts, curves, spectra and components of a model, as plain values for its page."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from deflow_cli.arrays import Pixels
from deflow_cli.config.fit import RunConfig
from deflow_cli.data.images.files import read_rgb8
from deflow_cli.degraders.flow.compression import SampleCompression
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.models.deflow.grain import UNMATCHED
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.presets.reader import FIT
from deflow_cli.reports.pages.fit_page import Component, Points, Spectrum
from deflow_cli.runtime.progress import Reporter
from deflow_cli.training.run_folder import RunFolders
from deflow_cli.workflows.fit.verdict import time_in_words
from deflow_cli.workflows.report.samples import centre_crop
from deflow_cli.workflows.report.sources import ReportSource

EXAMPLE_SIDE = 96  # px of the crops of a component's images
EXAMPLES = 4
# what a fit chooses by the data, what every run sets, and what leaves the model as it is
NOT_OF_A_PRESET = {
    ("flow", "downsample"),
    ("flow", "h_noise"),
    *(
        ("fit", name)
        for name in (
            "channel_statistics",
            "compression",
            "leak_test",
            "iterations",
            "time_budget",
            "seed",
            "cache_mib",
            "log_every",
            "validate_every",
            "preview_every",
            "checkpoint_every",
            "tensorboard",
            "report",
        )
    ),
}


def config_of(facts: Mapping[str, Any]) -> RunConfig | None:
    """The configuration that the model file records; None without one, or if this version cannot read it."""
    try:
        return FIT.parse_toml(facts["config"], "the model") if "config" in facts else None
    except ConfigError:
        return None


def public(config: RunConfig) -> RunConfig:
    """The configuration without folders of the machine it was made on."""
    name = Path(config.fit.encoder_weights.replace("\\", "/")).name if config.fit.encoder_weights else ""
    return dataclasses.replace(config, fit=dataclasses.replace(config.fit, encoder_weights=name))


def facts_of(
    model: DeFlow, path: Path, facts: Mapping[str, Any], config: RunConfig | None, recorded: RunFolders
) -> dict[str, str]:
    """What the model is: names and values."""
    flow, content = model.config.flow, path.read_bytes()
    parameters = sum(p.numel() for p in model.parameters())
    described = {
        "Preset": preset_of(config) if config else "",
        "Size": f"{parameters / 1e6:.2f} M parameters, {len(content) / 1e6:.1f} MB; "
        f"{flow.levels} levels × {flow.steps} steps",
        "Looks at": f"the image at 1/{flow.downsample} of its size, with noise of "
        f"{255 * flow.h_noise:.1f} grey levels"
        if model.encoder is not None
        else "nothing beside the latents",
        "Shift": flow.shift,
        "Clean images": folder_fact("clean", 0, facts, recorded.clean),
        "Noisy images": folder_fact("noisy", 1, facts, recorded.noisy),
        "Domain-leak test": _leak(facts),
        "Channel statistics": str(facts.get("channel_statistics", "")),
        "Noise": _noise(facts),
        "Compression": _compression(facts, path),
        "Training": training_fact(facts),
        "Held-out likelihood": _likelihood(facts),
        "Made": made_fact(facts),
        "File": f"sha256 {hashlib.sha256(content).hexdigest()[:16]}…",
    }
    return {name: value for name, value in described.items() if value}


def folder_fact(domain: str, place: int, facts: Mapping[str, Any], folder: Path | None) -> str:
    """What a fit recorded of the images of a domain; empty for none. place: of the domain, clean first."""
    if f"{domain}_images" not in facts:
        return ""
    name = f"“{folder.name}”: " if folder is not None else ""
    held = facts.get("held_out_images", [0, 0])[place]
    return (
        f"{name}{facts[f'{domain}_images']} images, {held} held out, "
        f"fingerprint {facts.get(f'{domain}_fingerprint', 'unknown')}"
    )


def _leak(facts: Mapping[str, Any]) -> str:
    rows = [
        f"at 1/{int(s)} {100 * accuracy:.0f} ± {100 * error:.0f} %"
        for s, _, accuracy, error in facts.get("leak_test", ())
    ]
    return f"clean and noisy told apart: {', '.join(rows)} (chance is 50 %)" if rows else ""


def _noise(facts: Mapping[str, Any]) -> str:
    """How the noise was matched, with the ratios of real to synthetic levels, dark to bright."""
    noise = facts.get("noise")
    if not noise:
        return ""
    if noise["pattern"] == UNMATCHED:
        return "as the training left it: matched by brightness and texture it was no nearer to the real one"
    rows = zip(("dark", "middle", "bright"), noise["level_ratios"], strict=True)
    ratios = "; ".join(f"{name} {', '.join(f'{ratio:.2f}' for ratio in row)}" for name, row in rows)
    return (
        f"matched by brightness and texture, {noise['pattern']} pattern; images' levels differ by "
        f"{100 * noise['level_spread']:.0f} %. Luminance levels (10 % quantiles) of the noisy images over "
        f"the samples', from flat to textured: {ratios}. The levels stand {100 * noise['found']:.0f} % above "
        "the clean images', "
        f"of which two halves differ by {100 * noise['null']:.0f} %"
    )


def _compression(facts: Mapping[str, Any], path: Path) -> str:
    recorded = SampleCompression.recorded(facts, path)
    return f"samples are JPEG compressed as the noisy images are: {recorded.folder.text}" if recorded else ""


def training_fact(facts: Mapping[str, Any]) -> str:
    """Steps, time and device of a training; empty for none."""
    if "step" not in facts:
        return ""
    skipped = f", {facts['skipped_steps']} skipped" if facts.get("skipped_steps") else ""
    seconds = time_in_words(facts.get("seconds", float("nan")))
    return f"{facts['step']} steps in {seconds} on {facts.get('device', 'an unknown device')}{skipped}"


def _likelihood(facts: Mapping[str, Any]) -> str:
    bits = [facts.get(f"bits_per_dim_{domain}") for domain in ("clean", "noisy")]
    if any(not isinstance(value, int | float) for value in bits):
        return ""
    return f"clean {bits[0]:.3f}, noisy {bits[1]:.3f} bits per dimension"


def made_fact(facts: Mapping[str, Any]) -> str:
    """Date and versions of what wrote a file."""
    parts = [facts.get("date", ""), f"deflow {facts['version']}" if facts.get("version") else ""]
    parts += [f"{name} {facts[name]}" for name in ("torch", "python") if name in facts]
    return ", ".join(part for part in parts if part)


def preset_of(config: RunConfig) -> str:
    """The packaged preset that a configuration is nearest to, and what it has otherwise."""
    differences = {name: _differences(config, FIT.load(name)) for name in FIT.names()}
    name = min(differences, key=lambda preset: len(differences[preset]))
    changed = differences[name]
    if not changed:
        return name
    more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
    return f"nearest to {name}, with {', '.join(changed[:4])}{more}"


def _differences(config: RunConfig, preset: RunConfig) -> list[str]:
    found = []
    for section in ("flow", "encoder", "fit"):
        ours, theirs = (dataclasses.asdict(getattr(one, section)) for one in (public(config), preset))
        found += [
            f"{section}.{key} = {value}"
            for key, value in ours.items()
            if (section, key) not in NOT_OF_A_PRESET and value != theirs[key]
        ]
    return found


def history_of(log: Sequence[Mapping[str, Any]], config: RunConfig | None) -> dict[str, Points]:
    """Steps and values of each logged figure; the rate in units of Adam's."""
    history: dict[str, Points] = {}
    rate = config.fit.learning_rate if config else 1.0
    names = ("clean", "noisy", "pairs", "held_out_clean", "held_out_noisy", "gradient_norm", "rate")
    for name in names:
        rows = [
            (float(row["step"]), float(row[name])) for row in log if isinstance(row.get(name), int | float)
        ]
        if rows:
            factor = rate if name == "rate" else 1.0
            history[name] = ([step for step, _ in rows], [factor * value for _, value in rows])
    return history


def spectra_of(model: DeFlow) -> list[Spectrum]:
    """The shift of every latent, finest first."""
    spectra = []
    plan = zip(model.prior.shared(), model.flow.latent_plan, strict=True)
    for index, (latent, (channels, factor)) in enumerate(plan):
        values = latent.spectrum().sort(descending=True).values
        shares = values / values.sum(1, keepdim=True).clamp_min(1e-30)
        # exp of the entropy of the eigenvalues' shares: how many directions the shift has
        ranks = torch.exp(-torch.special.xlogy(shares, shares).sum(1))
        spectra.append(
            Spectrum(
                f"Latent {index + 1}: {channels} channels at 1/{factor}",
                values.tolist(),
                latent.mean.detach().norm(dim=1).tolist(),
                ranks.tolist(),
                latent.detail_kept(),
            )
        )
    return spectra


def components_of(
    model: DeFlow,
    facts: Mapping[str, Any],
    noisy: ReportSource | None,
    samples: Sequence[Pixels],
    reporter: Reporter,
) -> list[Component]:
    """Weights of a mixture, its samples, and crops of the images the fit named for each component."""
    weights = model.prior.log_weights().detach().exp().tolist()
    named: Sequence[Sequence[str]] = facts.get("components", ())
    files = {path.name: path for path in noisy.paths} if noisy is not None and noisy.training else {}
    return [
        Component(
            weight,
            samples[k] if k < len(samples) else None,
            _examples(named[k], files, reporter) if k < len(named) else (),
        )
        for k, weight in enumerate(weights)
    ]


def _examples(
    names: Sequence[str], files: Mapping[str, Path], reporter: Reporter
) -> list[tuple[str, Pixels]]:
    crops = []
    for name in names[:EXAMPLES]:
        if name not in files:
            continue
        try:
            crops.append((name, centre_crop(read_rgb8(files[name]), EXAMPLE_SIDE)))
        except DataError as error:
            reporter.warn(f"{error}; left out of the report")
    return crops
