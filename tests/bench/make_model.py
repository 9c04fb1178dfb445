"""Make the embedded model: fit `tiny` on the packaged photographs, half of them with camera noise.

    python tests/bench/make_model.py [--time-budget 10m] [--work DIR] [--seed 0]

Writes weights/camera-noise.safetensors with its card, and its entry in weights/manifest.toml.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import tempfile
from pathlib import Path

from deflow_cli.checkpoints.format import load_model, write_atomically
from deflow_cli.data.photos import packaged_photos
from deflow_cli.paths import weights_folder
from deflow_cli.presets.durations import parse_duration
from deflow_cli.presets.reader import FIT
from deflow_cli.runtime.progress import Silent
from deflow_cli.training.engine import LEAST_STEPS
from deflow_cli.workflows.demo import make_noisy
from deflow_cli.workflows.fit.run import FitRequest, fit

NAME = "camera-noise.safetensors"
SCALE_BOUND = 0.02  # wider than tiny's: camera noise is half as strong in the lights as in the shadows
CARD = """\
# {name}

A degradation model of camera noise: the embedded default of `deflow degrade`.

- **Origin**: fitted by this project with the command below, in {seconds:.0f} s on one CPU ({step} steps).
- **Data**: the photographs of `photos/` alone ([their free terms](photos/CARD.md)): {clean} clean ones, and
  {noisy} others of different scenes degraded by the recipe of `deflow_cli/data/camera_noise.py`
  (Poisson-Gaussian in linear light, correlated as by demosaicing, sRGB-like tone curve; level drawn per
  photograph). No pair was seen.
- **Terms**: Apache-2.0, as the project.
- **Held-out bits per dimension** (5-bit dequantisation): clean {bpd_clean:.3f}, noisy {bpd_noisy:.3f}.
- **Limits**: twelve small photographs. Noise of the kind above at about its levels; fit your own for yours.
- **sha256**: `{sha256}`

```sh
python tests/bench/make_model.py --time-budget {budget} --seed {seed}
```

`contact-sheet.png` shows this model beside the real noise: `python tests/bench/realism.py --domain photos
--samples 4 --models embedded=weights/camera-noise.safetensors --sheet weights/contact-sheet.png`.
"""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--time-budget", default="10m")
    parser.add_argument("--work", type=Path, help="where the run goes (default: a temporary folder)")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    options = parse()
    work = options.work or Path(tempfile.mkdtemp())
    clean, noisy = work / "clean", work / "noisy"
    clean.mkdir(parents=True, exist_ok=True)
    for path in packaged_photos()[0]:
        shutil.copyfile(path, clean / path.name)
    make_noisy(noisy, options.seed)
    budget = parse_duration(options.time_budget)
    settings = [f"fit.time_budget={budget}", f"fit.seed={options.seed}", f"flow.scale_bound={SCALE_BOUND}"]
    config = FIT.apply_overrides(FIT.load("tiny"), settings)
    result = fit(FitRequest(clean, noisy, work / "run", config, device="cpu"), Silent())
    if result.step <= LEAST_STEPS:
        raise SystemExit("the time budget ended before the training began; nothing was written")
    _, facts = load_model(result.model_path)
    content = result.model_path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    folder = weights_folder()
    write_atomically(folder / NAME, content)
    card = CARD.format(
        name=NAME,
        seconds=facts["seconds"],
        step=facts["step"],
        clean=facts["clean_images"],
        noisy=facts["noisy_images"],
        bpd_clean=facts["bits_per_dim_clean"],
        bpd_noisy=facts["bits_per_dim_noisy"],
        sha256=digest,
        budget=options.time_budget,
        seed=options.seed,
    )
    write_atomically(folder / "camera-noise.md", card.encode())
    write_manifest(folder / "manifest.toml", len(content), digest)
    print(f"{folder / NAME}: {len(content)} bytes, sha256 {digest}")


def write_manifest(path: Path, size: int, digest: str) -> None:
    """Put the model's entry before the others, in place of an older one; all else stays."""
    text = path.read_text()
    text = re.sub(r'(?ms)^\[\[file\]\]\npath = "camera-noise.safetensors"\n.*?^card = ".*?"\n+', "", text)
    defaults, entries = text.split("[[file]]", 1)
    entry = (
        f'[[file]]\npath = "{NAME}"\nkind = "model"\nbytes = {size}\n'
        f'sha256 = "{digest}"\nlicence = "Apache-2.0"\nauthor = "the deflow authors"\n'
        'card = "camera-noise.md"\n\n'
    )
    defaults = re.sub(r"(?m)^default_model = .*\n", "", defaults)
    defaults = f'default_model = "{NAME}"\n{defaults}'
    write_atomically(path, f"{defaults.rstrip()}\n\n{entry}[[file]]{entries}".encode())


if __name__ == "__main__":
    main()
