"""OpenCV's decoder without its messages on stderr, used where Pillow would drop bits."""

from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_lock = threading.Lock()
_logging = cv2.utils.logging


def decode_unchanged(data: bytes) -> NDArray[Any] | None:
    """Decode without conversion: H x W or H x W x 3 (BGR) or x 4 (BGRA); None if OpenCV cannot.

    OpenCV writes its own diagnosis to stderr; it is turned off meanwhile, as the caller says it better.
    """
    with _lock:
        level = _logging.getLogLevel()
        _logging.setLogLevel(0)
        try:
            array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:
            return None
        finally:
            _logging.setLogLevel(level)
    return None if array is None else np.asarray(array)
