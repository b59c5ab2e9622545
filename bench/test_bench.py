"""Tests of the tools that need neither root nor mounts: python3 -m unittest discover -s bench"""
import os, signal, subprocess, sys, tempfile, tomllib, types, unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import counting, mounts, opcount, run, tables

ALL = mounts.contenders(mounts.HERE + "/contenders.toml", everything=True)
with open(mounts.HERE + "/limits.toml", "rb") as file:
    LIMITS = tomllib.load(file)


class Row:
    """what a work measured"""

    def __init__(self, **out):
        self.out, self.tcpu, self.dcpu, self.info = out, {}, {}, {}


def results(**samples):
    res = run.empty()
    res["contenders"] = list(samples)
    res["samples"] = {name.replace("_", "-"): figures for name, figures in samples.items()}
    return res


class Contenders(unittest.TestCase):
    def test_each_has_a_name_of_its_own_and_peers_stand_on_both_sides(self):
        self.assertEqual(len(ALL), len({c["name"] for c in ALL}))
        for user in (False, True):
            self.assertEqual(4, len([c for c in ALL if c.get("peer") and c.get("user", False) == user]))

    def test_an_unknown_one_is_refused(self):
        with self.assertRaises(SystemExit):
            mounts.contenders(mounts.HERE + "/contenders.toml", "ext5")

    def test_branches_are_put_into_commands(self):
        with tempfile.TemporaryDirectory() as base:
            m = mounts.Mount(None, {"kind": "exec"}, ["/a/l0", "/a/l1"], base, stack="/a")
            self.assertEqual(f"{base}/upper=rw:/a/l0=ro:/a/l1=ro", m.subst("{br|=rw|=ro|:}"))
            self.assertEqual("l0:l1 /a/l0:/a/l1", m.subst("{lower_rel} {lower}"))

    def test_a_server_is_killed_by_its_number_only_while_it_is_the_same_process(self):
        with tempfile.TemporaryDirectory() as at:
            servers = [subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in range(2)]
            with open(at + "/servers", "w") as file:
                file.write(f"{servers[0].pid} {mounts.start_time(servers[0].pid)}\n{servers[1].pid} 1\n")
            mounts.end_servers(at + "/servers")
            self.assertEqual(-signal.SIGKILL, servers[0].wait(timeout=5))
            self.assertIsNone(servers[1].poll())
            servers[1].kill()
            servers[1].wait()


class Rounds(unittest.TestCase):
    one, two = {"name": "fo", "peer": True}, {"name": "unionfs", "peer": True}
    plywood = {"name": "plywood"}

    def setUp(self):
        self.res = run.empty()
        self.res["groups"] = {False: ["fo", "unionfs"]}

    def take(self, **times):
        known = {c["name"]: c for c in (self.one, self.two, self.plywood)}
        run.take(self.res, "a1", [(known[name], Row(**{"a.cold": t, "a.warm": t / 10}), None, t) for name, t in times.items()])

    def rounds(self):
        return run.rounds(self.res, "a1", [self.one, self.two, self.plywood], 2.5)

    def test_samples_of_several_runs_are_put_together(self):
        self.take(plywood=1.0, fo=2.0, unionfs=3.0)
        self.take(plywood=1.5, fo=2.5, unionfs=3.5)
        self.assertEqual([1.0, 1.5], self.res["samples"]["plywood"]["a.cold"])
        self.assertEqual(2, self.rounds())

    def test_a_round_counts_when_all_have_it(self):
        self.take(plywood=1.0, fo=2.0)
        self.assertEqual(0, self.rounds())

    def test_a_peer_far_behind_in_every_figure_has_one_round_only(self):
        self.take(plywood=1.0, fo=2.0, unionfs=6.0)
        self.take(plywood=1.0, fo=2.0)
        self.assertEqual(2, self.rounds())
        self.assertTrue(run.hopeless(self.res, self.two, "a1", 2.5))
        self.assertFalse(run.hopeless(self.res, self.one, "a1", 2.5))
        self.assertFalse(run.hopeless(self.res, self.two, "a1", 0))

    def test_a_peer_ahead_in_one_figure_goes_on(self):
        self.take(plywood=1.0, fo=2.0, unionfs=6.0)
        self.res["samples"]["unionfs"]["a.warm"] = [0.1]
        self.assertFalse(run.hopeless(self.res, self.two, "a1", 2.5))

    def test_a_failure_is_told_until_the_work_succeeds(self):
        run.take(self.res, "a1", [(self.plywood, Row(), "wrong result", 1)])
        self.assertEqual({"plywood a1": "wrong result"}, self.res["fail"])
        self.take(plywood=1.0)
        self.assertEqual({}, self.res["fail"])

    def test_works_are_left_out_by_the_beginning_of_their_names(self):
        self.assertEqual("no", run.skipped({"skip": {"f": "no"}}, "fxfs"))
        self.assertIsNone(run.skipped({"skip": {"f": "no"}}, "a1"))


