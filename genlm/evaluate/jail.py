"""THE JAIL: a program that nobody has read -> run where it can reach nothing.

Before: genlm.evaluate.code, which starts this file as a script of its own (`python -I
-S jail.py`, Linux) and hands it a job on stdin. After: one line on the report pipe, the
job's secret if the program ran to its end. Its arguments are which of two processes it
is, and the descriptor of that pipe. It imports the standard library alone.

The outer process enters namespaces of its own (mount, network, process, IPC, host
name; user too, where it is not root), builds a file system of Python and the system's
libraries, read-only, and an empty folder in memory, makes it the root, and waits for
the inner one, which it kills when the time is over. The inner one is the first process
of its namespace, so whatever it started dies with it. It runs as nobody: by its exec it
has lost every capability, and no_new_privs keeps it from getting one back.
"""

import contextlib
import ctypes
import json
import os
from pathlib import Path
import resource
import runpy
import signal
import sys
import time
from typing import Any

_NOBODY = 65534
_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_MOUNT_SETATTR = 442  # the system call's number, on every architecture
_AT_RECURSIVE, _AT_FDCWD = 0x8000, -100
_READ_ONLY_NO_SETUID = 1 | 2
_LIBRARIES = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache")
_PLACE = "/program"
_STEP = 0.005  # s between two looks at the inner process
_IS_ROOT = os.geteuid() == 0
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: Any) -> None:
    """A call of libc.

    Raises:
      OSError: it fails (says which).
    """
    converted = [a.encode() if isinstance(a, str) else a for a in arguments]
    if getattr(_libc, name)(*converted) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name} {arguments[:2]}: {os.strerror(error)}")


def _enter_namespaces() -> None:
    """Be alone; whoever is not root owns the user namespace that this takes."""
    flags = _CLONE_NEWNS | _CLONE_NEWNET | _CLONE_NEWPID | _CLONE_NEWIPC | _CLONE_NEWUTS
    if _IS_ROOT:
        _call("unshare", flags)
        return
    uid, gid = os.getuid(), os.getgid()
    _call("unshare", flags | _CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{_NOBODY} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{_NOBODY} {gid} 1")


def _build_root(folder: str, job: dict[str, Any], own: str) -> None:
    """Make the root of Python, libraries and an empty folder; the old one is gone."""
    _call("mount", None, "/", None, _MS_REC | _MS_PRIVATE, None)
    size = f"size={job['file_bytes']},nr_inodes=256,mode=755"
    _call("mount", "tmpfs", folder, "tmpfs", _MS_NOSUID | _MS_NODEV, size)
    for source in [*filter(os.path.exists, _LIBRARIES), *job["readable"]]:
        target = Path(folder + source)
        if target.exists():  # within one that is there already
            continue
        if os.path.isdir(source):
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        _call("mount", source, str(target), None, _MS_BIND | _MS_REC, None)
        attributes = (ctypes.c_uint64 * 4)(_READ_ONLY_NO_SETUID, 0, 0, 0)
        size_of = ctypes.sizeof(attributes)
        path = str(target).encode()
        if _libc.syscall(
            _MOUNT_SETATTR, _AT_FDCWD, path, _AT_RECURSIVE, attributes, size_of
        ):
            error = ctypes.get_errno()
            raise OSError(error, f"mount_setattr: {os.strerror(error)}")
    Path(folder, "jail.py").write_text(own, "utf-8")
    place = Path(folder + _PLACE)
    place.mkdir(mode=0o700)
    (place / "program.py").write_text(job["program"], "utf-8")
    if _IS_ROOT:
        os.chown(place, _NOBODY, _NOBODY)
    Path(folder, "old").mkdir()
    _call("pivot_root", folder, f"{folder}/old")
    os.chdir(_PLACE)
    _call("umount2", "/old", _MNT_DETACH)
    os.rmdir("/old")


def _limit(job: dict[str, Any]) -> None:
    """The limits of the inner process, which it cannot raise again."""
    cpu = int(job["seconds"]) + 1
    for name, most in {
        resource.RLIMIT_AS: job["memory_bytes"],
        resource.RLIMIT_CPU: cpu,
        resource.RLIMIT_FSIZE: job["file_bytes"],
        resource.RLIMIT_NPROC: 1,  # no process and no thread beside it
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }.items():
        resource.setrlimit(name, (most, most))


def _begin(job: dict[str, Any], secret: int, report: int) -> None:
    """Become the inner process's Python, with the secret on stdin."""
    if _IS_ROOT:  # and with it every capability
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    _call("prctl", _PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.dup2(secret, 0)
    os.set_inheritable(report, True)
    _limit(job)
    python = [job["python"], "-I", "-S", "-B", "/jail.py", "inside", str(report)]
    os.execve(job["python"], python, {})


def _wait(child: int, seconds: float) -> bool:
    """Whether the inner process ended in time; it has ended in any case."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        time.sleep(_STEP)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def _outside(report: int) -> None:
    """Run the job of stdin; the report is the inner process's, or says what failed."""
    job = json.load(sys.stdin)
    own = Path(__file__).read_text("utf-8")
    os.umask(0o022)
    try:
        _enter_namespaces()
        _build_root(job["folder"], job, own)
    except (OSError, AttributeError) as error:
        os.write(report, f"{job['secret']} {error}".encode())
        return
    reading, writing = os.pipe()
    os.write(writing, job["secret"].encode())
    os.close(writing)
    child = os.fork()
    if not child:
        try:
            _begin(job, reading, report)
        except BaseException as error:
            os.write(report, f"{job['secret']} {error}".encode())
            os._exit(1)
    if not _wait(child, job["seconds"]):
        os.set_blocking(report, False)
        with contextlib.suppress(BlockingIOError):  # the program has filled the pipe
            os.write(report, b"\ntime is over")


def _inside(pipe: int) -> None:
    """Run the program; tell the secret if it came to its end."""
    secret = os.read(0, 1024)
    try:
        runpy.run_path("program.py", run_name="__main__")
        report = secret
    except BaseException as error:  # SystemExit too: it has not come to its end
        report = f"{type(error).__name__}: {error}"[:200].encode()
    os.write(pipe, report)
    os._exit(0)


if __name__ == "__main__":
    {"outside": _outside, "inside": _inside}[sys.argv[1]](int(sys.argv[2]))
