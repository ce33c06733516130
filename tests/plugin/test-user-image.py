#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A user's data after an unclean end: the machine's next boot goes on with what was written, as a power cut left it, wherever
the server dies on the way; and only there, and only where nothing is hidden by it."""
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import nbd

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import crash  # noqa: E402
from lab import CommandFailed, Lab, until  # noqa: E402

AT = 12 << 20  # free space of the file systems
SETUP = "at-home"


def refused(lab, status, text, *words):
    try:
        lab.run(*words)
    except CommandFailed as failed:
        assert failed.status == status and text in failed.stderr, failed
        return
    raise AssertionError(f"{words} was not refused")


def catalog(lab, sql, *values):
    with contextlib.closing(sqlite3.connect(f"{lab.dir}/state/catalog.db", timeout=10)) as c:
        with c:
            return c.execute(sql, values).fetchall()


def queue(lab, *options, machine="lab-1", setup=SETUP):
    return int(lab.run("--quiet", "boot", "queue", machine, setup, *options))


def folder(lab, boot, disk=""):
    return f"{lab.dir}/state/overlays/{boot}/{disk}"


def events(lab, boot):
    return [(e["What"], e["Detail"]) for e in lab.json("log", "--boot", str(boot))]


def write(lab, export, data, at=AT):
    """A machine that mounts the file system, writes, and loses power."""
    h = lab.connect(export)
    h.pwrite(lab.mounted(lab.root), 0)
    h.pwrite(data.ljust(4096), at)
    h.flush()
    del h


def lose_power(lab, *options, data=b"before the power cut", mac=None):
    """A boot that ended so: interrupted."""
    boot = queue(lab, *options)
    write(lab, f"{mac or lab.mac}/home", data)
    lab.wait_state(boot, "running")
    refused(lab, 4, "is interrupted", "boot", "end", str(boot))
    return boot


def reads(lab, data, mac=None, at=AT):
    with lab.nbd(f"{mac or lab.mac}/home") as h:
        assert h.pread(len(data), at) == data, h.pread(len(data), at)


def end_cleanly(lab, boot, export=None):
    with lab.nbd(export or f"{lab.mac}/home") as h:
        h.pwrite(lab.unmounted(lab.root), 0)
    return lab.run("boot", "end", str(boot))


def start_over(lab):
    """What is left of a story."""
    for b in lab.json("boot", "list"):
        if b["State"] in ("leased", "running", "interrupted"):
            lab.run("boot", "discard", str(b["ID"]))
        elif b["State"] == "queued":
            lab.run("boot", "cancel", str(b["ID"]))
    for b in lab.json("boot", "list"):
        if b["State"] == "interrupted":
            lab.run("boot", "discard", str(b["ID"]))


def the_next_boot_goes_on_with_it(lab):
    versions = lab.versions("home")
    old = lose_power(lab)
    assert os.path.exists(folder(lab, old, 1))
    new = queue(lab)
    write(lab, f"{lab.mac}/home", b"and after it", AT + 4096)
    reads(lab, b"before the power cut")
    why = f"what was written to home goes on in boot {new}"
    shown = lab.boot(old)
    assert shown["State"] == "discarded" and shown["Result"] == why, shown
    assert ("boot-discarded", why) in events(lab, old), events(lab, old)
    assert ("boot-took-over", f"what boot {old} has written to home") in events(lab, new), events(lab, new)
    assert not os.path.exists(folder(lab, old)) and os.path.exists(folder(lab, new, 1))
    made = end_cleanly(lab, new)
    assert made.startswith("home@") and len(lab.versions("home")) == len(versions) + 1, made
    with lab.nbd("image/" + made) as h:
        assert h.pread(20, AT) == b"before the power cut" and h.pread(12, AT + 4096) == b"and after it"
    assert lab.boot(new)["State"] == "committed" and not os.path.exists(folder(lab, new))


def again_and_again(lab):
    boots = [lose_power(lab, data=b"first")]
    for n in range(3):
        boots.append(queue(lab))
        write(lab, f"{lab.mac}/home", b"%d" % n, AT + 4096 * (n + 1))
        lab.wait_state(boots[-1], "running")
        refused(lab, 4, "is interrupted", "boot", "end", str(boots[-1]))
        assert [lab.boot(b)["State"] for b in boots] == ["discarded"] * (n + 1) + ["interrupted"]
    made = lab.run("boot", "commit", str(boots[-1]))
    with lab.nbd("image/" + made) as h:
        assert [h.pread(1, AT + 4096 * n) for n in range(4)] == [b"f", b"0", b"1", b"2"]


def another_machine_takes_nothing(lab):
    old = lose_power(lab, data=b"waits")
    there = queue(lab, machine="lab-2")
    with lab.nbd(f"{lab.mac2}/home") as h:
        assert not h.is_read_only() and h.pread(5, AT) != b"waits"
        lab.wait_state(old, "interrupted")
        here = queue(lab)  # while the other one writes
        with lab.nbd(f"{lab.mac}/home") as mine:
            assert mine.is_read_only() and mine.pread(5, AT) != b"waits"
        lab.run("boot", "end", str(here))
        h.pwrite(lab.mounted(lab.root), 0)
        h.pwrite(b"there".ljust(4096), AT)
    end_cleanly(lab, there, f"{lab.mac2}/home")
    here = queue(lab)  # what was done since is not hidden
    reads(lab, b"there")
    lab.run("boot", "end", str(here))
    assert lab.boot(old)["State"] == "interrupted"
    made = lab.run("boot", "commit", str(old))
    assert lab.boot(old)["State"] == "branched"
    with lab.nbd("image/" + made) as h:
        assert h.pread(5, AT) == b"waits"


def what_else_was_written_waits_on(lab):
    """An update of the root and a user's data in one boot."""
    for how in ("commit", "resume"):
        old = queue(lab, "--update")
        update, data = f"update: {how}".encode(), f"data: {how}".encode()
        write(lab, lab.mac, update)
        write(lab, f"{lab.mac}/home", data)
        lab.wait_state(old, "running")
        refused(lab, 4, "is interrupted", "boot", "end", str(old))
        new = queue(lab)
        reads(lab, data)
        with lab.nbd(lab.mac) as h:
            assert h.pread(len(update), AT) != update
        shown = lab.boot(old)
        assert shown["State"] == "interrupted" and [i["Keep"] for i in shown["Images"]] == [True, False], shown
        assert ("boot-handed-over", f"what was written to home goes on in boot {new}") in events(lab, old)
        assert os.path.exists(folder(lab, old, 0)) and not os.path.exists(folder(lab, old, 1))
        made = end_cleanly(lab, new)
        with lab.nbd("image/" + made) as h:
            assert h.pread(len(data), AT) == data
        if how == "resume":
            lab.run("boot", "resume", str(old))
            with lab.nbd(lab.mac) as h, lab.nbd(f"{lab.mac}/home") as home:
                assert home.is_read_only() and h.pread(len(update), AT) == update
                h.pwrite(lab.unmounted(lab.root), 0)
            lab.wait_state(old, "running")
            lab.run("boot", "end", str(old))
        else:
            lab.run("boot", "commit", str(old))
        assert lab.boot(old)["State"] in ("committed", "branched")
        with lab.nbd(f"image/root@{max(lab.versions('root'))}") as h:
            assert h.pread(len(update), AT) == update


