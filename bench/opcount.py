#!/usr/bin/env python3
"""Where does a FUSE filesystem spend its time? Counts, per elementary operation,
  * the FUSE requests the kernel sent (the kernel's tracepoints of FUSE), and
  * the system calls the server made (strace),
for the contenders of kind "exec" in contenders.toml. Counts do not depend on how busy the machine is, so this is the tool
to use when timing is impossible.

    ./opcount.py [--contenders a,b] [--nlayers 32]    # prints tables; adds the counts to opcount.json below --out
    ./opcount.py --check                              # fails if a count is above its limit in opcount-limits.toml
    ./opcount.py --record                             # writes that file: today's counts and a margin

Its data set is small, lies on an ext4 image of its own and goes with it at the end. What a check compares leaves out the
system calls that only wait, and, for each operation, those that fetch requests and send replies: there is one limit for
them, in calls per request, so that it does not matter whether the kernel offers io_uring.

Environment: PLYWOOD_BIN, the binary under test (../target/release/plywood); PLYWOOD_SCRATCH, where the image lies
(/var/tmp/plywood-tests); PLYWOOD_SKIP_MOUNTED=1 asks for a check to be skipped.

Needs root, gcc, strace, mkfs.ext4.
"""
import argparse, json, math, os, resource, shutil, signal, subprocess, sys, tempfile, time, tomllib

import counting, machine, mounts
from counting import Calls, Requests, Untraceable
from dataset import Env
from mounts import BENCH, HERE, Fail, Mount, contenders, drops

CHECKED = "plywood,plywood-aufs"
LIMITS = HERE + "/opcount-limits.toml"
SALT = "17"  # makes missing names that are the same in two steps


