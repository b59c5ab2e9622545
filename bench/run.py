#!/usr/bin/env python3
"""Interleaved union-filesystem benchmark.

Runs a fixed list of works against a list of named mount commands (contenders.toml), round by
round and contender by contender (A B C A B C ..., start rotated per round), verifies that every
filesystem really did the work, and prints medians plus ratios to bare ext4 and kernel overlayfs.

    ./run.py                         # everything, 4 rounds, results under --out
    ./run.py --quick                 # what matters most, one round, under 5 minutes
    ./run.py --rounds 5 --works a,h  # some works (prefix match)
    ./run.py --contenders ext4,overlay,plywood
    ./run.py --merge results.json --upto 4 --deadline 300
                                     # in pieces: again and again, until all have 4 rounds (exit status 3: not yet)
    ./run.py --report out/results.json   # print the tables of a JSON again

`tables.py` writes docs/benchmarks.md from the results.

Environment: PLYWOOD_BENCH, where data, results and peers lie (/var/tmp/plywood-bench); PLYWOOD_BIN, the binary
under test (../target/release/plywood); PLYWOOD_BENCH_USER, the ordinary user (nobody).

Needs: root, gcc, fio, git, xfsprogs, btrfs-progs, about 8 GiB under --data.
Own code only; the C helper fsbench.c is compiled on first use.
"""
import argparse, json, os, resource, shlex, signal, statistics, subprocess, sys, time

import machine, mounts, people, tables
from dataset import Env
from mounts import BENCH, HERE, Fail, contenders, cpu_busy, sh, version
from works import WORKS, Ctx

QUICK = {"rounds": 1, "deadline": 270, "quiet_wait": 0.3, "contenders": "ext4,overlay,plywood,plywood-user,fo-1.10,fo-2.0.0",
         "works": "a1,a120,b,c,d,e,f,g,h,i1,i32,j,k,l,m,n"}
NOT_YET = 3  # exit status of a run that leaves works for the next one


class Deadline(BaseException):
    """Time is up. Not an Exception, so that no work takes it for its own failure."""


def stop(number, _frame):
    if number == signal.SIGALRM:
        raise Deadline
    sys.exit(128 + number)


# ------------------------------------------------------------------ results
def empty():
    return {"contenders": [], "samples": {}, "dcpu": {}, "tcpu": {}, "info": {}, "fail": {}, "done": {}, "cost": {},
            "metrics": {}, "works": {}, "runs": [], "stat": "median"}


def skipped(c, key):
    return next((why for prefix, why in c.get("skip", {}).items() if key.startswith(prefix)), None)


def hopeless(res, c, key, factor):
    """whether a peer, measured once, is that much slower in all of a work that it cannot be the best of the peers"""
    if not factor or not c.get("peer") or not res["done"].get(key, {}).get(c["name"]):
        return False
    rivals = res["groups"].get(c.get("user", False), [])
    for metric in res["metrics"].get(key, []):
        mine = res["samples"].get(c["name"], {}).get(metric)
        best = min((statistics.median(v) for r in rivals if (v := res["samples"].get(r, {}).get(metric))), default=0)
        if mine and statistics.median(mine) <= factor * best:
            return False
    return True


def rounds(res, key, cs, factor):
    """how many rounds of a work there are of all that take part; None if nobody does"""
    part = [c for c in cs if not skipped(c, key) and not hopeless(res, c, key, factor)]
    return min((res["done"].get(key, {}).get(c["name"], 0) for c in part), default=None)


def take(res, key, row):
    """adds one round of one work"""
    for c, x, failed, wall in row:
        for kind, figures in (("samples", x.out), ("tcpu", x.tcpu), ("dcpu", x.dcpu)):
            for metric, value in figures.items():
                res[kind].setdefault(c["name"], {}).setdefault(metric, []).append(value)
        for metric in x.out:
            if metric not in res["metrics"].setdefault(key, []):
                res["metrics"][key].append(metric)
        res["info"].setdefault(c["name"], {}).update(x.info)
        done = res["done"].setdefault(key, {})
        done[c["name"]] = done.get(c["name"], 0) + 1
        res["cost"].setdefault(key, {})[c["name"]] = wall
        res["fail"].pop(f"{c['name']} {key}", None)
        if failed:
            res["fail"][f"{c['name']} {key}"] = failed


def save(res, path):
    with open(path + ".new", "w") as file:
        json.dump({k: v for k, v in res.items() if k != "groups"}, file, indent=1)
    os.replace(path + ".new", path)


