#!/usr/bin/env python3
"""writers.py [--seconds N] BASE   many writers and readers on the same lower files
writers.py --fill DIR           makes those files

BASE has upper, lower and the union mnt. Each file has one slot a writer; a writer puts numbered records into
its slots of random files, readers look. Wrong are: any error; a record that is neither whole nor the lower
one; a record that a reader sees going back; a last record that is not there at the end, or not there after
the caches were dropped; a lower file that changed; a file that appeared in the upper branch twice.
"""
import argparse
import ctypes
import hashlib
import multiprocessing
import os
import random
import struct
import sys
import time

FILES, WRITERS, READERS, SLOT = 1000, 8, 8, 512
# behind the slots of every other file: in overlay's dialect readers of larger files keep the original
TAIL = b"t" * (256 << 10)
IN_CREATE, IN_MOVED_TO = 0x100, 0x80


def record(writer, number):
    text = b"writer %d number %08d " % (writer, number)
    return (text + hashlib.sha256(text).hexdigest().encode()).ljust(SLOT, b".")


def lower_slot(name, slot):
    return (b"lower %s slot %d " % (name.encode(), slot)).ljust(SLOT, b"-")


def names():
    return [f"f{i:04d}" for i in range(FILES)]


def fill(directory):
    for name in names():
        with open(f"{directory}/{name}", "wb") as f:
            f.write(b"".join(lower_slot(name, slot) for slot in range(WRITERS)))
            f.write(TAIL if int(name[1:]) % 2 else b"")


def number_in(name, slot, data):
    """the number of the record in a slot: -1 for the lower one; None if it is neither"""
    if data == lower_slot(name, slot):
        return -1
    try:
        number = int(data.split()[3])
    except (IndexError, ValueError):
        return None
    return number if data == record(slot, number) else None


def write(mnt, writer, end, results):
    rng, number, last = random.Random(writer), 0, {}
    try:
        while time.time() < end:
            name = f"f{rng.randrange(FILES):04d}"
            fd = os.open(f"{mnt}/{name}", os.O_RDWR)
            done = os.pwrite(fd, record(writer, number), writer * SLOT)
            if done != SLOT:
                raise OSError(0, f"{name}: short write of {done} bytes")
            if rng.random() < 0.02:
                os.fsync(fd)
            os.close(fd)
            last[name] = number
            number += 1
        results.put(("writer", writer, number, last, ""))
    except OSError as error:
        results.put(("writer", writer, number, last, f"writer {writer}: {error}"))


def slots(mnt, name):
    """the numbers in a file's slots; a plain directory, too, may show one in the middle of its write, but not twice"""
    for _ in range(3):
        with open(f"{mnt}/{name}", "rb") as f:
            data = f.read(SLOT * WRITERS)
        if len(data) != SLOT * WRITERS:
            raise OSError(0, f"{name}: {len(data)} bytes")
        numbers = [number_in(name, slot, data[slot * SLOT : (slot + 1) * SLOT]) for slot in range(WRITERS)]
        if None not in numbers:
            break
    return numbers


def look(mnt, reader, end, results):
    rng, seen, count = random.Random(100 + reader), {}, 0
    try:
        while time.time() < end:
            name = f"f{rng.randrange(FILES):04d}"
            for slot, number in enumerate(slots(mnt, name)):
                if number is None:
                    raise OSError(0, f"{name}: slot {slot} is torn")
                if number < seen.get((name, slot), -1):
                    raise OSError(0, f"{name}: slot {slot} went back to record {number}")
                seen[name, slot] = number
            count += 1
        results.put(("reader", reader, count, {}, ""))
    except OSError as error:
        results.put(("reader", reader, count, {}, f"reader {reader}: {error}"))


class Watch:
    """Counts how often each name appears in a directory."""

    def __init__(self, directory):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_NONBLOCK)
        if self.libc.inotify_add_watch(self.fd, directory.encode(), IN_CREATE | IN_MOVED_TO) < 0:
            sys.exit(f"cannot watch {directory}")
        self.appeared = {}

    def drain(self):
        while True:
            try:
                data = os.read(self.fd, 1 << 20)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                _, _, _, length = struct.unpack_from("iIII", data, at)
                name = data[at + 16 : at + 16 + length].rstrip(b"\0").decode()
                self.appeared[name] = self.appeared.get(name, 0) + 1
                at += 16 + length


def check(mnt, expected):
    """what is not there that was written last"""
    wrong = []
    for name in names():
        data = open(f"{mnt}/{name}", "rb").read()
        for slot in range(WRITERS):
            want = expected[slot].get(name, -1)
            got = number_in(name, slot, data[slot * SLOT : (slot + 1) * SLOT])
            if got != want:
                wrong.append(f"{name}: slot {slot} holds {got}, {want} was written last")
    return wrong


def digest(directory):
    whole = hashlib.sha256()
    for name in names():
        whole.update(open(f"{directory}/{name}", "rb").read())
    return whole.hexdigest()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--fill", action="store_true")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("base")
    args = parser.parse_args()
    if args.fill:
        return fill(args.base)
    mnt, upper, lower = (f"{args.base}/{part}" for part in ("mnt", "upper", "lower"))
    union = os.path.exists(f"{lower}/f0000")
    before = digest(lower) if union else ""
    watch = Watch(upper)
    results, end = multiprocessing.Queue(), time.time() + args.seconds
    tasks = [(write, i) for i in range(WRITERS)] + [(look, i) for i in range(READERS)]
    processes = [multiprocessing.Process(target=task, args=(mnt, i, end, results)) for task, i in tasks]
    for process in processes:
        process.start()
    wrong, expected, written, read = [], {}, 0, 0
    for _ in processes:
        while True:
            watch.drain()
            try:
                what, who, count, last, error = results.get(timeout=0.1)
                break
            except Exception:  # nothing yet
                if time.time() > end + 60:
                    sys.exit("error: a writer or reader hangs")
        if error:
            wrong.append(error)
        if what == "writer":
            expected[who] = last
            written += count
        else:
            read += count
    for process in processes:
        process.join()
    watch.drain()
    wrong += check(mnt, expected)
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3\n")
    wrong += [f"caches dropped: {line}" for line in check(mnt, expected)]
    if union:
        if digest(lower) != before:
            wrong.append("the lower branch changed")
        touched = {name for last in expected.values() for name in last}
        for name in sorted(touched):
            if watch.appeared.get(name, 0) != 1:
                wrong.append(f"{name}: appeared {watch.appeared.get(name, 0)} times in the upper branch")
        print(f"{len(touched)} files copied up")
    print(f"{written} records written, {read} files read, {len(wrong)} errors")
    for line in wrong[:10]:
        print(f"error: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
