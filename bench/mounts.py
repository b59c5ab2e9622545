"""The contenders, and one mounted instance of one of them: started, measured, taken away.

A contender of an ordinary user is started by a process that has become that user (see people.py).
"""
import os, pathlib, re, shutil, signal, subprocess, sys, time, tomllib

HERE = os.path.dirname(os.path.abspath(__file__))
NULL = subprocess.DEVNULL
BENCH = os.environ.get("PLYWOOD_BENCH", "/var/tmp/plywood-bench")
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(os.path.dirname(HERE), "target"))
PLYWOOD = os.path.abspath(os.environ.get("PLYWOOD_BIN", TARGET + "/release/plywood"))


class Fail(Exception):
    """A work that was not done, or done wrong."""


def text_of(path):
    return pathlib.Path(path).read_text(errors="replace")


def sh(cmd, **kw):
    return subprocess.run(cmd, shell=True, check=True, text=True, capture_output=True, **kw).stdout


def alone():
    """goes on in a mount namespace of its own, so that no mount stays whatever happens"""
    if not os.environ.get("PLYWOOD_BENCH_ALONE"):
        os.environ["PLYWOOD_BENCH_ALONE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", "--", sys.executable, *sys.argv])


def contenders(config, wanted="", everything=False):
    """the contenders of a file whose program is there, or all; `wanted` names some, or is empty for all"""
    with open(config, "rb") as file:
        known = tomllib.load(file)["contender"]
    wanted = [w for w in wanted.split(",") if w]
    unknown = set(wanted) - {c["name"] for c in known}
    if unknown:
        sys.exit(f"no contender {', '.join(sorted(unknown))} in {config}")
    found = []
    for c in known:
        if wanted and c["name"] not in wanted:
            continue
        if c["kind"] == "exec" and not everything:
            for key in ("argv", "prepare"):
                c[key] = [word.replace("{bench}", BENCH).replace("{plywood}", PLYWOOD) for word in c.get(key, [])]
            if not shutil.which(c["argv"][0]):
                print(f"{c['name']}: no {c['argv'][0]}; left out", file=sys.stderr)
                continue
            if c.get("user") and (os.stat("/dev/fuse").st_mode & 0o006 != 0o006 or not shutil.which("fusermount3")):
                print(f"{c['name']}: an ordinary user cannot mount here; left out", file=sys.stderr)
                continue
        found.append(c)
    return found


def version(c):
    """what a contender's program says its version is"""
    if c["kind"] != "exec":
        return os.uname().release
    said = subprocess.run([c["argv"][0], "--version"], capture_output=True, text=True, timeout=10)
    lines = [line.strip() for line in (said.stdout + said.stderr).splitlines() if re.search(r"\d", line)]
    own = [line for line in lines if os.path.basename(c["argv"][0])[:6] in line]
    owner = subprocess.run(["dpkg-query", "-S", c["argv"][0]], capture_output=True, text=True).stdout.split(":")[0]
    package = owner and sh(f"dpkg-query -W -f '${{Version}}' {owner}").strip()
    return package or re.sub(r"^\S+?:?\s+(version:?\s*)?", "", (own or lines or ["?"])[0])


# ------------------------------------------------------------------ what servers use
def drops():
    """how often anybody dropped the caches of this machine so far"""
    return [line for line in text_of("/proc/vmstat").split("\n") if line.startswith("drop_")]


def cpu_busy():
    v = list(map(int, text_of("/proc/stat").split("\n")[0].split()[1:9]))
    return (sum(v) - v[3] - v[4]) / os.sysconf("SC_CLK_TCK")


def session_pids(sid):
    out = []
    for p in os.listdir("/proc"):
        if p.isdigit():
            try:
                f = text_of(f"/proc/{p}/stat").rsplit(")", 1)[1].split()
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
            for line in text_of(f"/proc/{p}/smaps_rollup").split("\n"):
                if line.startswith("Rss:"):
                    rss += int(line.split()[1])
                elif line.startswith("Pss:"):
                    pss += int(line.split()[1])
        except OSError:
            pass
    return rss, pss


def start_time(pid):
    """when a process began, so that its number is not taken for another's; None if it is gone"""
    try:
        return text_of(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[19]
    except OSError:
        return None


def end_servers(record):
    """kills the servers named in a record that are still there, and those only"""
    try:
        lines = text_of(record).split("\n")
    except OSError:
        return
    for pid, began in (line.split() for line in lines if line):
        if start_time(pid) == began:
            try:
                os.killpg(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass


# ------------------------------------------------------------------ mounting
class Mount:
    """One mounted (or bare) instance. base = directory that gets upper/work/mnt."""

    def __init__(self, env, c, lowers, base, flat=None, stack=None):
        self.env, self.c, self.flat = env, c, flat
        self.base = base
        self.proc = None
        self.sid = None
        self.mounted = False
        self.t_up = 0.0  # how long it took to mount
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
        s = re.sub(r"\{low\|([^|]*)\|([^}]*)\}", lambda m: m[2].join(l + m[1] for l in self.lowers), s)
        rel = [os.path.relpath(l, self.stack or "/") for l in self.lowers]
        return (s.replace("{mnt}", self.mnt).replace("{upper}", self.upper).replace("{work}", self.work)
                .replace("{lower}", ":".join(self.lowers)).replace("{lower_rel}", ":".join(rel))
                .replace("{flat}", self.flat or self.upper).replace("{base}", self.base))

    def up(self, timeout=20):
        if self.c.get("prepare"):
            p = subprocess.run([self.subst(a) for a in self.c["prepare"]], capture_output=True, text=True)
            if p.returncode:
                raise Fail("prepare: " + p.stderr.strip()[:200])
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
            env = dict(os.environ, PATH=self.env.bin + ":" + os.environ["PATH"], **self.c.get("env", {}))
            argv = [self.subst(a) for a in self.c["argv"]]
            t0 = time.perf_counter()
            with open(self.base + "/daemon.log", "w") as log:
                self.proc = subprocess.Popen(argv, stdin=NULL, stdout=log, stderr=log, start_new_session=True,
                                             cwd=self.stack or "/", env=env)
            self.sid = self.proc.pid
            while True:
                try:
                    if os.stat(self.mnt).st_dev != dev:
                        break
                except OSError:
                    pass
                if self.proc.poll() is not None:
                    self.detach()
                    raise Fail(f"daemon exited {self.proc.returncode}: " + text_of(self.base + "/daemon.log")[-200:])
                if time.perf_counter() - t0 > timeout:
                    self.kill()
                    raise Fail("mount timed out")
                time.sleep(0.0002)
        self.t_up = time.perf_counter() - t0
        if self.proc:
            self.env.servers.write(f"{self.proc.pid} {start_time(self.proc.pid)}\n")
            self.env.servers.flush()
        self.mounted = True
        return self.t_up

    def leave(self):
        """the command that unmounts"""
        return ["fusermount3", "-u", self.mnt] if self.c.get("user") else ["umount", self.mnt]

    def detach(self):
        subprocess.run(self.leave()[:-1] + ["-z" if self.c.get("user") else "-l", self.mnt], stdout=NULL, stderr=NULL)

    def kill(self):
        if self.proc and self.proc.poll() is None:
            try:
                os.killpg(self.proc.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.proc.wait()
        self.detach()

    def down(self):
        """unmount; returns seconds until the command that unmounts returned"""
        if not self.mounted:
            return 0.0
        t0 = time.perf_counter()
        for _ in range(50):
            if subprocess.run(self.leave(), stdout=NULL, stderr=NULL).returncode == 0:
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
