"""What the tests of make-pairs share: requests, files, and listeners."""

from __future__ import annotations

import json

from deflow_cli.data.pairs.records import encode_png
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.pairs.plan import PairSettings
from deflow_cli.workflows.pairs.run import MakePairsRequest, make_pairs

NAMES = ["b x4.png", "a.png", "sub/ä.v2.png", "sub/a.png"]  # as people name their files


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(pixels))


def ask(source, target, model=None, *, choice=None, reporter=None, **options):
    names = {"kernels", "manifest", "workers", "dry_run", "overwrite", "shard", "merge", "engine"}
    of_request = {key: options.pop(key) for key in list(options) if key in names}
    request = MakePairsRequest(
        source,
        target,
        PairSettings(**{"scale": 2, **options}),
        choice or DegraderChoice(model=model),
        device="cpu" if not of_request.get("manifest") else "auto",
        **{"workers": 2, **of_request},
    )
    return make_pairs(request, reporter or Silent())


NONE = DegraderChoice("none")


def files(target):
    return {
        path.relative_to(target).as_posix(): path.read_bytes()
        for path in sorted(target.rglob("*"))
        if path.is_file()
    }


def rows(target):
    return [json.loads(line) for line in (target / "metadata.jsonl").read_text().splitlines()]


def choices(model, noisy):
    return {
        "deflow": DegraderChoice(model=model),
        "white-noise": DegraderChoice("white-noise", noisy=noisy),
        "spectral": DegraderChoice("spectral", noisy=noisy, clean=noisy),
        "noise-patches": DegraderChoice("noise-patches", noisy=noisy, patch_size=64, patch_variance=60),
        "none": NONE,
    }
