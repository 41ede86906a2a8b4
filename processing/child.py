"""The worker process around the renderer: its limits, its place behind the server, its end.

Hostile bytes are decoded here, so it must not know anything of the server, and loads little.
"""

import math
import multiprocessing
import os
import resource
import signal
import threading
import time
import warnings

import pillow_heif
from PIL import Image

import linux
from processing import render as renderer
from processing.render import Rejected, Rendered, RenderRequest

NICENESS = 10  # above the server's: a tenth of the CPU next to one other busy process, all of it when there is none
TURN = 50_000_000  # ns of CPU at a stretch while no other process wants it
REST = 5.0  # seconds without an image after which the process returns the memory it kept for the next one
CPU_SECONDS = 5  # that an image may use beyond its wall time, in codecs that have threads

_idle_since = math.inf  # monotonic time at which the last image ended; inf: rendering, or no memory is kept


def start(memory: int) -> None:
    """Prepare this process to render; `memory` is the limit of its address space in bytes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which then stops its workers
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    # Requests go first: a process that wakes up next to this one need not wait for the end of this one's turn.
    linux.prefer_long_turns(TURN, os.nice(NICENESS))
    linux.no_new_privileges()
    threading.Thread(target=_watch, name="watchdog", daemon=True).start()
    linux.keep_freed_memory()  # asking the kernel for each picture's buffers anew costs up to a fifth of the time
    Image.core.set_blocks_max(16)  # type: ignore[attr-defined]  # the documented way is an environment variable
    pillow_heif.register_heif_opener()
    pillow_heif.options.DECODE_THREADS = 1
    Image.MAX_IMAGE_PIXELS = None  # the renderer checks max_pixels before it decodes
    warnings.simplefilter("ignore")  # Pillow's, about damaged uploads


def ready() -> int:
    """The id of this process, which is up."""
    return os.getpid()


def render(request: RenderRequest) -> Rendered | Rejected:
    """`processing.render.render` within the request's time limit.

    The timer's default action kills this process, also inside C code that never returns to Python.
    """
    global _idle_since
    _idle_since = math.inf
    signal.setitimer(signal.ITIMER_REAL, request.time_limit)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = math.ceil(time.process_time() + request.time_limit + CPU_SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))
    try:
        return renderer.render(request)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
        _idle_since = time.monotonic()


def _watch() -> None:
    """Return memory in quiet times, and end with the server.

    A server that is killed cannot stop its workers. Without this thread the executor's process would wait for it, and
    hold its pipes, for ever.
    """
    global _idle_since
    server = multiprocessing.parent_process()
    while server is not None and server.is_alive():
        server.join(REST)
        if time.monotonic() - _idle_since > REST:
            _idle_since = math.inf
            Image.core.clear_cache()  # type: ignore[attr-defined]
            linux.trim_memory()
    if server is not None:
        os._exit(1)
