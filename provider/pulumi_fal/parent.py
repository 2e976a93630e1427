"""Waits for the end of the process that started this one."""

from __future__ import annotations

import os
import sys
import time

_LOOK_SECONDS = 0.5
"""Seconds between two looks at the number of the parent."""

if sys.platform == "win32":
    import ctypes
    import threading
    from ctypes import wintypes

    _QUERY_LIMITED_INFORMATION = 0x1000
    _SYNCHRONIZE = 0x100000
    _INVALID_PARAMETER = 87
    _INFINITE = 0xFFFFFFFF

    def wait_for_end(parent: int) -> None:
        """Return when that process has ended. If it may not be watched, never return.

        Nobody adopts a process on Windows, so the number of its parent never changes. The
        python.exe of a virtual environment starts the real one and ends after it, so the process
        that started the former is watched too.
        """
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.OpenProcess.restype = wintypes.HANDLE
        watched: list[int] = []
        for _ in range(1 if sys.prefix == sys.base_prefix else 2):
            handle = kernel.OpenProcess(_SYNCHRONIZE | _QUERY_LIMITED_INFORMATION, False, parent)
            if handle is None and ctypes.get_last_error() == _INVALID_PARAMETER:
                return  # there is no such process any more
            if handle is None:
                break
            watched.append(handle)
            parent = _parent_of(handle)
        if watched:
            handles = (wintypes.HANDLE * len(watched))(*watched)
            kernel.WaitForMultipleObjects(len(watched), handles, False, _INFINITE)
        else:
            threading.Event().wait()

    def _parent_of(handle: int) -> int:
        information = (ctypes.c_size_t * 6)()  # a PROCESS_BASIC_INFORMATION, which ends with it
        ctypes.WinDLL("ntdll").NtQueryInformationProcess(
            wintypes.HANDLE(handle), 0, information, ctypes.sizeof(information), None
        )
        return information[5]

else:

    def wait_for_end(parent: int) -> None:
        """Return when that process has ended, so that another one has adopted this one."""
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
