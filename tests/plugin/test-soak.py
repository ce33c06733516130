#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A lab for a while: 64 machines boot, read and write, lose their connections, are committed and discarded; meanwhile the
server is restarted and killed, and an admin removes old versions, collects, flattens and verifies. Every read is held
against what must be there, and at the end every version; nothing is left behind, and the server has not grown.

A minute in make check, ten with LABBOOT_LONG=1; the seed (LABBOOT_SEED) is printed."""
import contextlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time

import nbd

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import SLOWNESS, CommandFailed, Lab, until  # noqa: E402

SECONDS = 600 if os.environ.get("LABBOOT_LONG") == "1" else 60
SEED = int(os.environ.get("LABBOOT_SEED", str(os.getpid())))
MACHINES, PROCESSES, IMAGES = 64, 8, 6
SIZE, BLOCK = 4 << 20, 4096
PATIENCE = 40  # seconds: a server that was killed is there again, and has finished what it had begun


class Versions:
    """What each version must read as, in files: the machines are in several processes."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)

    def path(self, image, version):
        return f"{self.folder}/{image}@{version}"

    def put(self, image, version, disk):
        path = self.path(image, version)
        with open(path + ".new", "wb") as f:
            f.write(disk)
        os.rename(path + ".new", path)

    def get(self, image, version):
        """Who has committed it may be about to write it down."""
        until(f"what {image}@{version} must be", lambda: os.path.exists(self.path(image, version)), PATIENCE)
        with open(self.path(image, version), "rb") as f:
            return f.read()


