"""What becomes of memory that an update has used: kept for the next one."""

import ctypes
import sys

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER, _STRIDE = -1, 64 * 2**20


def keep_freed_memory() -> None:
    """Makes glibc keep what is freed, here where every update needs the same again.

    As it is set by itself, it gives large blocks back to the system at once and gets them again
    page by page, all zeroed: a sixth of the time of an update on a CPU.  Other systems, and other
    libraries of C, are left as they are.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, _NEVER)
    mallopt(_M_TOP_PAD, _STRIDE)
