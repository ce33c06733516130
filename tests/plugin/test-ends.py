#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Ends of boots at bad moments: servers killed in the middle, two at once, full file systems, late connections."""
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import nbd

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import LABBOOT, Lab, in_a_mount_namespace, until  # noqa: E402

MIB = 1 << 20
SIZE = 128 * MIB
DIRTY = 48 * MIB
ADDRESS = "127.0.1.91"


def queue(lab, machine=1):
    return int(lab.run("boot", "queue", f"lab-{machine}", "disk", "--update"))


def state_of(lab, boot):
    with contextlib.closing(sqlite3.connect(f"file:{lab.dir}/state/catalog.db?mode=ro", uri=True, timeout=10)) as c:
        return c.execute("SELECT state FROM boot WHERE id = ?", (boot,)).fetchone()[0]


def write_much(lab, mac, seed):
    data = random.Random(seed).randbytes(DIRTY)
    with lab.nbd(mac) as h:
        for at in range(0, DIRTY, 8 * MIB):
            h.pwrite(data[at:at + 8 * MIB], at)
        h.flush()
    return data


def holds(lab, export, data):
    with lab.nbd(export) as h:
        return all(h.pread(8 * MIB, at) == data[at:at + 8 * MIB] for at in range(0, DIRTY, 8 * MIB))


