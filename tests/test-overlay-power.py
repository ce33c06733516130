#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The power goes in the life of an overlay that is written to, flushed and compacted: what is left, by the model of what a
disk may lose (tests/disk_model.py), is the disk as it was after some request, none before the last flush; also when it is
opened, and cut off in that, and opened again.

make check takes what a seed (LABBOOT_SEED) chooses for a while; LABBOOT_LONG=1 all cuts of several lives."""
import os
import random
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import crash  # noqa: E402
from disk_model import Disk, cut_points, record  # noqa: E402

LONG = os.environ.get("LABBOOT_LONG") == "1"
SEED = int(os.environ.get("LABBOOT_SEED", "1"))
SECONDS = 15  # of a sample
LIVES = 16 if LONG else 4
REQUESTS = 300
LIFE = f"{os.path.dirname(os.environ['LABBOOT'])}/tests/overlay-life"


def said(ops, word):
    numbers = [int(op.arguments[1].split()[1]) for op in ops
               if op.call.partition(" ")[0] == "write" and op.arguments[1].startswith(word)]
    return numbers[-1] if numbers else 0


class Life:
    def __init__(self, seed, folder):
        self.seed, self.folder, self.trace = seed, f"{folder}/life", f"{folder}/trace"
        os.makedirs(self.folder)
        self.start()
        self.ops, _ = record([LIFE, "live", self.folder, str(seed), str(REQUESTS)], self.trace)
        # Before it was made there is nothing to lose.
        self.made = next(n for n, op in enumerate(self.ops) if op.call.partition(" ")[0] == "write") + 1

    def start(self):
        subprocess.run(["rm", "-rf", self.folder], check=True)
        os.makedirs(self.folder)

    def points(self):
        return [at for at in cut_points(self.ops) if at >= self.made]

    def check(self, flushed, did):
        words = [LIFE, "check", self.folder, str(self.seed), str(flushed), str(did)]
        r = crash.run(words)
        assert r.returncode == 0, f"{' '.join(words)}: {r.stdout}{r.stderr}"
        return words

    def cut(self, at, rng):
        self.start()
        disk = Disk(self.folder)
        for op in self.ops[:at]:
            disk.do(op)
        flushed, did = said(self.ops[:at], b"flushed"), said(self.ops[:at], b"did")
        disk.write_out(rng, self.folder)
        if rng.random() < 0.2:  # and again, while it is opened
            disk = Disk(self.folder)
            ops, _ = record([LIFE, "check", self.folder, str(self.seed), str(flushed), str(did)], self.trace)
            for op in ops[:rng.randint(0, len(ops))]:
                disk.do(op)
            disk.write_out(rng, self.folder)
        self.check(flushed, did)
        self.check(flushed, did)


if not crash.can_trace():
    print("test-overlay-power.py: skipped: strace cannot trace here")
    sys.exit(77)

with tempfile.TemporaryDirectory(dir=crash.fast_folder()) as tmp:
    lives = [Life(SEED * 1000 + n, f"{tmp}/{n}") for n in range(LIVES)]
    assert all(sum(op.call.startswith("rename") for op in life.ops) > 2 for life in lives[:3]), "they were compacted"
    points = crash.in_turn([[(life, at) for at in life.points()] for life in lives], SEED)
    end, tried = time.monotonic() + SECONDS, 0
    for life, at in points:
        if not LONG and time.monotonic() > end:
            break
        try:
            life.cut(at, random.Random(f"{life.seed}-{at}"))
        except Exception:
            print(f"life {life.seed}, cut after {at} of {len(life.ops)} calls", flush=True)
            raise
        tried += 1
    print(f"ok - {tried} of {len(points)} states of the disk (seed {SEED})")
