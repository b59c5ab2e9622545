"""The data set: trees that are the same on every machine, made once; scratch directories beside them; and all that is
undone at the end: servers, mounts, files.
"""
import fcntl, hashlib, json, os, re, subprocess, sys, time

import mounts, people
from mounts import HERE, Fail, sh


def h(*k):
    """a number that looks random and is always the same"""
    return int.from_bytes(hashlib.blake2b(repr(k).encode(), digest_size=8).digest(), "little")


class Env:
    """What works use: {data} with the trees, {run} for scratch, fsbench."""

    def __init__(self, a):
        self.a = a
        self.data = a.data
        self.run = a.data + "/run"
        self.bin = self.run + "/bin"
        self.fb = a.data + "/fsbench"
        self.mounted = []  # by us, so that they go at the end
        os.makedirs(self.bin, exist_ok=True)
        self.lock = open(self.run + "/lock", "w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit(f"another benchmark is running in {self.data}")
        self.record = self.run + "/servers"
        self.servers = None
        self.clean()
        src = HERE + "/fsbench.c"
        if not os.path.exists(self.fb) or os.path.getmtime(self.fb) < os.path.getmtime(src):
            sh(f"gcc -O2 -pthread -w -o {self.fb} {src}")
        # mergerfs asks for a helper of its own, which Debian installs without the right to mount
        if not os.path.lexists(self.bin + "/mergerfs-fusermount"):
            os.symlink("/usr/bin/fusermount3", self.bin + "/mergerfs-fusermount")
        self.seq = 0
        self.exp = {}  # expected hashes, from the bare trees

    def clean(self):
        """end servers and remove scratch directories; never through a mount that is still there"""
        if self.servers:
            self.servers.close()
        mounts.end_servers(self.record)
        roots = [self.run, self.data + "/mnt.xfs/run", self.data + "/mnt.btrfs/run"]
        for line in mounts.text_of("/proc/self/mountinfo").splitlines()[::-1]:
            mp = line.split()[4]
            if any(mp.startswith(r + "/") for r in roots):
                subprocess.run(["umount", "-l", mp])
        subprocess.run("rm -rf --one-file-system " + " ".join(r + "/r*" for r in roots), shell=True)
        self.servers = open(self.record, "w")

    def close(self):
        """leave nothing behind but the data set"""
        self.clean()
        self.servers.close()
        self.lock.close()
        for at in reversed(self.mounted):
            for _ in range(20):
                if subprocess.run(["umount", at], capture_output=True).returncode == 0:
                    break
                time.sleep(0.1)
        self.mounted = []

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
        while time.time() < end:
            b0, t0 = mounts.cpu_busy(), time.time()
            time.sleep(0.1)
            if (mounts.cpu_busy() - b0) / (time.time() - t0) < 0.15:
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

    def stacked(self, tops, layers):
        """100 files in each of 30 directories of each of `tops`, as stacks of so many layers: leaf directories exist in at
        most 8 layers, top ones in all; 5% of the files also exist, older and longer, in a deeper layer; and all merged"""
        d = self.data
        leaves = [f"{t}/d{j:02d}" for t in tops for j in range(30)]
        files = [(f"{l}/file_{k:03d}.txt", 64 + h("sz", l, k) % 448, h("seed", l, k) % 10**9) for l in leaves for k in range(100)]
        self.mktree(d + "/tree/flat", tops + leaves, files)
        with open(d + "/dirs.list", "w") as f:
            f.write("\n".join(leaves) + "\n")
        for n in layers:
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

    def prepare(self):
        d = self.data
        if os.path.exists(d + "/READY"):
            self.exp = json.load(open(d + "/expect.json"))
            self.mount_images()
            self.more()
            return
        print("preparing data sets (once) ...", file=sys.stderr)
        for part in ("tree", "small", "bigdir", "bigfile", "dev"):  # of a preparation that was interrupted
            subprocess.run(["rm", "-rf", f"{d}/{part}"], check=True)
        self.stacked([f"t{i:02d}" for i in range(20)], (1, 8, 32, 120))
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
        self.more()

    def more(self):
        """what data sets made by earlier versions do not have yet"""
        d = self.data
        if not os.path.exists(f"{d}/tree/n2000/READY"):
            for i in range(2000):  # mount-time only
                os.makedirs(f"{d}/tree/n2000/l{i}/t{i % 20:02d}", exist_ok=True)
            open(f"{d}/tree/n2000/READY", "w").close()
        if not os.path.exists(d + "/pick.list"):
            leaves = mounts.text_of(d + "/dirs.list").split()
            with open(d + "/pick.list", "w") as f:
                f.write("\n".join(f"{leaves[(i * 37) % len(leaves)]}/file_{(i * 13) % 100:03d}.txt" for i in range(200)) + "\n")
        if not os.path.exists(d + "/GIVEN"):
            # an ordinary user changes them through a union
            for part in ("small", "bigfile/l0", "dev", "mnt.xfs/l0", "mnt.btrfs/l0"):
                people.give(f"{d}/{part}")
            open(d + "/GIVEN", "w").close()

    def mount_images(self):
        """reflink filesystems on loop images, made anew when they are gone (--img is mostly in memory)"""
        d = self.data
        for fs in ("xfs", "btrfs"):
            name = "" if os.path.basename(d) == "data" else os.path.basename(d) + "-"
            m, img = f"{d}/mnt.{fs}", f"{self.a.img}/{name}{fs}.img"
            os.makedirs(m, exist_ok=True)
            if os.path.ismount(m):
                continue
            if not os.path.exists(img):
                sh(f"truncate -s 4G {img} && mkfs.{fs} -q -f {img}")
            sh(f"mount -o loop,discard {img} {m}")
            self.mounted.append(m)
            if not os.path.exists(m + "/bare.bin"):
                os.makedirs(m + "/l0", exist_ok=True)
                sh(f"cp {d}/bigfile/l0/big.bin {m}/l0/big.bin && cp {d}/bigfile/bare.bin {m}/bare.bin && sync", timeout=300)
                people.give(m + "/l0")

    def stack(self, name, n):
        return [f"{self.data}/{name}/l{i}" for i in range(n)]