def ask_to_end(lab, boot, *args):
    return subprocess.Popen([LABBOOT, "--config", lab.conf, "boot", "end", str(boot), *args],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(command, said=None):
    out, err = command.communicate(timeout=60)
    assert command.returncode == 0, (command.returncode, err)
    if said is not None:
        said.append(err)
    return out.strip()


def kill_in_commit(lab, boot, delay):
    end = time.monotonic() + 20
    while state_of(lab, boot) not in ("committing", "committed"):
        assert time.monotonic() < end, state_of(lab, boot)
        time.sleep(0.002)
    time.sleep(delay)
    lab.stop(signal.SIGKILL)


def one_version_more(lab, boot, before, data):
    lab.wait_state(boot, "committed")
    after = lab.versions("disk")
    assert len(after) == len(before) + 1, (before, after)
    uuid = lab.json("image", "show", "disk")["UUID"]
    layers = [f for f in os.listdir(f"{lab.dir}/state/images/{uuid}") if f.endswith(".img")]
    assert len(layers) == len(after), (layers, after)
    assert holds(lab, "image/disk", data), "the version is not what was written"
    until("the overlay is gone", lambda: not os.path.exists(f"{lab.dir}/state/overlays/{boot}"))


def the_command_finishes_what_a_killed_server_began(lab, macs):
    for n, delay in enumerate((0, 0.1, 0.3)):
        boot, before = queue(lab), lab.versions("disk")
        data = write_much(lab, macs[0], n)
        command = ask_to_end(lab, boot, "--commit")
        kill_in_commit(lab, boot, delay)
        made = finished(command)
        lab.serve()
        one_version_more(lab, boot, before, data)
        assert made == f"disk@{max(lab.versions('disk'))}", made


def a_restarted_server_finishes_as_it_was_asked(lab, macs):
    """The disk is raw, so that only the admin's word commits it; the command that gave it is stopped meanwhile."""
    for n, delay in enumerate((0, 0.05, 0.2, 0.4)):
        boot, before = queue(lab), lab.versions("disk")
        data = write_much(lab, macs[0], 10 + n)
        command = ask_to_end(lab, boot, "--commit")
        until("the request is there", lambda: state_of(lab, boot) in ("committing", "committed"))
        command.send_signal(signal.SIGSTOP)
        kill_in_commit(lab, boot, delay)
        lab.serve()
        one_version_more(lab, boot, before, data)
        command.send_signal(signal.SIGCONT)
        finished(command)


def a_late_request_does_not_hold_an_ended_boot(lab, macs):
    boot = queue(lab)
    with lab.nbd(macs[0]) as h:
        h.pwrite(b"kept".ljust(4096), 0)
        lab.wait_state(boot, "running")
    lab.stop()
    lab.serve()
    idle = lab.connect(macs[0])  # joins, and has not asked for anything when the boot ends
    with contextlib.suppress(Exception):
        lab.run("boot", "end", str(boot))
    lab.wait_state(boot, "interrupted")
    try:
        idle.pread(512, 0)
        raise AssertionError("an ended boot was read")
    except nbd.Error:
        pass
    lab.run("boot", "end", str(boot), "--commit")
    assert lab.boot(boot)["State"] == "committed"


def an_admin_who_came_first_does_not_write_beside_the_machine(lab, macs):
    boot = queue(lab)
    admin = lab.connect(macs[0])
    with lab.nbd(macs[0], ADDRESS) as machine:
        machine.pwrite(b"machine".ljust(4096), 0)
        try:
            admin.pwrite(b"admin".ljust(4096), 0)
            raise AssertionError("an admin wrote beside the machine")
        except nbd.Error as e:
            assert e.errno in ("EROFS", "EPERM"), e
        assert machine.pread(7, 0) == b"machine"
    admin.shutdown()
    lab.run("boot", "end", str(boot), "--discard")


def two_commits_at_once_make_a_version_and_a_branch(lab, macs):
    boots = [queue(lab, 1), queue(lab, 2)]
    before = lab.versions("disk")
    data = [write_much(lab, mac, 20 + i) for i, mac in enumerate(macs[:2])]
    commands = [ask_to_end(lab, boot, "--commit") for boot in boots]
    said = []
    made = [finished(c, said) for c in commands]
    states = sorted(lab.boot(boot)["State"] for boot in boots)
    assert states == ["branched", "committed"], states
    assert len(lab.versions("disk")) == len(before) + 2
    for version, expected in zip(made, data):
        assert holds(lab, f"image/{version}", expected)
    branch = next(b for b in map(lab.boot, boots) if b["State"] == "branched")
    version, head = branch["Images"][0]["Result"], next(v for v in lab.versions("disk") if v != branch["Images"][0]["Result"])
    states = {int(row.split()[0]): row for row in lab.run("image", "versions", "disk").splitlines()[1:]}
    assert " branch " in states[version] and " latest " in states[head], states
    assert lab.json("log", "--boot", str(branch["ID"]), "--what", "boot-branched"), "the trail does not say so"
    assert f"boot {branch['ID']} of {branch['Machine']['Name']}: branched disk@{version}" in lab.log()
    warned = [c.args[-2] for c, err in zip(commands, said) if "this one is a branch, and not the latest" in err]
    assert warned == [str(branch["ID"])], said


def a_commit_may_use_the_reserve(lab, macs):
    """What was written before it ran out becomes a version all the same."""
    boot, before = queue(lab), lab.versions("disk")
    data = write_much(lab, macs[0], 40)
    for reserve in ("1000T", "0"):
        lab.settings["store"]["reserve"] = reserve
        lab.write_conf()
        lab.run("config", "reload")
        if reserve != "0":
            finished(ask_to_end(lab, boot, "--commit"))
            one_version_more(lab, boot, before, data)


def a_full_store_interrupts_and_keeps(lab, macs):
    ballast = f"{lab.dir}/state/images/ballast"
    boot, before = queue(lab), lab.versions("disk")
    data = write_much(lab, macs[0], 30)
    with open(ballast, "wb") as f:
        free = os.statvfs(ballast)
        os.posix_fallocate(f.fileno(), 0, free.f_bavail * free.f_frsize - 8 * MIB)
    command = ask_to_end(lab, boot, "--commit")
    _, err = command.communicate(timeout=60)
    assert command.returncode == 1 and "No space" in err, (command.returncode, err)
    assert lab.boot(boot)["State"] == "interrupted" and lab.versions("disk") == before
    os.unlink(ballast)
    lab.wait_state(boot, "committed")  # by the server itself
    one_version_more(lab, boot, before, data)


def a_quota_stops_its_own_client(lab, macs):
    boots = [queue(lab, 1), queue(lab, 2)]
    full = lab.connect(macs[0])
    with lab.nbd(macs[1]) as other:
        at = 0
        try:
            while at < SIZE:
                full.pwrite(random.randbytes(MIB), at)
                at += MIB
            raise AssertionError("the quota was not met")
        except nbd.Error as e:
            assert e.errno == "ENOSPC", e
        assert 56 * MIB <= at < 64 * MIB, at
        other.pwrite(b"unhurt".ljust(4096), 0)
        assert other.pread(6, 0) == b"unhurt" and len(full.pread(4096, 0)) == 4096
    full.shutdown()
    for boot in boots:
        lab.run("boot", "end", str(boot), "--discard")


mounts = in_a_mount_namespace()
with Lab({"overlay": {"quota": "64M"}}) as lab:
    images = f"{lab.dir}/state/images"
    if mounts:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500m", "none", images], check=True)
    macs = [lab.machine(n) for n in (1, 2)]
    lab.hook("add", macs[0], ADDRESS, "lab-1")
    lab.image("disk", lab.file("disk.raw", SIZE))
    lab.run("setup", "create", "disk", "--owner", "alice", "--image", "disk")
    lab.serve()
    stories = [the_command_finishes_what_a_killed_server_began, a_restarted_server_finishes_as_it_was_asked,
               a_late_request_does_not_hold_an_ended_boot,
               an_admin_who_came_first_does_not_write_beside_the_machine,
               two_commits_at_once_make_a_version_and_a_branch, a_commit_may_use_the_reserve, a_quota_stops_its_own_client]
    for story in stories + ([a_full_store_interrupts_and_keeps] if mounts else []):
        story(lab, macs)
        print("ok -", story.__name__, flush=True)
    assert lab.stop() == 0
    if mounts:
        subprocess.run(["umount", images], check=True)