# ------------------------------------------------------------------ one work, one contender
def described(ex, timeout):
    if isinstance(ex, subprocess.TimeoutExpired):
        return f"timed out after {timeout:.0f} s (counted as a lower bound)"
    said = str(ex) if isinstance(ex, Fail) else f"{type(ex).__name__} {ex}"
    if isinstance(ex, subprocess.CalledProcessError):
        said += " | " + (ex.stderr or "")[:160]
    return said[:320]


def measured(env, c, fn):
    """does a work; returns its figures, why it failed if it did, and how long it all took"""
    x = Ctx(env, c)

    def work():
        try:
            fn(x)
        except (Fail, subprocess.SubprocessError, OSError) as ex:
            # a metric whose verification failed must not count
            x.out.pop(str(ex).split(":")[0], None)
            raise Fail(described(ex, env.a.timeout)) from ex

    start, failed = time.time(), None
    if c.get("user"):
        (x.out, x.dcpu, x.tcpu, x.info), failed = people.as_user(env, work, lambda: [x.out, x.dcpu, x.tcpu, x.info])
    else:
        try:
            work()
        except Fail as ex:
            failed = ex
    return x, failed and str(failed), time.time() - start


def row_of(env, res, cs, key, fn, turn, factor):
    """one round of one work: everybody in turn"""
    row, foreign = [], []
    first = turn % len(cs)
    for c in cs[first:] + cs[:first]:
        why = skipped(c, key)
        if why:
            res["fail"][f"{c['name']} {key}"] = f"skipped, {why}"
        if why or hopeless(res, c, key, factor):
            continue
        env.quiet()
        used, busy, start = resource.getrusage(resource.RUSAGE_CHILDREN), cpu_busy(), time.time()
        own = time.process_time()
        x, failed, wall = measured(env, c, fn)
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = time.process_time() - own + now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        share = max(0.0, cpu_busy() - busy - own) / (max(time.time() - start, 1e-3) * os.cpu_count())
        foreign.append(share)
        env.clean()
        row.append((c, x, failed, time.time() - start))
        print(f"  {key:6} {c['name']:15} {wall:6.2f}s foreign {share:4.0%} " + (f"FAILED {failed} " if failed else "")
              + " ".join(f"{m}={v:.4g}" for m, v in x.out.items()), file=sys.stderr, flush=True)
    return row, foreign


def untouched(env, res):
    """the lower layers must be untouched by everybody"""
    for p, k, how in (("tree/flat", "tree", "walk"), ("small/flat", "small_stat", "walk"), ("dev/l0", "dev", "readall"),
                      ("bigfile/l0/big.bin", "big", "seqread")):
        if env.fsb(how, f"{env.data}/{p}")["hash"] != env.exp[k]:
            res["fail"]["DATA SET"] = f"{p} CHANGED: somebody wrote to a lower layer"


