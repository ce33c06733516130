#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""gc, fsck and verify beside a running server: boots that write and commit, imports, and versions that are removed go
on as if nobody looked, nothing that somebody needs is taken, and nothing is left in the end."""
import contextlib
import json
import os
import subprocess
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import LABBOOT, Lab, until  # noqa: E402

MACHINE, ADDRESS = "lab-1", "127.0.1.91"
AT = 20 << 20  # in the data of the file system
ROUNDS = 6


class Other:
    """Runs a story again and again beside the test; what it raises, the test raises."""

    def __init__(self, story):
        self.stopping = threading.Event()
        self.rounds = 0
        self.failure = None
        self.thread = threading.Thread(target=self.run, args=(story,))

    def run(self, story):
        try:
            while not self.stopping.is_set():
                story()
                self.rounds += 1
        except BaseException as e:  # pylint: disable=broad-except
            self.failure = e

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *args):
        self.stopping.set()
        self.thread.join()
        if self.failure:
            raise self.failure
        assert self.rounds > 1, "it had no time"


def update(lab, mac, root, text):
    """A boot that writes, reads what it wrote, and becomes a version."""
    old = lab.export_of_script(mac)
    boot = int(lab.run("boot", "queue", MACHINE, "debian", "--update"))
    export = until("a new script", lambda: lab.export_of_script(mac) not in ("", old) and lab.export_of_script(mac))
    with lab.nbd(export, ADDRESS) as h:
        h.pwrite(lab.mounted(root), 0)
        for i in range(40):
            h.pwrite(text * 4096, AT + i * 65536)
            assert bytes(h.pread(4096, AT + i * 65536)) == text * 4096
        h.pwrite(lab.unmounted(root), 0)
        h.flush()
    return int(lab.run("boot", "end", str(boot)).split("@")[1])


def read_back(lab, version, text):
    with lab.nbd(f"image/debian@{version}") as h:
        assert bytes(h.pread(4096, AT)) == text * 4096, f"version {version}"


def care_beside_boots_and_imports(lab, mac, root):
    data = lab.file("data.raw", 3 << 20, os.urandom(2 << 20))
    names = iter(range(1000))
    versions = {}

    def collect():
        lab.json("gc")

    def check():
        found = json.loads(subprocess.run([LABBOOT, "--config", lab.conf, "--json", "fsck", "--data"],
                                          capture_output=True, text=True, check=False, timeout=120).stdout)
        assert found == [], found

    def bring():
        name = f"data-{next(names)}"
        lab.image(name, data, "--new")
        lab.image(name, data)

    with contextlib.ExitStack() as others:
        for story in (collect, check, bring):
            others.enter_context(Other(story))
        for n in range(ROUNDS):
            text = bytes([65 + n])
            versions[update(lab, mac, root, text)] = text
    for version, text in versions.items():
        read_back(lab, version, text)
    return versions


def gc_beside_removal(lab, mac, root, versions):
    with Other(lambda: lab.json("gc")):
        for n in range(ROUNDS):
            text = bytes([97 + n])
            versions[update(lab, mac, root, text)] = text
            lab.run("image", "keep", "debian", "--last", "2")
    for version in lab.versions("debian"):
        read_back(lab, version, versions[version])
        lab.run("image", "verify", f"debian@{version}")


def a_disk_that_is_open_keeps_its_overlay(lab, mac, root):
    """A machine that goes down with `done` reads on from the overlay of its boot, which has ended."""
    old = lab.export_of_script(mac)
    boot = lab.run("boot", "queue", MACHINE, "debian")
    export = until("a new script", lambda: lab.export_of_script(mac) not in ("", old) and lab.export_of_script(mac))
    with lab.nbd(export, ADDRESS) as h:
        h.pwrite(lab.mounted(root), 0)
        h.pwrite(b"z" * 4096, AT)
        overlay = f"{lab.dir}/state/overlays/{boot}"
        assert os.path.isdir(overlay)
        lab.json("gc")
        assert bytes(h.pread(4096, AT)) == b"z" * 4096 and os.path.isdir(overlay)
    lab.run("boot", "end", boot, "--discard")


def main():
    with Lab() as lab:
        root = lab.ext4(32)
        lab.image("debian", root)
        lab.run("setup", "create", "debian", "--owner", "alice", "--image", "debian")
        mac = lab.machine(1)
        lab.serve()
        lab.hook("add", mac, ADDRESS)
        versions = care_beside_boots_and_imports(lab, mac, root)
        gc_beside_removal(lab, mac, root, versions)
        a_disk_that_is_open_keeps_its_overlay(lab, mac, root)
        lab.run("image", "verify", "debian")
        lab.json("gc")
        assert lab.json("gc") == []
        lab.run("fsck", "--data")
        assert lab.stop() == 0


main()
