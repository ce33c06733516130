# SPDX-License-Identifier: BSD-3-Clause
"""A machine writes in an update boot, flushes, and is done; the server commits. What may be missing of that when server or
power go away meanwhile, and what may not."""
import contextlib
import copy
import os
import signal
import subprocess
import time

import nbd

import crash
import disk_model
from lab import CommandFailed, until
from store_stories import contents

BLOCK = 4096
FILLER = 1 << 20  # bytes of a file of the disk, to be written over
ADDRESS = "127.0.1.91"


class Write:
    def __init__(self, at, data):
        self.at, self.data, self.begun = at, data, time.time()
        self.acknowledged = self.flushed = None  # when

    def at_that_time(self, now):
        w = copy.copy(self)
        w.acknowledged, w.flushed = (when if when and when < now else None for when in (self.acknowledged, self.flushed))
        return w


class Machine:
    name = "a machine"

    def __init__(self, bench, rng):
        self.bench, self.lab, self.rng = bench, bench.lab, rng
        self.trace = f"{bench.lab.dir}/trace"
        self.forget()

    def forget(self):
        self.writes, self.committed = [], None

    def make(self):
        """The state that it begins with: an image with a kernel, and an update boot of it that is queued."""
        lab, filler = self.lab, self.rng.randbytes(FILLER)
        self.bench.restore("plain")
        os.makedirs(f"{lab.dir}/tree", exist_ok=True)
        with open(f"{lab.dir}/tree/filler", "wb") as f:
            f.write(filler)
        path = lab.ext4(8, "machine.img")
        self.base = contents(path)
        self.at = -(-self.base.index(filler[:BLOCK]) // BLOCK) * BLOCK
        assert self.base.count(filler[BLOCK:-BLOCK]) == 1, "the file is in one piece"
        # The first block while it is mounted, and after that: else it was not shut down.
        self.mounted, self.unmounted = lab.mounted(path), lab.unmounted(path)
        self.first = lab.image("root", path)
        lab.run("setup", "create", "root", "--owner", "alice", "--image", "root")
        lab.machine(1)
        lab.run("boot", "queue", "lab-1", "root", "--update")
        self.bench.save("queued")

    # ---- the machine ----

    def write(self, h, at, data):
        w = Write(at, data)
        self.writes.append(w)
        h.pwrite(data, at)
        w.acknowledged = time.time()

    def write_blocks(self, h, *blocks):
        for block in blocks:
            self.write(h, self.at + block * BLOCK, self.rng.randbytes(BLOCK))

    def flush(self, h):
        before = [w for w in self.writes if w.acknowledged]
        h.flush()
        now = time.time()
        for w in before:
            w.flushed = w.flushed or now

    def use(self):
        self.export = until("a boot script", lambda: self.lab.export_of_script("52:54:00:00:00:01"), 3)
        with self.lab.nbd(self.export, ADDRESS) as h:
            self.write(h, 0, self.mounted)
            self.write_blocks(h, 3, 4, 5, 100)
            self.flush(h)
            self.write_blocks(h, 4, 30)
            self.write(h, self.at + 100 * BLOCK, self.rng.randbytes(3 * BLOCK))
            self.flush(h)
            self.write_blocks(h, 101, 7)
            self.write(h, 0, self.unmounted)
            with self.lab.nbd(self.export + "/done", ADDRESS) as done:
                done.pread(BLOCK, 0)

    def state(self):
        return self.bench.query("SELECT state FROM boot WHERE id = 1")[0][0]

    def run(self, tracer):
        """Until the boot is over, or the server is. With an error it may be neither."""
        self.forget()
        self.bench.restore("queued")
        with contextlib.suppress(AssertionError, nbd.Error):
            self.lab.serve(before=tracer + ["taskset", "-c", "0"])
            self.use()
            until("an end", lambda: not self.lab.alive() or self.state() in ("committed", "interrupted"), 3)
            if self.state() == "committed":
                self.committed = time.time()
        try:
            return self.lab.stop()
        except subprocess.TimeoutExpired:  # the pipe failed by which nbdkit tells itself to end
            return None

    # ---- what has to be there ----

    def allowed(self, at, certain):
        """What the block may have. The last write to it that is certain, or one after that."""
        found = [self.base[at:at + BLOCK]]
        for w in self.writes:
            if w.at <= at < w.at + len(w.data):
                data = w.data[at - w.at:at - w.at + BLOCK]
                found = [data] if certain(w) else found + [data]
        return found

    def check_disk(self, disk, certain):
        assert len(disk) == len(self.base)
        for at in range(0, len(disk), BLOCK):
            assert disk[at:at + BLOCK] in self.allowed(at, certain), f"the block at {at}"

    def end(self):
        """By the server that runs, or without one. What was interrupted is committed by an admin, or by the server itself."""
        for _ in range(2):
            until("an end", lambda: self.state() != "committing")
            if self.state() in ("leased", "running", "interrupted"):
                with contextlib.suppress(CommandFailed):
                    self.lab.run("boot", "end" if self.state() != "interrupted" else "commit", "1",
                                 *(["--commit"] if self.state() != "interrupted" else []))

    def end_offline(self):
        if self.state() == "committing":
            self.lab.run("boot", "end", "1", "--commit")
        self.end()

    def check_after(self, certain, committed, way):
        versions = self.bench.versions("root")
        if committed:
            assert self.state() == "committed" and len(versions) == 2, (self.state(), versions)
        if way == "start":
            self.lab.serve()
            self.end()
            assert self.lab.stop() == 0
        else:
            self.end_offline()
        state, versions = self.state(), self.bench.versions("root")
        wrote = any(certain(w) for w in self.writes)
        assert state in (["committed"] if wrote else ["committed", "discarded", "queued"]), self.bench.query(
            "SELECT state, result FROM boot")
        assert versions[0] == self.first and len(versions) == 1 + (state == "committed"), versions
        for version in versions:
            known = certain if version != self.first else None
            disk = self.bench.export("root", version)
            self.check_disk(disk, known) if known else self.compare(disk)
        self.bench.check_kernels()
        self.bench.run_ok("gc")
        assert os.listdir(f"{self.lab.dir}/state/overlays") == [], "an overlay is left"
        self.bench.check_sound()
        self.bench.check_tidy()

    def compare(self, disk):
        assert disk == self.base, "the first version has changed"

    # ---- killed, or with a disk that fails ----

    def points(self):
        self.run(["strace", "-D", "-f", "-y", "-o", self.trace, "-e", "trace=" + ",".join(crash.CALLS)])
        assert self.committed, self.lab.log()
        disk_model.wait_for_end(self.trace)
        return crash.count_points(self.trace)

    def cut_off(self, fault, call, n, rng):
        self.run(["strace", "-D", "-f", "-qq", "-o", "/dev/null", *crash.injection(fault, call, n)])
        self.check_after(lambda w: w.acknowledged, self.committed, rng.choice(("start", "offline")))

    # ---- without power ----

    def record(self):
        status = self.run(disk_model.tracer(self.trace, "-D"))
        assert self.committed and status == 0, self.lab.log()
        disk_model.wait_for_end(self.trace)
        self.ops = disk_model.read_trace(self.trace)

    def goes_on(self, disk):
        """The server was killed, and another one started: the machine writes on and flushes. Returns what that server did."""
        disk.write_out(None, f"{self.lab.dir}/state")
        if self.state() not in ("leased", "running"):
            return []
        self.lab.serve(before=disk_model.tracer(self.trace, "-D") + ["taskset", "-c", "0"])
        with self.lab.nbd(self.export, ADDRESS) as h:
            self.write_blocks(h, 3, 50)
            self.flush(h)
            self.write_blocks(h, 50)
        self.lab.stop(signal.SIGKILL)
        disk_model.wait_for_end(self.trace)
        return disk_model.read_trace(self.trace)

    def cut(self, at, rng):
        self.bench.restore("queued")
        disk = disk_model.Disk(f"{self.lab.dir}/state")
        for op in self.ops[:at]:
            disk.do(op)
        now = self.ops[at - 1].time if at else 0
        writes, self.writes = self.writes, [w.at_that_time(now) for w in self.writes if w.begun < now]
        committed = self.committed < now
        try:
            if rng.random() < 0.3:
                more = self.goes_on(disk)
                end = rng.choice((len(more), rng.choice(disk_model.cut_points(more))))
                for op in more[:end]:
                    disk.do(op)
                now = more[end - 1].time if end else now
            disk.write_out(rng, f"{self.lab.dir}/state")
            self.check_after(lambda w: w.flushed and w.flushed < now, committed, rng.choice(("start", "offline")))
        finally:
            self.writes = writes
