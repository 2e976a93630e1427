"""What Linux has and other systems lack, taken away: the start of a Python program."""

TAKEN_AWAY = """
import os, stat, sys

# Windows has none of these, and macOS has no /proc.
sys.modules["fcntl"] = None
for name in ("getpgrp", "getuid", "geteuid", "fork", "register_at_fork", "getpgid", "setsid"):
    if hasattr(os, name):
        delattr(os, name)
# So that the standard library removes a folder as it does there, without opening it.
os.supports_dir_fd.clear()
fsync = os.fsync


def sync(descriptor):
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise PermissionError(13, "Permission denied")
    fsync(descriptor)


def refuse(event, args):
    if event != "open" or not isinstance(args[0], str):
        return
    if args[0].startswith("/proc/"):
        raise FileNotFoundError(2, "No such file or directory", args[0])
    if os.path.isdir(args[0]):
        raise PermissionError(13, "Permission denied", args[0])


os.fsync = sync
sys.addaudithook(refuse)
"""
"""No locks, no folders that can be opened or synced, no process groups and no /proc."""
