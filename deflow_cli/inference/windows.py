"""A flow on a window of an image: conditions and latents computed once, decoded for every sample."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from deflow_cli.arrays import Window
from deflow_cli.inference.precision import coarse_conditions
from deflow_cli.inference.tiling import ConditionedFlow
from deflow_cli.layers.invertible.folding import FoldCache
from deflow_cli.layers.networks.upsampled import LevelFeatures
from deflow_cli.models.deflow.model import Conditions, DeFlow
from deflow_cli.models.deflow.shift import ShiftDistribution

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE as PoolId

RECORDED_SIZES = 4  # of windows, whose graphs are in memory
RECORDED_PIXELS = 1 << 20  # of all windows whose graphs are in memory, unless one alone has more

Cut = Callable[[Tensor, int], Tensor]
"""Takes features of what the encoder saw, at 1 / scale of the resolution, and the scale, to the window's."""


class Recording(Protocol):
    """A function of CUDA tensors that is recorded at some call, and replayed from then on.

    Its results lie in memory that the next call overwrites.
    """

    @property
    def is_recorded(self) -> bool: ...

    @property
    def recorded_pool(self) -> PoolId | None: ...

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]: ...


class Recorder(Protocol):
    """Makes a function a recording: :class:`deflow_cli.runtime.cuda_graphs.GraphedFunction` does."""

    def __call__(
        self,
        function: Callable[..., Sequence[Tensor]],
        *,
        warm_up_calls: int,
        pool: Callable[[], PoolId | None],
        name: str,
    ) -> Recording: ...


class Encoding(NamedTuple):
    """Images encoded: latents, finest first, each B C H W, and the conditions of their h.

    gain: the grain's strength at each pixel, B C H W; None for a model without grain.
    """

    latents: list[Tensor]
    conditions: Conditions
    gain: Tensor | None = None


class Change(NamedTuple):
    """What is done to latents: ``shift.degrade``, or ``shift.restore`` where ``reverse``.

    noise: standard normals of the latents' shapes; None where every temperature is 0. temperature_b and
    component_b: of each image.
    """

    shift: ShiftDistribution
    reverse: bool
    noise: Sequence[Tensor] | None
    temperature_b: Tensor
    component_b: Tensor

    def __call__(self, model: DeFlow, encoding: Encoding) -> Tensor:
        """The images of the changed latents, with the statistics of the domain that they are changed to."""
        change = self.shift.restore if self.reverse else self.shift.degrade
        latents = change(encoding.latents, self.noise, self.temperature_b, self.component_b)
        y = model.decode_conditioned(latents, encoding.conditions)
        return y if self.reverse else model.statistics.to_degraded(y)


class WindowFlow:
    """Encodes windows of images, and decodes them any number of times.

    With a recorder and on CUDA, the second window of a size is recorded as CUDA graphs, which later ones of
    that size replay, whatever the image. An encoded window is then valid until the next one is encoded.
    """

    def __init__(self, model: DeFlow, recorder: Recorder | None = None) -> None:
        self.model, self.recorder = model, recorder
        self._recordings: OrderedDict[Hashable, _RecordedWindow | None] = OrderedDict()
        self._weights: Hashable = None

    def conditions(self, h_seen: Tensor | None, window: Window, seen: Window) -> Conditions:
        """Conditions of a window, from the h of a larger one around it (B C H W); None: a model without h."""
        return window_conditions(self.model, h_seen, window, seen)

    def encode(self, x_bchw: Tensor, h_seen: Tensor | None, window: Window, seen: Window) -> EncodedWindow:
        """Encode the pixels x of a window; the encoder sees the h of ``seen``, which contains it."""
        recording = self._recording(x_bchw, h_seen)
        if recording is None:
            return EncodedWindow(self.model, _encode(self.model, x_bchw, h_seen, _slices(window, seen)))
        inputs = [x_bchw]
        if h_seen is not None:
            origin = (window.top - seen.top, window.left - seen.left)
            inputs += [h_seen, *(torch.full((), start, device=x_bchw.device) for start in origin)]
        recording.encode(inputs)
        return recording

    def check_weights(self) -> None:
        """Drop the graphs if the model's weights have changed, since graphs hold what follows from them."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        weights = None
        on_cuda = self.recorder is not None and tensors[0].is_cuda
        if on_cuda and not any(tensor.is_inference() for tensor in tensors):
            weights = tuple((tensor.data_ptr(), tensor._version) for tensor in tensors)
        if weights != self._weights:
            self.clear()
        self._weights = weights

    def clear(self) -> None:
        """Drop the graphs and their memory."""
        self._recordings.clear()

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles come without the graphs."""
        return {**self.__dict__, "_recordings": OrderedDict(), "_weights": None}

    def _recording(self, x_bchw: Tensor, h_seen: Tensor | None) -> _RecordedWindow | None:
        """The recording for a size that came before; None for a new one, and where none can be made."""
        if self.recorder is None or self._weights is None:
            return None
        key = (x_bchw.shape, None if h_seen is None else h_seen.shape)
        recording = None
        if key in self._recordings:
            pixels = x_bchw[:, 0].numel()
            recording = self._recordings[key] or _RecordedWindow(
                self.model, self.recorder, pixels, self._pool
            )
        self._recordings[key] = recording
        self._recordings.move_to_end(key)
        while len(self._recordings) > 1 and (
            len(self._recordings) > RECORDED_SIZES
            or sum(r.pixels for r in self._recorded()) > RECORDED_PIXELS
        ):
            self._recordings.popitem(last=False)
        return recording

    def _recorded(self) -> list[_RecordedWindow]:
        return [recording for recording in self._recordings.values() if recording is not None]

    def _pool(self) -> PoolId | None:
        """Memory that graphs share: temporary results of one size lie where another size had its own."""
        return next((pool for r in self._recorded() if (pool := r.recorded_pool) is not None), None)


