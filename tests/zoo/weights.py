"""Weights: every wrapper and dialect around one network, other architectures, and files that are broken."""

from __future__ import annotations

import functools
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from deflow_cli.checkpoints.esrgan.keys import DIALECTS, tensor_names
from deflow_cli.checkpoints.wrappers import CONTAINERS, INFIXES, PREFIXES
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.models.esrgan.discriminators import build_discriminator
from deflow_cli.models.esrgan.generator import RRDBNet
from tests.inference.small import small_model

State = dict[str, Tensor]


@dataclass(frozen=True)
class Weights:
    """A file of weights. refused: a pattern of the reason; empty: it is read, and is ``network()``."""

    group: str
    name: str
    make: Callable[[], bytes]
    refused: str = ""
    suffix: str = ".pth"

    @property
    def label(self) -> str:
        return f"{self.group}: {self.name}"


@functools.cache
def network() -> RRDBNet:
    """The one network that all readable files hold."""
    generator = torch.Generator().manual_seed(4)
    model = RRDBNet(RestorerConfig(scale=4, channels=8, blocks=1), generator).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.08, generator=generator)
    return model


def state(dialect: str = "new") -> State:
    model = network()
    names = tensor_names(DIALECTS[dialect], model.config.blocks, model.config.doublings)
    return {names[key]: value.detach().clone() for key, value in model.state_dict().items()}


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> State:
    return {prefix + key: value for key, value in tensors.items()}


