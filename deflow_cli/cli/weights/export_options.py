"""Options of `deflow export`: what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Places = Annotated[
    list[Path],
    typer.Argument(
        metavar="[wtp] [MODEL] OUT", help="A model or its folder, then the file: .pth, .safetensors, .onnx."
    ),
]
ModelToExport = Annotated[
    Path | None,
    typer.Option(
        "--model",
        metavar="FILE",
        help="The model or hf://USER/REPO, in place of MODEL (for .onnx default: the newest fit here).",
    ),
]
FileFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="basicsr (BasicSR, Real-ESRGAN, chaiNNer), realsr (RealSR, BSRGAN, DeFlow), esrgan (the "
        "first ESRGAN's programs), srflow (its authors' program, for SRFlow alone), safetensors (ours, "
        "chaiNNer), onnx (onnxruntime, chaiNNer; degradation models too), wtp (a degradation model for "
        "wtp_dataset_destroyer: OUT is its folder src/process). Default: as OUT is named, else "
        "basicsr.",
    ),
]
GraphTemperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        metavar="T",
        min=0.0,
        help="ONNX, with samples: default of its input temperature (1, of an SRFlow 0.8).",
    ),
]
GraphSeed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="N",
        min=0,
        help="ONNX, with samples: default of its input seed (default: a function of the image's pixels).",
    ),
]
GraphKey = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="NAME",
        help="ONNX, with samples: the image's name that the noise belongs to (default: image).",
    ),
]
GraphNoise = Annotated[
    str | None,
    typer.Option(
        "--noise",
        metavar="graph|input|runtime",
        help="ONNX, with samples: drawn in the graph as our commands draw it (default), inputs of the graph, "
        "or the runtime's, other at every call.",
    ),
]
Fixed = Annotated[
    bool,
    typer.Option(
        "--fixed",
        help="ONNX, with samples: the graph takes the image alone, no temperature and no seed.",
    ),
]
Openmodeldb = Annotated[
    Path | None,
    typer.Option(metavar="FILE.json", help="Write the entry for OpenModelDB too; a folder: by its id."),
]
EntryId = Annotated[str, typer.Option("--id", metavar="ID", help="The entry's id (default: 4x-NAME).")]
Name = Annotated[str, typer.Option(metavar="NAME", help="The model's name (default: its own).")]
Author = Annotated[str, typer.Option(metavar="NAME", help="Who made the model.")]
LicenseId = Annotated[
    str, typer.Option("--license", metavar="SPDX", help="Its licence: Apache-2.0, CC-BY-4.0 ...")
]
Description = Annotated[str, typer.Option(metavar="TEXT", help="What the model is for.")]
Tag = Annotated[list[str] | None, typer.Option(metavar="TAG", help="A tag of the entry. Repeatable.")]
Url = Annotated[
    list[str] | None, typer.Option(metavar="URL", help="Where OUT can be downloaded. Repeatable.")
]
