#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Commands that die, or that the disk fails, at each call by which they change a file: strace kills them there (or lets
the call fail). Then the catalog is sound, the change is there with its event and its files or not at all, and the same
command works.

All points take minutes: make check takes those that a seed (LABBOOT_SEED) chooses for a while; LABBOOT_LONG=1 all."""
import collections
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import crash  # noqa: E402
from lab import LABBOOT, Lab  # noqa: E402

LONG = os.environ.get("LABBOOT_LONG") == "1"
SEED = int(os.environ.get("LABBOOT_SEED", "1"))
SECONDS = 15  # of a sample
WORKER = os.path.join(os.environ.get("LABBOOT_LIBEXECDIR", "."), "tests/catalog-worker")


def one(db, sql):
    return db.execute(sql).fetchone()[0]


def row_and_event(rows, what):
    """Done when the row is there; the event has to agree."""
    def done(lab, db):
        made = one(db, f"SELECT count(*) FROM {rows}")
        told = one(db, f"SELECT count(*) FROM event WHERE what = '{what}' AND id > {lab.last_event}")
        assert made == told, f"{made} rows, {told} events {what}"
        return made
    return done


def machine_added(lab, db):
    made = row_and_event("machine WHERE name = 'new'", "machine-added")(lab, db)
    assert one(db, "SELECT count(*) FROM machine_mac WHERE mac = '52:54:00:00:00:77'") == made
    return made


def setup_created(lab, db):
    made = row_and_event("setup WHERE name = 'new'", "setup-created")(lab, db)
    assert one(db, "SELECT count(*) FROM setup_image JOIN setup ON uuid = setup WHERE name = 'new'") == made
    return made


def image_imported(lab, db):
    made = row_and_event("version v JOIN image i ON i.uuid = v.image WHERE i.name = 'new'", "image-created")(lab, db)
    assert one(db, "SELECT count(*) FROM image WHERE name = 'new'") == made, "an image without its version"
    if made:
        with open(f"{lab.dir}/small.raw", "rb") as f:
            r = subprocess.run([LABBOOT, "--config", lab.conf, "image", "export", "new", "-"], capture_output=True,
                               check=True, timeout=60)
            assert r.stdout == f.read(), "the version is not what was imported"
    return made


def boot_lived(lab, db):
    """Its state tells which events there have to be; from its lease on it has its images."""
    state, = db.execute("SELECT state FROM boot WHERE id = 1").fetchone()
    states = ["queued", "leased", "running", "discarded"]
    told = [w for w, in db.execute("SELECT what FROM event WHERE object = 'boot 1' ORDER BY id")]
    assert told == [f"boot-{s}" for s in states[:states.index(state) + 1]], (state, told)
    assert one(db, "SELECT count(*) FROM boot_image WHERE boot = 1") == (state != "queued")
    return states.index(state)


# done(lab, db): how often, or how far, it was done.
Story = collections.namedtuple("Story", "name words done")


def stories(lab):
    command = [LABBOOT, "--config", lab.conf]
    return [
        Story("machine add", command + ["machine", "add", "52:54:00:00:00:77", "--name", "new"], machine_added),
        Story("boot queue", command + ["boot", "queue", "lab-1", "disk"],
              row_and_event("boot WHERE id > 1", "boot-queued")),
        Story("setup create", command + ["setup", "create", "new", "--owner", "alice", "--image", "disk"], setup_created),
        Story("image import", command + ["image", "import", "new", f"{lab.dir}/small.raw", "--new", "--owner",
                                         "alice"],
              image_imported),
        Story("boot", [WORKER, f"{lab.dir}/state/catalog.db", "boot", "1", "1", "lab-1"], boot_lived),
    ]


class Crashes:
    def __init__(self, lab):
        self.lab, self.hits, self.done, self.undone = lab, 0, 0, 0

    def restore(self):
        for d in ("state", "run"):
            shutil.rmtree(f"{self.lab.dir}/{d}", ignore_errors=True)
        shutil.copytree(f"{self.lab.dir}/before", f"{self.lab.dir}/state")

    def points(self, story):
        self.restore()
        return crash.points(story.words, f"{self.lab.dir}/trace")

    def look(self, story):
        """How often it was done, by a copy of the catalog that nobody has open."""
        copy = f"{self.lab.dir}/copy"
        shutil.rmtree(copy, ignore_errors=True)
        os.mkdir(copy)
        for suffix in ("", "-wal"):
            if os.path.exists(f"{self.lab.dir}/state/catalog.db{suffix}"):
                shutil.copy(f"{self.lab.dir}/state/catalog.db{suffix}", f"{copy}/catalog.db{suffix}")
        db = sqlite3.connect(f"{copy}/catalog.db")
        try:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert db.execute("PRAGMA foreign_key_check").fetchall() == []
            return story.done(self.lab, db)
        finally:
            db.close()

    def crash(self, story, fault, call, n):
        self.restore()
        r = crash.inject(story.words, fault, call, n)
        done = self.look(story)
        assert r.returncode != 0 or done, f"it said that it was done: {r.stdout} {r.stderr}"
        # One clear line. What comes after the change (a script that could not be written) is a warning.
        lines = [line for line in r.stderr.splitlines() if "warning:" not in line]
        assert fault == "killed" or len(lines) <= 1 or story.name == "boot", r.stderr
        assert "BUG" not in r.stderr
        again = crash.run(story.words)
        # It was done already: refused by the state that it left.
        assert again.returncode == 0 or done and again.returncode in (3, 4), f"again: {again.stderr}"
        assert self.look(story) >= max(done, 1), f"it works no more: {again.stderr}"
        self.hits += 1
        self.done += bool(done)
        self.undone += not done


def all_points(crashes, lab):
    return [(story, fault, *point) for story in stories(lab) for point in crashes.points(story) for fault in crash.FAULTS]


if not crash.can_trace():
    print("test-crash-points.py: skipped: strace cannot trace here")
    sys.exit(77)

with Lab() as lab:
    lab.machine(1)
    lab.image("disk", lab.ext4(4))
    lab.file("small.raw", 1 << 20, random.Random(1).randbytes(200000))
    lab.run("setup", "create", "disk", "--owner", "alice", "--image", "disk")
    lab.run("boot", "queue", "lab-1", "disk")
    lab.last_event = one(sqlite3.connect(f"{lab.dir}/state/catalog.db"), "SELECT max(id) FROM event")
    shutil.copytree(f"{lab.dir}/state", f"{lab.dir}/before")
    crashes = Crashes(lab)
    points = all_points(crashes, lab)
    random.Random(SEED).shuffle(points)
    end = time.monotonic() + SECONDS
    for story, fault, call, n in points:
        if not LONG and time.monotonic() > end:
            break
        try:
            crashes.crash(story, fault, call, n)
        except Exception:
            print(f"{story.name}: {fault} at {call} number {n}", flush=True)
            raise
    print(f"ok - {crashes.hits} of {len(points)} points (seed {SEED}); then {crashes.done} were done, {crashes.undone} not")