class EncodedWindow:
    """A window's latents and conditions."""

    def __init__(self, model: DeFlow, encoding: Encoding) -> None:
        self.model, self.encoding = model, encoding

    def decode(self, change: Change) -> Tensor:
        """The window's pixels after a change of its latents: B C H W."""
        return change(self.model, self.encoding)


class _RecordedWindow(EncodedWindow):
    """Windows of one size, encoded by one graph; what that leaves in memory is decoded by other graphs."""

    def __init__(
        self, model: DeFlow, recorder: Recorder, pixels: int, pool: Callable[[], PoolId | None]
    ) -> None:
        super().__init__(model, Encoding([], []))
        self.pixels = pixels
        self._recorder, self._pool = recorder, pool
        self._encode = recorder(self._encoded, warm_up_calls=0, pool=pool, name="tiles")
        self._decodings: dict[Hashable, tuple[ShiftDistribution, Recording]] = {}
        # Graphs read these where they lie, so they must outlive the caches that they come from.
        self._folded = [m.cached_values() for m in model.modules() if isinstance(m, FoldCache)]

    @property
    def recorded_pool(self) -> PoolId | None:
        return self._encode.recorded_pool

    def encode(self, inputs: Sequence[Tensor]) -> None:
        """Encode another window: x and, for a model with h, h and the window's row and column within it."""
        self._encode(*inputs)

    def decode(self, change: Change) -> Tensor:
        if not self._encode.is_recorded:
            return super().decode(change)
        shift, reverse, noise, temperature_b, component_b = change
        key = (id(shift), reverse, noise is None)
        if key not in self._decodings:

            def decoded(
                temperature_b: Tensor, component_b: Tensor, *noise_of_latents: Tensor
            ) -> list[Tensor]:
                again = Change(shift, reverse, noise_of_latents or None, temperature_b, component_b)
                return [again(self.model, self.encoding)]

            # the first call is plain: what the shift computes once, such as posteriors, makes the host wait
            graph = self._recorder(decoded, warm_up_calls=1, pool=self._pool, name="tiles")
            self._decodings = {key: (shift, graph), **dict(list(self._decodings.items())[-1:])}
        _, graph = self._decodings[key]
        return graph(temperature_b, component_b, *(noise or ()))[0]

    def _encoded(
        self,
        x_bchw: Tensor,
        h_seen: Tensor | None = None,
        row: Tensor | None = None,
        column: Tensor | None = None,
    ) -> list[Tensor]:
        def cut(features: Tensor, scale: int) -> Tensor:
            for dim, start in ((2, row), (3, column)):
                assert start is not None
                length = x_bchw.shape[dim] // scale
                if length < features.shape[dim]:
                    places = torch.arange(length, device=start.device) + start // scale
                    features = features.index_select(dim, places)
            return features

        self.encoding = _encode(self.model, x_bchw, h_seen, cut)
        return self.encoding.latents


def _encode(model: DeFlow, x_bchw: Tensor, h_seen: Tensor | None, cut: Cut) -> Encoding:
    conditions = _conditions(model, h_seen, cut)
    return Encoding(model.encode_conditioned(x_bchw, conditions)[0], conditions)


def window_conditions(
    model: ConditionedFlow, h_seen: Tensor | None, window: Window, seen: Window
) -> Conditions:
    """Conditions of a window, from the conditioning image of a larger one around it (B C H / s W / s).

    window, seen: in pixels of the image that the flow makes. None: a model without a conditioning image.
    """
    return _conditions(model, h_seen, _slices(window, seen))


def _conditions(model: ConditionedFlow, h_seen: Tensor | None, cut: Cut) -> Conditions:
    encoder = model.encoder
    if encoder is None or h_seen is None:
        return [None] * len(model.flow.layers)
    downsample = model.config.flow.downsample
    with coarse_conditions(h_seen.device):
        features = []
        for index, level in enumerate(encoder.features(h_seen)):
            own = cut(level.own, 2 ** (index + 1))
            low = None if level.low is None else cut(level.low, downsample)
            features.append(LevelFeatures(own) if low is None else LevelFeatures(own, low))
        return model.flow.prepare(features)


def _slices(window: Window, seen: Window) -> Cut:
    return lambda features, scale: features[(..., *window.divided(scale).within(seen.divided(scale)))]
