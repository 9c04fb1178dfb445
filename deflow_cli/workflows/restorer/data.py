"""Data of `deflow sr-train`: pairs from disk, or clean pictures that are degraded while it trains."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from deflow_cli.config.restorer import TrainingConfig
from deflow_cli.data.contents import Contents, folder_contents
from deflow_cli.data.images.files import read_rgb8, to_pixels
from deflow_cli.data.images.folders import find_copies, fingerprint, name_copies, scan_folder
from deflow_cli.data.images.listing import name_some
from deflow_cli.data.images.resize import downsample
from deflow_cli.data.pairs.crops import CleanCrops, PairCrops, StoredCrops
from deflow_cli.data.pairs.formats import open_pairs
from deflow_cli.data.pairs.records import Pair, Pairs
from deflow_cli.data.unpaired import split_held_out
from deflow_cli.degraders.base import Degrader, DegraderContext, Draw, ReadyDegrader
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.inference.positional_noise import stable_generator
from deflow_cli.runtime.distributed import Ranks
from deflow_cli.runtime.progress import Reporter
from deflow_cli.runtime.seeding import derived_seed
from deflow_cli.texts import encoded
from deflow_cli.workflows.restorer.crop_reuse import CropReuse, plan_rounds

_Item = TypeVar("_Item")

_VARIANT_AND_CROP = re.compile(r"(_v\d+)?(_s\d+)?$")  # ends of the names that make-pairs gives


@dataclass(frozen=True)
class SrSource:
    """Where the pairs come from: ``pairs`` on disk, or ``hr`` pictures that a degrader degrades.

    val: pairs to validate on; None: some are held out. scale: of ``hr``, None: 4; pairs have their own, which
    must agree. temperature: lowest and highest, drawn per crop.
    """

    pairs: Path | None = None
    val: Path | None = None
    hr: Path | None = None
    scale: int | None = None
    degrader: DegraderChoice = field(default_factory=DegraderChoice)
    temperature: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if (self.pairs is None) == (self.hr is None):
            both = "both PAIRS and" if self.pairs is not None else "neither PAIRS nor"
            raise ConfigError(
                f"{both} --hr given", next_step="pass a folder of pairs, or --hr DIR for pictures"
            )
        low, high = self.temperature
        if not 0 <= low <= high <= 2:
            given = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            raise ConfigError(f"temperature {given}", next_step="use 0 to 2, such as 0.6:1.2; 1 is as fitted")


class SrData:
    """The training crops of a run, its held-out pairs, and the facts to record of both.

    contents: of the files behind them, by role. shrinks: whether the degrader takes the large crops, and
    makes them smaller itself. Several ranks each have a part of every batch.
    """

    def __init__(
        self,
        crops: PairCrops,
        held_out: Sequence[Pair],
        facts: dict[str, Any],
        degrader: Degrader | None = None,
        temperature: tuple[float, float] = (1.0, 1.0),
        reuse: CropReuse | None = None,
        contents: Mapping[str, Contents] | None = None,
        shrinks: bool = False,
    ) -> None:
        self.crops, self.held_out, self.facts, self._shrinks = crops, tuple(held_out), facts, shrinks
        self._degrader, self._temperature, self._reuse = degrader, temperature, reuse
        self.contents = dict(contents or {})
        self.ranks = Ranks.current()

    @property
    def scale(self) -> int:
        return self.crops.scale

    def part(self, step: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """This rank's clean and small crops of a step, uint8."""
        return self.crops.batch(step, batch_size, self.ranks.part(batch_size))

    def part_ready(
        self, batch: tuple[Tensor, Tensor], step: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """What ``part`` gave, as ``ready`` makes it of a whole batch."""
        return self.ready(batch, step, device, self.ranks.part(len(batch[0]) * self.ranks.size))

    def ready(
        self,
        batch: tuple[Tensor, Tensor],
        step: int,
        device: torch.device,
        places: range | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Clean and degraded crops of a step, float32 in [0, 1], on the device.

        places: those of the batch that the crops have; None: all of them.

        Clean pictures are degraded here, with new noise in each step, also for crops that were used before;
        the result is rounded to 8 bits, as it would be on disk.
        """
        gt, lq = (part.to(device, non_blocking=True).float() / 255 for part in batch)
        if self._degrader is None:
            return gt, lq
        seed = derived_seed(self.crops.seed, "degrade", step)
        if self._reuse is not None:
            lq = self._reuse.degrade(lq, step, lambda key: _draw(seed, key, self._temperature), places)
        else:
            rows = range(len(lq)) if places is None else places
            draws = [_draw(seed, str(row), self._temperature) for row in rows]
            lq = self._degrader.degrade(gt if self._shrinks else lq, draws).to(device)
        return gt, (lq * 255).round().clamp(0, 255) / 255


def _draw(seed: int, key: str, temperature: tuple[float, float]) -> Draw:
    low, high = temperature
    return Draw(seed, key, 0, low + (high - low) * float(stable_generator(seed, key, "temperature").random()))


def open_data(source: SrSource, sr: TrainingConfig, device: torch.device, reporter: Reporter) -> SrData:
    """Open and check what a run trains on. Raises DataError or ConfigError before anything is written."""
    if source.pairs is not None:
        data = _stored(source, source.pairs, sr, reporter)
    else:
        assert source.hr is not None
        data = _live(source, source.hr, sr, device, reporter)
    if source.val is not None:
        data.contents["validation"] = open_pairs(source.val).contents()
    return data


def _stored(source: SrSource, folder: Path, sr: TrainingConfig, reporter: Reporter) -> SrData:
    pairs = open_pairs(folder)
    scale = _checked_scale(pairs, source.scale)
    _check_crop(sr.gt_size, scale)
    train, held = split_pairs(pairs.keys, 0.0 if source.val else sr.held_out, sr.seed)
    held_pairs = _validation_pairs(source, scale, sr, reporter)
    if not held_pairs:
        if not held:
            reporter.note("too few pairs to hold some out: validation is on pairs of the training")
        held_pairs = _cut_all(pairs, held or train, sr, reporter)
    crops = StoredCrops(
        pairs, train, gt_size=sr.gt_size, flips=sr.flips, seed=sr.seed, cache_bytes=sr.cache_mib * 2**20
    )
    digest = hashlib.sha256(encoded("\n".join(pairs.keys))).hexdigest()[:16]
    facts = {"pairs": len(pairs), "pairs_fingerprint": digest, "scale": scale}
    reporter.note(f"pairs: {len(train)} to train on, {len(held_pairs)} to validate on, x{scale}, in {folder}")
    facts["validation_pairs"] = len(held_pairs)
    return SrData(crops, held_pairs, facts, contents={"pairs": pairs.contents()})


def _live(
    source: SrSource, folder: Path, sr: TrainingConfig, device: torch.device, reporter: Reporter
) -> SrData:
    scale = source.scale or 4
    _check_crop(sr.gt_size, scale)
    scan = scan_folder(folder, sr.gt_size)
    for path, reason in scan.broken:
        reporter.warn(f"{path} left out: {reason}")
    if scan.too_small:
        named = name_some(str(path) for path in scan.too_small)
        reporter.warn(
            f"{len(scan.too_small)} pictures left out, smaller than the crop of {sr.gt_size} px: {named}"
        )
    context = DegraderContext(scan.paths, scale, "matlab", device, reporter)
    config = source.degrader.config()
    chosen = config.prepare(context)
    chosen.check_scale(scale)
    if not config.is_random and source.temperature != (1.0, 1.0):
        reporter.warn(f"the degrader {config.name} is not random: the temperature changes nothing")
    copies = find_copies(scan)
    if copies:
        reporter.warn(f"{folder}: {name_copies(copies)}; they stay on one side of the held-out split")
    train, held = split_held_out(scan.paths, 0.0 if source.val else sr.held_out, sr.seed, copies)
    held_pairs = _validation_pairs(source, scale, sr, reporter)
    if not held_pairs:
        if not held:
            reporter.note("too few pictures to hold some out: validation is on those of the training")
        held_pairs = [
            _degraded(path, sr, scale, chosen, source.temperature, device)
            for path in _spread(held or train, sr.validate_pairs)
        ]
    crops = CleanCrops(
        train,
        scale=scale,
        gt_size=sr.gt_size,
        flips=sr.flips,
        seed=sr.seed,
        cache_bytes=sr.cache_mib * 2**20,
        rounds=plan_rounds(sr, chosen.degrader, scale, reporter),
    )
    facts = {
        "pictures": len(scan.paths),
        "pictures_fingerprint": fingerprint(scan),
        "scale": scale,
        "degrader": chosen.facts,
        "temperature": list(source.temperature),
        "validation_pairs": len(held_pairs),
    }
    reporter.note(
        f"pictures: {len(train)} to train on, degraded anew for every crop by {source.degrader.name}, "
        f"{len(held_pairs)} to validate on, x{scale}, in {folder}"
    )
    if crops.rounds.uses > 1:
        facts |= {"crop_uses": crops.rounds.uses, "crop_pool_steps": crops.rounds.steps}
    reuse = CropReuse.of(crops, chosen.degrader, sr.batch_size, device)
    contents = {"pictures": folder_contents(scan.folder, scan.paths)}
    return SrData(
        crops,
        held_pairs,
        facts,
        chosen.degrader,
        source.temperature,
        reuse,
        contents,
        shrinks=chosen.shrinks is not None,
    )


def split_pairs(keys: Sequence[str], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices of the training and of the held-out keys; variants and crops of a picture stay together."""
    pictures = [_VARIANT_AND_CROP.sub("", key) for key in keys]
    train, held = split_held_out([Path(name) for name in sorted(set(pictures))], share, seed)
    apart = {path.as_posix() for path in held}
    assert train
    return (
        [i for i, name in enumerate(pictures) if name not in apart],
        [i for i, name in enumerate(pictures) if name in apart],
    )


def _checked_scale(pairs: Pairs, wanted: int | None) -> int:
    if wanted is not None and wanted != pairs.scale:
        raise ConfigError(
            f"{pairs.path}: its pairs are x{pairs.scale}, not x{wanted}",
            next_step="leave --scale out, or pass other pairs",
        )
    return pairs.scale


def _check_crop(gt_size: int, scale: int) -> None:
    if gt_size % scale:
        raise ConfigError(
            f"sr.gt_size is {gt_size}, no multiple of the scale {scale}",
            next_step=f"pass --set sr.gt_size={max(gt_size // scale, 1) * scale}",
        )


def _validation_pairs(source: SrSource, scale: int, sr: TrainingConfig, reporter: Reporter) -> list[Pair]:
    """The pairs of ``--val``; none without it."""
    if source.val is None:
        return []
    pairs = open_pairs(source.val)
    if pairs.scale != scale:
        raise DataError(
            f"{source.val}: its pairs are x{pairs.scale}, those to train on x{scale}",
            next_step="pass pairs of the same scale as --val",
        )
    return _cut_all(pairs, range(len(pairs)), sr, reporter)


def _cut_all(pairs: Pairs, indices: Sequence[int], sr: TrainingConfig, reporter: Reporter) -> list[Pair]:
    """The middles of some pairs; those that cannot be read are left out with a warning."""
    found = []
    for index in _spread(indices, sr.validate_pairs):
        try:
            found.append(_cut(pairs[index], sr, pairs.scale))
        except DataError as error:
            reporter.warn(f"left out of the validation: {error}")
    if not found:
        raise DataError(f"{pairs.path}: none of its pairs can be validated on", next_step="mend the pairs")
    return found


def _spread(items: Sequence[_Item], most: int) -> list[_Item]:
    """At most so many of the items, evenly spread; 0: all."""
    if not most or len(items) <= most:
        return list(items)
    return [items[round(place)] for place in np.linspace(0, len(items) - 1, most)]


def _cut(pair: Pair, sr: TrainingConfig, scale: int) -> Pair:
    """The middle of a pair, at most ``validate_side`` px of the large side."""
    side = sr.validate_side // scale
    height, width = pair.lq.shape[:2]
    if not side or (height <= side and width <= side):
        return pair
    rows, columns = min(side, height), min(side, width)
    top, left = (height - rows) // 2, (width - columns) // 2
    lq = pair.lq[top : top + rows, left : left + columns]
    gt = pair.gt[top * scale : (top + rows) * scale, left * scale : (left + columns) * scale]
    return Pair(pair.key, np.ascontiguousarray(gt), np.ascontiguousarray(lq))


def _degraded(
    path: Path,
    sr: TrainingConfig,
    scale: int,
    chosen: ReadyDegrader,
    temperature: tuple[float, float],
    device: torch.device,
) -> Pair:
    """A picture and its degradation, the same in every run of a seed."""
    image = read_rgb8(path)
    height, width = (side // scale * scale for side in image.shape[:2])
    small = downsample(image[:height, :width], scale, "matlab") if scale > 1 else image
    pair = _cut(Pair(path.name, image[:height, :width], small), sr, scale)
    given = pair.lq if chosen.shrinks is None else pair.gt
    clean = torch.from_numpy(given.copy()).permute(2, 0, 1)[None].to(device).float() / 255
    draw = _draw(derived_seed(sr.seed, "held-out"), path.name, temperature)
    return Pair(pair.key, pair.gt, to_pixels(chosen.degrader.degrade(clean, [draw])))
