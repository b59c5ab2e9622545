#!/usr/bin/env python3
"""Interleaved union-filesystem benchmark.

Runs a fixed list of works against a list of named mount commands (contenders.toml), round by
round and contender by contender (A B C A B C ..., start rotated per round), verifies that every
filesystem really did the work, and prints medians plus ratios to bare ext4 and kernel overlayfs.

    ./run.py                         # everything, 3 rounds, results under --out
    ./run.py --rounds 5 --works a,h  # some works (prefix match)
    ./run.py --contenders ext4,overlay,plywood
    ./run.py --report out/results.json   # re-print tables from a JSON

Environment: PLYWOOD_BENCH, where data, results and peers lie (/var/tmp/plywood-bench); PLYWOOD_BIN, the binary
under test (../target/release/plywood).

Needs: root, gcc, fio, git, xfsprogs, btrfs-progs, about 8 GiB under --data.
Own code only; the C helper fsbench.c is compiled on first use.
"""
import argparse, fcntl, hashlib, json, os, re, resource, shutil, signal, statistics, subprocess, sys, time, tomllib

HERE = os.path.dirname(os.path.abspath(__file__))
NULL = subprocess.DEVNULL
BENCH = os.environ.get("PLYWOOD_BENCH", "/var/tmp/plywood-bench")
PLYWOOD = os.environ.get("PLYWOOD_BIN", os.path.join(os.path.dirname(HERE), "target/release/plywood"))


def contenders(config, wanted):
    """the contenders of a file whose program is there; `wanted` names some, or is empty for all"""
    found = []
    for c in tomllib.load(open(config, "rb"))["contender"]:
        if wanted and c["name"] not in wanted.split(","):
            continue
        if c["kind"] == "exec":
            c["argv"] = [word.replace("{bench}", BENCH).replace("{plywood}", PLYWOOD) for word in c["argv"]]
            if not shutil.which(c["argv"][0]):
                print(f"{c['name']}: no {c['argv'][0]}; left out", file=sys.stderr)
                continue
        found.append(c)
    return found


def sh(cmd, **kw):
    return subprocess.run(cmd, shell=True, check=True, text=True, capture_output=True, **kw).stdout


class Fail(Exception):
    pass


# ------------------------------------------------------------------ noise accounting
def cpu_busy():
    v = list(map(int, open("/proc/stat").readline().split()[1:9]))
    return (sum(v) - v[3] - v[4]) / os.sysconf("SC_CLK_TCK")


def drops():
    """how often anybody dropped the caches of this machine so far"""
    return [l for l in open("/proc/vmstat") if l.startswith("drop_")]


def session_pids(sid):
    out = []
    for p in os.listdir("/proc"):
        if p.isdigit():
            try:
                f = open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(f[3]) == sid:
                out.append((int(p), f))
    return out


def session_cpu(sid):
    tck = os.sysconf("SC_CLK_TCK")
    return sum((int(f[11]) + int(f[12])) / tck for _, f in session_pids(sid))


def session_rss(sid):
    """(sum of RSS, sum of PSS) in KiB"""
    rss = pss = 0
    for p, _ in session_pids(sid):
        try:
            for line in open(f"/proc/{p}/smaps_rollup"):
                if line.startswith("Rss:"):
                    rss += int(line.split()[1])
                elif line.startswith("Pss:"):
                    pss += int(line.split()[1])
        except OSError:
            pass
    return rss, pss


