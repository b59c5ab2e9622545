"""Counting what a FUSE server was asked and which system calls it made: tracefs and strace.

Counts do not depend on how busy the machine is.
"""
import os, re, signal, subprocess, time

from mounts import text_of

# What the kernel asks; others are shown by number.
OPS = {1: "LOOKUP", 2: "FORGET", 3: "GETATTR", 4: "SETATTR", 5: "READLINK", 8: "MKNOD", 9: "MKDIR", 10: "UNLINK", 11: "RMDIR",
       12: "RENAME", 13: "LINK", 14: "OPEN", 15: "READ", 16: "WRITE", 17: "STATFS", 18: "RELEASE", 20: "FSYNC", 21: "SETXATTR",
       22: "GETXATTR", 23: "LISTXATTR", 25: "FLUSH", 27: "OPENDIR", 28: "READDIR", 29: "RELEASEDIR", 34: "ACCESS", 35: "CREATE",
       39: "IOCTL", 42: "BATCH_FORGET", 43: "FALLOCATE", 44: "READDIRPLUS", 45: "RENAME2", 46: "LSEEK", 47: "COPY_FILE_RANGE", 52: "STATX"}
# System calls that only wait: how many there are depends on who is faster.
WAITING = {"futex", "sched_yield", "ppoll", "poll", "epoll_wait", "epoll_pwait", "restart_syscall", "clock_nanosleep", "rt_sigreturn"}
# More memory for the allocator's pools of each thread: how many there are depends on who was busy.
MEMORY = {"mprotect", "brk"}
# What a debug build adds: it asks whether a descriptor is open before it closes it.
DEBUGGING = {"fcntl"}
# Those that move requests and replies; which of them depends on the transport.
TRANSPORT = {"read", "readv", "write", "writev", "splice", "io_uring_enter"}


class Untraceable(Exception):
    """This machine, or this container, does not let us count."""


def wanted():
    """whether anything can be counted here; raises Untraceable with the reason if not"""
    if os.geteuid() != 0:
        raise Untraceable("must run as root")
    try:
        subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], check=True, capture_output=True)
    except FileNotFoundError:
        raise Untraceable("`strace` is missing; .ci/run says which packages to install") from None
    except subprocess.CalledProcessError as ex:
        raise Untraceable("strace may not trace: " + ex.stderr.decode(errors="replace").strip()[:120]) from None


class Requests:
    """A trace of FUSE requests in a tracing instance of our own, so that nobody else's tracing is in the way."""

    def __init__(self, at):
        """`at` is an empty directory, to mount tracefs on if it is nowhere yet"""
        self.root = "/sys/kernel/tracing"
        if not os.path.exists(self.root + "/instances"):
            os.makedirs(at, exist_ok=True)
            done = subprocess.run(["mount", "-t", "tracefs", "tracefs", at], capture_output=True, text=True)
            if done.returncode:
                raise Untraceable("cannot mount tracefs: " + done.stderr.strip()[:120])
            self.root = at
        self.at = f"{self.root}/instances/plywood-{os.getpid()}"
        try:
            os.mkdir(self.at)
        except OSError as ex:
            raise Untraceable(f"tracefs lets us make no instance: {ex.strerror}") from None
        self.events = self.at + "/events/fuse"
        if not os.path.exists(self.events):
            self.close()
            raise Untraceable("the kernel has no tracepoints of FUSE (is the module loaded?)")
        self.put("buffer_size_kb", 8192)

    def put(self, name, value):
        with open(f"{self.at}/{name}", "w") as file:
            file.write(f"{value}\n")

    def close(self):
        os.rmdir(self.at)

    def start(self, connection):
        self.put("trace", "")
        for event in ("send", "end"):
            self.put(f"events/fuse/fuse_request_{event}/filter", f"connection == {connection}")
            self.put(f"events/fuse/fuse_request_{event}/enable", 1)

    def stop(self):
        """how often each kind of request was sent"""
        for event in ("send", "end"):
            self.put(f"events/fuse/fuse_request_{event}/enable", 0)
        for cpu in os.listdir(self.at + "/per_cpu"):
            if int(re.search(r"overrun: (\d+)", text_of(f"{self.at}/per_cpu/{cpu}/stats"))[1]):
                raise Untraceable("more requests than the trace holds")
        with open(self.at + "/trace") as file:
            return counted(file)


def counted(lines):
    """requests by kind. The kernel's trace of sending leaves out those that wait in the background for io_uring: those are
    known by their end only, without their kind"""
    sent, ended = {}, set()
    for line in lines:
        if m := re.search(r"fuse_request_send: .*req (\d+) opcode (\d+)", line):
            sent[m[1]] = OPS.get(int(m[2]), m[2])
        elif m := re.search(r"fuse_request_end: .*req (\d+) ", line):
            ended.add(m[1])
    kinds = {}
    for kind in sent.values():
        kinds[kind] = kinds.get(kind, 0) + 1
    if unseen := len(ended - sent.keys()):
        kinds["background"] = unseen
    return kinds


class Calls:
    """strace of a server, all its threads."""

    def __init__(self, pid, log):
        self.log = log
        self.strace = subprocess.Popen(["strace", "-f", "-c", "-qq", "-o", log, "-p", str(pid)],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        # attached as soon as every thread has a tracer
        end = time.time() + 10
        while not traced(pid):
            if self.strace.poll() is not None:
                raise Untraceable("strace cannot attach: " + self.strace.stderr.read().decode(errors="replace").strip()[:120])
            if time.time() > end:
                self.strace.kill()
                raise Untraceable("strace does not attach")
            time.sleep(0.01)

    def stop(self):
        """how often each system call was made; a read that found nothing only waited"""
        self.strace.send_signal(signal.SIGINT)
        self.strace.wait()
        with open(self.log) as file:
            return summed(file)


def traced(pid):
    try:
        return all(re.search(r"^TracerPid:\t[1-9]", text_of(f"/proc/{pid}/task/{task}/status"), re.M)
                   for task in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return False


def summed(lines):
    calls = {}
    for line in lines:
        # % time, seconds, usecs/call, calls, errors (may be missing), syscall
        f = line.split()
        if len(f) in (5, 6) and re.fullmatch(r"[\d.]+", f[0]) and f[-1] != "total":
            name, number = f[-1], int(f[3])
            empty = int(f[4]) if len(f) == 6 and name == "read" else 0
            calls[name] = calls.get(name, 0) + number - empty
            if empty:
                calls["read (nothing)"] = empty
    return calls


def work_of(calls):
    """system calls that do something: neither wait nor move requests"""
    return sum(n for name, n in calls.items() if name not in WAITING | MEMORY | TRANSPORT | DEBUGGING and name != "read (nothing)")


def transport_of(calls):
    return sum(n for name, n in calls.items() if name in TRANSPORT)
