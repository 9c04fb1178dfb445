"""The clean side of a fit, blurred as the noisy one is: each picture down-sampled by a kernel of a folder.

This is how DeFlow prepares DPED, whose clean pictures are the phone's own, made small by KernelGAN's kernels:
a down-sampled photograph has no noise, and the kernel gives it the blur of a photograph.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.data.blur.kernels import BlurKernel, blur_and_downsample, load_kernels
from deflow_cli.data.blur.pools import read_pool
from deflow_cli.data.contents import Contents, content_text, folder_contents, whole_file
from deflow_cli.data.images.files import Image, read_rgb8, write_image
from deflow_cli.data.images.folders import reason_of
from deflow_cli.data.images.listing import list_images, name_some
from deflow_cli.data.images.outputs import PlannedOutput, plan_outputs
from deflow_cli.data.images.resize import Rule
from deflow_cli.errors import DataError
from deflow_cli.inference.positional_noise import stable_generator
from deflow_cli.paths import clear_temporaries, is_below
from deflow_cli.runtime.distributed import Ranks
from deflow_cli.runtime.progress import Reporter
from deflow_cli.texts import encoded, json_text
from deflow_cli.training.domains import Domains

FOLDER = "clean-blurred"  # below the run's folder
_LIST = "clean-blurred.json"
_PAPER_SCALE = 4  # of kernels that say nothing of their scale, as those of DPED
_RULE: Rule = "deflow"  # halves to even, as in DeFlow's data


class RequestedSide(Protocol):
    """The part of a fit's request that says what its clean side is."""

    @property
    def clean(self) -> Path: ...

    @property
    def kernels(self) -> Path | None: ...

    @property
    def out(self) -> Path: ...


@dataclass(frozen=True)
class CleanSide:
    """The folder of clean images that a run trains on.

    Of pictures that were made small: sources: of what they were made, by what each is. facts: what the model
    is to record. contents: what a resumed run compares.
    """

    folder: Path
    sources: dict[str, Path] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    contents: dict[str, Contents] = field(default_factory=dict)

    def tell(self, domains: Domains) -> None:
        """Add what is recorded of the pictures to that of a run's data."""
        domains.facts.update(self.facts)
        domains.contents.update(self.contents)


@dataclass(frozen=True)
class _Entry:
    """What a small picture was made of: contents of the picture, and the kernel's file and checksum."""

    source: str
    kernel: str
    sha256: str


_UNKNOWN = _Entry("", "", "")


@contextmanager
def clean_side(request: RequestedSide, seed: int, reporter: Reporter) -> Iterator[CleanSide]:
    """The clean side of a run that is about to begin: the clean folder, or what kernels make of it.

    Where the run fails inside, what was made for it is removed, unless some was there before. Of several
    ranks the main one makes the pictures. Raises DataError as ``blur_clean`` does.
    """
    kernels = request.kernels
    if kernels is None:
        yield CleanSide(request.clean)
        return
    ranks, target, listed = Ranks.current(), request.out / FOLDER, request.out / _LIST
    is_new = ranks.is_main and not target.exists() and not listed.exists()
    try:
        yield ranks.on_main(lambda: blur_clean(request.clean, kernels, request.out, seed, reporter))
    except Exception:
        if is_new:
            shutil.rmtree(target, ignore_errors=True)
            listed.unlink(missing_ok=True)
        raise


