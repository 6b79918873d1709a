"""The bench for a moment, with what every machine has: echo, roofline, relay, flock(2) and portalock. Every figure must be there and sane; none is judged."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

import bench
import report
import runs
import scenarios
import targets

BARE = ("echo", "roofline", "portalock by path", "portalock by descriptor", "flock(2)")


def row(scenario, who, **figures):
    return {"scenario": scenario, "who": who, **{k: runs.spread(v) for k, v in figures.items()}}


class Smoke(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory(prefix="portalock-smoke-") as folder:
            bench.main([os.environ["BUILD_DIR"], folder, "--quick", "--bare", "--rounds", "1", "--seconds", "0.03"])
            with open(os.path.join(folder, "results.json"), encoding="utf-8") as f:
                cls.data = json.load(f)
            with open(os.path.join(folder, "results.md"), encoding="utf-8") as f:
                cls.text = f.read()
            cls.plots = {name: os.path.getsize(os.path.join(folder, f"{name}.svg")) for name in cls.data["plots"]}
            cls.readme = subprocess.run([sys.executable, bench.__file__, "--readme", folder], check=True, capture_output=True, text=True).stdout
        cls.rows = {(r["scenario"], r["who"]): r for r in cls.data["rows"]}

    def figure(self, scenario, who, name):
        self.assertIn(name, self.rows.get((scenario, who), {}), f"{scenario}, {who}")
        v = self.rows[scenario, who][name]
        self.assertEqual(len(v["rounds"]), 1)
        self.assertTrue(v["min"] <= v["median"] <= v["max"])
        return v["median"]

    def ordered(self, scenario, who):
        values = [self.figure(scenario, who, name) for name in ("p50_us", "p99_us", "p999_us") if name in self.rows[scenario, who]]
        self.assertGreater(values[0], 0, f"{scenario}, {who}")
        self.assertEqual(values, sorted(values), f"{scenario}, {who}")

    def test_every_scenario_was_measured(self):
        self.assertEqual(list(self.data["took_s"]), list(scenarios.ALL))
        self.assertEqual({r["scenario"] for r in self.data["rows"]} - EXPECTED, set())

    def test_pairs(self):
        for scenario in ("pairs, 1 client, same CPU", "pairs, 8 clients", "pairs, 64 clients"):
            for who in BARE:
                self.assertGreater(self.figure(scenario, who, "per_s"), 0)
                self.ordered(scenario, who)
                if who != "flock(2)":
                    self.assertGreater(self.figure(scenario, who, "server_us"), 0.1)
        for scenario in ("16 pipelined, 1 client, same CPU", "16 pipelined, 8 clients", "16 pipelined, 64 clients"):
            for who in BARE[:-1]:
                self.assertAlmostEqual(self.figure(scenario, who, "requests_s"), 2 * self.figure(scenario, who, "per_s"))

    def test_hand_over(self):
        for scenario in ("hand-over, 2 clients, same CPU", "hand-over, 2 clients", "hand-over, 8 wait", "hand-over, 64 wait"):
            for who in BARE[1:]:
                self.ordered(scenario, who)
        for scenario in ("outsider's release, same CPU", "outsider's release"):
            for who in ("flock(2)", "relay", *BARE[2:4]):
                self.ordered(scenario, who)

    def test_fairness(self):
        for who in BARE[1:]:
            self.assertTrue(1 / 8 <= self.figure("8 contenders that hold 1 ms", who, "jain") <= 1)
            self.assertLessEqual(self.figure("8 contenders that hold 1 ms", who, "per_s"), 1200, "two have held it at once")
        for who in BARE[2:]:
            self.assertGreaterEqual(self.figure("writer among 8 readers", who, "hold_us"), 1000)
            self.assertGreaterEqual(self.figure("writer among 8 readers", who, "max_holds"), self.figure("writer among 8 readers", who, "p50_holds"))
        for who in BARE[2:4]:
            self.assertGreater(self.figure("writer among 8 readers", who, "done"), 0)

    def test_commands(self):
        for who in ("true", "flock F true", "lockctl run F true"):
            self.assertGreater(self.figure("whole commands", who, "each_ms"), 0.05)
        self.assertGreater(self.figure("50 x 20 commands on one lock", "lockctl run F true", "wall_ms"), 1)

    def test_it_can_be_read(self):
        for t in targets.ALL:
            self.assertIn(t.what, self.text)
        measured = {t["what"] for t in self.data["targets"] if t["measured"]}
        self.assertIn("server CPU per pair by path : two echo round trips", measured)
        self.assertNotIn("pairs/s by path, 8 clients : PostgreSQL", measured)
        self.assertIn("| lock + unlock, pairs/s, 1 client, one CPU |", self.readme)
        self.assertTrue(all(size > 1000 for size in self.plots.values()), self.plots)


EXPECTED = {
    *(f"{what}, {n}" for what in ("pairs", "16 pipelined") for n in ("1 client, same CPU", "8 clients", "64 clients")),
    *(f"hand-over, {n}" for n in ("2 clients, same CPU", "2 clients", "8 wait", "64 wait", "the kernel's lock (strace)")),
    "outsider's release, same CPU",
    "outsider's release",
    "8 contenders that hold 1 ms",
    "writer among 8 readers",
    "whole commands",
    "50 x 20 commands on one lock",
}


class Judging(unittest.TestCase):
    """With figures that are made up."""

    def judge(self, what, *rows):
        return next(t for t in targets.judge(list(rows)) if t["what"] == what)

    def test_a_ratio_is_taken_round_by_round(self):
        ours = row(targets.ONE, targets.PATH, per_s=[100, 10, 300])
        theirs = row(targets.ONE, "Redis SET NX", per_s=[100, 5, 100])
        t = self.judge("pairs/s by path, 1 client, same CPU : Redis SET NX + compare-and-delete", ours, theirs)
        self.assertEqual((t["measured"], t["met"]), ({"median": 2, "min": 1, "max": 3}, True))

    def test_the_best_peer_of_each_round_counts(self):
        what = "pairs/s by path, 1 client, same CPU : the best of Redis and PostgreSQL"
        rows = [row(targets.ONE, who, per_s=v) for who, v in ((targets.PATH, [10, 10, 10]), ("Redis SET NX", [5, 20, 5]), ("PostgreSQL", [20, 5, 5]))]
        self.assertEqual(self.judge(what, *rows)["measured"]["median"], 0.5)
        self.assertFalse(self.judge(what, *rows)["met"])
        self.assertIsNone(self.judge(what, *rows[:2])["met"])

    def test_less_is_met_from_below_and_more_from_above(self):
        what = "`lockctl run F true`, wall : `flock F true`"
        rows = lambda ours: [row("whole commands", "lockctl run F true", each_ms=[ours]), row("whole commands", "flock F true", each_ms=[2.0])]
        self.assertTrue(self.judge(what, *rows(2.0))["met"])
        self.assertFalse(self.judge(what, *rows(2.1))["met"])

    def test_of_some_the_worst_counts(self):
        rows = [{"scenario": f"{n} locks held, own files", "who": "portalock", "of_empty": {"median": v, "min": v, "max": v}} for n, v in (("1,000", 1.0), ("10,000", 1.0), ("100,000", 1.4))]
        self.assertFalse(self.judge("server CPU per pair with up to 100,000 locks held : empty daemon", *rows)["met"])
        self.assertTrue(self.judge("server CPU per pair with up to 100,000 locks held : empty daemon", *rows[:2])["met"])

    def test_a_lock_that_is_handed_over_without_a_release_is_seen(self):
        released = ["7 flock(5, LOCK_EX|LOCK_NB) = 0", "7 flock(5, LOCK_UN <unfinished ...>", "8 flock(6, LOCK_EX <unfinished ...>", "7 <... flock resumed>) = 0", "8 <... flock resumed>) = 0"]
        kept = ["7 flock(5, LOCK_EX|LOCK_NB) = 0", "7 flock(5, LOCK_EX|LOCK_NB) = -1 EAGAIN (Resource temporarily unavailable)", "7 flock(6, LOCK_EX|LOCK_NB) = 0"]
        self.assertEqual(runs.kernel_counts(released), {"kernel_locks": 2, "kernel_unlocks": 1, "not_released": 0})
        self.assertEqual(runs.kernel_counts(kept), {"kernel_locks": 2, "kernel_unlocks": 0, "not_released": 1})

    def test_the_rows_of_the_scale_are_shown_together(self):
        one = lambda v: {"median": v, "min": v, "max": v}
        rows = [{"scenario": "10 locks", "who": report.SCALE, "of_empty": one(1.1)}, {"scenario": "a death", "who": report.SCALE, "others_max_ms": one(2.0), "odd_thing": one(3.0)}]
        costs, felt = report.scale_tables(rows)
        self.assertIn("| 10 locks | 1.10 |", costs)
        self.assertIn("| what | others: longest, ms | odd thing |", felt)
        self.assertIn("| a death | 2.00 | 3.00 |", felt)

    def test_one_that_was_not_measured_is_not_met(self):
        self.assertTrue(all(t["met"] is None for t in targets.judge([])))
        self.assertIn("not measured", report.target_table(targets.judge([])))


if __name__ == "__main__":
    unittest.main()
