#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The server writes an image anew when its latest version stands upon too many others: nobody notices, and they may go."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import Lab, until  # noqa: E402

MIB = 1 << 20
SIZE = 8 * MIB


def written_anew(lab):
    return [(e["Object"], e["Actor"]) for e in lab.json("log", "--what", "version-flattened")]


def change(lab, depth):
    lab.settings["store"]["flatten-depth"] = str(depth)
    lab.write_conf()
    if lab.server:
        lab.run("config", "reload")


class Image:
    def __init__(self, lab, name, fill):
        self.lab, self.name, self.disks = lab, name, {}
        self.disk = bytearray(fill * SIZE)

    def more(self, at, text):
        self.disk[at:at + len(text)] = text
        version = self.lab.image(self.name, self.lab.file("disk.raw", SIZE, bytes(self.disk)))
        self.disks[version] = bytes(self.disk)
        return version

    def check(self):
        for version, disk in self.disks.items():
            out = self.lab.file("out.raw", 0)
            self.lab.run("image", "export", f"{self.name}@{version}", out, "--force")
            with open(out, "rb") as f:
                assert f.read() == disk, version


with Lab({"access": {"check": "none"}}) as lab:
    deep, flat = Image(lab, "deep", b"d"), Image(lab, "flat", b"f")
    for n in range(5):
        newest = deep.more(n * MIB, b"%d" % n * 100000)
    flat.more(0, b"x")
    other = flat.more(MIB, b"y")
    lab.run("setup", "create", "lab", "--owner", "alice", "--image", "deep")
    mac = lab.machine(1, "--default-setup", "lab")
    change(lab, 5)
    lab.serve()
    with lab.nbd(mac) as machine:
        assert bytes(machine.pread(SIZE, 0)) == deep.disks[newest]
        machine.pwrite(b"mine" * 1024, 7 * MIB)
        assert written_anew(lab) == [], "it stands upon four only"
        change(lab, 4)
        until("it is written anew", lambda: written_anew(lab), 30)
        assert written_anew(lab) == [(f"image alice/deep@{newest}", "server")]
        assert bytes(machine.pread(SIZE, 0))[:7 * MIB] == deep.disks[newest][:7 * MIB]
        assert bytes(machine.pread(4, 7 * MIB)) == b"mine"
    deep.check()
    flat.check()
    # What is made from it stands upon it alone; and the older ones are not needed any more.
    change(lab, 2)
    deep.more(6 * MIB, b"z" * 5000)
    lab.run("image", "keep", "deep", "--last", "2")
    assert lab.versions("deep") == sorted(deep.disks, reverse=True)[:2]
    deep.disks = {v: d for v, d in deep.disks.items() if v in lab.versions("deep")}
    lab.run("boot", "end", "lab-1", "--discard")
    lab.run("gc")
    uuid = lab.json("image", "show", "deep")["UUID"]
    assert os.listdir(f"{lab.dir}/state/images/{uuid}/retired") == []
    deep.check()
    # One that is damaged stays as it is, and is told.
    flat.more(2 * MIB, b"w" * 10)
    uuid = lab.json("image", "show", "flat")["UUID"]
    with open(f"{lab.dir}/state/images/{uuid}/{other}.img", "r+b") as f:
        f.write(b"\xff" * 20)
    until("its damage is told", lambda: "cannot be written anew" in lab.log(), 30)
    assert len(written_anew(lab)) == 1
    assert lab.stop() == 0
print("ok - the server flattens what is deep")
