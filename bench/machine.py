"""What the figures were measured on."""
import contextlib, os, subprocess, sys

from mounts import HERE, text_of


def first(path, start):
    try:
        for line in text_of(path).split("\n"):
            if line.startswith(start):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return "?"


def described(data):
    """the machine in words: processor, memory, kernel, file system of the data, the transport that the kernel offers"""
    memory = round(int(first("/proc/meminfo", "MemTotal").split()[0]) / 2**20)
    where = subprocess.run(["findmnt", "-n", "-o", "FSTYPE,SOURCE", "-T", data], capture_output=True, text=True).stdout.split()
    kind = where[0] if where else "?"
    if where and where[1].startswith("/dev/loop"):
        kind += " on a loop image"
        kind += " in memory" if text_of(f"/sys/block/{where[1][5:]}/loop/backing_file").startswith("/dev/shm/") else ""
    return {"processor": first("/proc/cpuinfo", "model name"), "processors": os.cpu_count(), "memory": f"{memory} GiB",
            "kernel": os.uname().release, "data": kind, "uring": uring()}


URING = "/sys/module/fuse/parameters/enable_uring"


def uring():
    """whether the kernel offers FUSE over io_uring"""
    try:
        return "on" if text_of(URING).strip() in "Y1" else "off"
    except OSError:
        return "not there"


@contextlib.contextmanager
def with_uring(wanted):
    """FUSE over io_uring switched "on" or "off" for a while; as it is if `wanted` is None"""
    before = uring()
    if wanted in (None, before):
        yield
        return
    if before == "not there":
        sys.exit("this kernel has no FUSE over io_uring")
    try:
        switch(wanted)
        yield
    finally:
        switch(before)


def switch(wanted):
    with open(URING, "w") as file:
        file.write("Y" if wanted == "on" else "N")


def commit():
    """what is checked out, which is what was built if nobody mixed things up; empty outside a checkout"""
    said = subprocess.run(["git", "-C", HERE, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return said.stdout.strip()
