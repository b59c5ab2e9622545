#!/usr/bin/env python3
"""crash.py --test kill|clone --kind KIND --base DIR [--rounds N] [--only KINDS]   (started by `run`)

kill: the server is killed at a random moment inside an operation, then the union is mounted again on the
same branches and looked at:
  copyup   first write to a big lower file: afterwards its content is the old one, or the old one with the
           write; a short or mixed file is torn
  rename   lower files r0 -> s0, r1 -> s1, ...: each is at exactly one name, with its content, and every
           finished one at the new name
  unlink   lower files removed one after another: finished ones stay gone, the others are whole
  create   create, write, fsync: every finished one is there, whole
  replace  a temporary file, fsync, rename over a lower file: old or new content, never neither
  opaque   rm -r of a lower directory, mkdir again, a file in it: what was removed is never seen
           together with the new file
clone: the branches are on ext4 in a file on XFS; the file is cloned by reflink while create and replace run,
the clone is mounted (journal replay) and put under a union again.

Prints one line a test: rounds, bad rounds, and what was seen.
"""
import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("--test", default="kill")
parser.add_argument("--kind", required=True)
parser.add_argument("--base", required=True)
parser.add_argument("--rounds", type=int, default=20)
parser.add_argument("--only", default="")
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--worker", nargs=3, metavar=("OPERATION", "MOUNT", "LOG"))
args = parser.parse_args()

LIB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib.sh")
STEPS = 400
BIG = 96 << 20
rng = random.Random(args.seed)


def old(i):
    return (b"old%06d." % i) * 512


def new(i):
    return (b"new%06d." % i) * 512


