"""System calls and settings of the C library that Python does not offer.

It must not know its callers. Each function does nothing where the kernel or the C library lacks the call: on other
systems, with a C library other than glibc, on older kernels.
"""

import ctypes
import os
import platform
import signal
import struct
import sys
from typing import Any

# Numbers from linux/prctl.h and malloc.h.
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}  # the system call's number: glibc has had a name for it only since 2.41


def _loaded(name: str, *parameters: Any) -> Any:
    """The C library's function, or None. Found at import: between fork and exec, the loader's lock may be held by a
    thread of the parent that does not exist in the child."""
    function = getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
    if function is not None:
        function.argtypes = parameters
    return function


_prctl = _loaded("prctl", ctypes.c_int, *[ctypes.c_ulong] * 4)
_mallopt = _loaded("mallopt", ctypes.c_int, ctypes.c_int)
_malloc_trim = _loaded("malloc_trim", ctypes.c_size_t)
_syscall = _loaded("syscall", ctypes.c_long, ctypes.c_long, ctypes.c_char_p, ctypes.c_ulong)


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when the thread that forked it ends. `parent` is that thread's process.

    Safe between fork and exec.
    """
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the call: no signal will come
            os._exit(1)


def no_new_privileges() -> None:
    """This process and its children can never gain privileges, whatever they execute."""
    if _prctl is not None:
        _prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def keep_freed_memory() -> None:
    """Freed memory stays with the process for its next allocations, up to 512 MB, until `trim_memory`."""
    _limit_malloc(mmap=32 << 20, trim=512 << 20)  # a larger mmap threshold is not accepted


def return_large_buffers() -> None:
    """Allocations of 1 MB and more go back to the system once they are freed.

    By default glibc raises that threshold to the size of the first large allocation that is freed. Each thread that
    ever hashed a password would then keep the hash's 19 MB.
    """
    _limit_malloc(mmap=1 << 20, trim=64 << 20)  # setting only the first would lower the second to 128 KB


def trim_memory() -> None:
    """Return to the system what malloc keeps of freed memory."""
    if _malloc_trim is not None:
        _malloc_trim(0)


def prefer_long_turns(nanoseconds: int, niceness: int) -> None:
    """Let the scheduler run this process for up to `nanoseconds` of CPU time at a stretch, at its `niceness`.

    Since Linux 6.12 a process that wakes up with a shorter turn need not wait for the end of a longer one. The share of
    the CPU stays that of the niceness. See `sched_runtime` in sched_setattr(2).
    """
    number = SCHED_SETATTR.get(platform.machine())
    if _syscall is not None and number is not None:
        # size, policy (0: SCHED_OTHER), flags, niceness, priority, runtime, deadline and period in nanoseconds
        attributes = struct.pack("=IIQiIQQQ", 48, 0, 0, niceness, 0, nanoseconds, 0, 0)
        _syscall(number, 0, attributes, 0)  # a kernel that refuses keeps its default


def _limit_malloc(*, mmap: int, trim: int) -> None:
    """Bytes from which an allocation is a mapping of its own, and of free memory above which the heap shrinks."""
    if _mallopt is not None:
        _mallopt(M_MMAP_THRESHOLD, mmap)
        _mallopt(M_TRIM_THRESHOLD, trim)
