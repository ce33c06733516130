#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Many processes that change one catalog at the same time: nothing is lost, nothing is done twice, nobody is told that
the database is locked, and nobody waits for long."""
import collections
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lab import LABBOOT, SLOWNESS, Lab  # noqa: E402

# What nobody should wait for, on a machine that does other things too: one change of the catalog, and one command, which
# renders scripts besides.
CHANGE_SECONDS, COMMAND_SECONDS = 2 * SLOWNESS, 10 * SLOWNESS
WAL_MAX = 40 << 20  # what one reader that never ends would make it grow beyond
COUNT = 200
MACHINES = 4
BLOCK = 4096
WORKER = os.path.join(os.environ.get("LABBOOT_LIBEXECDIR", "."), "tests/catalog-worker")


class Task(threading.Thread):
    """Calls run() in a thread, and keeps what went wrong and how long its slowest step took."""

    def __init__(self, run):
        super().__init__()
        self.action, self.failure, self.made, self.slowest = run, None, [], 0.0

    def run(self):
        try:
            self.action(self)
        except Exception as e:  # all of it is shown in the end
            self.failure = e

    def step(self, call, *args):
        began = time.monotonic()
        result = call(*args)
        self.slowest = max(self.slowest, time.monotonic() - began)
        return result


def worker(lab, work, seed, *word):
    """A process of its own that does `work` COUNT times."""
    def run(task):
        r = subprocess.run([WORKER, f"{lab.dir}/state/catalog.db", work, str(COUNT), str(seed), *word],
                           capture_output=True, text=True, timeout=120)
        assert r.returncode == 0, f"{work}: {r.stderr}"
        task.made = r.stdout.split()
        task.slowest = float(r.stderr.split()[1]) / 1000
    return Task(run)


def commands(lab, rounds):
    """A process after another, as an admin's script would start them."""
    def run(task):
        for n in range(rounds):
            task.step(lab.run, "machine", "add", f"52:54:00:00:01:{n:02x}", "--name", f"new-{n}", "--unmanaged")
            setup = task.step(lab.run, "setup", "create", f"setup-{n}", "--owner", "alice", "--image", "disk")
            task.step(lab.run, "boot", "queue", f"lab-{1 + n % MACHINES}", setup)
            assert len(task.step(lab.json, "machine", "list")) >= MACHINES
            task.made.append(setup)
    return Task(run)


def machine(lab, n, mac, rounds):
    """A machine that boots, writes, and is ended, again and again."""
    def boot_once(n):
        with lab.nbd(mac) as h:
            h.pread(BLOCK, 0)
            h.pwrite(bytes([n]) * BLOCK, BLOCK)
            assert h.pread(BLOCK, BLOCK) == bytes([n]) * BLOCK

    def run(task):
        for _ in range(rounds):
            task.made.append(task.step(lab.run, "boot", "queue", f"lab-{n}", "disk"))
            task.step(boot_once, n)
            task.step(lab.run, "boot", "end", f"lab-{n}")
    return Task(run)


@contextlib.contextmanager
def watchers(lab):
    """Commands that read for as long as they live."""
    started = [subprocess.Popen([LABBOOT, "--config", lab.conf, *words], stdout=subprocess.DEVNULL)
               for words in (["status", "--watch"], ["log", "--follow"])]
    try:
        yield
        assert all(p.poll() is None for p in started), "somebody who watched was sent away"
    finally:
        for p in started:
            p.terminate()
            p.wait()


def ask(db, sql):
    return [row[0] if len(row) == 1 else row for row in db.execute(sql)]


