#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A boot that was interrupted goes on: with every write that was acknowledged, its own kernel, before what was queued since;
and nothing that is done to it in between loses any of it."""
import os
import signal
import sqlite3
import subprocess
import sys

import nbd

sys.path.insert(0, os.path.join(os.environ.get("srcdir", "."), "tests"))
from lab import CommandFailed, Lab, until  # noqa: E402

ADDRESS = "127.0.1.1"
MACHINE = "lab-1"
AT = 12 << 20  # free space of the file system
KERNEL = b"a kernel that the machine got from its package manager"


def refused(lab, status, text, *words):
    try:
        lab.run(*words)
    except CommandFailed as failed:
        assert failed.status == status and text in failed.stderr, failed
        return
    raise AssertionError(f"{words} was not refused")


def queue(lab, *options):
    return int(lab.run("--quiet", "boot", "queue", MACHINE, "debian", *options))


def next_export(lab, mac, boot, known=""):
    """The script of boot `boot`, which is the next one, is not the one with the export `known`."""
    def rendered():
        export = lab.export_of_script(mac)
        return export if export != known and lab.json("boot", "next", MACHINE)["ID"] == boot else ""
    return until(f"a script of boot {boot}", rendered)


def with_new_kernel(lab, root):
    """The root disk after an upgrade, as a power cut leaves it: its bytes, by offset."""
    path = f"{lab.dir}/upgraded.img"
    new = lab.file("new-kernel", len(KERNEL), KERNEL)
    subprocess.run(["cp", root, path], check=True)
    for command in (f"write {new} /boot/vmlinuz-6.1.0-10-lab", f"write {new} /boot/initrd.img-6.1.0-10-lab"):
        subprocess.run(["debugfs", "-w", "-R", command, path], check=True, capture_output=True)
    blocks = {}
    with open(root, "rb") as old, open(path, "rb") as changed:
        for at in range(0, os.path.getsize(root), 4096):
            block = changed.read(4096)
            if old.read(4096) != block:
                blocks[at] = block
    blocks[0] = lab.mounted(path)
    return path, blocks


def interrupted(lab, mac, root, text=b"acknowledged"):
    """An update whose machine lost power after it had got a new kernel; returns boot and disk."""
    boot = queue(lab, "--update")
    path, blocks = with_new_kernel(lab, root)
    h = lab.connect(next_export(lab, mac, boot), ADDRESS)
    for at, block in blocks.items():
        h.pwrite(block, at)
    h.pwrite(text.ljust(4096), AT)
    del h  # no NBD_CMD_DISC
    refused(lab, 4, "is interrupted", "boot", "end", str(boot))
    assert lab.boot(boot)["State"] == "interrupted"
    return boot, path


def it_goes_on_with_all_that_it_wrote(lab, mac, root):
    boot, path = interrupted(lab, mac, root)
    later = queue(lab)
    old = next_export(lab, mac, later)
    assert lab.run("boot", "resume", str(boot)) == ""
    export = next_export(lab, mac, boot, old)
    assert f"/kernels/boot-{boot}/vmlinuz" in lab.script(mac), lab.script(mac)
    with open(f"{lab.dir}/state/tftp/kernels/boot-{boot}/vmlinuz", "rb") as f:
        assert f.read() == KERNEL
    shown = lab.boot(boot)
    assert shown["State"] == "queued" and shown["Resumed"] and shown["Images"][0]["Version"], shown
    with lab.nbd(export, ADDRESS) as h:
        assert h.pread(12, AT) == b"acknowledged"
        h.pwrite(b"and more".ljust(4096), AT + 4096)
        h.pwrite(lab.unmounted(path), 0)
    lab.wait_state(boot, "running", "committed")
    version = lab.run("boot", "end", str(boot))
    assert version.startswith("debian@"), version
    with lab.nbd("image/" + version) as h:
        assert h.pread(12, AT) == b"acknowledged" and h.pread(8, AT + 4096) == b"and more"
    assert lab.json("image", "versions", "debian")[0]["Kernel"] == "6.1.0-10-lab"
    assert not os.path.exists(f"{lab.dir}/state/tftp/kernels/boot-{boot}")
    assert not os.path.exists(f"{lab.dir}/state/overlays/{boot}")
    until("the next script", lambda: lab.json("boot", "next", MACHINE)["ID"] == later)
    lab.run("boot", "cancel", str(later))


def nothing_on_the_way_loses_it(lab, mac, root):
    boot, _ = interrupted(lab, mac, root, b"precious")
    lab.run("boot", "resume", str(boot))
    export = next_export(lab, mac, boot)
    lab.stop(signal.SIGKILL)
    lab.serve()  # throws overlays of other queued boots away
    with lab.nbd(export, ADDRESS) as h:
        h.pread(512, 0)  # a probe: leased, and never came
        assert lab.boot(boot)["State"] == "leased"
    again = lab.wait_state(boot, "queued")
    assert again["Attempts"] == 1 and again["Images"][0]["Version"], again
    lab.run("boot", "cancel", str(boot))
    assert lab.boot(boot)["State"] == "interrupted", "a boot with writes was cancelled"
    lab.run("boot", "resume", MACHINE)
    lab.run("setup", "remove", "debian", "--force")
    assert lab.boot(boot)["State"] == "queued", "it lost its place with its setup"
    lab.run("setup", "create", "debian", "--owner", "alice", "--image", "debian")
    export = next_export(lab, mac, boot, export)
    with lab.nbd(export, ADDRESS) as h:
        assert h.pread(8, AT) == b"precious"
        h.pwrite(b"interrupted again".ljust(4096), AT)
    lab.wait_state(boot, "running")
    refused(lab, 4, f"boot {boot} is running, not interrupted; try: labboot boot list {MACHINE} --state interrupted",
            "boot", "resume", str(boot))
    refused(lab, 4, "is interrupted", "boot", "end", str(boot))
    lab.run("boot", "resume", str(boot))
    with lab.nbd(next_export(lab, mac, boot, export), ADDRESS) as h:
        assert h.pread(17, AT) == b"interrupted again"
        h.pwrite(b"x" * 4096, AT)
    lab.wait_state(boot, "running")
    lab.run("boot", "discard", str(boot))
    assert lab.boot(boot)["State"] == "discarded"
    assert not os.path.exists(f"{lab.dir}/state/tftp/kernels/boot-{boot}")


def what_a_commit_has_written_is_not_written_over(lab, mac, root):
    """The catalog fails after the layer has got its name."""
    boot, _ = interrupted(lab, mac, root, b"written")
    def catalog(sql):
        with sqlite3.connect(f"{lab.dir}/state/catalog.db") as db:
            db.execute(sql)
        db.close()
    catalog("CREATE TRIGGER broken BEFORE INSERT ON version BEGIN SELECT RAISE(ABORT, 'a test'); END")
    refused(lab, 4, "a test", "boot", "commit", str(boot))
    refused(lab, 4, "its commit had begun, and has written version", "boot", "resume", str(boot))
    catalog("DROP TRIGGER broken")
    version = lab.run("boot", "commit", str(boot))
    with lab.nbd("image/" + version) as h:
        assert h.pread(7, AT) == b"written"


with Lab({"boot": {"grace": "1h", "lease": "5s"}}) as lab:
    mac = lab.machine(1)
    root = lab.ext4(16)
    lab.image("debian", root)
    lab.run("setup", "create", "debian", "--owner", "alice", "--image", "debian")
    lab.hook("add", mac, ADDRESS, MACHINE)
    lab.serve()
    for story in (it_goes_on_with_all_that_it_wrote, nothing_on_the_way_loses_it,
                  what_a_commit_has_written_is_not_written_over):
        story(lab, mac, root)
        print("ok -", story.__name__, flush=True)
    assert lab.stop() == 0