# ---- the worker: a process of its own that works on the mount and logs each finished step
def worker(operation, mnt, log):
    steps = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    times = os.open(log + ".t", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def path(pattern, i):
        return os.path.join(mnt, pattern % i)

    def create(name, data):
        f = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(f, data)
        os.fsync(f)
        os.close(f)

    def sync_directory():
        d = os.open(mnt, os.O_RDONLY)
        os.fsync(d)
        os.close(d)

    for i in range(1 if operation == "copyup" else STEPS):
        if operation == "copyup":
            f = os.open(os.path.join(mnt, "big"), os.O_WRONLY)
            os.pwrite(f, b"X", 0)
            os.fsync(f)
            os.close(f)
        elif operation == "rename":
            os.rename(path("r%d", i), path("s%d", i))
        elif operation == "unlink":
            os.unlink(path("r%d", i))
        elif operation == "create":
            create(path("c%d", i), new(i))
            sync_directory()
        elif operation == "replace":
            create(path("tmp%d", i), new(i))
            os.rename(path("tmp%d", i), path("r%d", i))
            sync_directory()
        elif operation == "opaque":
            shutil.rmtree(path("d%d", i))
            os.mkdir(path("d%d", i))
            open(path("d%d/n", i), "w").close()
        os.write(times, b"%d\n" % time.monotonic_ns())
        os.write(steps, b"%d\n" % i)


def start(operation, mnt, log):
    for name in (log, log + ".t"):
        if os.path.exists(name):
            os.unlink(name)
    command = [sys.executable, __file__, "--kind", args.kind, "--base", args.base, "--worker", operation, mnt, log]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def finished(log):
    return len((read(log) or b"").split())


# ---- filesystems
def sh(command, check=True):
    done = subprocess.run(command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if check and done.returncode:
        raise SystemExit(f"{command}: {done.stdout.decode()}")
    return done


def mount(base):
    """the union of base/upper and base/lower on base/mnt; returns what went wrong, or nothing"""
    # not by a pipe: a server that keeps it open would be waited for
    with open(base + "/said", "w+") as said:
        done = subprocess.run(["bash", "-c", f'. "{LIB}"; stack "{args.kind}" "{base}"'], stdout=said, stderr=said)
        said.seek(0)
        return (said.read().strip()[:80] or f"status {done.returncode}") if done.returncode else ""


def must_mount(base):
    wrong = mount(base)
    if wrong:
        raise SystemExit(f"cannot mount {args.kind}: {wrong}")


def umount(at):
    for _ in range(20):
        if sh(f"grep -q ' {at} ' /proc/self/mounts", False).returncode:
            return
        if sh(f"umount {at}", False).returncode == 0:
            return
        time.sleep(0.2)
    sh(f"umount -l {at}", False)


def image(size, make, file, at):
    os.makedirs(at, exist_ok=True)
    sh(f"rm -f {file}; truncate -s {size} {file}; {make} {file}; mount -o loop {file} {at}")


def directories(base):
    for name in ("lower", "upper", "work", "mnt"):
        os.makedirs(f"{base}/{name}", exist_ok=True)


def fill(lower, operation):
    if operation == "copyup":
        with open(lower + "/big", "wb") as f:
            for k in range(BIG >> 20):
                f.write((b"%08d" % k) * (1 << 17))
        return
    for i in range(STEPS):
        if operation == "opaque":
            os.mkdir(f"{lower}/d{i}")
            open(f"{lower}/d{i}/c", "w").close()
            os.mkdir(f"{lower}/d{i}/s")
        elif operation != "create":
            with open(f"{lower}/r{i}", "wb") as f:
                f.write(old(i))


def server(mnt):
    """the process that serves the mount: the one that has the mount point among its arguments"""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")
        except OSError:
            continue
        if mnt.encode() in words and b"--worker" not in words and int(pid) != os.getpid():
            return int(pid)
    raise SystemExit(f"no server found for {mnt}")


# ---- looking at what is left
def read(path):
    try:
        return open(path, "rb").read()
    except FileNotFoundError:
        return None


def check_copyup(mnt, done):
    data = read(mnt + "/big")
    if data is None:
        return ["big is missing"]
    if len(data) != BIG:
        return [f"torn: size {len(data)} of {BIG}"]
    for k in range(BIG >> 20):
        want, got = (b"%08d" % k) * (1 << 17), data[k << 20 : (k + 1) << 20]
        if k == 0 and got[:1] == b"X":
            got = want[:1] + got[1:]
        if got != want:
            return [f"torn: MiB {k} differs"]
    return ["fsynced write lost"] if done and data[:1] != b"X" else []


def check(operation, mnt, done):
    """a list of what is wrong after `done` finished steps"""
    try:
        names = set(os.listdir(mnt))
    except OSError as error:
        return [f"listdir: {error}"]
    if operation == "copyup":
        return check_copyup(mnt, done)
    wrong = []
    for i in range(STEPS):
        r, s = f"{mnt}/r{i}", f"{mnt}/s{i}"
        if operation == "rename":
            have = [n for n in (r, s) if os.path.lexists(n)]
            if len(have) != 1:
                wrong.append(f"{i} at {len(have)} names")
            elif read(have[0]) != old(i):
                wrong.append(f"{i} content")
            elif i < done and have != [s]:
                wrong.append(f"{i} finished but at the old name")
            if [n for n in (r, s) if os.path.basename(n) in names] != have:
                wrong.append(f"{i} readdir and lookup differ")
        elif operation == "unlink":
            data = read(r)
            if i < done and data is not None:
                wrong.append(f"{i} came back")
            if i > done and data != old(i):
                wrong.append(f"{i} damaged")
            if i == done and data not in (None, old(i)):
                wrong.append(f"{i} torn")
        elif operation == "create":
            if i < done and read(f"{mnt}/c{i}") != new(i):
                wrong.append(f"{i} lost after fsync")
        elif operation == "replace":
            data = read(r)
            if data not in (old(i), new(i)):
                wrong.append(f"{i} {'missing' if data is None else 'torn'}")
            elif i < done and data != new(i):
                wrong.append(f"{i} went back to old")
        elif operation == "opaque":
            have = listing(f"{mnt}/d{i}")
            if "n" in have and have & {"c", "s"}:
                wrong.append(f"{i} resurrected {sorted(have)}")
            if i < done and have != {"n"}:
                wrong.append(f"{i} finished but {sorted(have)}")
            if i > done and have != {"c", "s"}:
                wrong.append(f"{i} untouched but {sorted(have)}")
    junk = [n for n in names if n.startswith((".wh.", ".fuse_hidden", ".nfs"))]
    if junk:
        wrong.append(f"visible junk {junk[:3]}")
    return wrong


def listing(directory):
    try:
        return set(os.listdir(directory))
    except FileNotFoundError:
        return set()


def strange(name):
    """is it neither ours nor a record that the dialect keeps in a branch?"""
    records = (".wh..wh.aufs", ".wh..wh.plnk", ".wh..wh.orph", ".unionfs-fuse")
    ours = name.startswith(".wh.") and not name.startswith(".wh..wh.") or name[:1] in "rscdbt"
    return not ours and name not in records


# ---- the tests
class Tally:
    """Rounds of one operation, and what was seen in the bad ones."""

    well = bad = 0

    def __init__(self, name):
        self.name, self.rounds, self.wrong, self.midway, self.seen = name, 0, 0, 0, {}

    def round(self, wrong):
        self.rounds += 1
        if wrong:
            self.wrong += 1
            what = wrong[0].split(" ", 1)[-1] if wrong[0][0].isdigit() else wrong[0]
            self.seen[what] = self.seen.get(what, 0) + 1

    def end(self, more=""):
        seen = "; ".join(f"{what} ({count})" for what, count in list(self.seen.items())[:4])
        print(f"{args.kind:15} {self.name:18} rounds {self.rounds} (midway {self.midway}) bad {self.wrong}  {seen}{more}", flush=True)
        Tally.well += self.rounds - self.wrong
        Tally.bad += self.wrong

    @staticmethod
    def hand_over():
        """tells `run`, which listens on descriptor 3, how many rounds were well and how many bad"""
        os.write(3, f"{Tally.well} {Tally.bad}\n".encode())


def kill_test(operation):
    base, mnt, log = args.base, args.base + "/mnt", args.base + ".log"
    image("1G", "mkfs.ext4 -q -F", base + ".img", base)
    tally, left, span = Tally("kill " + operation), set(), 0.05
    for number in range(args.rounds + 2):
        for name in ("lower", "upper", "work"):
            sh(f"rm -rf {base}/{name}")
        directories(base)
        fill(base + "/lower", operation)
        os.sync()
        must_mount(base)
        os.listdir(mnt)
        begin = time.time()
        process = start(operation, mnt, log)
        if number < 2:  # the first two run to their end, to learn how long one takes
            if process.wait():
                raise SystemExit(f"{args.kind}: {operation} fails without any crash")
            span = time.time() - begin
            umount(mnt)
            time.sleep(0.2)
            continue
        # the interpreter's own start-up (about 0.04 s) is not the operation
        time.sleep(0.04 + rng.random() * max(span - 0.04, 0.01))
        os.kill(server(mnt), signal.SIGKILL)
        process.wait()
        done = finished(log)
        if 0 < done < STEPS or operation == "copyup" and done == 0:
            tally.midway += 1
        umount(mnt)
        time.sleep(0.1)
        before = {n for n in os.listdir(base + "/upper") if strange(n)} | {"work/" + n for n in os.listdir(base + "/work")}
        wrong = mount(base)
        tally.round([f"does not mount again: {wrong}"] if wrong else check(operation, mnt, done))
        umount(mnt)
        time.sleep(0.1)
        after = {n for n in os.listdir(base + "/upper") if strange(n)} | {"work/" + n for n in os.listdir(base + "/work")}
        left |= before & after
    umount(base)
    os.unlink(base + ".img")
    tally.end(f"  still there after the next mount: {sorted(left)[:6]}" if left else "")


def clone_test(operation):
    base, xfs, snapshot, log = args.base, args.base + "-xfs", args.base + "-snapshot", args.base + ".log"
    image("6G", "mkfs.xfs -q -f -m reflink=1", base + ".img", xfs)
    os.makedirs(snapshot, exist_ok=True)
    tally, unclean = Tally("clone " + operation), 0
    for _ in range(args.rounds):
        image("512M", "mkfs.ext4 -q -F", xfs + "/disk.img", base)
        directories(base)
        fill(base + "/lower", operation)
        sh(f"sync -f {base}")
        must_mount(base)
        process = start(operation, base + "/mnt", log)
        time.sleep(0.1 + rng.random() * 1.5)
        done = finished(log)
        sh(f"cp --reflink=always {xfs}/disk.img {xfs}/snapshot.img")
        if 0 < done < STEPS:
            tally.midway += 1
        process.kill()
        process.wait()
        umount(base + "/mnt")
        time.sleep(0.1)
        umount(base)
        sh(f"mount -o loop {xfs}/snapshot.img {snapshot}")
        wrong = mount(snapshot)
        tally.round([f"does not mount: {wrong}"] if wrong else check(operation, snapshot + "/mnt", done))
        umount(snapshot + "/mnt")
        time.sleep(0.1)
        umount(snapshot)
        unclean += sh(f"e2fsck -fn {xfs}/snapshot.img", False).returncode != 0
    umount(xfs)
    os.unlink(base + ".img")
    tally.end(f"  ext4 unclean {unclean}" if unclean else "")


def wanted(operations):
    return [o for o in operations if not args.only or o in args.only.split(",")]


def main():
    if args.worker:
        try:
            worker(*args.worker)
        except OSError as error:
            sys.exit(f"worker: {error}")
        return
    if args.test == "kill":
        for operation in wanted(("copyup", "rename", "unlink", "create", "replace", "opaque")):
            kill_test(operation)
    else:
        for operation in wanted(("create", "replace")):
            clone_test(operation)
    Tally.hand_over()


if __name__ == "__main__":
    main()
