"""System calls without a Python function: their effect, and systems that lack them."""

import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

import linux
from tests.pace import seconds

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each function does nothing")


def output_of(script: str) -> str:
    """The output of a fresh process, so that the calls do not change the process of the tests."""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


@on_linux
def test_privileges_cannot_be_gained_any_more() -> None:
    """The kernel confirms it for the process."""
    status = output_of("import linux; linux.no_new_privileges(); print(open('/proc/self/status').read())")
    assert "NoNewPrivs:\t1" in status


PARENT = """
import os, subprocess, sys, linux
parent = os.getpid()
child = subprocess.Popen(["sleep", "600"], preexec_fn=lambda: linux.die_with_parent(parent))
print(child.pid, flush=True)
sys.stdin.read()
"""


@on_linux
def test_a_child_dies_with_its_parent() -> None:
    """Even when the parent is killed and can do nothing about it."""
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", PARENT], text=True, **piped) as parent:  # type: ignore[call-overload]
        child = Path("/proc", parent.stdout.readline().strip())
        assert child.exists()
        parent.kill()
    deadline = time.monotonic() + seconds(30)
    while child.exists() and "State:\tZ" not in (child / "status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@on_linux
def test_a_child_whose_parent_is_gone_already_ends_at_once() -> None:
    """The kernel would send no signal any more."""
    script = "import linux; linux.die_with_parent(1 << 22); print('lives')"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")


MEMORY = """
import ctypes, linux, os
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
def held(size):
    "How many of `size` bytes stay with the process once they are freed."
    before, piece = resident(), libc.malloc(size)
    ctypes.memset(piece, 1, size)
    libc.free(piece)
    return (resident() - before) / size
"""


@on_linux
@pytest.mark.skipif(linux._mallopt is None, reason="not glibc")
def test_freed_memory_is_kept_or_returned() -> None:
    """Each of the three functions shows in the resident memory of its process."""
    kept = output_of(
        MEMORY + "linux.keep_freed_memory(); print(held(20 << 20)); linux.trim_memory(); print(resident())"
    )
    held, resident = map(float, kept.split())
    assert held > 0.9
    assert resident < float(output_of(MEMORY + "print(resident())")) + (10 << 20)
    script = "linux.return_large_buffers(); print(max(held(20 << 20), held(19 << 20)))"
    assert float(output_of(MEMORY + script)) < 0.1
    # Without it, the second piece stays: glibc has learned from the first.
    assert float(output_of(MEMORY + "print(max(held(20 << 20), held(19 << 20)))")) > 0.9


def test_elsewhere_each_function_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A C library without these calls causes no error."""
    for name in ("_prctl", "_mallopt", "_malloc_trim", "_syscall"):
        monkeypatch.setattr(linux, name, None)
    linux.die_with_parent(0)
    linux.no_new_privileges()
    linux.keep_freed_memory()
    linux.return_large_buffers()
    linux.trim_memory()
    linux.prefer_long_turns(1, 0)


def test_on_an_unknown_processor_turns_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of a system call differs from one to the other, and a wrong one would be another call."""
    monkeypatch.setattr(platform, "machine", lambda: "s390x")
    monkeypatch.setattr(linux, "_syscall", lambda *_: pytest.fail("called"))
    linux.prefer_long_turns(1, 0)
