"""Measures rendering alone: one picture into three JPEGs (q78, optimized, 4:2:0), each renderer in a warm process.

CPU time includes all threads of the process. SSIM compares the luma with that of the upright original, reduced by
LANCZOS.
"""

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
from PIL import Image, ImageOps
from servers import BENCH, HERE

Image.MAX_IMAGE_PIXELS = None
SIZES = (2048, 1024, 320)
KINDS = {"12 MP JPEG": "phone", "8 MP JPEG": "eight", "tall PNG screenshot": "screenshots", "photographic PNG": "png"}
PER_KIND = 4  # pictures of a kind: every sixth of the 24 photographs

PYTHON = f"{HERE.parent}/.venv/bin/python"
RENDERERS = {
    "Dreamlog": [PYTHON, "peers/rendering.py", "dreamlog"],
    "sharp, tuned": ["node", "peers/rendering.js", "tuned"],
    "pyvips, tuned": [sys.executable, "peers/rendering.py", "tuned"],
    "sharp, plain": ["node", "peers/rendering.js", "each"],
    "pyvips, plain": [sys.executable, "peers/rendering.py", "each"],
}


def pictures(kind: str) -> list[Path]:
    files = sorted((BENCH / "photos" / KINDS[kind]).iterdir())
    return files[:: len(files) // PER_KIND]


class Renderer:
    def __init__(self, name: str) -> None:
        self.folder = BENCH / "rendered" / name.replace(", ", "-").lower()
        self._process = subprocess.Popen(
            RENDERERS[name],
            cwd=HERE,
            env=os.environ | {"NODE_PATH": str(BENCH / "node_modules")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def render(self, source: Path) -> float:
        """CPU seconds."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"source": str(source), "folder": str(self.folder)}), file=self._process.stdin, flush=True)
        cpu: float = json.loads(self._process.stdout.readline())["cpu"]
        return cpu

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def measure(look: bool) -> dict[str, dict[str, dict[str, Any]]]:
    """kind -> renderer -> {cpu_ms, and when `look`, ssim}: medians over the pictures. The order is random.

    Those that are not tuned, which are never the best, are measured only when `look`.
    """
    renderers = {name: Renderer(name) for name in RENDERERS if look or "plain" not in name}
    for each in renderers.values():
        each.render(pictures("12 MP JPEG")[1])  # warm
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for kind in KINDS:
        cpu: dict[str, list[float]] = {name: [] for name in renderers}
        ssims: dict[str, list[float]] = {name: [] for name in renderers}
        for source in pictures(kind):
            luma = upright(source) if look else None
            for name in random.sample(list(renderers), len(renderers)):
                cpu[name].append(1000 * renderers[name].render(source))
                if luma is not None:
                    folder = renderers[name].folder
                    ssims[name].append(statistics.mean(ssim(luma, file) for file in folder.glob("*.jpg")))
        found[kind] = {name: {"cpu_ms": statistics.median(cpu[name])} for name in renderers}
        for name in renderers if look else ():
            found[kind][name]["ssim"] = statistics.mean(ssims[name])
    for each in renderers.values():
        each.close()
    return found


def upright(source: Path) -> Image.Image:
    """The luma of the whole picture, as floats."""
    return ImageOps.exif_transpose(Image.open(source)).convert("RGB").convert("L").convert("F")


def ssim(luma: Image.Image, file: Path) -> float:
    """Mean structural similarity (Wang 2004: gaussian window of sigma 1.5)."""
    a = numpy.asarray(Image.open(file).convert("L"), numpy.float32)
    b = numpy.asarray(luma.resize((a.shape[1], a.shape[0]), Image.Resampling.LANCZOS))
    mean_a, mean_b = blurred(a), blurred(b)
    variance_a, variance_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
    covariance = blurred(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float((top / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))).mean())


WINDOW = numpy.exp(-(numpy.arange(-5, 6) ** 2) / (2 * 1.5**2)).astype(numpy.float32)
WINDOW /= WINDOW.sum()


def blurred(plane: Any) -> Any:
    for _ in range(2):
        plane = sum(weight * plane[i : len(plane) - 10 + i] for i, weight in enumerate(WINDOW)).T
    return plane


if __name__ == "__main__":
    json.dump(measure(look="--ssim" in sys.argv), sys.stdout, indent=1)
