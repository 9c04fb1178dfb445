"""Export to ONNX: a degradation model or a restorer as a graph that onnxruntime and chaiNNer run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from deflow_cli import __version__
from deflow_cli.checkpoints.format import CARD, load_model
from deflow_cli.checkpoints.onnx.degrader import write_onnx_degrader
from deflow_cli.checkpoints.onnx.graph import OPSET, onnx_package
from deflow_cli.checkpoints.onnx.noise import (
    CONTENT_SEED,
    NoiseInputs,
    NoiseSource,
    RuntimeNoise,
    SeededNoise,
)
from deflow_cli.checkpoints.onnx.restorer import write_onnx_restorer
from deflow_cli.checkpoints.onnx.srflow import write_onnx_srflow
from deflow_cli.checkpoints.onnx.translator import write_onnx_translator
from deflow_cli.checkpoints.registry import default_model, model_of_any_kind
from deflow_cli.checkpoints.restorer import load_restorer
from deflow_cli.checkpoints.translation.files import load_translator
from deflow_cli.config.srflow import USUAL_TEMPERATURE
from deflow_cli.degraders.flow.compression import SampleCompression
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.models.srflow.model import SRFlow
from deflow_cli.runtime.progress import Reporter

OnnxNoise = Literal["graph", "input", "runtime"]


@dataclass(frozen=True)
class OnnxRequest:
    """What ``deflow export OUT.onnx`` was asked for.

    model: a degradation model or a restorer, a file or a folder; None: the default degradation model. card:
    title, author, license and description of the file; empty: as in the model's. The rest is of models that
    draw samples, degradation models and SRFlows, and None where it was not asked for. temperature, seed: the
    defaults of the graph's inputs; without a seed the noise follows from the image's pixels. key: the image's
    name that the noise belongs to. noise: drawn in the ``graph`` as ours is, an ``input``, or the
    ``runtime``'s. fixed: the graph takes the image alone.
    """

    target: Path
    model: Path | None = None
    card: Mapping[str, str] = field(default_factory=dict)
    temperature: float | None = None
    seed: int | None = None
    key: str | None = None
    noise: OnnxNoise | None = None
    fixed: bool = False

    @property
    def of_samples(self) -> list[str]:
        """Options given that mean nothing to what gives one answer, by their names on the command line."""
        options = {
            "--temperature": self.temperature,
            "--seed": self.seed,
            "--key": self.key,
            "--noise": self.noise,
            "--fixed": self.fixed or None,
        }
        return [name for name, value in options.items() if value is not None]


@dataclass(frozen=True)
class OnnxReport:
    """The file that was written.

    kind: ``degradation`` or ``restorer``. scale: how many times larger than its input the output is; shrinks:
    how many times smaller. opset: of ONNX. bytes: its size. method: of a baseline's degradation.
    """

    path: Path
    model: Path
    kind: str
    scale: int
    opset: int
    bytes: int
    noise: str = ""
    method: str = ""
    shrinks: int = 1


def export_onnx(request: OnnxRequest, reporter: Reporter) -> OnnxReport:
    """Write the graph. Raises DeflowError where the model has no such form, or onnx is missing."""
    onnx_package()
    if request.target.suffix != ".onnx":
        name = request.target.with_suffix(".onnx").name
        raise ConfigError(f"{request.target}: files of ONNX end in .onnx", next_step=f"use {name}")
    if request.model is None:
        found = default_model(None)
        kind = "degradation"
    else:
        found, kind = model_of_any_kind(request.model)
    reporter.note(f"model: {found.path} ({found.origin})")
    if request.target.exists() and request.target.samefile(found.path):
        raise CheckpointError(f"{request.target}: is the model itself", next_step="choose another OUT")
    if kind == "degradation":
        return _export_degrader(request, found.path, reporter)
    if kind == "translator":
        return _export_translator(request, found.path, reporter)
    return _export_restorer(request, found.path, reporter)


def _export_degrader(request: OnnxRequest, source: Path, reporter: Reporter) -> OnnxReport:
    model, facts = load_model(source)
    noise = request.noise or "graph"
    compression = SampleCompression.recorded(facts, source)
    if compression is not None:
        reporter.warn(
            f"deflow degrade JPEG compresses the samples of this model ({compression.folder.text}); a graph "
            "cannot, so do it afterwards"
        )
    temperature = 1.0 if request.temperature is None else request.temperature
    size = write_onnx_degrader(
        request.target,
        model,
        _noise(request, noise),
        _metadata(request, facts, "degradation", 1, noise),
        temperature=temperature,
        fixed=request.fixed,
    )
    return OnnxReport(request.target, source, "degradation", 1, OPSET, size, noise)


def _noise(request: OnnxRequest, noise: OnnxNoise) -> NoiseSource:
    """Where the random numbers come from. Raises ConfigError where a seed or a name is nothing to it."""
    if noise == "graph":
        seed = CONTENT_SEED if request.seed is None else request.seed
        return SeededNoise(request.key or "image", seed)
    for option, given in (("--seed", request.seed), ("--key", request.key)):
        if given is not None:
            raise ConfigError(f"--noise {noise} knows no {option}", next_step=f"leave {option} out")
    return NoiseInputs() if noise == "input" else RuntimeNoise()


def _export_translator(request: OnnxRequest, source: Path, reporter: Reporter) -> OnnxReport:
    """A network of DSGAN, DASR or CycleGAN."""
    _refuse_of_samples(request, source)
    model = load_translator(source)
    generator = model.generator
    if generator.radius is None:
        reporter.warn(
            "this network takes means over the whole image: a program that cuts images into tiles makes "
            "other images with it"
        )
    said = _metadata(request, model.facts, "degradation", 1) | {"deflow.method": model.method}
    if generator.scale > 1:
        said |= {"deflow.shrinks": str(generator.scale)}
    size = write_onnx_translator(request.target, generator, said)
    return OnnxReport(
        request.target, source, "degradation", 1, OPSET, size, method=model.method, shrinks=generator.scale
    )


def _refuse_of_samples(request: OnnxRequest, source: Path) -> None:
    """Raise ConfigError for an option of models that draw samples."""
    if request.of_samples:
        option = request.of_samples[0]
        raise ConfigError(
            f"{source}: gives no samples, {option} is nothing to it", next_step=f"leave {option} out"
        )


def _export_restorer(request: OnnxRequest, source: Path, reporter: Reporter) -> OnnxReport:
    model, facts = load_restorer(source, tell=reporter.note)
    if isinstance(model, SRFlow):
        noise = request.noise or "graph"
        size = write_onnx_srflow(
            request.target,
            model,
            _noise(request, noise),
            _metadata(request, facts, "restorer", model.scale, noise),
            temperature=USUAL_TEMPERATURE if request.temperature is None else request.temperature,
            fixed=request.fixed,
        )
        return OnnxReport(request.target, source, "restorer", model.scale, OPSET, size, noise)
    _refuse_of_samples(request, source)
    size = write_onnx_restorer(request.target, model, _metadata(request, facts, "restorer", model.scale))
    return OnnxReport(request.target, source, "restorer", model.scale, OPSET, size)


def _metadata(
    request: OnnxRequest, facts: Mapping[str, Any], kind: str, scale: int, noise: str = ""
) -> dict[str, str]:
    """What the file says of itself. Facts of the training stay out: they may name folders of a machine."""
    card = {key: request.card.get(key) or str(facts.get(key, "")) for key in CARD}
    said = {**card, "date": str(facts.get("date", "")), "kind": kind, "scale": str(scale)}
    if noise == "graph":
        said["key"] = request.key or "image"
    return {f"deflow.{key}": value for key, value in {**said, "version": __version__}.items() if value}