def blur_clean(clean: Path, kernels: Path, out: Path, seed: int, reporter: Reporter) -> CleanSide:
    """Make the clean pictures of a run, 8-bit PNG below its folder ``out``, and tell what they are.

    Each picture gets the kernel that its name and the seed draw; the kernel is the whole down-sampling, by
    the scale that the folder of kernels states, or by 4. A picture that is there from before, of the same
    file and kernel, is kept. One that cannot be read is left out with a warning. Raises DataError for kernels
    that cannot be read, and where no picture is left.
    """
    pool = load_kernels(kernels)
    stated = read_pool(kernels)
    scale = stated.settings.scale if stated is not None else _PAPER_SCALE
    target = out / FOLDER
    below = out.resolve()
    files = [path for path in list_images(clean) if not path.resolve().is_relative_to(below)]
    planned = plan_outputs(files, clean, target, ext="png", needs_png=lambda path: True) if files else []
    if not planned:
        raise DataError(f"{clean}: no image found", next_step="pass a folder of clean images")
    made = _Maker(pool, scale, seed, target, reporter).make(planned)
    digests = " ".join(kernel.sha256 for kernel in pool)
    facts = {
        "count": len(pool),
        "scale": scale,
        "seed": seed,
        "sha256": hashlib.sha256(encoded(digests)).hexdigest(),
        "used": len({entry.kernel for entry in made.values()}),
        **({} if stated is None else {"estimated": stated.settings.text}),
    }
    reporter.note(f"clean: {len(made)} pictures of {clean} by 1/{scale}, by {len(pool)} kernels of {kernels}")
    contents: dict[str, Contents] = {
        "clean pictures": folder_contents(clean, files),
        "kernels": {kernel.file: kernel.sha256 for kernel in pool},
    }
    sources = {"clean_pictures": clean, "kernels": kernels}
    return CleanSide(target, sources, {"clean_kernels": facts}, contents)


class _Maker:
    """Makes the small pictures, and keeps a list of what each was made of beside their folder."""

    def __init__(
        self, kernels: Sequence[BlurKernel], scale: int, seed: int, target: Path, reporter: Reporter
    ) -> None:
        self._kernels, self._scale, self._seed = kernels, scale, seed
        self._target, self._reporter = target, reporter
        self._list = target.parent / _LIST

    def make(self, planned: Sequence[PlannedOutput]) -> dict[str, _Entry]:
        """Make what is missing or was made of something else; returns what each picture was made of."""
        before = self._listed()
        names = [item.targets[0].relative_to(self._target).as_posix() for item in planned]
        # A list written ahead makes those known that a killed run leaves behind.
        self._write_list({name: before.get(name, _UNKNOWN) for name in [*before, *names]})
        made: dict[str, _Entry] = {}
        failed: list[str] = []
        self._reporter.start("blurring the clean pictures", len(planned))
        for folder in {item.targets[0].parent for item in planned}:
            clear_temporaries(folder)
        for done, (item, name) in enumerate(zip(planned, names, strict=True), start=1):
            try:
                kernel = self._kernel(item.key)
                entry = _Entry(content_text(whole_file(item.source)), kernel.file, kernel.sha256)
                if before.get(name) != entry or not item.targets[0].is_file():
                    self._write(item, kernel)
                made[name] = entry
            except DataError as error:
                failed.append(f"{item.key}: {reason_of(error, item.source)}")
            self._reporter.update(done, failed=len(failed))
        self._reporter.finish()
        for name in before.keys() - made.keys():  # of pictures that are gone, or that cannot be read any more
            (self._target / name).unlink(missing_ok=True)
        self._write_list(made)
        if failed:
            self._reporter.warn(f"clean: left out {len(failed)}: {name_some(failed)}")
        if not made:
            raise DataError(f"no clean picture can be used: {name_some(failed)}")
        return made

    def _write_list(self, pictures: Mapping[str, _Entry]) -> None:
        content = {
            "scale": self._scale,
            "pictures": {name: asdict(entry) for name, entry in pictures.items()},
        }
        write_atomically(self._list, encoded(json_text(content, indent=0) + "\n"))

    def _kernel(self, key: str) -> BlurKernel:
        drawn = stable_generator(self._seed, key, "kernel", 0).integers(len(self._kernels))
        return self._kernels[int(drawn)]

    def _write(self, item: PlannedOutput, kernel: BlurKernel) -> None:
        pixels = read_rgb8(item.source)
        if min(pixels.shape[:2]) < self._scale:
            raise DataError(f"{pixels.shape[1]}x{pixels.shape[0]} is smaller than {self._scale} px")
        write_image(item.targets[0], Image(blur_and_downsample(pixels, kernel, self._scale, _RULE, "direct")))

    def _listed(self) -> dict[str, _Entry]:
        """What the pictures there were made of, as far as that is known."""
        try:
            content = json.loads(self._list.read_text("utf-8"))
            same_scale = content["scale"] == self._scale
            entries = {name: _Entry(**entry) for name, entry in content["pictures"].items() if is_below(name)}
            return entries if same_scale else dict.fromkeys(entries, _UNKNOWN)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
