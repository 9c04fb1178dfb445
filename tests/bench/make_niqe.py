"""Write the packaged figures of NIQE: weights/niqe-live.safetensors, its card and its entry in the manifest.

    python tests/bench/make_niqe.py modelparameters.mat --notice readme.txt

The first file is ``modelparameters.mat`` of LIVE's release (github.com/utlive/niqe), or the
``niqe_pris_params.npz`` that the PyPI packages basicsr 1.4.2 and mmagic 1.2.0 carry: the same figures. The
second is the release's readme.txt, whose copyright notice must stand whole in every copy: it goes onto the
card and into the file's own metadata. The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path

import torch
from safetensors.torch import save

from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.errors import DeflowError
from deflow_cli.metrics.quality.niqe import METADATA_KEY, read_niqe_model

NAME, CARD_NAME = "niqe-live.safetensors", "niqe-live.md"
PHOTOGRAPHS = "# Photographs, written by"
LICENCE = "LIVE's notice: free to use, copy and distribute with the whole notice; name LIVE in publications"
AUTHOR = "Laboratory for Image and Video Engineering, The University of Texas at Austin"
CARD = """# niqe-live.safetensors

The pristine statistics that `deflow score` compares with for NIQE: `mean` (36) and `covariance` (36 x 36),
float64, of block features of 125 pristine photographs.

- **Origin**: `mu_prisparam` and `cov_prisparam` of LIVE's NIQE release, 2012 (`modelparameters.mat`,
  github.com/utlive/niqe), unchanged. The same figures stand in the PyPI packages basicsr 1.4.2 and mmagic
  1.2.0 (`niqe_pris_params.npz`).
- **Terms**: LIVE's, whole below and in the file's metadata. If you publish with them, name LIVE and cite both
  titles.
- **Limits**: MATLAB's `niqe` has figures of its own, which cannot be passed on; they do not compare.
- **sha256**: `{digest}`

```sh
python tests/bench/make_niqe.py modelparameters.mat --notice readme.txt
```

```text
{notice}
```
"""


def copyright_notice(readme: str) -> str:
    """LIVE's notice with its first and last line, as it stands."""
    found = re.search(r"-+COPYRIGHT NOTICE STARTS.*?COPYRIGHT NOTICE ENDS[^\n%]*", readme, re.DOTALL)
    if found is None:
        raise SystemExit("the readme holds no copyright notice; pass the release's readme.txt")
    return found.group()


def put_entry(manifest: str, size: int, digest: str) -> str:
    """The manifest with the file's entry in place of an older one, or else above the photographs'."""
    entry = (
        f'[[file]]\npath = "{NAME}"\nkind = "figures"\nbytes = {size}\nsha256 = "{digest}"\n'
        f'licence = "{LICENCE}"\nauthor = "{AUTHOR}"\ncard = "{CARD_NAME}"\n'
    )
    older = re.compile(rf'\[\[file\]\]\npath = "{re.escape(NAME)}"\n(?:\w+ = .*\n)+')
    if older.search(manifest):
        return older.sub(lambda _: entry, manifest)
    before, mark, after = manifest.partition(PHOTOGRAPHS)
    return f"{before}{entry}\n{mark}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figures", type=Path, help="modelparameters.mat or niqe_pris_params.npz")
    parser.add_argument("--notice", type=Path, required=True, help="readme.txt of LIVE's release")
    parser.add_argument("--weights", type=Path, default=Path(__file__).parents[2] / "weights")
    options = parser.parse_args()
    try:
        model = read_niqe_model(options.figures)
        notice = copyright_notice(options.notice.read_text(encoding="utf-8"))
    except (DeflowError, OSError) as error:
        sys.exit(str(error))
    tensors = {"mean": model.mean.to(torch.float64), "covariance": model.covariance.to(torch.float64)}
    # One entry: safetensors writes several in an order of its own, and the bytes must repeat.
    metadata = {METADATA_KEY: json.dumps({"origin": "LIVE", "notice": notice})}
    content = save({k: v.contiguous() for k, v in tensors.items()}, metadata)
    digest = hashlib.sha256(content).hexdigest()
    write_atomically(options.weights / NAME, content)
    write_atomically(options.weights / CARD_NAME, CARD.format(digest=digest, notice=notice).encode("utf-8"))
    manifest = options.weights / "manifest.toml"
    write_atomically(manifest, put_entry(manifest.read_text(encoding="utf-8"), len(content), digest).encode())
    print(f"{options.weights / NAME}: {len(content)} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