def without_the_image_nothing_happens(lab):
    old = lose_power(lab, data=b"stays")
    boot = queue(lab, setup="plain")
    with lab.nbd(lab.mac) as h:
        h.pread(8 << 20, 0)
    lab.run("boot", "end", str(boot))
    assert lab.boot(old)["State"] == "interrupted" and os.path.exists(folder(lab, old, 1))
    boot = queue(lab, "--update", setup="plain")
    with lab.nbd(lab.mac) as h:
        h.pread(8 << 20, 0)
    lab.run("boot", "end", str(boot))
    boot = queue(lab)
    reads(lab, b"stays")


def a_machine_that_never_came_loses_nothing(lab):
    old = lose_power(lab, data=b"still here")
    new = queue(lab)
    with lab.nbd(f"{lab.mac}/home") as h:
        h.pread(512, 0)
        assert lab.boot(new)["State"] == "leased"
    shown = lab.wait_state(new, "queued")
    assert shown["Resumed"] and lab.boot(old)["State"] == "discarded", shown
    lab.stop(signal.SIGKILL)
    lab.serve()
    reads(lab, b"still here")
    lab.wait_state(new, "queued")
    lab.run("boot", "cancel", str(new))
    assert lab.boot(new)["State"] == "interrupted"
    later = queue(lab)
    reads(lab, b"still here")
    assert lab.boot(new)["Result"] == f"what was written to home goes on in boot {later}"


def what_a_commit_has_written_is_left_to_it(lab):
    """The catalog fails after the layer has got its name."""
    old = lose_power(lab, data=b"published")
    catalog(lab, "CREATE TRIGGER broken BEFORE INSERT ON version BEGIN SELECT RAISE(ABORT, 'a test'); END")
    refused(lab, 4, "a test", "boot", "commit", str(old))
    catalog(lab, "DROP TRIGGER broken")
    new = queue(lab)
    with lab.nbd(f"{lab.mac}/home") as h:
        assert h.pread(9, AT) != b"published"
    assert f"what boot {old} of lab-1 has written to home stays there: its commit had begun" in lab.log()
    lab.run("boot", "end", str(new))
    lab.run("boot", "commit", str(old))
    new = queue(lab)
    reads(lab, b"published")


