"""The works: what is timed, and how each makes sure that it was really done.

A work gets a Ctx, whose `out` takes its figures: seconds, or KiB where the name begins with "p.".
"""
import json, os, resource, statistics, subprocess, time

from mounts import NULL, Fail, Mount, drops, session_rss, sh

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
        self.read_only = c.get("read_only", False)
        self.out = {}   # metric -> seconds
        self.dcpu = {}  # metric -> daemon CPU seconds
        self.tcpu = {}  # metric -> client + daemon CPU seconds (robust against a busy machine)
        self.info = {}

    def mount(self, lowers, flat=None, root=None, stack=None):
        m = Mount(self.env, self.c, lowers, self.env.fresh(root), flat, stack)
        m.up()
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
                x.out["p.rss_after_walk"] = session_rss(m.sid)[0]
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
        part = e.fresh()
        e.fsb("readlist", m.mnt, e.data + "/small.list")
        for p in (1, 2, 4):
            lists = []
            for i in range(p):
                fn = f"{part}/par{p}.{i}"
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
            if not x.read_only:
                x.timed(m, f"l.create.p{p}", cr)
    finally:
        m.down()


@work("m", "mount time and memory")
def w_mounts(x):
    if x.bare:
        return
    e = x.env
    for n in (1, 32, 120, 500, 2000):
        try:
            ts = []
            for _ in range(3):
                m = x.mount(e.stack(f"tree/n{n}", n), stack=f"{e.data}/tree/n{n}")
                ts.append(m.t_up)
                m.down()
            x.out[f"m.mount.{n}layers"] = statistics.median(ts)
        except (Fail, OSError) as f:
            x.info[f"mount{n}_fail"] = str(f)
    for k in (1, 10, 50):
        ms = []
        try:
            for _ in range(k):
                ms.append(x.mount(e.stack("tree/n8", 8), stack=f"{e.data}/tree/n8"))
            r = [session_rss(m.sid) for m in ms if m.sid]
            if r:
                x.out[f"p.rss_per_mount.{k}mounts"] = sum(a for a, _ in r) / k
                x.out[f"p.pss_per_mount.{k}mounts"] = sum(b for _, b in r) / k
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
                r = e.fsb("readlist", m.mnt, e.data + "/pick.list")
            finally:
                down = m.down()
            # a container engine does not wait for the server's end: mount, read, unmount only
            t = r["ns"] * 1e-9 + down + m.t_up if m.proc else time.perf_counter() - t0
            if r["errs"] or not r["bytes"]:
                raise Fail("n: read errors")
            ts.append(t)
        x.out[f"n.start.{k}"] = statistics.median(ts)
