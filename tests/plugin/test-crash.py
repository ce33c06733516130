#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What must not hurt: a corrupt byte, clients that drop with replies pending."""
import os
import random
import sys

import nbd

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import Lab, until  # noqa: E402

SIZE = 64 << 20
BLOCK = 4096


def a_corrupt_byte_hurts_one_reader(lab, macs, disk):
    version = lab.image("victim", disk)
    uuid = lab.json("image", "show", "victim")["UUID"]
    path = f"{lab.dir}/state/images/{uuid}/{version}.img"
    with open(path, "r+b") as f:
        f.seek(5000)
        byte = f.read(1)
        f.seek(5000)
        f.write(bytes([byte[0] ^ 1]))
    bad = good = 0
    with lab.nbd("image/victim") as h, lab.nbd("image/disk") as other:
        for at in range(0, SIZE, 65536):
            try:
                assert h.pread(65536, at) == other.pread(65536, at), f"corrupt data was served at {at}"
                good += 1
            except nbd.Error as e:
                assert e.errno == "EIO", e
                bad += 1
    assert bad == 1 and good == SIZE // 65536 - 1, (bad, good)
    assert lab.alive()
    lab.run("setup", "create", "victim", "--owner", "alice", "--image", "victim")
    lab.run("boot", "queue", "lab-1", "victim")
    with lab.nbd(macs[0]) as h:
        for at in range(0, SIZE, 65536):
            try:
                h.pread(65536, at)
            except nbd.Error:
                pass
    states = lambda: [v["State"] for v in lab.json("image", "versions", "victim")]  # noqa: E731
    until(f"the version is damaged: {states()}", lambda: states() == ["damaged"])
    lab.run("boot", "end", "lab-1")
    try:
        lab.run("boot", "queue", "lab-1", "victim")
        raise AssertionError("a damaged version was queued")
    except Exception as e:
        assert "damaged" in str(e), e


def dropped_clients_hurt_nobody(lab, macs):
    lab.run("boot", "queue", "lab-2", "disk")
    with lab.nbd("image/disk") as bystander:
        before = bystander.pread(BLOCK, 0)
        for n in range(200):
            h = lab.connect(macs[1] if n % 2 else "image/disk")
            for i in range(4):
                h.aio_pread(nbd.Buffer(2 << 20), i * (2 << 20))
            if n % 4 == 1:
                h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(1 << 20)), 0)
            for _ in range(n % 3):
                h.poll(1)
            del h  # closes the socket with replies pending
            assert lab.alive(), f"the server died at client {n}: {lab.log()[-2000:]}"
        assert bystander.pread(BLOCK, 0) == before
    print("ok - 200 dropped clients", flush=True)


with Lab() as lab:
    macs = [lab.machine(n) for n in (1, 2)]
    content = random.Random(3).randbytes(SIZE // 4) + bytes(SIZE // 2) + random.Random(4).randbytes(16) * (SIZE // 64)
    disk = lab.file("disk.raw", SIZE, content)
    lab.image("disk", disk)
    lab.run("setup", "create", "disk", "--owner", "alice", "--image", "disk")
    lab.serve()
    a_corrupt_byte_hurts_one_reader(lab, macs, disk)
    dropped_clients_hurt_nobody(lab, macs)
    assert lab.stop() == 0
