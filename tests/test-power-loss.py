#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The power goes in the middle of the store's commands, or of what brings in order what a killed one has left, or while a
machine writes and its server commits: what was not synced is there in parts, or not at all (tests/disk_model.py). The
catalog is among the files. Then the versions must read as they did, and what was acknowledged must be there; the same
command, a start of the server, gc and fsck bring the rest in order.

make check takes what a seed (LABBOOT_SEED) chooses for a while; LABBOOT_LONG=1 all cuts, each more than once. A state that
failed is made again by LABBOOT_CUT with the words that name it."""
import collections
import os
import random
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import crash  # noqa: E402
from disk_model import Disk, cut_points, record  # noqa: E402
from lab import Lab  # noqa: E402
from machine_story import Machine  # noqa: E402
from store_stories import WAYS, Bench  # noqa: E402

LONG = os.environ.get("LABBOOT_LONG") == "1"
SEED = int(os.environ.get("LABBOOT_SEED", "1"))
ONE = os.environ.get("LABBOOT_CUT")
SECONDS = 20  # of a sample
TIMES = 2  # that each cut is taken with LABBOOT_LONG


class Command:
    """A story of one command."""

    def __init__(self, bench, story):
        self.bench, self.story = bench, story
        self.state, self.trace = f"{bench.lab.dir}/state", f"{bench.lab.dir}/trace"
        bench.restore(story.before)
        self.ops, _ = record(story.words, self.trace)

    def killed_before(self, disk, rng):
        """It is killed there, without a loss; the power goes while that is brought in order. Whether that had ended."""
        words = rng.choice((self.story.words, self.bench.command("gc")))
        disk.write_out(None, self.state)
        ops, status = record(words, self.trace, (0, 3, 4))
        at = rng.choice((len(ops), rng.choice(cut_points(ops))))
        for op in ops[:at]:
            disk.do(op)
        return at == len(ops) and status == 0 and words is self.story.words

    def cut(self, at, rng):
        """The power goes after so many calls."""
        self.bench.restore(self.story.before)
        disk = Disk(self.state)
        for op in self.ops[:at]:
            disk.do(op)
        acknowledged = at == len(self.ops)
        if rng.random() < 0.3:
            acknowledged |= self.killed_before(disk, rng)
        disk.write_out(rng, self.state)
        self.bench.check_after(self.story, acknowledged, rng.choice(WAYS))


def names(story, ops):
    return [f"{story}: {SEED}-{at}-{n}" for at in cut_points(ops) for n in range(TIMES)]


if not crash.can_trace():
    print("test-power-loss.py: skipped: strace cannot trace here")
    sys.exit(77)
tempfile.tempdir = crash.fast_folder()

with Lab({"access": {"check": "none"}, "server": {"threads": "1"}}) as lab:
    bench = Bench(lab)
    bench.make()
    stories = {story.name: Command(bench, story) for story in bench.stories()}
    machine = stories[Machine.name] = Machine(bench, random.Random(SEED))
    machine.make()
    machine.record()
    cuts = crash.in_turn([names(story, s.ops) for story, s in stories.items()], SEED)
    counts = collections.Counter()
    end = time.monotonic() + SECONDS
    for name in [ONE] if ONE else cuts:
        if not LONG and time.monotonic() > end:
            break
        story, _, cut = name.rpartition(": ")
        try:
            stories[story].cut(int(cut.split("-")[1]), random.Random(name))
        except Exception:
            print(f"LABBOOT_CUT='{name}' of {len(stories[story].ops)} calls", flush=True)
            raise
        counts[story] += 1
    for story in stories:
        print(f"{story}: {counts[story]}")
    print(f"ok - {sum(counts.values())} of {len(cuts)} states of the disk (seed {SEED})")