def pth(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def wrapped() -> Iterator[Weights]:
    for name in DIALECTS:
        yield Weights("wrappers", f"none, {name} names", lambda name=name: pth(state(name)))
        safe = lambda name=name: save(state(name))  # noqa: E731
        yield Weights("wrappers", f"none, {name} names, safetensors", safe, suffix=".safetensors")
        safe = lambda name=name: save(state(name))  # noqa: E731
        yield Weights("wrappers", f"none, {name} names, safetensors named .pth", safe)
        for container in CONTAINERS:
            make = lambda name=name, container=container: pth({container: state(name), "epoch": 3})  # noqa: E731
            yield Weights("wrappers", f"{container}, {name} names", make)
        for prefix in (*PREFIXES, *INFIXES):
            make = lambda name=name, prefix=prefix: save(prefixed(prefix, state(name)))  # noqa: E731
            yield Weights("wrappers", f"{prefix}, {name} names, safetensors", make, suffix=".safetensors")
    others: dict[str, Callable[[], Any]] = {
        "Lightning": lambda: {
            "state_dict": prefixed("generator.", state()) | {"discriminator.0.weight": torch.ones(2)},
            "epoch": 3,
            "global_step": 10,
            "pytorch-lightning_version": "2.5",
            "callbacks": {},
            "hparams_name": "kwargs",
            "optimizer_states": [{"state": {}, "param_groups": [{"lr": 1e-4}]}],
            "loops": {},
            "lr_schedulers": [],
        },
        "Lightning, compiled, of DataParallel": lambda: {
            "state_dict": prefixed("net_g._orig_mod.module.", state()),
            "epoch": 1,
        },
        "BasicSR with both": lambda: {
            "params": {key: value + 1 for key, value in state().items()},
            "params_ema": state(),
        },
        "AveragedModel": lambda: prefixed("module.", state()) | {"n_averaged": torch.tensor(7)},
        "half precision": lambda: {key: value.bfloat16().float() for key, value in state().items()},
        "sharded": lambda: prefixed("_fsdp_wrapped_module.", state()),
    }
    for name, make in others.items():
        if name != "half precision":
            yield Weights("wrappers", name, lambda make=make: pth(make()))
    old = lambda: pth({"params_ema": state()}, _use_new_zipfile_serialization=False)  # noqa: E731
    yield Weights("wrappers", "params_ema, a file of PyTorch before 1.6", old)


def architectures() -> Iterator[Weights]:
    """Networks that are none of ours, by the names and shapes of their tensors."""
    misfit = r"unexpected|missing|expected|not ESRGAN weights|holds"
    zeros = torch.zeros
    known: dict[str, Callable[[], Any]] = {
        "SwinIR": lambda: {
            "params": {
                "conv_first.weight": zeros(60, 3, 3, 3),
                "conv_first.bias": zeros(60),
                "layers.0.residual_group.blocks.0.norm1.weight": zeros(60),
                "layers.0.residual_group.blocks.0.attn.qkv.weight": zeros(180, 60),
                "conv_last.weight": zeros(3, 60, 3, 3),
            }
        },
        "SRVGGNetCompact": lambda: {
            "params": {
                "body.0.weight": zeros(64, 3, 3, 3),
                "body.0.bias": zeros(64),
                "body.1.weight": zeros(64),
                "body.2.weight": zeros(48, 64, 3, 3),
                "body.2.bias": zeros(48),
            }
        },
        "EDSR": lambda: {
            "params": {
                "conv_first.weight": zeros(64, 3, 3, 3),
                "conv_first.bias": zeros(64),
                "body.0.conv1.weight": zeros(64, 64, 3, 3),
                "body.0.conv2.weight": zeros(64, 64, 3, 3),
            }
        },
        "VGG19": lambda: {f"features.{i}.{end}": zeros(8) for i in range(4) for end in ("weight", "bias")},
        "a diffusion U-Net": lambda: {
            "time_embed.0.weight": zeros(8, 4),
            "input_blocks.0.0.weight": zeros(8, 3, 3, 3),
        },
        "a discriminator": lambda: build_discriminator("patch", 64, 8).state_dict(),
        "DeFlow": lambda: small_model().state_dict(),
        "a linear layer": lambda: nn.Linear(3, 4).state_dict(),
        "BERT": lambda: {
            "embeddings.word_embeddings.weight": zeros(10, 4),
            "encoder.layer.0.attention.self.query.weight": zeros(4, 4),
        },
    }
    for name, make in known.items():
        yield Weights("architectures", name, lambda make=make: pth(make()), misfit)
        if name in ("VGG19", "DeFlow", "a linear layer"):
            safe = lambda make=make: save({k: v.contiguous() for k, v in make().items()})  # noqa: E731
            yield Weights("architectures", f"{name}, safetensors", safe, misfit, ".safetensors")
    for key in ("conv_first.weight", "conv_up1.bias", "body.0.rdb2.conv3.weight", "conv_last.weight"):

        def without(key: str = key) -> State:
            return {name: value for name, value in state().items() if name != key}

        def another_shape(key: str = key) -> State:
            return state() | {key: state()[key][:1].clone()}

        yield Weights("architectures", f"without {key}", lambda without=without: pth(without()), ".")
        yield Weights("architectures", f"{key} cut", lambda other=another_shape: pth(other()), ".")
    more = lambda: pth(state() | {"extra.weight": zeros(3)})  # noqa: E731
    yield Weights("architectures", "a tensor too many", more, "unexpected")
    huge = lambda: pth(state() | {"body.100000.rdb1.conv1.weight": zeros(4, 8, 3, 3)})  # noqa: E731
    yield Weights("architectures", "a block numbered 100000", huge, "cannot be the 100001 blocks")


class Foreign:
    """An object that no file of weights may make."""


def broken() -> Iterator[Weights]:
    yield from _contents()
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    headers: dict[str, bytes] = {
        "a length of 1 TB": struct.pack("<Q", 1 << 40) + b"{}",
        "a length of 20 MB": struct.pack("<Q", 20 << 20) + b"{}" + bytes(100),
        "no JSON": _header(b"{nonsense}"),
        "a list": _header(b'{"a":[]}'),
        "nested deeply": _header(b'{"a":' * 50_000),
        "an offset beyond the end": _header({"a": entry | {"data_offsets": [0, 1 << 50]}}),
        "a negative offset": _header({"a": entry | {"data_offsets": [-4, 4]}}) + bytes(4),
        "offsets that overlap": _header({"a": entry, "b": entry}) + bytes(4),
        "a shape too large": _header({"a": entry | {"shape": [1 << 40]}}) + bytes(4),
        "an unknown type": _header({"a": entry | {"dtype": "X9"}}) + bytes(4),
        "200000 tensors": _header({str(i): entry for i in range(200_000)}) + bytes(4),
        "no tensors": _header({}),
        "bytes that nobody names": _header({"a": entry}) + bytes(400),
    }
    for name, data in headers.items():
        reason = "header|states|incomplete|holds|missing|not ESRGAN weights"
        yield Weights(
            "broken weights", f"safetensors, {name}", lambda data=data: data, reason, ".safetensors"
        )
    for share in (0.001, 0.02, 0.5, 0.9, 0.999):
        for suffix in (".safetensors", ".pth"):

            def cut(share: float = share, suffix: str = suffix) -> bytes:
                data = save(state()) if suffix == ".safetensors" else pth(state())
                return data[: max(1, int(share * len(data)))]

            reason = "incomplete|damaged|cannot be read|not a readable"
            yield Weights("broken weights", f"{suffix} cut at {share:.1%}", cut, reason, suffix)
    old = lambda: pth(state(), _use_new_zipfile_serialization=False)[:-400]  # noqa: E731
    yield Weights("broken weights", "a file of PyTorch before 1.6, cut", old, "damaged|incomplete|cannot")


def _header(content: object) -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text


def _contents() -> Iterator[Weights]:
    group = "broken weights"
    nothing = "holds no state dict|not ESRGAN weights|missing"
    for name, content in (
        ("an empty dict", {}),
        ("a list", [torch.ones(2)]),
        ("one tensor", torch.ones(2)),
        ("a number", 3),
        ("a text", "weights"),
        ("none", None),
        ("lists of numbers", {"params": {"a.weight": [1.0, 2.0]}}),
        ("an empty container", {"params_ema": {}, "epoch": 1}),
    ):
        yield Weights(group, f"pickle of {name}", lambda content=content: pth(content), nothing)
    reason = "holds an object of"
    yield Weights(group, "a whole module", lambda: pth(nn.Linear(2, 2)), reason)
    yield Weights(group, "an object beside", lambda: pth({"params": state(), "more": Foreign()}), reason)
    program = lambda: pickle.dumps(_Call())  # noqa: E731
    yield Weights(group, "a pickle that calls a function", program, "object of|cannot be read")

    def archive() -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            file.writestr("readme.txt", "nothing")
        return buffer.getvalue()

    yield Weights(group, "a zip archive of texts", archive, "torch.save did not write")

    def script() -> bytes:
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), buffer)
        return buffer.getvalue()

    yield Weights(group, "TorchScript", script, "TorchScript")
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
    for suffix in (".pth", ".safetensors"):
        for name, data, why in (
            ("an LFS pointer", pointer, "LFS"),
            ("a web page", b"<!DOCTYPE html><p>404", "web page"),
            ("empty", b"", "empty"),
            ("zeros", bytes(4000), "cannot be read|header|neither"),
            ("a PNG", b"\x89PNG\r\n\x1a\n" + bytes(50), "neither"),
        ):
            yield Weights(group, f"{name}, {suffix}", lambda data=data: data, why, suffix)


class _Call:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return print, ("a file of weights was run",)


@functools.cache
def weights() -> tuple[Weights, ...]:
    return (*wrapped(), *architectures(), *broken())
