#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The store's commands, and a server to which a machine writes, die, or their disk fails, at each call by which they change a
file. At once after that every version that there is reads as it must; then the same command, a start of the server, gc and
fsck bring everything in order: no half version, no lost overlay, no rubbish.

All points take minutes: make check takes those that a seed (LABBOOT_SEED) chooses for a while; LABBOOT_LONG=1 all. A point
that failed is taken again by LABBOOT_POINT with the words that name it."""
import collections
import os
import random
import shutil
import sqlite3
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import crash  # noqa: E402
from lab import Lab  # noqa: E402
from machine_story import Machine  # noqa: E402
from store_stories import WAYS, Bench  # noqa: E402

LONG = os.environ.get("LABBOOT_LONG") == "1"
SEED = int(os.environ.get("LABBOOT_SEED", "1"))
ONE = os.environ.get("LABBOOT_POINT")
SECONDS = 20  # of a sample


class Beside:
    """Another program that has the catalog open, as the server has, and is killed after the command: what SQLite then finds
    in the log of writes counts, also what a command has written there, and then failed over."""

    def __init__(self, state):
        self.path = f"{state}/catalog.db"
        self.db = sqlite3.connect(self.path, isolation_level=None)
        self.db.execute("SELECT count(*) FROM image").fetchone()

    def kill(self):
        for suffix in ("", "-wal"):
            shutil.copy(self.path + suffix, f"{self.path}{suffix}.kept")
        self.db.close()
        for suffix in ("", "-wal"):
            os.replace(f"{self.path}{suffix}.kept", self.path + suffix)
        if os.path.exists(f"{self.path}-shm"):
            os.unlink(f"{self.path}-shm")


class Command:
    """A story of one command."""

    def __init__(self, bench, story):
        self.bench, self.story = bench, story

    def points(self):
        self.bench.restore(self.story.before)
        return crash.points(self.story.words, f"{self.bench.lab.dir}/trace")

    def cut_off(self, fault, call, n, rng):
        self.bench.restore(self.story.before)
        beside = Beside(f"{self.bench.lab.dir}/state") if rng.random() < 0.5 else None
        r = crash.inject(self.story.words, fault, call, n)
        if beside:
            beside.kill()
        assert "BUG" not in r.stderr, r.stderr
        lines = [line for line in r.stderr.splitlines() if "warning:" not in line]
        assert fault == "killed" or len(lines) <= 1, r.stderr
        self.bench.check_after(self.story, r.returncode == 0, rng.choice(WAYS))


def names(story, points):
    return [f"{story}: {fault} {call} {n}" for call, n in points for fault in crash.FAULTS]


if not crash.can_trace():
    print("test-crash-store.py: skipped: strace cannot trace here")
    sys.exit(77)
tempfile.tempdir = crash.fast_folder()

with Lab({"access": {"check": "none"}, "server": {"threads": "1"}}) as lab:
    bench = Bench(lab)
    bench.make()
    stories = {story.name: Command(bench, story) for story in bench.stories()}
    machine = stories[Machine.name] = Machine(bench, random.Random(SEED))
    machine.make()
    points = crash.in_turn([names(name, story.points()) for name, story in stories.items()], SEED)
    counts = collections.Counter()
    end = time.monotonic() + SECONDS
    for name in [ONE] if ONE else points:
        if not LONG and time.monotonic() > end:
            break
        story, _, point = name.rpartition(": ")
        fault, call, n = point.split()
        try:
            stories[story].cut_off(fault, call, int(n), random.Random(name))
        except Exception:
            print(f"LABBOOT_POINT='{name}'", flush=True)
            raise
        counts[story, fault] += 1
    for story in stories:
        print(f"{story}: " + ", ".join(f"{counts[story, fault]} {fault}" for fault in crash.FAULTS))
    print(f"ok - {sum(counts.values())} of {len(points)} points (seed {SEED})")
