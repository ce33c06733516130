#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The store's commands die, or its disk fails, at each call by which they change a file. At once after that every version
that there is reads as it must; then the same command, gc and fsck bring everything in order: no half version, no lost
overlay, no rubbish.

All points take minutes: make check takes those that a seed (LABBOOT_SEED) chooses for a while; LABBOOT_LONG=1 all."""
import collections
import os
import random
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import crash  # noqa: E402
from lab import Lab  # noqa: E402
from store_stories import Bench  # noqa: E402

LONG = os.environ.get("LABBOOT_LONG") == "1"
SEED = int(os.environ.get("LABBOOT_SEED", "1"))
SECONDS = 20  # of a sample


def cut_off(bench, story, fault, call, n):
    bench.restore(story.before)
    r = crash.inject(story.words, fault, call, n)
    assert "BUG" not in r.stderr, r.stderr
    lines = [line for line in r.stderr.splitlines() if "warning:" not in line]
    assert fault == "killed" or len(lines) <= 1, r.stderr
    bench.check_after(story, r.returncode == 0)


if not crash.can_trace():
    print("test-crash-store.py: skipped: strace cannot trace here")
    sys.exit(77)

with Lab({"access": {"check": "none"}}) as lab:
    bench = Bench(lab)
    bench.make()
    counts = collections.Counter()
    points = []
    for story in bench.stories():
        bench.restore(story.before)
        points += [(story, fault, *point) for point in crash.points(story.words, f"{lab.dir}/trace")
                   for fault in crash.FAULTS]
    random.Random(SEED).shuffle(points)
    end = time.monotonic() + SECONDS
    for story, fault, call, n in points:
        if not LONG and time.monotonic() > end:
            break
        try:
            cut_off(bench, story, fault, call, n)
            counts[story.name, fault] += 1
        except Exception:
            print(f"{story.name}: {fault} at {call} number {n} (LABBOOT_SEED={SEED})", flush=True)
            raise
    for story in bench.stories():
        tried = {fault: counts[story.name, fault] for fault in crash.FAULTS}
        print(f"{story.name}: " + ", ".join(f"{count} {fault}" for fault, count in tried.items()))
    print(f"ok - {sum(counts.values())} of {len(points)} points (seed {SEED})")