def operations(env, m):
    """name, how many, whether it writes, preparation, deed"""
    f = env.fb
    first = mounts.text_of(env.data + "/dirs.list").split()[:10]
    ten = env.run + "/d10"
    with open(ten, "w") as file:
        file.write("\n".join(first) + "\n")
    here = m.mnt + "/" + first[0]

    def do(*args):
        p = subprocess.run([f, *args], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if p.returncode:
            raise Fail(p.stderr.strip()[:120])

    def missing():
        do("neg", m.mnt, ten, "1000", "1", SALT)

    def read():
        for d in first:
            do("readall", m.mnt + "/" + d)

    def write():
        for k in range(100):
            with open(f"{here}/file_{k:03d}.txt", "r+") as file:
                file.write("x")

    def known(d):
        """the kernel knows the names in a directory, though it may have needed memory meanwhile"""
        for name in os.listdir(f"{m.mnt}/{d}"):
            os.access(f"{m.mnt}/{d}/{name}", os.F_OK)

    return [
        ("walk 3000 files (cold)", 3000, False, None, lambda: do("walk", m.mnt + "/t00")),
        ("walk again (warm)", 3000, False, None, lambda: do("walk", m.mnt + "/t00")),
        ("lookup 1000 missing names", 1000, False, None, missing),
        ("same missing names again", 1000, False, None, missing),
        ("open+read+close 1000 (cold)", 1000, False, lambda: do("walk", m.mnt + "/t00"), read),
        ("open+read+close again", 1000, False, None, read),
        ("create+write+close 500", 500, True, lambda: os.mkdir(m.mnt + "/new"), lambda: do("create", m.mnt + "/new", "500", "4096", "0", "0")),
        ("create+write+fsync+rename 200", 200, True, None, lambda: do("create", m.mnt + "/new2", "200", "4096", "1", "1")),
        ("first write to 100 lower files", 100, True, lambda: known(first[0]), write),
        ("unlink 100 lower files", 100, True, lambda: known(first[1]), lambda: [os.unlink(f"{m.mnt}/{first[1]}/file_{k:03d}.txt") for k in range(100)]),
        ("stat 100 files after writing", 100, True, None, lambda: [os.stat(f"{here}/file_{k:03d}.txt") for k in range(100)]),
    ]


def count(env, c, layers, requests):
    """operation -> how many, FUSE requests by kind, system calls by name; begins again while others drop the kernel's caches"""
    for _ in range(5):
        if rows := counted_once(env, c, layers, requests, alone=True):
            return rows
    print("somebody keeps dropping the kernel's caches: these counts are higher or lower than they should be", file=sys.stderr)
    return counted_once(env, c, layers, requests, alone=False)


def counted_once(env, c, layers, requests, alone):
    """the same; with `alone`, None if somebody dropped the caches meanwhile"""
    before = drops()
    m = Mount(env, c, env.stack(f"tree/n{layers}", layers), env.fresh(), env.data + "/tree/flat", f"{env.data}/tree/n{layers}")
    rows = {}
    try:
        m.up()
        device = os.stat(m.mnt).st_dev
        connection = os.minor(device) | os.major(device) << 20
        for name, number, writes, setup, deed in operations(env, m):
            if writes and c.get("read_only") or c.get("skip") and name.startswith(("first", "unlink")):
                continue
            if setup:
                setup()
                time.sleep(0.1)
            requests.start(connection)
            calls = Calls(m.sid, env.run + "/strace")
            try:
                deed()
                failed = None
            except (OSError, Fail) as ex:
                failed = str(ex)[:80]
            time.sleep(0.15)  # files are released after they are closed
            rows[name] = {"number": number, "calls": calls.stop(), "requests": requests.stop()}
            if failed:
                rows[name]["failed"] = failed
            if alone and drops() != before:
                return None
    finally:
        m.down()
        env.clean()
    return rows


# ------------------------------------------------------------------ what people read
def told(figures, number):
    most = sorted(figures.items(), key=lambda kind: -kind[1])
    return (f"**{sum(figures.values()) / number:.2f}**: "
            + ", ".join(f"{kind} {n / number:.2f}" for kind, n in most[:7] if n / number >= 0.01))


def table(name, layers, rows):
    lines = [f"\n### {name} ({layers} layers)\n", "| operation | FUSE requests per operation | server system calls per operation |", "|---|---|---|"]
    for operation, row in rows.items():
        failed = f"FAILED {row['failed']} " if "failed" in row else ""
        lines.append(f"| {operation} | {failed}{told(row['requests'], row['number'])} | {told(row['calls'], row['number'])} |")
    return "\n".join(lines)


# ------------------------------------------------------------------ limits
def figures(rows):
    """what is compared: requests and working system calls of each operation; transport calls per request of all"""
    each = {name: {"requests": sum(row["requests"].values()) / row["number"],
                   "calls": counting.work_of(row["calls"]) / row["number"]} for name, row in rows.items()}
    asked = sum(sum(row["requests"].values()) for row in rows.values())
    moved = sum(counting.transport_of(row["calls"]) for row in rows.values())
    return {"transport": {"calls": moved / max(asked, 1)}, **each}


def least(passes):
    """noise only adds: the smallest of several passes"""
    return {name: {kind: min(p[name][kind] for p in passes) for kind in passes[0][name]} for name in passes[0]}


def margin(kind, value, number):
    """a limit that runs differing as they do stay below, and one call more per operation does not"""
    return math.ceil((value * 1.02 + 6 / number + (0.1 if kind == "calls" else 0)) * 100) / 100


def above(now, limits):
    """what has more than it may, or no limit"""
    found = []
    for name, kinds in now.items():
        for kind, value in kinds.items():
            limit = limits.get(name, {}).get(kind)
            if limit is None:
                found.append(f"{name}: {kind} {value:.2f}, no limit is known; run bench/opcount.py --record")
            elif value > limit:
                found.append(f"{name}: {kind} {value:.2f} per operation, at most {limit:.2f}")
    return found


def slack(now, limits):
    """what could have a lower limit, because it has become much better"""
    return [f"{name}: {kind} {value:.2f} per operation, limit {limits[name][kind]:.2f}"
            for name, kinds in now.items() for kind, value in kinds.items()
            # that of the transport is for kernels without io_uring as well
            if name != "transport" and kind in limits.get(name, {}) and value < limits[name][kind] * 0.8 - 0.15]


def written(recorded):
    lines = ["# How many FUSE requests an operation may need, and system calls of the server that do something (with 32 layers).",
             "# `transport`: system calls that move requests and replies, for each request. Written by `bench/opcount.py --record`;",
             "# `bench/opcount.py --check` fails above them. Lower them when the counts went down."]
    for contender, kinds in recorded.items():
        lines.append(f"\n[{contender}]")
        for name, values in kinds.items():
            lines.append(f'"{name}" = {{ ' + ", ".join(f"{kind} = {value:.2f}" for kind, value in values.items()) + " }")
    return "\n".join(lines) + "\n"


def record(env, cs, layers, requests):
    limits = {}
    for c in cs:
        rows = [count(env, c, layers, requests) for _ in range(2)]
        now = least([figures(r) for r in rows])
        number = {name: row["number"] for name, row in rows[0].items()}
        limits[c["name"]] = {name: {kind: margin(kind, value, number.get(name, 60)) for kind, value in kinds.items()} for name, kinds in now.items()}
    with open(LIMITS, "w") as file:
        file.write(written(limits))


def check(env, cs, layers, requests):
    """returns whether every count is within its limit; one that is not is counted again, twice"""
    with open(LIMITS, "rb") as file:
        limits = tomllib.load(file)
    passed, failed = 0, []
    for c in cs:
        known = limits.get(c["name"], {})
        passes = []
        for _ in range(3):
            passes.append(figures(count(env, c, layers, requests)))
            wrong = above(least(passes), known)
            if not wrong:
                break
        now = least(passes)
        passed += sum(map(len, now.values())) - len(wrong)
        failed += [f"{c['name']}, {what}" for what in wrong]
        for what in slack(now, known):
            print(f"could be lower (bench/opcount.py --record): {c['name']}, {what}")
    for what in failed:
        print(f"FAILED {what}")
    print(f"{passed} passed, {len(failed)} failed")
    return not failed


# ------------------------------------------------------------------ a place to count in
class Place(Env):
    """An ext4 image with 3,000 files in a stack of layers."""

    def __init__(self, layers):
        scratch = os.environ.get("PLYWOOD_SCRATCH", "/var/tmp/plywood-tests")
        os.makedirs(scratch, exist_ok=True)
        self.at = tempfile.mkdtemp(prefix="opcount.", dir=scratch)
        os.chmod(self.at, 0o755)
        self.image = self.at + "/ext4.img"
        os.mkdir(self.at + "/data")
        try:
            mounts.sh(f"truncate -s 1G {self.image} && mkfs.ext4 -q -F -m 0 {self.image} && mount -o loop {self.image} {self.at}/data")
        except subprocess.CalledProcessError as ex:
            shutil.rmtree(self.at)
            raise Untraceable("cannot mount an ext4 image: " + ex.stderr.strip()[:120]) from None
        super().__init__(argparse.Namespace(data=self.at + "/data", timeout=120))
        self.mounted.append(self.data)
        self.stacked(["t00"], [layers])

    def close(self):
        super().close()
        subprocess.run(["umount", "-l", self.data], capture_output=True)
        os.unlink(self.image)
        os.rmdir(self.data)
        shutil.rmtree(self.at)


def stop(number, _frame):
    sys.exit(128 + number)


def counted(a):
    """does what was asked; returns the exit status"""
    cs = [c for c in contenders(a.config, a.contenders) if c["kind"] == "exec" and not c.get("user")]
    if not cs:
        sys.exit("no contender is left; is Plywood built?")
    env = requests = None
    try:
        env = Place(a.nlayers)
        requests = Requests(env.at + "/tracing")
        if a.check:
            return 0 if check(env, cs, a.nlayers, requests) else 1
        if a.record:
            record(env, cs, a.nlayers, requests)
            return 0
        os.makedirs(a.out, exist_ok=True)
        path = a.out + "/opcount.json"
        known = json.load(open(path)) if os.path.exists(path) else {}
        for c in cs:
            rows = count(env, c, a.nlayers, requests)
            print(table(c["name"], a.nlayers, rows), flush=True)
            known[c["name"]] = rows
            known["measured"] = {"date": time.strftime("%F"), "uring": machine.uring(), "plywood": machine.commit()}
            with open(path, "w") as file:
                json.dump(known, file, indent=1)
        return 0
    finally:
        if requests:
            requests.close()
            subprocess.run(["umount", env.at + "/tracing"], capture_output=True)
        if env:
            env.close()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--config", default=HERE + "/contenders.toml")
    ap.add_argument("--out", default=BENCH + "/out")
    ap.add_argument("--contenders", default="", help=f"all; with --check and --record: {CHECKED}")
    ap.add_argument("--nlayers", type=int, default=32)
    ap.add_argument("--uring", choices=("on", "off"), help="switch the kernel's FUSE over io_uring meanwhile")
    ap.add_argument("--check", action="store_true")
    ap.add_argument("--record", action="store_true")
    a = ap.parse_args()
    if a.check or a.record:
        a.contenders = a.contenders or CHECKED
    if a.check and os.environ.get("PLYWOOD_SKIP_MOUNTED") == "1":
        print("skipped, as asked\n0 passed, 0 failed")
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        counting.wanted()
        mounts.alone()
        # the limit of the transport is that of the device
        with machine.with_uring("off" if a.record and machine.uring() == "on" else a.uring):
            return counted(a)
    except Untraceable as ex:
        sys.exit(f"opcount.py: cannot count here: {ex}")


if __name__ == "__main__":
    sys.exit(main())
