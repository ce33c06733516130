#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""32 machines write, flush and check all the time, each with a boot of its own; the server is stopped, killed, and crashes
under them, and starts again. Each comes back with its token and finds every write that was acknowledged. A stop takes two
seconds at the most, whoever holds a connection and whatever the server is at; a commit that was stopped is done later.

LABBOOT_LONG=1: 1000 rounds instead of 10; or as many as LABBOOT_ROUNDS says. LABBOOT_SEED: the same ones again."""
import contextlib
import glob
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import nbd

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import nbd_raw  # noqa: E402
from lab import LABBOOT, SLOWNESS, Lab, until  # noqa: E402
from store_stories import contents  # noqa: E402

ROUNDS = int(os.environ.get("LABBOOT_ROUNDS", "1000" if os.environ.get("LABBOOT_LONG") == "1" else "10"))
SEED = int(os.environ.get("LABBOOT_SEED", str(os.getpid())))
PROCESSES, THREADS = 4, 8
SIZE = 8 << 20
BLOCK = 4096
STOP_SECONDS = 2.0 * SLOWNESS
SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT)


class Client:
    """One machine. What it tells of itself are numbers that the processes share."""

    def __init__(self, lab, export, disk, rng, started):
        self.lab, self.export, self.disk, self.rng = lab, export, bytearray(disk), rng
        self.started = started  # how often the server has been
        self.pending = None  # (offset, data) of a write without answer
        self.checked = multiprocessing.Value("i", 0)  # the start of the server after which all was there
        self.writes = multiprocessing.Value("i", 0)  # since then
        self.total = multiprocessing.Value("i", 0)
        self.stopping = multiprocessing.Value("b", 0)

    def connect(self):
        while not self.stopping.value:
            with contextlib.suppress(nbd.Error):
                return self.lab.connect(self.export)
            time.sleep(0.02)
        return None

    def settle(self, found):
        """Each block of the write without answer is the old one or the new one."""
        if self.pending:
            offset, data = self.pending
            after = bytearray(self.disk)
            after[offset:offset + len(data)] = data
            for at in range(offset - offset % BLOCK, offset + len(data), BLOCK):
                if found[at:at + BLOCK] == after[at:at + BLOCK]:
                    self.disk[at:at + BLOCK] = after[at:at + BLOCK]
            self.pending = None
        if found != self.disk:
            at = next(at for at in range(0, SIZE, BLOCK) if found[at:at + BLOCK] != self.disk[at:at + BLOCK])
            raise AssertionError(f"{self.export}: an acknowledged write at {at} is lost")

    def write(self, h):
        offset = self.rng.randrange(SIZE // 512 - 200) * 512
        count = self.rng.choice((512, BLOCK, 3 * BLOCK, 65536))
        fua = nbd.CMD_FLAG_FUA if self.rng.random() < 0.1 else 0
        zero = self.rng.random() < 0.1
        self.pending = (offset, bytes(count) if zero else self.rng.randbytes(count))
        if zero:
            h.zero(count, offset, fua)
        else:
            h.pwrite(self.pending[1], offset, fua)
        self.disk[offset:offset + count] = self.pending[1]
        self.pending = None
        self.writes.value += 1
        self.total.value += 1

    def step(self, h):
        what = self.rng.random()
        if what < 0.7:
            self.write(h)
        elif what < 0.75:
            h.flush()
        else:
            offset = self.rng.randrange(SIZE - 65536)
            assert h.pread(65536, offset) == self.disk[offset:offset + 65536], f"{self.export}: what was written"

    def run(self):
        while not self.stopping.value:
            h = self.connect()
            start = self.started.value
            with contextlib.suppress(nbd.Error):
                if h:
                    self.settle(h.pread(SIZE, 0))
                    self.writes.value = 0
                    self.checked.value = start
                while h and not self.stopping.value:
                    self.step(h)


def machines_process(clients, failures):
    def run(client):
        try:
            client.run()
        except BaseException as e:  # pylint: disable=broad-except
            failures.put(repr(e))
    threads = [threading.Thread(target=run, args=(c,)) for c in clients]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def timed_stop(lab):
    start = time.monotonic()
    assert lab.stop() == 0, lab.log()[-2000:]
    seconds = time.monotonic() - start
    assert seconds < STOP_SECONDS, f"the server took {seconds:.1f} s to stop"
    return seconds


def troublesome(lab):
    """Clients that do not go by themselves."""
    def at(*sent, address=None, greet=True):
        c = nbd_raw.Raw(lab, address)
        if greet:
            c.greet()
        for part in sent:
            c.s.sendall(part)
        return c

    def never_reads():
        c = nbd_raw.Raw(lab)
        assert c.go("image/disk") == SIZE
        c.never_read(c.request(nbd_raw.READ, 0, 1 << 20))
        return c

    def idle():
        c = nbd_raw.Raw(lab)
        assert c.go("image/disk") == SIZE
        return c
    option = nbd_raw.Raw.option(nbd_raw.OPT_GO, nbd_raw.Raw.named("image/disk"))
    return [at(greet=False), at(greet=False, address="127.0.0.1"), at(), at(address="127.0.0.1"), at(option[:4]), at(option[:-3]),
            at(option[:-3], address="127.0.0.1"), idle(), never_reads()]


def restarts(lab, rng, disk):
    started, failures = multiprocessing.Value("i", 1), multiprocessing.Queue()
    macs = [lab.machine(n + 1) for n in range(PROCESSES * THREADS)]
    for mac in macs:
        lab.run("boot", "queue", mac, "disk", "--update")
    lab.serve()
    exports = [until("a script", lambda m=mac: lab.export_of_script(m)) for mac in macs]
    clients = [Client(lab, export, disk, random.Random(rng.random()), started) for export in exports]
    processes = [multiprocessing.Process(target=machines_process, args=(clients[n::PROCESSES], failures))
                 for n in range(PROCESSES)]
    for p in processes:
        p.start()

    def all_at_it():
        assert failures.empty(), failures.get()
        return all(c.checked.value == started.value and c.writes.value >= 5 for c in clients)
    stops = []
    try:
        for n in range(ROUNDS):
            until(f"all machines write (round {n})", all_at_it, 60)
            how = SIGNALS[n % len(SIGNALS)]
            time.sleep(rng.random() * 0.2)
            if how == signal.SIGTERM:
                trouble = troublesome(lab)
                stops.append(timed_stop(lab))
                for c in trouble:
                    c.close()
            else:
                assert lab.stop(how) == -how
            started.value += 1
            lab.serve()
        until("all machines write at the end", all_at_it, 60)
    finally:
        for c in clients:
            c.stopping.value = 1
        for p in processes:
            p.join()
    assert failures.empty(), failures.get()
    assert all(b["State"] == "running" for b in lab.json("boot", "list")), "boots run on"
    for mac in macs:
        lab.run("boot", "end", mac, "--discard")
    stops.sort()
    print(f"ok - {ROUNDS} restarts, {sum(c.total.value for c in clients)} acknowledged writes of {len(clients)} machines; a stop "
          f"takes {stops[len(stops) // 2]:.2f} s, {stops[-1]:.2f} s at most (seed {SEED})", flush=True)


def write_and_end(lab, image, data):
    """An update boot of a new image that is written to, and the command that waits for its end: (boot, command)."""
    lab.image(image, lab.ext4(64))
    lab.run("setup", "create", image, "--owner", "alice", "--image", image)
    boot = lab.run("boot", "queue", "lab-99", image, "--update")
    export = until("a script", lambda: lab.export_of_script("52:54:00:00:00:63"))
    with lab.nbd(export) as h:
        for at in range(0, len(data), 1 << 20):
            h.pwrite(data[at:at + (1 << 20)], at)
    end = subprocess.Popen([LABBOOT, "--config", lab.conf, "boot", "end", boot, "--commit"],  # pylint: disable=R1732
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    lab.wait_state(boot, "committing")
    return boot, end


def a_commit_is_stopped_and_done_later(lab, rng):
    """By the next server, whether the command that had asked still waits or not; without one, by that command."""
    words = [rng.randbytes(rng.randrange(3, 12)) for _ in range(5000)]
    data = b"".join(rng.choices(words, k=6 << 20))[:32 << 20]
    lab.machine(99)
    for image, waits, server in (("goes-on", True, True), ("waits", True, False), ("is-killed", False, True)):
        lab.serve()
        boot, end = write_and_end(lab, image, data)
        time.sleep(0.3)
        if not waits:
            end.kill()
        seconds = timed_stop(lab)
        assert lab.boot(boot)["State"] == "committing", lab.boot(boot)
        if server:
            lab.serve()
        said = end.communicate()[1]
        assert not waits or end.returncode == 0, said
        if not server:
            lab.serve()
        lab.wait_state(boot, "committed", seconds=60)
        with lab.nbd(f"image/{image}@{max(lab.versions(image))}") as h:
            assert all(h.pread(1 << 20, at) == data[at:at + (1 << 20)] for at in range(0, len(data), 1 << 20))
        timed_stop(lab)
        print(f"ok - a commit was stopped within {seconds:.2f} s, and done by {'the next server' if server else 'who waited'}",
              flush=True)


def a_word_is_kept(lab, rng):
    """Of a disk that nobody can judge only the machine says that it is good, and says it once."""
    lab.image("raw", lab.file("raw", 4 << 20))
    lab.run("setup", "create", "raw", "--owner", "alice", "--image", "raw")
    mac = lab.machine(98)
    for how in (signal.SIGTERM, signal.SIGKILL):
        lab.serve()
        boot = lab.run("boot", "queue", "lab-98", "raw", "--update")
        data = b"".join(rng.choices([rng.randbytes(7) for _ in range(5000)], k=550000))
        with lab.nbd(mac, "127.0.0.1") as h:
            h.pwrite(data, 0)
            with lab.nbd(f"{mac}/done", "127.0.0.1") as done:
                done.pread(512, 0)
        assert timed_stop(lab) if how == signal.SIGTERM else lab.stop(how) == -how
        assert lab.boot(boot)["State"] == "committing", lab.boot(boot)
        lab.serve()
        lab.wait_state(boot, "committed")
        with lab.nbd(f"image/raw@{max(lab.versions('raw'))}") as h:
            assert h.pread(len(data), 0) == data
        timed_stop(lab)
        print(f"ok - a machine's word is kept ({how.name})", flush=True)


def slow_kernels(lab):
    """A folder of programs with which the reading of a kernel takes long, and tells its pid in `pids`."""
    slow = f"{lab.dir}/slow"
    os.mkdir(slow)
    with open(f"{slow}/labboot-kernel", "w", encoding="ascii") as f:
        f.write(f"#!/bin/sh\necho $$ >> {slow}/pids\nexec sleep 100\n")
    os.chmod(f"{slow}/labboot-kernel", 0o755)
    return slow


def a_slow_child_is_left(lab):
    """The kernel of a version is read by a child: in the commit of a boot, and where a script is rendered, which no machine
    waits for that comes back to its disk."""
    mac, fast, slow = lab.machine(97), os.environ["LABBOOT_LIBEXECDIR"], slow_kernels(lab)

    def serve_slowly():
        os.environ["LABBOOT_LIBEXECDIR"] = slow
        start = time.monotonic()
        lab.serve()
        assert time.monotonic() - start < 20, "the server was waited for"

    def is_left(what):
        child = lambda: os.path.exists(f"{slow}/pids") and open(f"{slow}/pids", encoding="ascii").read().strip()  # noqa: E731
        pid = until("a kernel is read", child)
        print(f"ok - a child that reads the kernel of a {what} was left within {timed_stop(lab):.2f} s", flush=True)
        os.environ["LABBOOT_LIBEXECDIR"] = fast
        until("the child goes with the server", lambda: not os.path.exists(f"/proc/{pid}"))
        os.remove(f"{slow}/pids")
        lab.serve()
    lab.image("kernel", lab.ext4(64))
    lab.run("setup", "create", "kernel", "--owner", "alice", "--image", "kernel")
    lab.serve()
    boot = lab.run("boot", "queue", "lab-97", "kernel", "--update")
    lab.run("boot", "queue", "lab-97", "kernel")
    export = until("a script", lambda: lab.export_of_script(mac))
    with lab.nbd(export) as h:
        h.pwrite(b"changed", 32 << 20)
    lab.wait_state(boot, "running")
    timed_stop(lab)
    serve_slowly()
    with lab.nbd(export, "127.0.0.1") as h, lab.nbd(f"{export}/done", "127.0.0.1") as done:
        done.pread(512, 0)
    is_left("version")
    lab.wait_state(boot, "committed")
    until("a script", lambda: lab.export_of_script(mac) not in ("", export))
    timed_stop(lab)
    shutil.rmtree(f"{lab.dir}/state/tftp/kernels")
    with contextlib.closing(sqlite3.connect(f"{lab.dir}/state/catalog.db")) as catalog, catalog:
        catalog.execute("UPDATE machine SET script_wanted = script_wanted + 1")
    serve_slowly()
    is_left("script")
    until("the kernel of the script", lambda: glob.glob(f"{lab.dir}/state/tftp/kernels/*/*/vmlinuz"))
    timed_stop(lab)


def care_is_stopped(lab):
    """While a version is written anew, with another compression, and others are read; what was begun leaves nothing."""
    lab.settings["store"].update({"flatten-depth": "1", "scrub-days": "1", "scrub-rate": "1M"})
    lab.write_conf()
    for image in ("waits", "is-killed"):
        lab.run("image", "set", image, "--compression", "gzip")
    begun = f"{lab.dir}/state/images/*/tmp/*"
    lab.serve()
    until("a version is written anew", lambda: glob.glob(begun))
    seconds = timed_stop(lab)
    assert not glob.glob(begun), glob.glob(begun)
    print(f"ok - the care of the store was stopped within {seconds:.2f} s", flush=True)


def main():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    rng = random.Random(SEED)
    with Lab({"access": {"check": "none"}}) as lab:
        path = lab.ext4(SIZE >> 20)
        disk = contents(path)
        lab.image("disk", path)
        lab.run("setup", "create", "disk", "--owner", "alice", "--image", "disk")
        restarts(lab, rng, disk)
    with Lab({"access": {"check": "none"}, "store": {"zstd-level": "19", "reserve": "0"}}) as lab:
        a_commit_is_stopped_and_done_later(lab, rng)
        a_word_is_kept(lab, rng)
        a_slow_child_is_left(lab)
        care_is_stopped(lab)


main()
