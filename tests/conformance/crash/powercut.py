#!/usr/bin/env python3
"""powercut.py --kind KIND --base DIR [--rounds N] [--only KINDS]   (started by `run`)

Power cuts by log and replay. The branches are on ext4 on a loop device whose backing file is logdisk's, so
every block write and flush is recorded. One run of a workload gives as many crash states as there are rounds:
all writes before a randomly chosen flush, and a random half of those between it and the next one (a disk
cache may write these in any order). Each state is mounted (journal replay), put under a fresh union, and
checked:
  create, replace         what was fsynced before that flush is there, whole
  rename, unlink, opaque  nothing was fsynced: each step is undone or done, never in between
"""
import os
import struct
import time

from crash import STEPS, Tally, args, check, directories, fill, listing, mount, must_mount, old, read, rng, sh, start, umount, wanted

WRITE, FLUSH = 0, 1


def check_order(operation, mnt):
    """what is wrong where any prefix of the steps may be lost"""
    wrong = []
    for i in range(STEPS):
        r, s = f"{mnt}/r{i}", f"{mnt}/s{i}"
        if operation == "rename":
            have = [n for n in (r, s) if os.path.lexists(n)]
            if len(have) != 1:
                wrong.append(f"{i} at {len(have)} names")
            elif read(have[0]) != old(i):
                wrong.append(f"{i} torn")
        elif operation == "unlink":
            if read(r) not in (None, old(i)):
                wrong.append(f"{i} torn")
        else:
            have = listing(f"{mnt}/d{i}")
            if "n" in have and have & {"c", "s"}:
                wrong.append(f"{i} resurrected")
    return wrong


def records(log):
    """(time, offset, kind, data) of each record of the log"""
    data, at = open(log, "rb").read(), 0
    while at + 24 <= len(data):
        when, offset, length, kind = struct.unpack_from("<QQII", data, at)
        yield when, offset, kind, data[at + 24 : at + 24 + length]
        at += 24 + length


def record_run(operation, work):
    """runs the workload once; returns the records and the times at which its steps were finished"""
    disk, base, image, log = work + "/logdisk", work + "/branches", work + "/work.img", work + "/log"
    for name in (disk, base):
        os.makedirs(name, exist_ok=True)
    sh(f"rm -f {image} {log}; truncate -s 192M {image}; mkfs.ext4 -q -F -J size=4 {image}; mount -o loop {image} {base}")
    directories(base)
    fill(base + "/lower", operation)
    umount(base)
    sh(f"cp --sparse=always {image} {work}/base.img; {os.environ['LOGDISK']} {image} {log} {disk}")
    loop = sh(f"losetup -f --show {disk}/disk").stdout.decode().strip()
    # a short journal interval, so that work nobody fsyncs also reaches the disk in steps
    sh(f"mount -o commit=1 {loop} {base}")
    must_mount(base)
    steps = work + "/steps"
    process = start(operation, base + "/mnt", steps)
    if operation in ("create", "replace"):
        process.wait()
    else:
        while process.poll() is None:
            time.sleep(0.05)
            sh(f"sync -f {base}")
    times = [int(word) for word in (read(steps + ".t") or b"").split()]
    umount(base + "/mnt")
    time.sleep(0.3)
    umount(base)
    sh(f"losetup -d {loop}")
    umount(disk)
    return list(records(log)), times


def powercut(operation):
    work = args.base + "/powercut"
    os.makedirs(work, exist_ok=True)
    log, times = record_run(operation, work)
    tally, unclean = Tally("powercut " + operation), 0
    if len(times) != STEPS:
        tally.round([f"worker: ended after {len(times)} of {STEPS} steps"])
    state, at = work + "/state.img", work + "/state"
    os.makedirs(at, exist_ok=True)
    flushes = [i for i, record in enumerate(log) if record[2] == FLUSH]
    during = [i for i in flushes if times and times[0] - 10**8 <= log[i][0] <= times[-1]] or flushes
    position = 0
    with open(work + "/base.img", "r+b") as written:
        for cut in sorted(rng.choice(during) for _ in range(args.rounds)):
            while position < cut:
                _, offset, kind, data = log[position]
                position += 1
                if kind == WRITE:
                    written.seek(offset)
                    written.write(data)
            written.flush()
            sh(f"cp --sparse=always {work}/base.img {state}")
            with open(state, "r+b") as out:
                for _, offset, kind, data in log[cut + 1 :]:
                    if kind == FLUSH:
                        break
                    if rng.random() < 0.5:
                        out.seek(offset)
                        out.write(data)
            done = sum(1 for when in times if when < log[cut][0])
            tally.midway += 0 < done < STEPS
            if sh(f"mount -o loop {state} {at}", False).returncode:
                tally.round(["ext4 does not mount"])
                continue
            wrong = mount(at)
            if wrong:
                tally.round([f"does not mount: {wrong}"])
            elif operation in ("create", "replace"):
                tally.round(check(operation, at + "/mnt", done))
            else:
                tally.round(check_order(operation, at + "/mnt"))
            umount(at + "/mnt")
            time.sleep(0.05)
            umount(at)
            unclean += sh(f"e2fsck -fn {state}", False).returncode != 0
    sh(f"rm -rf {work}")
    tally.end(f"  flushes {len(during)}" + (f", ext4 unclean {unclean}" if unclean else ""))


if __name__ == "__main__":
    for operation in wanted(("create", "replace", "rename", "unlink", "opaque")):
        powercut(operation)
    Tally.hand_over()
