#!/usr/bin/env python3
"""Where does a FUSE filesystem spend its time? Counts, per elementary operation,
  * the FUSE requests the kernel sent (bpftrace on tracepoint:fuse:fuse_request_send), and
  * the system calls the daemon made (strace -c -f),
for every contender of kind "exec" in contenders.toml. Counts do not depend on how busy the
machine is, so this is the tool to use when timing is impossible.

    ./opcount.py [--contenders a,b] [--nlayers 32] > table.md
Needs the data set of run.py (./run.py --prepare), bpftrace, strace, root.
"""
import argparse, collections, os, re, resource, subprocess, sys, time
import run as R

OPS = {1: "LOOKUP", 2: "FORGET", 3: "GETATTR", 4: "SETATTR", 5: "READLINK", 8: "MKNOD", 9: "MKDIR", 10: "UNLINK", 11: "RMDIR",
       12: "RENAME", 13: "LINK", 14: "OPEN", 15: "READ", 16: "WRITE", 17: "STATFS", 18: "RELEASE", 20: "FSYNC", 21: "SETXATTR",
       22: "GETXATTR", 23: "LISTXATTR", 25: "FLUSH", 27: "OPENDIR", 28: "READDIR", 29: "RELEASEDIR", 34: "ACCESS", 35: "CREATE",
       39: "IOCTL", 42: "BATCH_FORGET", 43: "FALLOCATE", 44: "READDIRPLUS", 45: "RENAME2", 46: "LSEEK", 47: "COPY_FILE_RANGE", 52: "STATX"}


def need_tracing():
    """the tracepoints of FUSE, without which every count would be 0"""
    if not os.path.exists("/sys/kernel/tracing/events"):
        subprocess.run(["mount", "-t", "tracefs", "tracefs", "/sys/kernel/tracing"], check=True)
    if not os.path.exists("/sys/kernel/tracing/events/fuse/fuse_request_send"):
        sys.exit("no tracepoint fuse:fuse_request_send; load the module fuse and try again")


def trace(dev, fn):
    bt = subprocess.Popen(["bpftrace", "-e", "BEGIN { printf(\"go\\n\"); } tracepoint:fuse:fuse_request_send /args->connection == %d/ { @[args->opcode] = count(); }" % dev],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = ""
    while "go\n" not in said:
        line = bt.stdout.readline()
        if not line:
            sys.exit("bpftrace ended before anything was counted: " + said.strip())
        said += line
    time.sleep(0.3)
    fn()
    time.sleep(0.3)
    bt.send_signal(2)
    out = bt.communicate()[0]
    return {OPS.get(int(a), a): int(b) for a, b in re.findall(r"@\[(\d+)\]: (\d+)", out)}


def strace(pid, fn, log):
    st = subprocess.Popen(["strace", "-f", "-c", "-qq", "-o", log, "-p", str(pid)], stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    fn()
    time.sleep(0.2)
    st.send_signal(2)
    st.wait()
    res = {}
    for line in open(log):
        f = line.split()
        if len(f) >= 5 and re.match(r"^[\d.]+$", f[0]) and f[-1] != "total":
            res[f[-1]] = int(f[3])
    return res


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--config", default=R.HERE + "/contenders.toml")
    ap.add_argument("--data", default=R.BENCH + "/data")
    ap.add_argument("--img", default="/dev/shm")
    ap.add_argument("--contenders", default="")
    ap.add_argument("--nlayers", type=int, default=32)
    ap.add_argument("--timeout", type=float, default=120)
    a = ap.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    need_tracing()
    env = R.Env(a)
    env.prepare()
    cs = [c for c in R.contenders(a.config, a.contenders) if c["kind"] == "exec"]
    dl = open(a.data + "/dirs.list").read().split()[:10]
    open(env.run + "/d10", "w").write("\n".join(dl) + "\n")

    def bench(m):
        f = env.fb
        q = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        d0 = m.mnt + "/" + dl[0]
        return [  # name, operations, setup, function
            ("walk 3000 files (cold)", 3000, None, lambda: subprocess.run([f, "walk", m.mnt + "/t00"], **q)),
            ("walk again (warm)", 3000, None, lambda: subprocess.run([f, "walk", m.mnt + "/t00"], **q)),
            ("lookup 1000 missing names", 1000, None, lambda: subprocess.run([f, "neg", m.mnt, env.run + "/d10", "1000", "1"], **q)),
            ("same missing names again", 1000, None, lambda: subprocess.run([f, "neg", m.mnt, env.run + "/d10", "1000", "1"], **q)),
            ("open+read+close 1000 (cold)", 1000, None, lambda: [subprocess.run([f, "readall", m.mnt + "/" + d], **q) for d in dl]),
            ("open+read+close again", 1000, None, lambda: [subprocess.run([f, "readall", m.mnt + "/" + d], **q) for d in dl]),
            ("create+write+close 500", 500, lambda: os.mkdir(m.mnt + "/new"), lambda: subprocess.run([f, "create", m.mnt + "/new", "500", "4096", "0", "0"], **q)),
            ("create+write+fsync+rename 200", 200, None, lambda: subprocess.run([f, "create", m.mnt + "/new2", "200", "4096", "1", "1"], **q)),
            ("first write to 100 lower files", 100, None, lambda: [open(f"{d0}/file_{k:03d}.txt", "r+").write("x") for k in range(100)]),
            ("unlink 100 lower files", 100, None, lambda: [os.unlink(f"{m.mnt}/{dl[1]}/file_{k:03d}.txt") for k in range(100)]),
            ("stat 100 files after writing", 100, None, lambda: [os.stat(f"{d0}/file_{k:03d}.txt") for k in range(100)]),
        ]

    n = a.nlayers
    for c in cs:
        print(f"\n### {c['name']} ({n} layers)\n\n| operation | FUSE requests per operation | daemon system calls per operation |\n|---|---|---|")
        rows = collections.OrderedDict()
        for how in ("trace", "strace"):
            m = R.Mount(env, c, env.stack(f"tree/n{n}", n), env.fresh(), a.data + "/tree/flat", f"{a.data}/tree/n{n}")
            try:
                m.up()
                dev = os.stat(m.mnt).st_dev
                dev = os.minor(dev) | os.major(dev) << 20
                env.drop()
                for name, k, setup, fn in bench(m):
                    if c.get("skip") and name.startswith(("first", "unlink")):
                        continue
                    try:
                        if setup:
                            setup()
                        r = trace(dev, fn) if how == "trace" else strace(m.sid, fn, env.run + "/st")
                    except OSError as ex:
                        rows.setdefault(name, [k, {}, {}])[1]["FAILED " + str(ex)[:60]] = 0
                        continue
                    rows.setdefault(name, [k, {}, {}])[1 if how == "trace" else 2] = r
            finally:
                m.down()
        for name, (k, t, s) in rows.items():
            def f(d):
                tot = sum(d.values()) / k
                return f"**{tot:.2f}**: " + ", ".join(f"{o} {v / k:.2f}" for o, v in sorted(d.items(), key=lambda x: -x[1])[:7] if v / k >= 0.01)
            print(f"| {name} | {f(t)} | {f(s)} |")
        sys.stdout.flush()
        env.clean()


if __name__ == "__main__":
    main()