class Judging(unittest.TestCase):
    def missed(self, row, mine, overlay, best):
        return [what for what, *_ in tables.missed(tables.judged(row, mine, overlay, best, 1.05))]

    def test_a_figure_is_held_against_overlayfs_and_the_best_peer(self):
        for row, mine, overlay, best, expected in [
            ({"overlay": 1.2}, 1.2, 1.0, 2.0, []),
            ({"overlay": 1.2}, 1.21, 1.0, 2.0, ["overlayfs"]),
            ({"overlay": 3.0}, 2.5, 1.0, 2.0, ["best peer"]),
            # beside a peer that is ahead of overlayfs is enough
            ({"overlay": 1.1}, 0.82, 1.0, 0.8, []),
            ({"overlay": 1.1}, 0.9, 1.0, 0.8, ["best peer"]),
            ({"overlay": 1.0, "peer": False}, 0.9, 1.0, 0.1, []),
            ({"MiB": 12}, 13 * 1024, None, 20 * 1024, ["limit"]),
            ({"overlay": 1.2}, None, 1.0, 2.0, []),
        ]:
            self.assertEqual(expected, self.missed(row, mine, overlay, best), (row, mine, overlay, best))

    def test_figures_have_units(self):
        for metric, value, expected in [("a.find1.cold", 1.234, "1.23 s"), ("a", 0.0021, "2.1 ms"), ("e", 7e-7, "700 ns"),
                                        ("p.rss", 2048, "2 MiB"), ("p.rss", 250.0, "250 KiB"), ("a", None, "–")]:
            self.assertEqual(expected, tables.shown(metric, value))

    def test_limits_name_rows_that_works_measure(self):
        source = mounts.text_of(mounts.HERE + "/works.py")
        for metric in LIMITS["rows"]:
            if metric.startswith(("b.", "c.", "d.", "h.", "j.", "k.")):
                self.assertIn(f'"{metric}"', source)
        with tempfile.TemporaryDirectory() as at:
            with open(at + "/dirs.list", "w") as file:
                file.write("t00/d00\nt00/d01\n")
            env, mount = types.SimpleNamespace(fb="fsbench", data=at, run=at), types.SimpleNamespace(mnt="/nowhere")
            named = {name for name, *_ in opcount.operations(env, mount)}
        self.assertLessEqual(set(LIMITS["counts"]), named)

    def test_the_document_marks_what_missed_and_keeps_what_people_wrote(self):
        res = results(overlay={"b.tar": [1.0], "c.rm": [1.0]}, plywood={"b.tar": [4.0], "c.rm": [1.5]},
                      **{"fo-2.0.0": {"b.tar": [6.0], "c.rm": [3.0]}})
        part = tables.generated(res, {}, LIMITS, ALL)
        self.assertIn("| untar 20,000 small files | 1 s | 6 s (fo-2.0.0) | 4 s | **4.00 (≤ 3)** | 0.67 (≤ 1) |", part)
        self.assertIn("| rm -rf of a lower tree | 1 s | 3 s (fo-2.0.0) | 1.5 s | 1.50 (≤ 2) | 0.50 (≤ 1) |", part)
        self.assertIn("- untar 20,000 small files: 4.00 × overlayfs, at most 3", part)
        text = tables.inserted(f"before\n{tables.BEGIN}\nof yesterday\n{tables.END}\nafter\n", part)
        self.assertTrue(text.startswith("before\n") and text.endswith("after\n") and "yesterday" not in text)
        self.assertEqual(text, tables.inserted(text, part))
        self.assertIsNone(tables.inserted("no markers", part))


class Counts(unittest.TestCase):
    def test_requests_are_counted_by_kind_also_those_known_by_their_end_only(self):
        line = "x-1 [000] ...1. 1.0: fuse_request_"
        self.assertEqual({"LOOKUP": 2, "99": 1, "background": 1}, counting.counted([
            line + "send: connection 57 req 2 opcode 1 (FUSE_LOOKUP) len 56",
            line + "send: connection 57 req 4 opcode 1 (FUSE_LOOKUP) len 56",
            line + "send: connection 57 req 6 opcode 99 (99) len 56",
            line + "end: connection 57 req 2 len 56 error 0",
            line + "end: connection 57 req 8 len 56 error 0",
        ]))

    def test_reads_that_found_nothing_and_waiting_are_no_work(self):
        calls = counting.summed(["% time     seconds  usecs/call     calls    errors syscall",
                                 "------ ----------- ----------- --------- --------- ----------------",
                                 " 60.00    0.000060          30        12         2 read",
                                 " 20.00    0.000010           1        10           writev",
                                 " 20.00    0.000010           1         7         3 statx",
                                 "  0.00    0.000000           0        50           futex",
                                 "100.00    0.000080           5        79         5 total"])
        self.assertEqual({"read": 10, "read (nothing)": 2, "writev": 10, "statx": 7, "futex": 50}, calls)
        self.assertEqual(7, counting.work_of(calls))
        self.assertEqual(20, counting.transport_of(calls))

    def test_one_call_more_in_an_operation_is_above_its_limit(self):
        for value, number in [(1.4, 3000), (2.0, 1000), (15.0, 200), (28.2, 100)]:
            for kind in ("requests", "calls"):
                limit = opcount.margin(kind, value, number)
                self.assertEqual([], opcount.above({"op": {kind: value * 1.01}}, {"op": {kind: limit}}))
                self.assertEqual(1, len(opcount.above({"op": {kind: value + 1}}, {"op": {kind: limit}})))

    def test_what_has_no_limit_fails(self):
        self.assertEqual(1, len(opcount.above({"op": {"calls": 1.0}}, {})))

    def test_limits_are_written_as_they_are_read(self):
        limits = {"plywood": {"transport": {"calls": 2.2}, "walk (cold)": {"requests": 0.05, "calls": 1.5}}}
        self.assertEqual(limits, tomllib.loads(opcount.written(limits)))

    def test_the_least_of_several_passes_counts(self):
        self.assertEqual({"op": {"calls": 1.0, "requests": 2.0}},
                         opcount.least([{"op": {"calls": 1.0, "requests": 3.0}}, {"op": {"calls": 4.0, "requests": 2.0}}]))


if __name__ == "__main__":
    unittest.main()
