"""Embed a general restorer: copy a run's best to weights/, with its card and its entry in the manifest.

    python -m tests.bench.embed_restorer RUN --command "deflow sr-train ..."

At a scale of 1 it becomes the denoiser, else the enlarger. ``--command`` is the command that trained it, as
it was given; it goes into the card.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from pathlib import Path

from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.paths import RESTORER_FILE, weights_folder
from deflow_cli.tensor_files import read_safetensors_metadata

CARD = """\
# {name}.safetensors

A general restorer of camera noise, x{scale}: what `deflow restore{option}` takes without a restorer of yours.

- **Origin**: trained by this project with the command below, {step} steps on one CPU ({stage} stage).
- **Data**: the {pictures} photographs of `photos/` alone ([their free terms](photos/CARD.md)), degraded anew
  for every crop by `{degrader}` ([card](camera-noise.md)) at temperatures {low:g} to {high:g}.
- **Terms**: Apache-2.0, as the project.
- **Held-out PSNR** ({validation} of the photographs): {psnr:.2f} dB, its input {input_psnr:.2f} dB.
- **Size**: {channels} features, {blocks} RRDB blocks; {bytes} bytes.
- **Limits**: trained on a few small photographs for a short time. It takes camera noise of moderate strength
  away and invents no detail. For your own degradation, train one: `deflow fit CLEAN NOISY`, then
  `deflow sr-train --hr CLEAN`.{beside}
- **sha256**: `{sha256}`

```sh
{command}
```
"""

ENLARGES = """ Of images without noise it makes less than bicubic interpolation
  does (docs/benchmarks.md, by `tests/bench/enlarger.py`)."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--command", required=True)
    options = parser.parse_args()
    source = options.run / RESTORER_FILE
    metadata = read_safetensors_metadata(source)
    sizes, facts = json.loads(metadata["deflow.config"]), json.loads(metadata["deflow.training"])
    content = source.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    low, high = facts["temperature"]
    name, option = ("denoiser", "") if sizes["scale"] == 1 else ("enlarger", " --outscale 2")
    card = CARD.format(
        name=name,
        option=option,
        beside="" if sizes["scale"] == 1 else ENLARGES,
        degrader=facts["degrader"]["model"]["file"],
        low=low,
        high=high,
        validation=facts["validation_pairs"],
        psnr=facts["scores"]["psnr"],
        input_psnr=facts["input"]["psnr"],
        bytes=len(content),
        sha256=digest,
        command=options.command,
        **{key: sizes[key] for key in ("scale", "channels", "blocks")},
        **{key: facts[key] for key in ("step", "stage", "pictures")},
    )
    folder = weights_folder()
    write_atomically(folder / f"{name}.safetensors", content)
    write_atomically(folder / f"{name}.md", card.encode())
    write_manifest(folder / "manifest.toml", name, len(content), digest)
    print(f"{folder / name}.safetensors: {len(content)} bytes, sha256 {digest}")


def write_manifest(path: Path, name: str, size: int, digest: str) -> None:
    """Put the key that names the restorer at the top, and its entry at the end, in place of older ones."""
    text = path.read_text("utf-8")
    text = re.sub(rf"(?m)^default_{name} = .*\n", "", text)
    text = re.sub(rf'(?ms)^\[\[file\]\]\npath = "{name}.safetensors"\n.*?^card = "{name}.md"\n+', "", text)
    entry = (
        f'\n[[file]]\npath = "{name}.safetensors"\nkind = "restorer"\nbytes = {size}\nsha256 = "{digest}"\n'
        f'licence = "Apache-2.0"\nauthor = "the deflow authors"\ncard = "{name}.md"\n'
    )
    write_atomically(path, f'default_{name} = "{name}.safetensors"\n{text.rstrip()}\n{entry}'.encode())


if __name__ == "__main__":
    main()
