#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Eight machines read and write, each with a model of its disk, while all versions below them are flattened, removed and
collected after, and others are made: none of them reads a wrong byte, or fails once."""
import os
import random
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import Lab, until  # noqa: E402

CLIENTS = 8
SIZE = 24 << 20
BLOCK = 4096
ROUNDS = 5
SEED = int(os.environ.get("LABBOOT_SEED", str(os.getpid())))


class Client(threading.Thread):
    def __init__(self, lab, mac, disk, seed):
        super().__init__()
        self.lab, self.mac, self.disk, self.rng = lab, mac, bytearray(disk), random.Random(seed)
        self.stopping = threading.Event()
        self.operations = 0
        self.failure = None

    def step(self, h):
        offset = self.rng.randrange(SIZE // 512) * 512
        count = min(self.rng.choice((512, BLOCK, 65536, 200000)), SIZE - offset)
        if self.rng.random() < 0.2:
            data = self.rng.randbytes(min(count, 8192))
            h.pwrite(data, offset)
            self.disk[offset:offset + len(data)] = data
        else:
            assert h.pread(count, offset) == self.disk[offset:offset + count], f"{count} bytes at {offset}"
        self.operations += 1

    def run(self):
        try:
            with self.lab.nbd(self.mac) as h:
                while not self.stopping.is_set():
                    self.step(h)
                assert h.pread(SIZE, 0) == self.disk, "the whole disk at the end"
        except BaseException as e:  # pylint: disable=broad-except
            self.failure = e


def change(disk, rng):
    at = rng.randrange(SIZE - (3 << 20))
    disk[at:at + (2 << 20)] = rng.randbytes(2 << 20)


def main():
    rng = random.Random(SEED)
    with Lab({"access": {"check": "none"}, "store": {"cache-memory": "2M"}}) as lab:
        disk = bytearray(rng.randbytes(SIZE))
        disk[8 << 20:12 << 20] = bytes(4 << 20)
        disks = {}
        for n in range(4):
            change(disk, rng)
            disks[lab.image("data", lab.file("disk.raw", SIZE, disk))] = bytes(disk)
        first = sorted(disks)
        macs = [lab.machine(n + 1) for n in range(CLIENTS)]
        lab.serve()
        clients = []
        for n, mac in enumerate(macs):
            version = first[n % len(first)]
            lab.run("setup", "create", f"setup-{n}", "--owner", "alice", "--image", f"data@{version}")
            lab.run("boot", "queue", f"lab-{n + 1}", f"setup-{n}")
            clients.append(Client(lab, mac, disks[version], SEED + n))
        for client in clients:
            client.start()
        until("all of them are at it", lambda: all(c.operations > 5 or c.failure for c in clients))
        for n in range(CLIENTS):
            lab.run("setup", "peg", f"setup-{n}", "data@latest")
        for n in range(ROUNDS):
            for version in lab.versions("data"):
                lab.run("image", "set", "data", "--compression", rng.choice(("zstd", "gzip", "none")))
                lab.run("image", "flatten", f"data@{version}")
            lab.run("gc")
            change(disk, rng)
            disks[lab.image("data", lab.file("disk.raw", SIZE, disk))] = bytes(disk)
            lab.run("image", "keep", "data", "--last", "1")
            lab.run("gc")
            if n == ROUNDS // 2:  # half of them end: what they held can go
                for client in clients[::2]:
                    client.stopping.set()
                    client.join()
                    lab.run("boot", "end", client.mac)
        for client in clients:
            client.stopping.set()
            client.join()
        failures = [c.failure for c in clients if c.failure]
        assert not failures, failures
        for client in clients[1::2]:
            lab.run("boot", "end", client.mac)
        for version in lab.versions("data"):
            with lab.nbd(f"image/data@{version}") as h:
                assert h.pread(SIZE, 0) == disks[version]
        lab.run("image", "keep", "data", "--last", "1")
        lab.run("gc")
        assert len(lab.versions("data")) == 1
        assert lab.json("gc") == []
        lab.run("image", "verify", "data")
        print(f"ok - {sum(c.operations for c in clients)} operations of {CLIENTS} clients (seed {SEED})")


main()
