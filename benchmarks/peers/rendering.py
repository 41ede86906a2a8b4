"""One renderer of benchmarks/rendering.py in a process of its own: Dreamlog, or pyvips plain or tuned.

rendering.py dreamlog|each|tuned   a line of JSON in ({source, folder}), a line out ({cpu}: seconds of the process)
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

SIZES = (2048, 1024, 320)


def dreamlog() -> Callable[[str, str], None]:
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from processing import child, render

    child.start(3 << 30)

    def run(source: str, folder: str) -> None:
        done = child.render(render.RenderRequest(source, folder, "jpeg", 78, 0, 100_000_000, 600, 60.0))
        assert isinstance(done, render.Rendered), done

    return run


def vips(tuned: bool) -> Callable[[str, str], None]:
    os.environ["VIPS_CONCURRENCY"] = "1"
    import pyvips

    pyvips.cache_set_max(0)

    def save(image: pyvips.Image, folder: str, size: int) -> None:
        image.jpegsave(f"{folder}/{size}.jpg", Q=78, optimize_coding=True, keep="none")

    def each(source: str, folder: str) -> None:
        """thumbnail() from the file for each size."""
        for size in SIZES:
            image = pyvips.Image.thumbnail(source, size, height=size, size="down")
            save(image, folder, size)

    def cascade(source: str, folder: str) -> None:
        """Everything from one decode, and a profile that is sRGB anyway is not converted."""
        head = pyvips.Image.new_from_file(source)
        profile = bytes(head.get("icc-profile-data")) if head.get_typeof("icc-profile-data") else b""
        foreign = profile and b"sRGB" not in profile and "sRGB".encode("utf-16-be") not in profile
        more = {"export_profile": "srgb"} if foreign else {}
        image = None
        for size in SIZES:
            if image is None:
                image = pyvips.Image.thumbnail(source, size, height=size, size="down", **more).copy_memory()
            else:
                image = image.thumbnail_image(size, height=size, size="down").copy_memory()
            save(image, folder, size)

    return cascade if tuned else each


run = dreamlog() if sys.argv[1] == "dreamlog" else vips(sys.argv[1] == "tuned")
for line in sys.stdin:
    order = json.loads(line)
    before = time.process_time()
    run(order["source"], order["folder"])
    print(json.dumps({"cpu": time.process_time() - before}), flush=True)
