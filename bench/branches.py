#!/usr/bin/env python3
"""How long it takes to add a branch to a union in use, and to remove it again.

Stacks 30 branches with 20,000 names that the kernel knows, and times `plywood branch add` and `remove` of an empty
directory, of one with 20 files in known directories, and of a squashfs image with the same. As root.

    PLYWOOD_BIN=target/release/plywood bench/branches.py [--rounds N] [--data DIR]
"""
import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

BRANCHES, DIRECTORIES, FILES = 30, 20, 33


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def timed(*command):
    start = time.perf_counter()
    run(*command)
    return (time.perf_counter() - start) * 1000


def fill(root, number):
    for d in range(DIRECTORIES):
        os.makedirs(f"{root}/d{d}", exist_ok=True)
        for f in range(FILES):
            with open(f"{root}/d{d}/f{number}-{f}", "w") as file:
                file.write("x")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--data", help="where the branches are made (default: a temporary directory)")
    arguments = parser.parse_args()
    plywood = os.path.abspath(os.environ.get("PLYWOOD_BIN", "target/release/plywood"))
    data = tempfile.mkdtemp(prefix="branches-", dir=arguments.data)
    union = f"{data}/union"
    try:
        os.makedirs(union)
        os.makedirs(f"{data}/top")
        lower = [f"{data}/b{n}" for n in range(BRANCHES - 1)]
        for number, path in enumerate(lower):
            fill(path, number)
        added = {"empty": f"{data}/empty", "20 files": f"{data}/module", "20 files in an image": f"{data}/module.sfs"}
        os.makedirs(added["empty"])
        for d in range(DIRECTORIES):
            os.makedirs(f"{data}/module/d{d}")
            open(f"{data}/module/d{d}/new", "w").close()
        run("mksquashfs", added["20 files"], added["20 files in an image"], "-quiet", "-no-progress")
        stack = ":".join([f"{data}/top=rw", *(f"{path}=ro" for path in lower)])
        run(plywood, "mount", "-o", f"br={stack},udba=none", "none", union)
        names = subprocess.run(["find", union], check=True, capture_output=True).stdout.count(b"\n")
        print(f"{BRANCHES} branches, {names} names, {arguments.rounds} rounds; median (least to most)\n")
        print("| branch | add | remove |\n|---|---|---|")
        for what, path in added.items():
            times = {"add": [], "remove": []}
            for _ in range(arguments.rounds):
                times["add"].append(timed(plywood, "branch", "add", union, path))
                times["remove"].append(timed(plywood, "branch", "remove", union, path))
            shown = [f"{statistics.median(t):.0f} ms ({min(t):.0f} to {max(t):.0f})" for t in times.values()]
            print(f"| {what} | {shown[0]} | {shown[1]} |")
    finally:
        subprocess.run([plywood, "umount", union], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("branches.py: run as root")
    main()