def killed_on_the_way(lab):
    """The states in between, made by hand: before the move, and between that and the catalog."""
    for moved in (False, True):
        old = lose_power(lab, data=b"in between")
        new = queue(lab)
        with lab.nbd(f"{lab.mac}/home") as h:
            h.pread(512, 0)
        assert lab.boot(new)["State"] == "leased"
        lab.stop(signal.SIGKILL)
        catalog(lab, "UPDATE boot SET state = 'interrupted' WHERE id = ?", old)
        catalog(lab, "UPDATE boot_image SET keep = 1 WHERE boot = ? AND position = 1", old)
        os.mkdir(folder(lab, old))
        if not moved:
            os.rename(folder(lab, new, 1), folder(lab, old, 1))
            os.rmdir(folder(lab, new))
        about = f"boot {new} is about to take over what boot {old} has written to home"
        for words in (("commit",), ("discard",), ("resume",)):
            refused(lab, 4, about, "boot", *words, str(old))
        lab.run("gc")
        assert os.path.exists(folder(lab, new if moved else old, 1))
        lab.serve()
        assert lab.boot(old)["State"] == "discarded" and not os.path.exists(folder(lab, old))
        reads(lab, b"in between")
        made = end_cleanly(lab, new)
        with lab.nbd("image/" + made) as h:
            assert h.pread(10, AT) == b"in between"


def dies(lab, tracer):
    """Whether the server does, while a machine begins the next boot."""
    lab.serve(before=tracer)
    with contextlib.suppress(nbd.Error):
        reads(lab, b"at each call")
    with contextlib.suppress(subprocess.TimeoutExpired):
        lab.server.wait(0.2)
    died = not lab.alive()
    lab.stop()
    return died


def killed_at_each_call(lab):
    """Each call on the folders of the two boots is the last one of the server."""
    if not crash.can_trace():
        print("# strace cannot trace here", flush=True)
        return
    state, before, seen = f"{lab.dir}/state", f"{lab.dir}/before", {}
    old = lose_power(lab, data=b"at each call")
    new = queue(lab)
    lab.stop()
    shutil.move(state, before)
    paths = [word for b in (old, new) for p in (f"{b}", f"{b}/1", f"{b}/1/map") for word in ("-P", f"{state}/overlays/{p}")]
    for call in ("ftruncate", "mkdir", "rename", "fsync", "rmdir", "unlinkat"):
        died = True
        while died:
            shutil.rmtree(state, ignore_errors=True)
            shutil.copytree(before, state)
            n = seen.get(call, 0) + 1
            died = dies(lab, ["strace", "-D", "-f", "-qq", "-o", "/dev/null", *paths, *crash.injection("killed", call, n)])
            seen[call] = n - (not died)
            lab.serve()
            reads(lab, b"at each call")
            assert lab.boot(old)["State"] == "discarded" and lab.boot(new)["State"] == "leased"
            lab.stop()
            assert os.path.exists(folder(lab, new, 1)) and not os.path.exists(folder(lab, old)), (call, n)
    lab.serve()
    assert all(seen[call] for call in ("ftruncate", "mkdir", "rename", "fsync")), seen
    print(f"# killed at {seen}", flush=True)


def an_abandoned_boot():
    with a_lab({"boot": {"grace": "1s", "abandon": "3s"}, "access": {"check": "none"}}) as lab:
        old = queue(lab)
        write(lab, f"{lab.mac}/home", b"abandoned")
        lab.wait_state(old, "interrupted")
        new = queue(lab)
        reads(lab, b"abandoned")
        assert lab.boot(old)["State"] == "discarded" and lab.boot(new)["State"] == "leased"
        assert lab.stop() == 0
    print("ok - an_abandoned_boot", flush=True)


@contextlib.contextmanager
def a_lab(settings):
    with Lab(settings) as lab:
        lab.mac, lab.mac2, lab.root = lab.machine(1), lab.machine(2), lab.ext4(16)
        lab.image("root", lab.root)
        lab.image("home", lab.root, "--kind", "user")
        lab.run("setup", "create", SETUP, "--owner", "alice", "--image", "root", "--image", "home")
        lab.run("setup", "create", "plain", "--owner", "alice", "--image", "root")
        lab.serve()
        yield lab


with a_lab({"boot": {"grace": "1h", "lease": "5s"}, "access": {"check": "none"}}) as lab:
    for story in (the_next_boot_goes_on_with_it, again_and_again, another_machine_takes_nothing,
                  what_else_was_written_waits_on, without_the_image_nothing_happens,
                  a_machine_that_never_came_loses_nothing, what_a_commit_has_written_is_left_to_it, killed_on_the_way,
                  killed_at_each_call):
        story(lab)
        start_over(lab)
        print("ok -", story.__name__, flush=True)
    assert lab.stop() == 0
an_abandoned_boot()
