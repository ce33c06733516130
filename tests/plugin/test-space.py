#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The space of overlays: a machine that rewrites its disk for long stays within its quota, a full file system stops nobody
else and loses nothing, and what is discarded is free at once. A commit that finds no space waits for it."""
import glob
import os
import random
import subprocess
import sys
import time

import nbd

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import CommandFailed, Lab, in_a_mount_namespace, until  # noqa: E402

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


def fill(lab, keep, folder="overlays"):
    """Leaves so much of the file system of a folder."""
    path = f"{lab.dir}/state/{folder}/ballast"
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


def free_space(lab, folder="overlays"):
    s = os.statvfs(f"{lab.dir}/state/{folder}")
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


# ---- commits ----

WRITTEN = 32 * MIB  # of a layer that nothing makes smaller
AGAIN = "tried again: there is space"


def ends(lab, boot):
    """How its end went: what, and why."""
    edges = ("boot-committing", "boot-interrupted", "boot-committed", "boot-branched", "boot-discarded")
    return [(e["What"], e["Detail"]) for e in lab.json("log", "--boot", str(boot)) if e["What"] in edges]


def update(lab, mac, n, data):
    """A boot that writes what is to be kept; nobody can say whether that is clean."""
    boot = queue(lab, n, "--update")
    with lab.nbd(mac) as h:
        for at in range(0, len(data), MIB):
            h.pwrite(data[at:at + MIB], at)
        lab.wait_state(boot, "running")
    return boot


def refused(lab, boot, command, *args):
    try:
        lab.run("boot", command, boot, *args)
    except CommandFailed as e:
        return str(e)
    raise AssertionError(f"boot {command} {boot}")


def without_space(lab, mac, data):
    """Fills the file system of the images; a boot that is interrupted for that, and what fills it."""
    ballast = fill(lab, 8 * MIB, "images")
    boot = update(lab, mac, 1, data)
    said, waits = refused(lab, boot, "end", "--commit"), lab.boot(boot)
    assert waits["State"] == "interrupted" and "No space left" in waits["Result"], waits
    assert waits["Result"].startswith("tried again by itself when ") and waits["Result"] in said, (waits, said)
    return boot, ballast


def reads_as(lab, boot, data):
    with lab.nbd(f"image/disk@{lab.boot(boot)['Images'][0]['Result']}") as h:
        for at in range(0, len(data), MIB):
            assert h.pread(min(MIB, len(data) - at), at) == data[at:at + MIB], at


def a_commit_without_space_is_tried_again(lab, macs):
    data = random.randbytes(WRITTEN)
    unclean = update(lab, macs[1], 2, b"not to be kept".ljust(BLOCK))
    assert "not clean" in refused(lab, unclean, "end")
    alone = ends(lab, unclean)
    boot, ballast = without_space(lab, macs[0], data)
    why, edges = lab.boot(boot)["Result"], ends(lab, boot)
    assert edges == [("boot-committing", "ended by an admin"), ("boot-interrupted", why)], edges
    assert lab.stop() == 0
    lab.serve()
    os.truncate(ballast, os.stat(ballast).st_size - 16 * MIB)
    time.sleep(2.5)
    assert ends(lab, boot) == edges, "it was tried where there is too little"
    os.unlink(ballast)
    lab.wait_state(boot, "committed", seconds=10)
    assert ends(lab, boot) == [*edges, ("boot-committing", AGAIN), ("boot-committed", "")], ends(lab, boot)
    reads_as(lab, boot, data)
    assert ends(lab, unclean) == alone and lab.boot(unclean)["State"] == "interrupted"
    lab.run("boot", "discard", unclean)


def others_go_on_meanwhile(lab, macs):
    data, few = random.randbytes(WRITTEN), b"not much".ljust(BLOCK)
    boot, ballast = without_space(lab, macs[0], data)
    other = update(lab, macs[1], 2, few)
    lab.run("boot", "end", other, "--commit")
    assert lab.boot(other)["State"] == "committed", lab.boot(other)
    reads_as(lab, other, few)
    os.unlink(ballast)
    lab.wait_state(boot, "branched", seconds=10)
    assert ends(lab, boot)[2:] == [("boot-committing", AGAIN), ("boot-branched", "")], ends(lab, boot)
    reads_as(lab, boot, data)


def an_admin_decides_meanwhile(lab, macs):
    """Commits in vain, and lets it go on: then it is nobody's to try again."""
    data = random.randbytes(WRITTEN)
    boot, ballast = without_space(lab, macs[0], data)
    assert "tried again by itself when " in refused(lab, boot, "commit")
    lab.run("boot", "resume", boot)
    lab.run("boot", "cancel", boot)
    os.unlink(ballast)
    time.sleep(2.5)
    assert [what for what, _ in ends(lab, boot)] == 2 * ["boot-committing", "boot-interrupted"] + ["boot-interrupted"]
    assert lab.boot(boot)["State"] == "interrupted"
    lab.run("boot", "commit", boot)
    reads_as(lab, boot, data)
    boot, ballast = without_space(lab, macs[0], data[::-1])
    lab.run("boot", "discard", boot)
    os.unlink(ballast)
    time.sleep(2.5)
    assert lab.boot(boot)["State"] == "discarded"


def what_fails_again_is_left_alone(lab, macs):
    """It is the kernel that finds no space, whatever is free where the images lie."""
    lab.image("root", lab.ext4(16))
    lab.run("setup", "create", "root", "--owner", "alice", "--image", "root")
    boot = lab.run("boot", "queue", "lab-1", "root", "--update")
    ballast, full = fill(lab, 32 * MIB, "images"), None
    with lab.nbd(macs[0]) as h:
        h.pwrite(b"more".ljust(BLOCK), 8 * MIB)
        lab.wait_state(boot, "running")
        until("the script that waits", lambda: "/boot/wait-" in lab.script(macs[0]))
        full = fill(lab, 0, "tftp")
        assert "No space left" in refused(lab, boot, "end", "--commit")
    time.sleep(2.5)
    assert len(ends(lab, boot)) == 2, ends(lab, boot)
    os.unlink(ballast)
    until("it is tried again", lambda: len(ends(lab, boot)) == 4, seconds=10)
    time.sleep(2.5)
    assert [what for what, _ in ends(lab, boot)] == 2 * ["boot-committing", "boot-interrupted"], ends(lab, boot)
    os.unlink(full)
    assert lab.run("boot", "commit", boot) == f"root@{lab.versions('root')[0]}"
    assert len(lab.versions("root")) == 2


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

if mounts:
    with Lab({"access": {"check": "none"}}) as lab:
        folders = {f"{lab.dir}/state/{folder}": size for folder, size in (("images", "300m"), ("tftp", "1m"))}
        for folder, size in folders.items():
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
        macs = [lab.machine(n) for n in (1, 2)]
        lab.image("disk", lab.file("disk.raw", SIZE, b"base" * 1000))
        lab.run("setup", "create", "disk", "--owner", "alice", "--image", "disk")
        lab.serve()
        for story in (a_commit_without_space_is_tried_again, others_go_on_meanwhile, an_admin_decides_meanwhile,
                      what_fails_again_is_left_alone):
            story(lab, macs)
            print("ok -", story.__name__, flush=True)
        assert lab.stop() == 0
        for folder in folders:
            subprocess.run(["umount", folder], check=True)
