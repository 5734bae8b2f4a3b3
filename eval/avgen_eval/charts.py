"""Small charts as text: SVG paths for curves, PNG addresses for spectrograms and film strips."""

import base64
import struct
import zlib

import numpy as np

from avgen.measure.onsets import Curve, to_mono
from avgen_eval.codec import mel_spectrum

WIDTH, HEIGHT = 1000, 100
COLUMNS = 500
RANGE_DB = 70.0
HEAT = np.array(
    [
        (13, 16, 34),
        (38, 33, 87),
        (86, 38, 120),
        (148, 51, 116),
        (208, 77, 88),
        (244, 133, 63),
        (252, 225, 150),
    ]
)
"""Colours of a spectrogram from quiet to loud; rising lightness, so that it prints in grey."""


def png_address(image: np.ndarray) -> str:
    """An ``(H, W, 3)`` uint8 picture as a ``data:image/png`` address."""
    height, width = image.shape[:2]
    rows = np.zeros((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = 1  # filter "sub": each value as the difference from the pixel to its left
    flat = image.reshape(height, width, 3)
    rows[:, 1:] = np.diff(flat, axis=1, prepend=np.zeros_like(flat[:, :1])).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode("ascii")


def waveform_path(waveform: np.ndarray, duration: float, sample_rate: int) -> str:
    """Envelope of a waveform as a closed SVG path in a box of 1000 by 100, scaled to its peak."""
    mono = to_mono(waveform)
    columns = min(COLUMNS, len(mono))
    edges = np.linspace(0, len(mono), columns + 1).astype(int)
    high = np.maximum.reduceat(mono, edges[:-1])
    low = np.minimum.reduceat(mono, edges[:-1])
    scale = 0.48 * HEIGHT / max(float(np.abs(mono).max()), 1e-4)
    x = (edges[:-1] + 0.5 * (edges[1] - edges[0])) * WIDTH / (duration * sample_rate)
    top, bottom = HEIGHT / 2 - scale * high, HEIGHT / 2 - scale * low
    return (
        polyline(np.concatenate([x, x[::-1]]), np.concatenate([top - 0.6, bottom[::-1] + 0.6]))
        + "Z"
    )


def curve_path(curve: Curve, duration: float, *, filled: bool) -> str:
    """A curve, scaled to its maximum, as an SVG path in a box of 1000 by 100."""
    values = curve.values / max(float(curve.values.max(initial=0.0)), 1e-9)
    x, y = curve.times * WIDTH / duration, HEIGHT * (1 - 0.92 * values)
    if not filled:
        return polyline(x, y)
    return (
        polyline(np.concatenate([x[:1], x, x[-1:]]), np.concatenate([[HEIGHT], y, [HEIGHT]])) + "Z"
    )


def spectrogram(waveform: np.ndarray, sample_rate: int) -> str:
    """Mel spectrogram, low at the bottom, the top 70 dB, as a PNG address."""
    level = mel_spectrum(waveform, sample_rate)
    step = max(1, len(level) // 600)
    level = level[: len(level) // step * step].reshape(-1, step, level.shape[1]).max(axis=1)
    share = np.clip((level - level.max()) / RANGE_DB + 1, 0, 1).T[::-1]
    place = share * (len(HEAT) - 1)
    lower = np.minimum(place.astype(int), len(HEAT) - 2)
    part = (place - lower)[..., None]
    return png_address(np.rint(HEAT[lower] * (1 - part) + HEAT[lower + 1] * part).astype(np.uint8))


def film_strip(frames: np.ndarray, count: int, height: int = 64) -> str:
    """``count`` frames from the middles of equal spans of time, side by side, as a PNG address."""
    chosen = frames[((np.arange(count) + 0.5) * len(frames) / count).astype(int)]
    factor = max(1, chosen.shape[1] // height)
    reduced = chosen[:, ::factor, ::factor] if factor > 1 else chosen
    return png_address(np.concatenate(list(reduced), axis=1))


def poster(frames: np.ndarray, height: int = 256) -> str:
    """The first frame, enlarged by a whole factor if small, as a PNG address."""
    factor = max(1, height // frames.shape[1])
    return png_address(frames[0].repeat(factor, axis=0).repeat(factor, axis=1))


def polyline(x: np.ndarray, y: np.ndarray) -> str:
    """Points as an SVG path."""
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
    return f"M{points}" if points else "M0,0"