def run(env, a, res, path, end):
    """measures until all is done or time is up; returns whether all is done"""
    cs = contenders(a.config, a.contenders)
    if not cs:
        sys.exit("no contender is left")
    works = [w for w in WORKS if not a.works or any(w[0].startswith(p) for p in a.works.split(","))]
    if not works:
        sys.exit(f"no work is called {a.works}")
    res["contenders"] = [c["name"] for c in contenders(a.config, everything=True) if c["name"] in res["contenders"] + [c["name"] for c in cs]]
    res["groups"] = {user: [c["name"] for c in cs if c.get("peer") and c.get("user", False) == user] for user in (False, True)}
    res["works"].update({k: t for k, t, _ in works})
    this = {"command": shlex.join(["bench/run.py", *sys.argv[1:]]), "date": time.strftime("%F"), "machine": machine.described(a.data),
            "versions": {c["name"]: version(c) for c in cs}, "plywood": machine.commit(), "foreign": 0.0, "wall": 0.0}
    res["runs"].append(this)
    begun, start, noise = {}, time.time(), []

    def missing():
        """works with rounds to do, those with the fewest first"""
        left = []
        for place, (key, _, fn) in enumerate(works):
            have = rounds(res, key, cs, a.hopeless)
            if have is not None and begun.get(key, 0) < a.rounds and not (a.upto and have >= a.upto):
                left.append((have, place, key, fn))
        return sorted(left, key=lambda w: w[:2])

    def fits(key):
        known = sum(res["cost"].get(key, {}).get(c["name"], 0) for c in cs if not hopeless(res, c, key, a.hopeless))
        return not end or time.time() + known * 1.1 < end

    try:
        while left := missing():
            now = next((w for w in left if fits(w[2])), None)
            if not now:
                break
            have, place, key, fn = now
            print(f"[{time.time() - start:5.0f} s] round {have + 1} of {key}: {len(left)} works to go", file=sys.stderr, flush=True)
            row, foreign = row_of(env, res, cs, key, fn, have + place, a.hopeless)
            take(res, key, row)
            begun[key] = begun.get(key, 0) + 1
            noise += foreign
            this["foreign"], this["wall"] = statistics.median(noise or [0.0]), time.time() - start
            save(res, path)
        signal.setitimer(signal.ITIMER_REAL, 0)
        untouched(env, res)
    except Deadline:
        print(f"[{time.time() - start:5.0f} s] time is up; the round that was begun does not count", file=sys.stderr)
    save(res, path)
    return not missing()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--config", default=HERE + "/contenders.toml")
    ap.add_argument("--data", help="where the data set lies ($PLYWOOD_BENCH/data, or ram with --ramdisk)")
    ap.add_argument("--img", default="/dev/shm", help="where the xfs/btrfs loop images live")
    ap.add_argument("--ramdisk", action="store_true", help="put --data on an ext4 loop image in --img (takes a slow or throttled disk out of the picture)")
    ap.add_argument("--out", default=BENCH + "/out")
    ap.add_argument("--quick", action="store_true", help="what matters most, one round, under 5 minutes")
    ap.add_argument("--rounds", type=int, default=4, help="so many of each work in this run")
    ap.add_argument("--works", default="", help="the beginnings of their names, separated by commas")
    ap.add_argument("--contenders", default="")
    ap.add_argument("--merge", metavar="JSON", help="add to these results instead of beginning new ones")
    ap.add_argument("--upto", type=int, default=0, metavar="N", help="with --merge: leave out works that have N rounds already")
    ap.add_argument("--deadline", type=float, default=0, metavar="SECONDS", help="end by then, with what there is")
    ap.add_argument("--hopeless", type=float, default=2.5, metavar="FACTOR",
                    help="measure a peer once only in works where it is slower than the best peer by this factor in every figure (0: never)")
    ap.add_argument("--timeout", type=float, default=60, help="per timed step")
    ap.add_argument("--quiet-wait", type=float, default=2, help="max seconds to wait for an idle machine before each work")
    ap.add_argument("--prepare", action="store_true", help="make the data set and end")
    ap.add_argument("--uring", choices=("on", "off"), help="switch the kernel's FUSE over io_uring for this run")
    ap.add_argument("--report", metavar="JSON")
    ap.add_argument("--stat", default="median", choices=("median", "min"), help="min is the better estimator on a busy machine")
    if "--quick" in sys.argv:
        ap.set_defaults(**QUICK)
    a = ap.parse_args()
    if a.report:
        return tables.report(dict(json.load(open(a.report)), stat=a.stat))
    if os.geteuid() != 0:
        sys.exit("run.py: run as root")
    mounts.alone()
    began = time.time()
    a.data = a.data or BENCH + ("/ram" if a.ramdisk else "/data")
    os.makedirs(a.out, exist_ok=True)
    os.makedirs(a.data, exist_ok=True)
    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ramdisk = a.ramdisk and not os.path.ismount(a.data)
    if ramdisk:
        img = f"{a.img}/{os.path.basename(a.data)}-ext4.img"
        if not os.path.exists(img):
            sh(f"truncate -s 10G {img} && mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 -N 1500000 {img}")
        sh(f"mount -o loop,discard {img} {a.data}")
    env = None
    try:
        env = Env(a)
        env.prepare()
        if a.prepare:
            return
        path = a.merge or a.out + "/results.json"
        res = json.load(open(path)) if a.merge and os.path.exists(path) else empty()
        res["stat"] = a.stat
        if a.deadline:
            signal.setitimer(signal.ITIMER_REAL, max(1, a.deadline - (time.time() - began)))
        with machine.with_uring(a.uring):
            done = run(env, a, res, path, a.deadline and began + a.deadline)
        signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        if env:
            env.close()
        if ramdisk:
            sh(f"umount {a.data} || umount -l {a.data}")
    if not done:
        print("rounds are left", file=sys.stderr)
    if done or not a.merge:
        tables.report(res, a.out)
    sys.exit(0 if done or not a.merge else NOT_YET)


if __name__ == "__main__":
    main()