class Machine(threading.Thread):
    def __init__(self, lab, versions, n, end, counts):
        super().__init__()
        self.lab, self.versions, self.n, self.end, self.counts = lab, versions, n, end, counts
        self.export, self.name = f"52-54-00-00-00-{n:02x}", f"lab-{n}"
        self.random = random.Random(f"{SEED}-{n}")
        self.image = f"disk-{n % IMAGES}"
        self.h = self.failure = None

    def run(self):
        try:
            while time.monotonic() < self.end:
                self.one_boot()
        except Exception as e:  # told by the process
            self.failure = f"{self.name}: {type(e).__name__} {e}"

    # ---- connections ----

    def again(self, what, call):
        """Until it works: the server may be away for a moment."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return call()
            except (nbd.Error, CommandFailed) as e:
                if time.monotonic() > end:
                    raise AssertionError(f"{what}: {e}") from e
                time.sleep(0.1)

    def connect(self):
        self.h = self.again("connect", lambda: self.lab.connect(self.export))

    def request(self, call):
        """call(handle), sent again over another connection where one was lost."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return call(self.h)
            except nbd.Error as e:
                if time.monotonic() > end:
                    raise AssertionError(f"{self.export}: {e}") from e
                time.sleep(0.05)
                self.connect()

    # ---- one boot ----

    def one_boot(self):
        update = self.random.random() < 0.4
        boot = self.again("queue", lambda: self.lab.run("boot", "queue", self.name, self.image,
                                                        *(["--update"] if update else [])))
        self.connect()
        self.request(lambda h: h.pread(512, 0))
        shown = self.again("show", lambda: self.lab.boot(boot))
        disk = bytearray(self.versions.get(self.image, shown["Images"][0]["Version"]))
        wrote = self.use(disk)
        if self.random.random() < 0.5:
            with contextlib.suppress(nbd.Error):  # the server may have gone before
                self.h.shutdown()
        self.finish(boot, update and self.random.random() < 0.8, wrote, disk)
        self.h = None

    def use(self, disk):
        wrote = False
        for n in range(self.random.randrange(20, 300)):
            at = self.random.randrange(SIZE // BLOCK) * BLOCK
            count = self.random.choice((1, 1, 2, 8, 32)) * BLOCK
            count = min(count, SIZE - at)
            what = self.random.random()
            if what < 0.6:
                got = self.request(lambda h, at=at, count=count: h.pread(count, at))
                assert got == disk[at:at + count], f"what was read at {at}"
            elif what < 0.85:
                data = self.random.randbytes(16) * (count // 16)
                self.request(lambda h, at=at, data=data: h.pwrite(data, at, nbd.CMD_FLAG_FUA if n % 9 == 0 else 0))
                disk[at:at + count] = data
                wrote = True
            elif what < 0.92:
                self.request(lambda h, at=at, count=count: h.zero(count, at))
                disk[at:at + count] = bytes(count)
                wrote = True
            elif what < 0.97:
                self.request(lambda h: h.flush())
            elif what < 0.985:
                self.connect()  # the old one is dropped as it is
            else:
                time.sleep(self.random.random() * 0.3)
        return wrote

    def finish(self, boot, keep, wrote, disk):
        def over():
            try:
                self.lab.run("boot", "end", boot, "--commit" if keep else "--discard")
            except CommandFailed as e:
                if e.status != 4:  # it has ended: this command was cut off before
                    raise
            shown = self.lab.boot(boot)
            if shown["State"] not in ("committed", "branched", "discarded"):
                raise CommandFailed(["boot", "end"], 1, f"boot {boot} is {shown['State']}: {shown['Result']}")
            return shown
        shown = self.again("end", over)
        version = shown["Images"][0]["Result"]
        assert bool(version) == (keep and wrote), shown
        if version:
            self.versions.put(self.image, version, disk)
        self.counts.put("committed" if version else "discarded")


def machines(lab, versions, numbers, end, counts):
    some = [Machine(lab, versions, n, end, counts) for n in numbers]
    for m in some:
        m.start()
    for m in some:
        m.join()
    failures = [m.failure for m in some if m.failure]
    print("\n".join(failures), file=sys.stderr)
    sys.exit(1 if failures else 0)


# ---- what an admin does meanwhile ----

def known(lab, versions, image):
    """Those of which it is known what they are: of the others the machine is about to write that down."""
    return [v for v in lab.versions(image) if os.path.exists(versions.path(image, v))]


def thin_out(lab, versions, image):
    lab.run("image", "keep", image, "--last", "3")


def flatten(lab, versions, image):
    lab.run("image", "flatten", image)


def verify(lab, versions, image):
    lab.run("image", "verify", image)


def collect(lab, versions, image):
    lab.run("gc")


def export(lab, versions, image):
    version = random.choice(known(lab, versions, image))
    out = subprocess.run([*LABBOOT, "--config", lab.conf, "image", "export", f"{image}@{version}", "-"],
                         capture_output=True, check=False)
    if out.returncode == 0:  # else it was removed meanwhile
        assert out.stdout == versions.get(image, version), f"{image}@{version}"


def restart(lab, versions, image):
    begun = time.monotonic()
    assert lab.stop() == 0
    took = time.monotonic() - begun
    lab.serve()
    assert took < 5 * SLOWNESS, f"the server took {took:.1f} s to stop"


def kill(lab, versions, image):
    lab.stop(signal.SIGKILL)
    lab.serve()


LABBOOT = [os.environ.get("LABBOOT", "labboot")]
DEEDS = (thin_out, thin_out, flatten, verify, collect, export, export, restart, kill)


def act(lab, versions, end, alive):
    rng, done = random.Random(SEED), {}
    while time.monotonic() < end and alive():
        deed = rng.choice(DEEDS)
        try:
            deed(lab, versions, f"disk-{rng.randrange(IMAGES)}")
        except CommandFailed as e:
            assert e.status == 3 or e.status == 4, e  # a version was removed, or is in use: as it may be
        done[deed.__name__] = done.get(deed.__name__, 0) + 1
        time.sleep(rng.random() * 1.5)
    return done


# ---- the end ----

def descriptors(lab):
    found = []
    for fd in os.listdir(f"/proc/{lab.server.pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{lab.server.pid}/fd/{fd}"))
        except FileNotFoundError:
            pass
    return found


def resident(lab):
    with open(f"/proc/{lab.server.pid}/status", encoding="ascii") as f:
        return int(next(line for line in f if line.startswith("VmRSS")).split()[1]) >> 10


def nothing_is_left(lab, versions):
    until(lambda: f"descriptors of layers or clients: {descriptors(lab)}",
          lambda: not any("/overlays/" in f or ".img" in f for f in descriptors(lab)))
    print(f"# the server takes {resident(lab)} MiB and has {len(descriptors(lab))} descriptors", flush=True)
    assert resident(lab) < 300 * SLOWNESS, "64 MiB of it is cache"
    assert lab.stop() == 0
    lab.run("gc")
    assert os.listdir(f"{lab.dir}/state/overlays") == []
    found = json.loads(subprocess.run([*LABBOOT, "--config", lab.conf, "--json", "fsck", "--data"], capture_output=True,
                                      check=False).stdout)
    assert [f for f in found if not f["Code"].startswith("script-")] == [], found
    assert lab.json("gc") == []
    count = 0
    for n in range(IMAGES):
        for version in lab.versions(f"disk-{n}"):
            out = subprocess.run([*LABBOOT, "--config", lab.conf, "image", "export", f"disk-{n}@{version}", "-"],
                                 capture_output=True, check=True).stdout
            assert out == versions.get(f"disk-{n}", version), f"disk-{n}@{version} is not what its boot wrote"
            count += 1
    print(f"ok - {count} versions are what they must be")


print(f"# seed {SEED}", flush=True)
with Lab({"access": {"check": "none"}, "store": {"flatten-depth": "8", "scrub-rate": "2M"}}) as lab:
    versions = Versions(f"{lab.dir}/expected")
    for n in range(IMAGES):
        disk = random.Random(n).randbytes(SIZE // 2) + bytes(SIZE // 2)
        versions.put(f"disk-{n}", lab.image(f"disk-{n}", lab.file("disk.raw", SIZE, disk)), disk)
        lab.run("setup", "create", f"disk-{n}", "--owner", "alice", "--image", f"disk-{n}")
    for n in range(1, MACHINES + 1):
        lab.machine(n)
    lab.serve()
    counts, end = multiprocessing.Queue(), time.monotonic() + SECONDS
    processes = [multiprocessing.Process(target=machines, args=(lab, versions, range(1 + p, MACHINES + 1, PROCESSES), end, counts))
                 for p in range(PROCESSES)]
    for p in processes:
        p.start()
    try:
        done = act(lab, versions, end, lambda: all(p.exitcode in (None, 0) for p in processes))
    except BaseException:
        for p in processes:
            p.kill()
        raise
    ends = []
    while any(p.is_alive() for p in processes) or not counts.empty():
        while not counts.empty():
            ends.append(counts.get())
        time.sleep(0.1)
    for p in processes:
        p.join()
        assert p.exitcode == 0, "a machine found what must not be"
    print(f"# {ends.count('committed')} boots committed, {ends.count('discarded')} discarded; {done}", flush=True)
    assert ends.count("committed") > MACHINES / 4
    nothing_is_left(lab, versions)