def check_boots(db, queued):
    """Every boot that somebody was told of is there, once, and was leased at most once."""
    assert len(queued) == len(set(queued)), "two got the same boot"
    assert set(queued) == set(ask(db, "SELECT CAST(id AS TEXT) FROM boot WHERE origin = 'queue'"))
    told = collections.Counter(ask(db, "SELECT what FROM event WHERE what GLOB 'boot-*'"))
    states = collections.Counter(ask(db, "SELECT state FROM boot"))
    assert told["boot-queued"] == len(queued) == sum(states.values()), (told, states)
    assert told["boot-leased"] == told["boot-discarded"] == states["discarded"], (told, states)
    twice = ask(db, "SELECT object FROM event WHERE what = 'boot-leased' GROUP BY object HAVING count(*) > 1")
    assert not twice, f"leased twice: {twice}"
    assert set(states) <= {"queued", "discarded"}, states


def check_versions(db, made):
    """No number was given twice, each has its parent, and the image knows the last one."""
    image, = ask(db, "SELECT uuid FROM image WHERE name = 'published'")
    numbers = ask(db, f"SELECT number FROM version WHERE image = '{image}' ORDER BY number")
    parents = ask(db, f"SELECT parent FROM version WHERE image = '{image}' ORDER BY number")
    assert parents == [None] + numbers[:-1], "two versions were made from the same one"
    assert sorted(made) == numbers[1:], "a version is lost"
    assert ask(db, f"SELECT head, last_version FROM image WHERE uuid = '{image}'") == [(numbers[-1], numbers[-1])]


with Lab() as lab:
    macs = [lab.machine(n) for n in range(1, MACHINES + 1)]
    lab.image("disk", lab.ext4(4))
    lab.image("published", f"{lab.dir}/root.img")
    lab.run("setup", "create", "disk", "--owner", "alice", "--image", "disk")
    lab.serve()
    queues = [worker(lab, "queue", seed, "disk") for seed in (1, 2)]
    publishers = [worker(lab, "publish", seed, "published") for seed in (3, 4)]
    users = [worker(lab, "user", 5, "bob")]
    leases = [worker(lab, "lease", seed) for seed in (6, 7)]
    shells = [commands(lab, 8)]
    machines = [machine(lab, n, mac, 6) for n, mac in enumerate(macs, 1)]
    tasks = queues + publishers + users + leases + shells + machines
    with watchers(lab):
        for t in tasks:
            t.start()
        for t in tasks:
            t.join()
    wal = os.path.getsize(f"{lab.dir}/state/catalog.db-wal")
    assert wal < WAL_MAX, f"the log of the catalog grew to {wal >> 20} MiB"
    failures = [str(t.failure) for t in tasks if t.failure]
    assert not failures, "\n".join(failures)
    assert lab.stop() == 0
    assert "locked" not in lab.log() and "labboot: error" not in lab.log()

    # sqlite3 of Python is another SQLite user of the file, now that nobody else is.
    shutil.copy(f"{lab.dir}/state/catalog.db", f"{lab.dir}/copy.db")
    db = sqlite3.connect(f"{lab.dir}/copy.db")
    assert ask(db, "PRAGMA integrity_check") == ["ok"] and ask(db, "PRAGMA foreign_key_check") == []
    own = [ids for t in queues + machines for ids in t.made]
    by_shell = ask(db, "SELECT CAST(id AS TEXT) FROM boot WHERE setup_name GLOB 'setup-*'")
    assert len(by_shell) == 8
    check_boots(db, own + by_shell)
    check_versions(db, [int(v) for t in publishers for v in t.made])
    assert ask(db, "SELECT count(*) FROM user WHERE username GLOB 'bob-*'") == [COUNT]
    assert ask(db, "SELECT count(*) FROM machine WHERE name GLOB 'new-*'") == [8]
    assert ask(db, "SELECT count(*) FROM machine WHERE script_wanted < script_done") == [0]
    change = max(t.slowest for t in tasks[:-len(shells + machines)])
    command = max(t.slowest for t in shells + machines)
    assert change < CHANGE_SECONDS and command < COMMAND_SECONDS, f"waited for {change:.1f} s, {command:.1f} s"
    print(f"ok - {len(tasks)} at once; {len(own) + 8} boots, {2 * COUNT} versions; the slowest change took {change:.2f} s, "
          f"the slowest command {command:.2f} s; {wal >> 10} KiB of log")
