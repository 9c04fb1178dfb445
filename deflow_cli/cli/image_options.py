"""Options of the commands that turn images into images: what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Source = Annotated[
    Path, typer.Argument(metavar="IN", help="An image, a folder of images (recursive), or a video.")
]
Target = Annotated[Path, typer.Argument(metavar="OUT", help="An image or a video, or a folder to write to.")]
Model = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A model, a run folder or hf://USER/REPO (default: the newest fit here, else the embedded one).",
    ),
]
Temperature = Annotated[
    str | None,
    typer.Option(
        metavar="T|LOW:HIGH",
        help="Strength of the noise, or a range drawn from per image (default: 1; with --reverse 0, "
        "the posterior's mean).",
    ),
]
Strength = Annotated[
    str | None,
    typer.Option(metavar="S|LOW:HIGH", help="A plainer word for --temperature: 0.5 is half of the noise."),
]
StrengthSheet = Annotated[
    Path | None,
    typer.Option(metavar="FILE.png", help="A sheet of the first images at six strengths, to choose from."),
]
Clip = Annotated[
    bool,
    typer.Option(
        "--clip",
        help="The images of each folder are frames of one clip: one kind and level of noise for all.",
    ),
]
Temporal = Annotated[
    float | None,
    typer.Option(
        metavar="R",
        help="With --clip: correlation of the noise of two frames, 0 (new in each, the default) to 1 (it "
        "stands still).",
    ),
]
Samples = Annotated[int, typer.Option(min=1, help="Degraded versions of each image.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same images.")]
Reverse = Annotated[bool, typer.Option("--reverse", help="Degraded to clean, by the model's posterior.")]
Like = Annotated[
    Path | None, typer.Option(metavar="REF", help="Degrade as this degraded reference image is.")
]
Compression = Annotated[
    str,
    typer.Option(
        metavar="auto|no",
        help="auto: JPEG compress as the model's degraded images were, where it records that; no: never.",
    ),
]
Tile = Annotated[str, typer.Option(metavar="auto|N", help="Side of a tile in pixels; 0: none.")]
Ext = Annotated[str, typer.Option(metavar="auto|png|jpg|...", help="Format of the outputs.")]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Leave images alone whose outputs exist.")
]
RestoreModel = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A restorer.safetensors, its folder or hf://USER/REPO, or an ESRGAN of others, .pth or "
        ".safetensors (default: the newest runs/*/restorer.safetensors here, else an embedded one for "
        "camera noise, which enlarges by two where --outscale is above 1).",
    ),
]
Outscale = Annotated[
    float | None,
    typer.Option(
        "--outscale",
        "-s",
        metavar="S",
        help="Size of the outputs over that of the inputs, 2.5 for instance: the restored image is "
        "resized by MATLAB's antialiased bicubic (default: the restorer's scale).",
    ),
]
RestoreTile = Annotated[
    str,
    typer.Option(
        metavar="auto|N", help="Side of a tile in input pixels; 0: none; auto: none where memory lasts."
    ),
]
TilePad = Annotated[
    str,
    typer.Option(metavar="auto|N", help="Input pixels that a tile sees around it; auto: enough for no seam."),
]
Suffix = Annotated[str, typer.Option(metavar="TEXT", help="Added to the names: a.png becomes a_TEXT.png.")]
RestoreExt = Annotated[
    str,
    typer.Option(
        metavar="auto|png|jpg|...",
        help="Format of the outputs; PNG wherever it could not hold an image's transparency.",
    ),
]
Tta = Annotated[
    bool,
    typer.Option("--tta", help="Mean over the eight turned and mirrored variants: eight times the work."),
]
SpaceTemperature = Annotated[
    float | None,
    typer.Option(
        metavar="T",
        help="Of an SRFlow: how bold its samples are, 0 (the one mild image) to 1 (default: 0.8).",
    ),
]
SpaceSamples = Annotated[
    int, typer.Option(metavar="N", help="Of an SRFlow: images to write for each input, as _s01, _s02 ...")
]
SpaceSeed = Annotated[int, typer.Option(min=0, help="Of an SRFlow: seed of its samples.")]
Consistent = Annotated[
    bool,
    typer.Option("--consistent", help="Of an SRFlow: project samples onto what shrinks to the input again."),
]
Sheet = Annotated[
    Path | None,
    typer.Option(metavar="FILE.png", help="Of an SRFlow: a sheet of samples, or of temperatures."),
]
RestoreClip = Annotated[
    bool,
    typer.Option(
        "--clip",
        help="The images of each folder are frames of one clip: an SRFlow makes up the same detail for all.",
    ),
]
Fp32 = Annotated[bool, typer.Option("--fp32", help="On CUDA compute in float32 rather than bfloat16.")]