# ------------------------------------------------------------------ mounting
class Mount:
    """One mounted (or bare) instance. base = directory that gets upper/work/mnt."""

    def __init__(self, env, c, lowers, base, flat=None, stack=None):
        self.env, self.c, self.flat = env, c, flat
        self.base = base
        self.proc = None
        self.sid = None
        self.mounted = False
        self.lowers = lowers
        self.stack = stack
        if c["kind"] == "bare":
            self.mnt = flat or base + "/bare"
            os.makedirs(self.mnt, exist_ok=True)
            return
        self.upper, self.work, self.mnt = base + "/upper", base + "/work", base + "/mnt"
        for d in (self.upper, self.work, self.mnt):
            os.makedirs(d, exist_ok=True)

    def subst(self, s):
        def br(m):
            return m[3].join([self.upper + m[1]] + [l + m[2] for l in self.lowers])
        s = re.sub(r"\{br\|([^|]*)\|([^|]*)\|([^}]*)\}", br, s)
        rel = [os.path.relpath(l, self.stack or "/") for l in self.lowers]
        return (s.replace("{mnt}", self.mnt).replace("{upper}", self.upper).replace("{work}", self.work)
                .replace("{lower}", ":".join(self.lowers)).replace("{lower_rel}", ":".join(rel))
                .replace("{flat}", self.flat or self.upper))

    def up(self, timeout=20):
        t0 = time.perf_counter()
        k = self.c["kind"]
        if k == "bare":
            return 0.0
        if k == "cmd":
            p = subprocess.run(self.subst(self.c["mount"]), shell=True, cwd=self.stack or "/",
                               capture_output=True, text=True)
            if p.returncode:
                raise Fail("mount: " + p.stderr.strip()[:200])
        else:
            dev = os.stat(os.path.dirname(self.mnt)).st_dev
            log = open(self.base + "/daemon.log", "w")
            env = dict(os.environ, **self.c.get("env", {}))
            self.proc = subprocess.Popen([self.subst(a) for a in self.c["argv"]], stdin=NULL, stdout=log,
                                         stderr=log, start_new_session=True, cwd=self.stack or "/", env=env)
            self.sid = self.proc.pid
            while True:
                try:
                    if os.stat(self.mnt).st_dev != dev:
                        break
                except OSError:
                    pass
                if self.proc.poll() is not None:
                    subprocess.run(["umount", "-l", self.mnt], stdout=NULL, stderr=NULL)
                    raise Fail(f"daemon exited {self.proc.returncode}: " + open(self.base + "/daemon.log").read()[-200:])
                if time.perf_counter() - t0 > timeout:
                    self.kill()
                    raise Fail("mount timed out")
                time.sleep(0.0002)
        self.mounted = True
        return time.perf_counter() - t0

    def kill(self):
        if self.proc and self.proc.poll() is None:
            try:
                os.killpg(self.proc.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.proc.wait()
        subprocess.run(["umount", "-l", self.mnt], stdout=NULL, stderr=NULL)

    def down(self):
        """unmount; returns seconds until umount(8) returned"""
        if not self.mounted:
            return 0.0
        t0 = time.perf_counter()
        for _ in range(50):
            if subprocess.run(["umount", self.mnt], stdout=NULL, stderr=NULL).returncode == 0:
                break
            time.sleep(0.02)
        else:
            self.kill()
        t = time.perf_counter() - t0
        self.mounted = False
        if self.proc:
            try:
                self.proc.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.kill()
        return t

    def cpu(self):
        return session_cpu(self.sid) if self.sid and self.proc.poll() is None else 0.0


# ------------------------------------------------------------------ environment and data
class Env:
    def __init__(self, a):
        self.a = a
        self.data = a.data
        self.run = a.data + "/run"
        self.fb = a.data + "/fsbench"
        os.makedirs(self.run, exist_ok=True)
        self.lock = open(self.run + "/lock", "w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit(f"another benchmark is running in {self.data}")
        self.clean()
        src = HERE + "/fsbench.c"
        if not os.path.exists(self.fb) or os.path.getmtime(self.fb) < os.path.getmtime(src):
            sh(f"gcc -O2 -pthread -w -o {self.fb} {src}")
        self.seq = 0
        self.exp = {}  # expected hashes, from the bare trees

    def clean(self):
        """remove scratch directories; never through a mount that is still there"""
        roots = [self.run, self.data + "/mnt.xfs/run", self.data + "/mnt.btrfs/run"]
        for line in open("/proc/self/mountinfo").read().splitlines()[::-1]:
            mp = line.split()[4]
            if any(mp.startswith(r + "/") for r in roots):
                subprocess.run(["umount", "-l", mp])
        subprocess.run("rm -rf --one-file-system " + " ".join(r + "/r*" for r in roots), shell=True)

    def fresh(self, root=None):
        self.seq += 1
        d = f"{root or self.run}/r{self.seq}"
        if os.path.lexists(d):
            raise Fail(f"scratch directory {d} already exists")
        os.makedirs(d)
        return d

    def fsb(self, *args, timeout=None):
        p = subprocess.run([self.fb, *map(str, args)], capture_output=True, text=True, timeout=timeout or self.a.timeout)
        if p.returncode:
            raise Fail(f"fsbench {args[0]}: {p.stderr.strip()[:160]}")
        return json.loads(p.stdout)

    def drop(self):
        os.sync()
        open("/proc/sys/vm/drop_caches", "w").write("3\n")

    def quiet(self):
        """wait (bounded) until nobody else uses the CPU"""
        end = time.time() + self.a.quiet_wait
        while True:
            b0, t0 = cpu_busy(), time.time()
            time.sleep(0.1)
            if (cpu_busy() - b0) / (time.time() - t0) < 0.15 or time.time() > end:
                return

    # ---- deterministic trees
    def spec(self, path, dirs, files, links=()):
        with open(path, "w") as f:
            for d in dirs:
                f.write(f"d {d}\n")
            for p, s, seed in files:
                f.write(f"f {p} {s} {seed}\n")
            for p, t in links:
                f.write(f"l {p} {t}\n")

    def mktree(self, root, dirs, files, links=()):
        os.makedirs(root, exist_ok=True)
        sp = self.data + "/spec.tmp"
        self.spec(sp, dirs, files, links)
        self.fsb("mktree", root, sp, timeout=300)

    def prepare(self):
        d = self.data
        if os.path.exists(d + "/READY"):
            self.exp = json.load(open(d + "/expect.json"))
            self.mount_images()
            return
        print("preparing data sets (once) ...", file=sys.stderr)

        def h(*k):
            return int.from_bytes(hashlib.blake2b(repr(k).encode(), digest_size=8).digest(), "little")

        # -- (a),(i),(n): 60k files, 20 x 30 directories; leaf directories exist in at most 8 layers,
        #    top ones in all; 5% of the files also exist, older and longer, in a deeper layer
        tops = [f"t{i:02d}" for i in range(20)]
        leaves = [f"{t}/d{j:02d}" for t in tops for j in range(30)]
        files = [(f"{l}/file_{k:03d}.txt", 64 + h("sz", l, k) % 448, h("seed", l, k) % 10**9) for l in leaves for k in range(100)]
        self.mktree(d + "/tree/flat", tops + leaves, files)
        with open(d + "/dirs.list", "w") as f:
            f.write("\n".join(leaves) + "\n")
        for n in (1, 8, 32, 120):
            per = [(set(), []) for _ in range(n)]
            for l in leaves:
                m = min(n, 1 + h("span", l) % 8)
                inl = [h("lay", l, x) % n for x in range(m)]
                inl[0] = n - 1
                for k in range(100):
                    per[inl[h("pick", l, k) % m]][1].append((l, k))
                    per[inl[h("pick", l, k) % m]][0].add(l)
            fm = {p: (s, sd) for p, s, sd in files}
            for i, (ds, fs) in enumerate(per):
                out = []
                for l, k in fs:
                    p = f"{l}/file_{k:03d}.txt"
                    out.append((p, *fm[p]))
                if i == n - 1 and n > 1:  # shadowed older versions at the bottom
                    for j in range(n - 1):
                        for l, k in per[j][1]:
                            if h("shadow", l, k) % 20 == 0:
                                out.append((f"{l}/file_{k:03d}.txt", 900, 1))
                                ds.add(l)
                self.mktree(f"{d}/tree/n{n}/l{i}", tops + sorted(ds), out)
        for i in range(500):  # mount-time only
            os.makedirs(f"{d}/tree/n500/l{i}/t{i % 20:02d}", exist_ok=True)
            open(f"{d}/tree/n500/l{i}/f{i}", "w").close()
        # -- small: 20k files in 200 dirs over 4 layers (read, rm, tar, parallel)
        sd = [f"s{i:03d}" for i in range(200)]
        sf = [(f"{x}/small_{k:03d}.c", 512 + h("ss", x, k) % 7000, h("sseed", x, k) % 10**9) for x in sd for k in range(100)]
        self.mktree(d + "/small/flat", sd, sf)
        for i in range(4):
            mine = [f for j, f in enumerate(sf) if j % 4 == i]
            self.mktree(f"{d}/small/l{i}", sd, mine)
        open(d + "/small.list", "w").write("\n".join(p for p, _, _ in sf) + "\n")
        sh(f"tar -C {d}/small/flat --sort=name -cf {d}/small.tar .")
        # -- one directory of 50k entries over 8 layers
        for i in range(8):
            self.mktree(f"{d}/bigdir/l{i}", ["big"], [(f"big/entry_with_a_name_{k:06d}", 0, 1) for k in range(i, 50000, 8)])
        self.mktree(f"{d}/bigdir/flat", ["big"], [(f"big/entry_with_a_name_{k:06d}", 0, 1) for k in range(50000)])
        # -- big files
        os.makedirs(f"{d}/bigfile/l0")
        self.fsb("mkfile", f"{d}/bigfile/l0/big.bin", 1 << 30, 42, 1, timeout=300)
        self.fsb("mkfile", f"{d}/bigfile/l0/mid.bin", 256 << 20, 43, 1, timeout=300)
        self.fsb("mkfile", f"{d}/bigfile/bare.bin", 600 << 20, 44, 1, timeout=300)
        # -- git repository and C sources
        g = f"{d}/dev/l0/repo"
        gd = [f"g{i:02d}" for i in range(50)]
        self.mktree(g, gd, [(f"{x}/src_{k:03d}.c", 800 + h("g", x, k) % 4000, h("gs", x, k) % 10**9) for x in gd for k in range(100)])
        genv = "GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=b GIT_AUTHOR_EMAIL=b@b GIT_COMMITTER_NAME=b GIT_COMMITTER_EMAIL=b@b GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'"
        sh(f"cd {g} && git init -q -b main . && git config gc.auto 0 && git add -A && {genv} git commit -qm one && git checkout -qb two")
        self.mktree(g, [], [(f"{x}/src_{k:03d}.c", 700 + h("g2", x, k) % 4000, h("gs2", x, k) % 10**9) for x in gd for k in range(0, 100, 4)])
        sh(f"cd {g} && git add -A && {genv} git commit -qm two && git checkout -q main && git status --short && git repack -adq")
        c = f"{d}/dev/l0/csrc"
        os.makedirs(c + "/inc")
        for i in range(60):
            with open(f"{c}/inc/h{i}.h", "w") as f:
                f.write(f"#ifndef H{i}\n#define H{i}\n" + (f'#include "h{i-1}.h"\n' if i % 6 else "") +
                        "".join(f"static inline int f{i}_{j}(int x){{return x*{j}+{i};}}\n" for j in range(10)) + "#endif\n")
        for i in range(80):
            with open(f"{c}/m{i}.c", "w") as f:
                f.write("".join(f'#include "inc/h{(i * 7 + j * 6 + 5) % 60}.h"\n' for j in range(8)) + f"int m{i}(int x){{return x+{i};}}\n")
        sh(f"cp -a {d}/dev/l0 {d}/dev/flat")
        # -- reflink filesystems on loop images
        self.mount_images()
        self.exp = {
            "tree": self.fsb("walk", d + "/tree/flat")["hash"],
            "small_stat": self.fsb("walk", d + "/small/flat")["hash"],
            "small_read": self.fsb("readall", d + "/small/flat")["hash"],
            "small_list": self.fsb("readlist", d + "/small/flat", d + "/small.list")["hash"],
            "bigdir": self.fsb("readdir", d + "/bigdir/flat/big")["hash"],
            "bigdir_stat": self.fsb("readdir", d + "/bigdir/flat/big", 1)["hash"],
            "big": self.fsb("seqread", d + "/bigfile/l0/big.bin")["hash"],
            "dev": self.fsb("readall", d + "/dev/l0")["hash"],
        }
        json.dump(self.exp, open(d + "/expect.json", "w"))
        open(d + "/READY", "w").close()

    def mount_images(self):
        """reflink filesystems on loop images, made anew when they are gone (--img is mostly in memory)"""
        d = self.data
        for fs in ("xfs", "btrfs"):
            m, img = f"{d}/mnt.{fs}", f"{self.a.img}/{fs}.img"
            os.makedirs(m, exist_ok=True)
            if os.path.ismount(m):
                continue
            if not os.path.exists(img):
                sh(f"truncate -s 4G {img} && mkfs.{fs} -q -f {img}")
            sh(f"mount -o loop,discard {img} {m}")
            if not os.path.exists(m + "/bare.bin"):
                os.makedirs(m + "/l0", exist_ok=True)
                sh(f"cp {d}/bigfile/l0/big.bin {m}/l0/big.bin && cp {d}/bigfile/bare.bin {m}/bare.bin && sync", timeout=300)

    def stack(self, name, n):
        return [f"{self.data}/{name}/l{i}" for i in range(n)]


# ------------------------------------------------------------------ works
WORKS = []


def work(key, title):
    def deco(f):
        WORKS.append((key, title, f))
        return f
    return deco


class Ctx:
    def __init__(self, env, c):
        self.env, self.c = env, c
        self.bare = c["kind"] == "bare"
        self.out = {}   # metric -> seconds
        self.dcpu = {}  # metric -> daemon CPU seconds
        self.tcpu = {}  # metric -> client + daemon CPU seconds (robust against a busy machine)
        self.info = {}

    def mount(self, lowers, flat=None, root=None, stack=None):
        m = Mount(self.env, self.c, lowers, self.env.fresh(root), flat, stack)
        m.t_up = m.up()
        return m

    def timed(self, m, metric, fn):
        """fn returns seconds; anything else means: use the wall time around it"""
        self.before = drops()
        c0 = m.cpu() if m else 0
        ru0 = resource.getrusage(resource.RUSAGE_CHILDREN)
        t0 = time.perf_counter()
        try:
            r = fn()
        except subprocess.TimeoutExpired:  # a lower bound is a result too
            self.out[metric] = time.perf_counter() - t0
            raise
        t = r if isinstance(r, (int, float)) else time.perf_counter() - t0
        self.out[metric] = t
        ru1 = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.tcpu[metric] = ru1.ru_utime + ru1.ru_stime - ru0.ru_utime - ru0.ru_stime
        if m and m.sid:
            self.dcpu[metric] = m.cpu() - c0
            self.tcpu[metric] += self.dcpu[metric]
        return t

    def fsb(self, m, metric, *args, expect=None, field="hash", scale=1e-9, warm=False):
        """warm: an idempotent read-only step whose caches were primed by the step before; if anybody
        dropped caches meanwhile, prime and measure again (a few times), keeping the fastest"""
        res = {}

        def go():
            res.update(self.env.fsb(*args))
            return res["ns"] * scale
        self.timed(m, metric, go)
        if warm:
            keep, used = (self.out[metric], self.tcpu[metric], self.dcpu.get(metric)), self.out[metric]
            for _ in range(6):
                if drops() == self.primed or used > 12:
                    break
                self.primed = drops()
                go()
                used += 2 * self.timed(m, metric, go)
                keep = min(keep, (self.out[metric], self.tcpu[metric], self.dcpu.get(metric)), key=lambda k: k[0])
            self.out[metric], self.tcpu[metric] = keep[:2]
            if keep[2] is not None:
                self.dcpu[metric] = keep[2]
        else:
            self.primed = self.before
        if expect is not None and res.get(field) != expect:
            raise Fail(f"{metric}: wrong result {field}={res.get(field)} expected {expect} (errs={res.get('errs')}, n={res.get('n')})")
        return res


def w_find(n):
    def f(x):
        e = x.env
        m = x.mount(e.stack(f"tree/n{n}", n), flat=e.data + "/tree/flat", stack=f"{e.data}/tree/n{n}")
        try:
            e.drop()
            x.fsb(m, f"a.find{n}.cold", "walk", m.mnt, expect=e.exp["tree"])
            x.fsb(m, f"a.find{n}.warm", "walk", m.mnt, expect=e.exp["tree"], warm=True)
            if m.sid and n == 32:
                x.info["rss_after_60k_walk_kib"] = session_rss(m.sid)[0]
        finally:
            m.down()
    return f


for _n in (1, 8, 32, 120):
    work(f"a{_n}", f"find+stat 60k files, {_n} layers")(w_find(_n))


@work("b", "tar extraction of 20k small files")
def w_tar(x):
    e = x.env
    m = x.mount([e.fresh()])
    try:
        e.fsb("seqread", e.data + "/small.tar")
        x.timed(m, "b.tar", lambda: subprocess.run(["tar", "-C", m.mnt, "-xf", e.data + "/small.tar"], check=True, timeout=e.a.timeout, stderr=NULL) and None)
        if e.fsb("readall", m.mnt)["hash"] != e.exp["small_read"]:
            raise Fail("b.tar: content differs")
    finally:
        m.down()


@work("c", "rm -rf of a lower tree of 20k files")
def w_rm(x):
    e = x.env
    flat = None
    if x.bare:
        flat = e.fresh()
        sh(f"cp -a {e.data}/small/flat/. {flat}")
    m = x.mount(e.stack("small", 4), flat=flat)
    try:
        os.sync()
        def go():
            p = subprocess.run(f"rm -rf {m.mnt}/s0* {m.mnt}/s1*", shell=True, timeout=e.a.timeout, capture_output=True, text=True)
            if p.returncode:
                raise Fail("rm: " + p.stderr[:120])
        x.timed(m, "c.rm", go)
        if os.listdir(m.mnt):
            raise Fail(f"c.rm: {len(os.listdir(m.mnt))} entries left")
        if not x.bare:  # still gone after a remount?
            m.down()
            m.up()
            if os.listdir(m.mnt):
                raise Fail("c.rm: entries reappeared after remount")
    finally:
        m.down()


@work("d", "sequential read 1 GiB")
def w_seq(x):
    e = x.env
    m = x.mount([e.data + "/bigfile/l0"], flat=e.data + "/bigfile/l0")
    try:
        e.drop()
        x.fsb(m, "d.seq.cold", "seqread", m.mnt + "/big.bin", expect=e.exp["big"])
        x.fsb(m, "d.seq.warm", "seqread", m.mnt + "/big.bin", expect=e.exp["big"], warm=True)
    finally:
        m.down()


def fio(e, path, rw, engine):
    p = subprocess.run(["fio", "--name=j", f"--filename={path}", f"--rw={rw}", "--bs=4k", f"--ioengine={engine}", "--size=256m",
                        "--time_based", "--runtime=1", "--invalidate=0", "--fallocate=none", "--randseed=7", "--output-format=json", "--thread"],
                       capture_output=True, text=True, timeout=30)
    if p.returncode:
        raise Fail(f"fio {rw} {engine}: {p.stderr.strip()[:120]}")
    j = json.loads(p.stdout[p.stdout.index("{"):])["jobs"][0]["read" if "read" in rw else "write"]
    return j["runtime"] / 1e3 / max(j["total_ios"], 1)  # seconds per operation


@work("e", "fio random 4k on a copied-up file, s/op")
def w_fio(x):
    e = x.env
    flat = None
    if x.bare:
        flat = e.fresh()
        sh(f"cp {e.data}/bigfile/l0/mid.bin {flat}/")
    m = x.mount([e.data + "/bigfile/l0"], flat=flat)
    try:
        f = m.mnt + "/mid.bin"
        fd = os.open(f, os.O_RDWR)
        os.pwrite(fd, b"x" * 4096, 0)
        os.close(fd)
        e.fsb("seqread", f)
        for eng in ("psync", "mmap"):
            for rw in ("randread", "randwrite"):
                x.timed(m, f"e.{eng}.{rw}", lambda: fio(e, f, rw, eng))
    finally:
        m.down()


def w_copyup(fs):
    def f(x):
        e = x.env
        if fs == "ext4":
            low, flat, root = e.data + "/bigfile/l0", None, None
        else:
            low, flat, root = f"{e.data}/mnt.{fs}/l0", None, f"{e.data}/mnt.{fs}/run"
        m = None
        try:
            if x.bare:
                src = e.data + "/bigfile/bare.bin" if fs == "ext4" else f"{e.data}/mnt.{fs}/bare.bin"
                e.fsb("seqread", src)
                x.fsb(None, f"f.copyup.{fs}", "firstwrite", src, 512 << 20, 4096)
                return
            m = x.mount([low], root=root)
            e.fsb("seqread", low + "/big.bin")  # source warm
            e.fsb("seqread", m.mnt + "/big.bin")
            os.sync()
            r = x.fsb(m, f"f.copyup.{fs}", "firstwrite", m.mnt + "/big.bin", 512 << 20, 4096)
            x.info[f"copyup_{fs}_detail_ms"] = {k: round(r[k] / 1e6, 3) for k in ("open", "write1", "write2", "close")}
            # everything but the two overwritten blocks must still be there, and the lower must be intact
            if e.fsb("seqread", low + "/big.bin")["hash"] != e.exp["big"]:
                raise Fail("f: LOWER FILE CHANGED")
            bad = cmp_except(low + "/big.bin", m.mnt + "/big.bin", {512 << 20, 513 << 20})
            if bad is not None:
                raise Fail(f"f: copied-up content wrong at {bad}")
        finally:
            if m:
                m.down()
    return f


def cmp_except(a, b, offs):
    with open(a, "rb") as fa, open(b, "rb") as fb:
        pos = 0
        while True:
            x, y = fa.read(1 << 20), fb.read(1 << 20)
            if not x and not y:
                return None
            if pos in offs:
                if y[:4096] != b"W" * 4096:
                    return pos
                x, y = x[4096:], y[4096:]
            if x != y:
                return pos
            pos += 1 << 20


for _f in ("ext4", "xfs", "btrfs"):
    work(f"f{_f}", f"first 4k write to a 1 GiB lower file, {_f}")(w_copyup(_f))


@work("g", "developer: gcc -c of 80 files, git status/checkout in a 5k-file repo")
def w_dev(x):
    e = x.env
    flat = None
    if x.bare:
        flat = e.fresh()
        sh(f"cp -a {e.data}/dev/flat/. {flat}")
    m = x.mount([e.data + "/dev/l0"], flat=flat)
    try:
        def gcc():
            sh(f"cd {m.mnt}/csrc && ls m*.c | xargs -P2 -n8 gcc -c -O0", timeout=e.a.timeout)
        x.timed(m, "g.gcc", gcc)
        if len([f for f in os.listdir(m.mnt + "/csrc") if f.endswith(".o")]) != 80:
            raise Fail("g.gcc: objects missing")
        git = "git -c safe.directory='*' -c core.fsmonitor=false -c core.checkStat=minimal -c core.trustctime=false"
        sh(f"cd {m.mnt}/repo && {git} status --short", timeout=e.a.timeout)  # refresh index
        e.drop()
        for k in ("cold", "warm"):
            def st():
                if sh(f"cd {m.mnt}/repo && {git} status --short", timeout=e.a.timeout).strip():
                    raise Fail("g.git: unexpectedly dirty")
            x.timed(m, f"g.git_status.{k}", st)
        x.timed(m, "g.git_checkout", lambda: sh(f"cd {m.mnt}/repo && {git} checkout -q two", timeout=e.a.timeout) and None)
        if sh(f"cd {m.mnt}/repo && {git} status --short && {git} diff --stat HEAD").strip():
            raise Fail("g.git: dirty after checkout")
    finally:
        m.down()


@work("h", "open+read+close 20k small files (grep -r like)")
def w_read(x):
    e = x.env
    m = x.mount(e.stack("small", 4), flat=e.data + "/small/flat")
    try:
        e.drop()
        x.fsb(m, "h.read.cold", "readall", m.mnt, expect=e.exp["small_read"])
        x.fsb(m, "h.read.warm", "readall", m.mnt, expect=e.exp["small_read"], warm=True)
    finally:
        m.down()


def w_neg(n):
    def f(x):
        e = x.env
        m = x.mount(e.stack(f"tree/n{n}", n), flat=e.data + "/tree/flat", stack=f"{e.data}/tree/n{n}")
        try:
            e.fsb("statlist", m.mnt, e.data + "/dirs.list")
            x.fsb(m, f"i.neg{n}.distinct", "neg", m.mnt, e.data + "/dirs.list", 50000, 1, expect=50000, field="miss")
            if n == 32:
                x.fsb(m, f"i.neg{n}.repeat", "neg", m.mnt, e.data + "/dirs.list", 1000, 50, expect=50000, field="miss", warm=True)
        finally:
            m.down()
    return f


for _n in (1, 32, 120):
    work(f"i{_n}", f"stat of missing names, {_n} layers")(w_neg(_n))


@work("j", "readdir of one 50k-entry directory merged from 8 layers")
def w_readdir(x):
    e = x.env
    m = x.mount(e.stack("bigdir", 8), flat=e.data + "/bigdir/flat")
    try:
        e.drop()
        x.fsb(m, "j.readdir.cold", "readdir", m.mnt + "/big", expect=e.exp["bigdir"])
        x.fsb(m, "j.readdir.warm", "readdir", m.mnt + "/big", expect=e.exp["bigdir"], warm=True)
        x.fsb(m, "j.readdir+stat", "readdir", m.mnt + "/big", 1, expect=e.exp["bigdir_stat"], warm=True)
    finally:
        m.down()


@work("k", "create small files")
def w_create(x):
    e = x.env
    m = x.mount([e.fresh()])
    try:
        x.fsb(m, "k.create_fsync_rename", "create", m.mnt + "/a", 300, 4096, 1, 1)
        x.fsb(m, "k.create_write", "create", m.mnt + "/b", 5000, 4096, 0, 0)
        if len(os.listdir(m.mnt + "/a")) != 300 or len(os.listdir(m.mnt + "/b")) != 5000:
            raise Fail("k: files missing")
    finally:
        m.down()


@work("l", "parallel clients: read 20k small files and create 6k files, split over P processes")
def w_par(x):
    e = x.env
    m = x.mount(e.stack("small", 4), flat=None if not x.bare else e.data + "/small/flat")
    scratch = m.mnt if not x.bare else e.fresh()
    try:
        names = open(e.data + "/small.list").read().split()
        e.fsb("readlist", m.mnt, e.data + "/small.list")
        for p in (1, 2, 4):
            lists = []
            for i in range(p):
                fn = f"{e.run}/par{p}.{i}"
                open(fn, "w").write("\n".join(names[i::p]) + "\n")
                lists.append(fn)

            def rd():
                ps = [subprocess.Popen([e.fb, "readlist", m.mnt, l], stdout=NULL) for l in lists]
                for q in ps:
                    if q.wait(timeout=e.a.timeout):
                        raise Fail("l: reader failed")
            x.timed(m, f"l.read.p{p}", rd)

            def cr():
                ps = [subprocess.Popen([e.fb, "create", f"{scratch}/new{p}_{i}", str(6000 // p), "1000", "0", "0"], stdout=NULL) for i in range(p)]
                for q in ps:
                    if q.wait(timeout=e.a.timeout):
                        raise Fail("l: creator failed")
            x.timed(m, f"l.create.p{p}", cr)
    finally:
        m.down()


@work("m", "mount time and memory")
def w_mounts(x):
    if x.bare:
        return
    e = x.env
    for n in (1, 32, 120, 500):
        try:
            ts = []
            for _ in range(3):
                m = x.mount(e.stack(f"tree/n{n}", n), stack=f"{e.data}/tree/n{n}")
                ts.append(m.t_up)
                m.down()
            x.out[f"m.mount.{n}layers"] = statistics.median(ts)
        except Fail as f:
            x.info[f"mount{n}_fail"] = str(f)
    for k in (1, 10, 50):
        ms = []
        try:
            for _ in range(k):
                ms.append(x.mount(e.stack("tree/n8", 8), stack=f"{e.data}/tree/n8"))
            r = [session_rss(m.sid) for m in ms if m.sid]
            x.info[f"rss_kib_{k}mounts"] = sum(a for a, _ in r)
            x.info[f"pss_kib_{k}mounts"] = sum(b for _, b in r)
            if k == 50:  # do they burn CPU when idle?
                c0 = sum(m.cpu() for m in ms)
                time.sleep(0.5)
                x.info["idle_cpu_50mounts"] = round(sum(m.cpu() for m in ms) - c0, 3)
        finally:
            for m in ms:
                m.down()


@work("n", "container start: mount 32 layers, read 200 files, unmount")
def w_container(x):
    e = x.env
    pick = e.run + "/pick.list"
    if not os.path.exists(pick):
        leaves = open(e.data + "/dirs.list").read().split()
        open(pick, "w").write("\n".join(f"{leaves[(i * 37) % len(leaves)]}/file_{(i * 13) % 100:03d}.txt" for i in range(200)) + "\n")
    lowers = e.stack("tree/n32", 32)
    for k in ("cold", "warm"):
        ts = []
        for _ in range(1 if k == "cold" else 3):
            if k == "cold":
                e.drop()
            m = Mount(e, x.c, lowers, e.fresh(), e.data + "/tree/flat", e.data + "/tree/n32")
            t0 = time.perf_counter()
            try:
                m.up()
                r = e.fsb("readlist", m.mnt, pick)
            finally:
                m.down_t = m.down()
            t = time.perf_counter() - t0 if x.bare or x.c["kind"] == "cmd" else None
            # daemon exit is not waited for by a container engine: mount + read + umount only
            if t is None:
                t = r["ns"] * 1e-9 + m.down_t + m_up_time(m)
            if r["errs"] or not r["bytes"]:
                raise Fail("n: read errors")
            ts.append(t)
        x.out[f"n.start.{k}"] = statistics.median(ts)


def m_up_time(m):
    return getattr(m, "t_up2", 0.0)


# Mount.up returns its own duration; remember it for w_container
_up = Mount.up


def _up_rec(self, *a, **k):
    t = _up(self, *a, **k)
    self.t_up2 = t
    return t


Mount.up = _up_rec


# ------------------------------------------------------------------ driver and report
def report(res, out=None):
    names = res["contenders"]
    med = {}
    how = min if res.get("stat") == "min" else statistics.median
    for c in names:
        for m, v in res["samples"].get(c, {}).items():
            if v:
                med.setdefault(m, {})[c] = how(v)
    res["median"] = med

    def fmt(s):
        if s is None:
            return "–"
        for u, k in (("s", 1), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)):
            if s >= k or u == "ns":
                v = s / k
                return f"{v:.3g} {u}" if v < 100 else f"{v:.0f} {u}"
    L = [f"Wall time, {res.get('stat', 'median')} of the rounds:", "", "| metric | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for m in sorted(med):
        r = med[m]
        L.append(f"| {m} | " + " | ".join(fmt(r.get(c)) for c in names) + " |")
    for base in ("ext4", "overlay"):
        if base not in names:
            continue
        L += ["", f"Ratios to {base} (lower is better, 1.00 = equal):", "",
              "| metric | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
        for m in sorted(med):
            r = med[m]
            b = r.get(base)
            L.append(f"| {m} | " + " | ".join("–" if r.get(c) is None or not b else f"{r[c] / b:.2f}" for c in names) + " |")
    L += ["", "Daemon CPU seconds (median):", "", "| metric | " + " | ".join(n for n in names if n in res["dcpu"]) + " |",
          "|---|" + "---|" * len([n for n in names if n in res["dcpu"]])]
    for m in sorted(med):
        row = [statistics.median(res["dcpu"][c][m]) if res["dcpu"][c].get(m) else None for c in names if c in res["dcpu"]]
        if any(v is not None for v in row):
            L.append(f"| {m} | " + " | ".join("–" if v is None else f"{v:.2f}" for v in row) + " |")
    L += ["", "Client + daemon CPU seconds (minimum; little affected by other load):", "",
          "| metric | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for m in sorted(med):
        row = [min(res["tcpu"].get(c, {}).get(m) or [-1]) for c in names]
        if max(row) >= 0 and not m.startswith(("e.", "f.", "m.", "n.")):
            L.append(f"| {m} | " + " | ".join("–" if v < 0 else f"{v:.2f}" for v in row) + " |")
    L += ["", "Other:", ""]
    for c in names:
        if res["info"].get(c):
            L.append(f"* {c}: " + ", ".join(f"{k}={v}" for k, v in sorted(res["info"][c].items())))
    L += ["", "Failures:", ""]
    for f in res["fail"]:
        L.append(f"* {f}")
    L += ["", f"Noise: median share of CPU used by other processes while timing {res.get('foreign_median', 0):.0%}; "
          f"load {res.get('load')}; rounds {res['rounds']}; wall {res.get('wall', 0):.0f} s; kernel {os.uname().release}"]
    txt = "\n".join(L)
    if out:
        open(out + "/results.md", "w").write(txt + "\n")
        json.dump(res, open(out + "/results.json", "w"), indent=1)
    print(txt)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--config", default=HERE + "/contenders.toml")
    ap.add_argument("--data", default=BENCH + "/data")
    ap.add_argument("--img", default="/dev/shm", help="where the xfs/btrfs loop images live")
    ap.add_argument("--ramdisk", action="store_true", help="put --data on an ext4 loop image in --img (takes a slow or throttled disk out of the picture)")
    ap.add_argument("--out", default=BENCH + "/out")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--works", default="")
    ap.add_argument("--contenders", default="")
    ap.add_argument("--budget", type=float, default=1150, help="no new (round, work) starts after this many seconds")
    ap.add_argument("--timeout", type=float, default=60, help="per timed step")
    ap.add_argument("--quiet-wait", type=float, default=2, help="max seconds to wait for an idle machine before each work")
    ap.add_argument("--prepare", action="store_true")
    ap.add_argument("--report")
    ap.add_argument("--stat", default="median", choices=("median", "min"), help="min is the better estimator on a busy machine")
    a = ap.parse_args()
    if a.report:
        return report(dict(json.load(open(a.report)), stat=a.stat))
    os.makedirs(a.out, exist_ok=True)
    os.makedirs(a.data, exist_ok=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if a.ramdisk and not os.path.ismount(a.data):
        img = a.img + "/benchdata.img"
        if not os.path.exists(img):
            sh(f"truncate -s 10G {img} && mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 -N 1500000 {img}")
        sh(f"mount -o loop,discard {img} {a.data}")
    env = Env(a)
    env.prepare()
    if a.prepare:
        return
    cs = contenders(a.config, a.contenders)
    works = [w for w in WORKS if not a.works or any(w[0].startswith(p) for p in a.works.split(","))]
    res = {"contenders": [c["name"] for c in cs], "samples": {}, "dcpu": {}, "tcpu": {}, "info": {}, "fail": [], "rounds": 0,
           "stat": a.stat, "works": {k: t for k, t, _ in works}}
    foreign = []
    t_start = time.time()
    for rnd in range(a.rounds):
        for wi, (key, title, fn) in enumerate(works):
            if time.time() - t_start > a.budget:
                res["fail"].append(f"budget exhausted in round {rnd + 1} before work {key}")
                break
            order = cs[(rnd + wi) % len(cs):] + cs[:(rnd + wi) % len(cs)]
            for c in order:
                why = [r for k, r in c.get("skip", {}).items() if key.startswith(k)]
                if why:
                    msg = f"{c['name']} {key}: skipped, {why[0]}"
                    if msg not in res["fail"]:
                        res["fail"].append(msg)
                    continue
                env.quiet()
                x = Ctx(env, c)
                ru0, b0, t0 = resource.getrusage(resource.RUSAGE_CHILDREN), cpu_busy(), time.time()
                s0 = time.process_time()
                try:
                    fn(x)
                except (Fail, subprocess.SubprocessError, OSError) as ex:
                    msg = f"{c['name']} {key}: {type(ex).__name__ if not isinstance(ex, Fail) else ''} {str(ex)[:220]}"
                    if isinstance(ex, subprocess.CalledProcessError):
                        msg += " | " + (ex.stderr or "")[:160]
                    if isinstance(ex, subprocess.TimeoutExpired):
                        msg = f"{c['name']} {key}: timed out after {a.timeout:.0f} s (counted as a lower bound)"
                    if not any(f.startswith(msg[:60]) for f in res["fail"]):
                        res["fail"].append(msg)
                    # a metric whose verification failed must not count
                    bad = str(ex).split(":")[0]
                    x.out.pop(bad, None)
                ru1 = resource.getrusage(resource.RUSAGE_CHILDREN)
                own = (ru1.ru_utime + ru1.ru_stime) - (ru0.ru_utime + ru0.ru_stime) + time.process_time() - s0
                wall = max(time.time() - t0, 1e-3)
                fshare = max(0.0, (cpu_busy() - b0 - own)) / (wall * os.cpu_count())
                foreign.append(fshare)
                for m, v in x.out.items():
                    res["samples"].setdefault(c["name"], {}).setdefault(m, []).append(v)
                for m, v in x.tcpu.items():
                    res["tcpu"].setdefault(c["name"], {}).setdefault(m, []).append(v)
                for m, v in x.dcpu.items():
                    res["dcpu"].setdefault(c["name"], {}).setdefault(m, []).append(v)
                res["info"].setdefault(c["name"], {}).update(x.info)
                print(f"[{time.time() - t_start:6.1f}] r{rnd + 1} {key:6} {c['name']:13} {wall:6.2f}s foreign {fshare:4.0%} "
                      + " ".join(f"{m}={v:.4g}" for m, v in x.out.items()), file=sys.stderr, flush=True)
                env.clean()
        res["rounds"] = rnd + 1
        res["foreign_median"] = statistics.median(foreign) if foreign else 0
        res["load"] = os.getloadavg()
        res["wall"] = time.time() - t_start
        json.dump(res, open(a.out + "/results.json", "w"), indent=1)
    # the lower layers must be untouched by everybody
    for p, k, how in (("tree/flat", "tree", "walk"), ("small/flat", "small_stat", "walk"), ("dev/l0", "dev", "readall"),
                      ("bigfile/l0/big.bin", "big", "seqread")):
        if env.fsb(how, f"{a.data}/{p}")["hash"] != env.exp[k]:
            res["fail"].append(f"DATA SET {p} CHANGED: somebody wrote to a lower layer")
    report(res, a.out)


if __name__ == "__main__":
    main()
