#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The space of overlays: a machine that rewrites its disk for long stays within its quota, a full file system stops nobody
else and loses nothing, and what is discarded is free at once."""
import glob
import os
import random
import subprocess
import sys
import time

import nbd

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import Lab, in_a_mount_namespace, until  # noqa: E402

MIB, BLOCK = 1 << 20, 4096
SIZE = 64 * MIB


def taken(lab, boot):
    """Bytes that the overlays of a boot take."""
    return sum(os.stat(f).st_blocks * 512 for f in glob.glob(f"{lab.dir}/state/overlays/{boot}/*/*"))


def queue(lab, n, *args):
    return lab.run("boot", "queue", f"lab-{n}", "disk", *args)


def rewritten_for_long_it_stays_within_its_quota(lab, macs):
    """500 MiB into 24, at random places; nobody flushes."""
    lab.settings["overlay"] = {"quota": "64M"}
    lab.write_conf()
    lab.run("config", "reload")
    boot, rng, model = queue(lab, 1, "--update"), random.Random(1), {}
    with lab.nbd(macs[0]) as h:
        for n in range(32000):
            at = rng.randrange(24 * MIB // BLOCK)
            data = n.to_bytes(8, "little") * (4 * BLOCK // 8)
            h.pwrite(data, at * BLOCK)
            for i in range(4):
                model[at + i] = data[:BLOCK]
            if n % 4000 == 3999:
                assert taken(lab, boot) <= 66 * MIB, taken(lab, boot)
        until(lambda: f"it is made small: {taken(lab, boot) / MIB} MiB", lambda: taken(lab, boot) < 60 * MIB)
        for at, data in model.items():
            assert h.pread(BLOCK, at * BLOCK) == data, at
    lab.run("boot", "end", boot, "--commit")
    version = lab.versions("disk")[0]
    with lab.nbd(f"image/disk@{version}") as h:
        for at, data in model.items():
            assert h.pread(BLOCK, at * BLOCK) == data, at
    lab.run("image", "rollback", "disk", "--to", str(lab.versions("disk")[-1]))
    lab.settings["overlay"] = {"quota": "0"}
    lab.write_conf()
    lab.run("config", "reload")


def fill(lab, keep):
    """Leaves so much of the file system of overlays."""
    path = f"{lab.dir}/state/overlays/ballast"
    free = os.statvfs(os.path.dirname(path))
    with open(path, "wb") as f:
        os.posix_fallocate(f.fileno(), 0, free.f_bavail * free.f_frsize - keep)
    return path


def a_full_file_system_loses_nothing(lab, macs):
    boots = [queue(lab, n, "--update") for n in (1, 2)]
    with lab.nbd(macs[0]) as full, lab.nbd(macs[1]) as other:
        other.pwrite(b"before".ljust(BLOCK), 0)
        full.pwrite(b"kept".ljust(BLOCK), 0)
        ballast = fill(lab, 4 * MIB)
        written = []
        try:
            for at in range(MIB, SIZE, MIB):
                full.pwrite(random.randbytes(MIB), at)
                written.append(at)
            raise AssertionError("the disk was not full")
        except nbd.Error as e:
            assert e.errno == "ENOSPC", e
        assert other.pread(6, 0) == b"before" and full.pread(4, 0) == b"kept"
        full.flush()
        # The machine may free what it has; others read on, and write again as soon as there is space.
        full.trim(len(written) * MIB, MIB)
        os.unlink(ballast)
        other.pwrite(b"after".ljust(BLOCK), BLOCK)
        full.pwrite(b"again".ljust(BLOCK), 2 * BLOCK)
    for boot in boots:
        lab.run("boot", "end", boot, "--commit")
    for n, texts in enumerate((((0, b"kept"), (2 * BLOCK, b"again")), ((0, b"before"), (BLOCK, b"after")))):
        version = lab.boot(boots[n])["Images"][0]["Result"]
        with lab.nbd(f"image/disk@{version}") as h:
            for at, text in texts:
                assert h.pread(len(text), at) == text, (n, at)


def what_is_discarded_is_free_at_once(lab, macs):
    before, boot = free_space(lab), queue(lab, 1)
    with lab.nbd(macs[0]) as h:
        for at in range(0, SIZE, MIB):
            h.pwrite(random.randbytes(MIB), at)
        assert free_space(lab) < before - 60 * MIB
        lab.run("boot", "end", boot, "--discard")
        assert free_space(lab) > before - 2 * MIB, "the machine's connection is still open"


def free_space(lab):
    s = os.statvfs(f"{lab.dir}/state/overlays")
    return s.f_bavail * s.f_frsize


def set_reserve(lab, size):
    lab.settings["store"]["reserve"] = str(size)
    lab.write_conf()
    lab.run("config", "reload")


def the_longest_away_makes_room(lab, macs):
    """Of scratch boots alone, one after the other, and no more of them than need be; who is connected or keeps something stays."""
    keeps, first, second, here = boots = [queue(lab, 1, "--update"), *(queue(lab, n) for n in (2, 3, 4))]
    with lab.nbd(macs[3]) as h:
        for n, mac in enumerate(macs[:3]):
            with lab.nbd(mac) as away:
                for at in range(0, 32 * MIB, MIB):
                    away.pwrite(random.randbytes(MIB), at)
            until("the server has missed it", lambda boot=boots[n]: lab.boot(boot)["DisconnectedAt"])
            time.sleep(1.1)
        h.pwrite(b"here".ljust(BLOCK), 0)
        lab.wait_state(here, "running")
        set_reserve(lab, free_space(lab) - 64 * MIB - MIB)
        time.sleep(2.2)
        assert [lab.boot(b)["State"] for b in boots] == 4 * ["running"], "there is space, if not much"
        set_reserve(lab, free_space(lab) - 48 * MIB)
        ended = lab.wait_state(first, "discarded")
        assert ended["Result"].startswith("abandoned: ") and "space" in ended["Result"], ended
        time.sleep(2.2)
        assert [lab.boot(b)["State"] for b in (keeps, second, here)] == 3 * ["running"], "one was enough"
        set_reserve(lab, free_space(lab) + 100 * MIB)
        lab.wait_state(second, "discarded")
        time.sleep(2.2)
        assert [lab.boot(b)["State"] for b in (keeps, here)] == 2 * ["running"]
        try:
            h.pwrite(b"more".ljust(BLOCK), BLOCK)
            raise AssertionError("the reserve was taken")
        except nbd.Error as e:
            assert e.errno == "ENOSPC", e
        lab.run("boot", "end", keeps, "--commit")
    lab.run("boot", "end", here)
    set_reserve(lab, 0)


mounts = in_a_mount_namespace()
with Lab({"access": {"check": "none"}, "boot": {"grace": "1s"}}) as lab:
    overlays = f"{lab.dir}/state/overlays"
    if mounts:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "none", overlays], check=True)
    macs = [lab.machine(n) for n in (1, 2, 3, 4)]
    lab.image("disk", lab.file("disk.raw", SIZE, b"base" * 1000))
    lab.run("setup", "create", "disk", "--owner", "alice", "--image", "disk")
    lab.serve()
    for story in [rewritten_for_long_it_stays_within_its_quota, what_is_discarded_is_free_at_once] + (
            [a_full_file_system_loses_nothing, the_longest_away_makes_room] if mounts else []):
        story(lab, macs)
        print("ok -", story.__name__, flush=True)
    assert lab.stop() == 0
    if mounts:
        subprocess.run(["umount", overlays], check=True)
