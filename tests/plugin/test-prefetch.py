#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What the first boot of a version reads is noted, and read ahead of the next ones; also after a restart, and for the
version that an update makes."""
import glob
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import Lab, until  # noqa: E402

CHUNK = 65536
CHUNKS = 240  # of the data; a boot wants some of them
MACHINES = 4


def hot_files(lab):
    return sorted(os.path.basename(p) for p in glob.glob(f"{lab.dir}/state/images/*/*.hot"))


def wanted():
    order = list(range(CHUNKS))
    random.Random(5).shuffle(order)
    return order[:100]


def boot(lab, mac, export=None):
    with lab.nbd(export or mac) as h:
        for chunk in wanted():
            h.pread(4096, chunk * CHUNK)
        h.pwrite(b"x" * 4096, (CHUNKS - 1) * CHUNK)
    lab.run("boot", "end", mac)


def begin(lab, mac):
    """The first request alone: what comes into the page cache and the cache after that is not the machine's doing."""
    h = lab.connect(mac)
    h.pread(512, 0)
    return h


def reads(lab):
    """Preads of the server so far."""
    with open(f"/proc/{lab.server.pid}/io", encoding="ascii") as f:
        return int(next(line for line in f if line.startswith("syscr")).split()[1])


def settles(lab):
    """The number of reads, once it stays."""
    last = [None]

    def same():
        before, last[0] = last[0], reads(lab)
        return before is not None and last[0] - before < 3
    until("the server is quiet", same)
    return last[0]


def reads_of_boot(lab, mac):
    """Reads of the server while a machine reads what a boot wants, with what is read ahead there already: those of layers,
    a chunk each, and some of its own."""
    h = begin(lab, mac)
    settles(lab)
    before = reads(lab)
    for chunk in wanted():
        h.pread(4096, chunk * CHUNK)
    more = reads(lab) - before
    h.shutdown()
    lab.run("boot", "end", mac)
    return more


def main():
    # Nothing else reads: reads are counted.
    with Lab({"access": {"check": "none"}, "store": {"scrub-days": "0"}}) as lab:
        disk = lab.file("disk.raw", CHUNKS * CHUNK, b"".join(os.urandom(8) * (CHUNK // 8) for _ in range(CHUNKS)))
        first = lab.image("data", disk)
        lab.run("setup", "create", "lab", "--owner", "alice", "--image", "data")
        macs = [lab.machine(n, "--default-setup", "lab") for n in range(1, MACHINES + 1)]
        lab.serve()
        with lab.nbd(macs[0]) as h:
            h.pread(4096, 0)
            h.pwrite(b"y" * 512, 0)
        lab.run("boot", "end", macs[0])
        assert hot_files(lab) == [], "somebody only looked"
        boot(lab, macs[0])
        assert hot_files(lab) == [f"{first}.hot"]
        lab.stop()

        # A server that knows nothing yet.
        lab.serve()
        ahead = reads_of_boot(lab, macs[1])
        lab.stop()

        # The same without it.
        lab.settings["store"]["prefetch"] = "0"
        lab.write_conf()
        lab.serve()
        without = reads_of_boot(lab, macs[1])
        most = without - 80
        assert ahead < most, f"{ahead} reads with, {without} without"
        lab.settings["store"]["prefetch"] = "64M"
        lab.write_conf()
        lab.run("config", "reload")
        lab.stop()

        # A list that is damaged, or another's, hurts nobody, and is written again.
        path = glob.glob(f"{lab.dir}/state/images/*/*.hot")[0]
        with open(path, "r+b") as f:
            f.seek(50)
            f.write(b"\xff\xff")
        lab.serve()
        boot(lab, macs[2])
        lab.stop()
        lab.serve()
        again = reads_of_boot(lab, macs[1])
        assert again < most, f"{again} reads, {without} without"

        # The version that an update makes has its parent's list, and then its own.
        lab.run("boot", "queue", macs[3], "lab", "--update")
        with lab.nbd(macs[3]) as h:
            h.pwrite(b"z" * CHUNK, 0)
        lab.run("boot", "end", macs[3], "--commit")
        second = lab.versions("data")[0]
        assert second > first
        lab.stop()
        lab.serve()
        inherited = reads_of_boot(lab, macs[1])
        assert inherited < most, f"{inherited} reads, {without} without"
        assert hot_files(lab) == [f"{first}.hot", f"{second}.hot"]

        # Who begins together finds it read once.
        lab.stop()
        lab.serve()
        before = reads(lab)
        handles = [begin(lab, mac) for mac in macs]
        settles(lab)
        assert reads(lab) - before < 100 + 60 * MACHINES, "each machine's own prefetch"
        for h in handles:
            h.shutdown()

        # Where the version goes, so does its list.
        for mac in macs:
            lab.run("boot", "end", mac)
        lab.run("image", "remove", f"data@{first}", "--force")
        assert hot_files(lab) == [f"{second}.hot"]
        os.rename(path.replace(str(first), str(second)), path)
        assert [r["Code"] for r in lab.json("gc")] == ["stray-hot"]
        assert hot_files(lab) == []
    print("ok - boots are noted, and read ahead")


main()
