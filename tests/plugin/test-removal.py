#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Versions and images that are removed while clients read them, and while boots have them."""
import os
import random
import sys
import threading

import nbd

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import CommandFailed, Lab, until  # noqa: E402

SIZE = 32 << 20
STEP = 1 << 20


def make_disk(seed):
    r = random.Random(seed)
    return b"".join(r.randbytes(STEP) if r.random() < 0.7 else bytes(STEP) for _ in range(SIZE // STEP))


def change(disk, seed):
    r = random.Random(seed)
    at = r.randrange(SIZE - STEP)
    return disk[:at] + r.randbytes(STEP) + disk[at + STEP:]


def refused(lab, text, *args):
    try:
        lab.run(*args)
    except CommandFailed as e:
        assert e.status == 4 and text in e.stderr, e
    else:
        raise AssertionError(f"{args} was not refused")


def check(h, disk, part):
    """One part of the disk, so that layers that were never read come late."""
    for at in range(part * STEP, SIZE, 8 * STEP):
        assert h.pread(STEP, at) == disk[at:at + STEP], f"the disk differs at {at}"


def readers_do_not_notice(lab):
    """One that has read some, one that has read nothing yet of what lies in older layers, one that goes on all the time."""
    disks = [make_disk(1)]
    numbers = []
    for n in range(4):
        numbers.append(lab.image("disk", lab.file("disk.raw", SIZE, disks[n]), "--kind", "user"))
        disks.append(change(disks[n], n))
    handles = [lab.connect(f"image/disk@{v}") for v in numbers]
    check(handles[3], disks[3], 0)
    stop, failures = threading.Event(), []

    def read_on(h, disk):
        part = 0
        while not stop.is_set():
            try:
                check(h, disk, part % 8)
            except (AssertionError, nbd.Error) as e:
                failures.append(e)
                return
            part += 1

    busy = [threading.Thread(target=read_on, args=(lab.connect(f"image/disk@{numbers[n]}"), disks[n])) for n in (0, 2)]
    for t in busy:
        t.start()
    for n in (1, 0, 2):
        lab.run("image", "remove", f"disk@{numbers[n]}")
        for k, h in enumerate(handles):
            check(h, disks[k], n + 1)
    assert lab.versions("disk") == numbers[3:]
    assert lab.refused(f"image/disk@{numbers[1]}"), "a removed version can still be opened"
    lab.run("image", "remove", "disk")
    for k, h in enumerate(handles):
        for part in range(8):
            check(h, disks[k], part)
        h.shutdown()
    stop.set()
    for t in busy:
        t.join()
    assert not failures, failures
    assert lab.refused("image/disk")


def a_boot_keeps_what_it_has(lab, mac):
    path = lab.ext4(32)
    first = lab.image("root", path)
    lab.run("setup", "create", "lab", "--owner", "alice", "--image", f"root@{first}")
    boot = lab.run("boot", "queue", "lab-1", "lab")
    with open(path, "rb") as f, lab.nbd(mac) as h:
        disk = f.read()
        assert h.pread(4096, 0) == disk[:4096]
        h.pwrite(b"x" * 4096, 16 << 20)
        lab.wait_state(boot, "running")
        with open(path, "r+b") as f2:
            f2.write(b"another version")
        second = lab.image("root", path)
        lab.run("setup", "peg", "lab", f"root@{second}")
        refused(lab, f"boot {boot} of lab-1 is running", "image", "remove", f"root@{first}", "--force")
        refused(lab, f"boot {boot} of lab-1 is running", "image", "remove", "root", "--force")
        assert lab.run("image", "keep", "root", "--last", "1") == ""
        lab.run("image", "set", "root", "--name", "renamed", "--kind", "user")
        with lab.nbd(f"{mac}/root") as other:
            assert other.pread(4096, 8192) == disk[8192:12288], "the boot's disk lost its name"
        assert h.pread(4096, 4096) == disk[4096:8192] and h.pread(4096, 16 << 20) == b"x" * 4096
    lab.run("boot", "end", "lab-1")
    assert lab.boot(boot)["State"] == "discarded", "its kind was frozen when it was leased"
    lab.run("image", "remove", f"renamed@{first}")
    assert lab.versions("renamed") == [second]

    def gone():
        folder = f"{lab.dir}/state/images/{lab.json('image', 'show', 'renamed')['UUID']}"
        return [f for f in os.listdir(folder) if f.endswith(".img")] == [f"{second}.img"]
    until("the file of the first version is gone", gone)


with Lab() as lab:
    mac = lab.machine(1)
    lab.serve()
    readers_do_not_notice(lab)
    a_boot_keeps_what_it_has(lab, mac)
    assert lab.stop() == 0
