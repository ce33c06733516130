#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Images of type temporal: a scratch disk that goes on from boot to boot, until it was not used for some days."""
import contextlib
import os
import random
import signal
import sqlite3
import sys
import threading

import nbd

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import CommandFailed, Lab, until  # noqa: E402

MIB = 1 << 20
SIZE = 32 * MIB
ADDRESS = "127.0.1.61"


def queue(lab, *args):
    return int(lab.run("boot", "queue", "lab-1", "disks", *args))


def kept(lab, machine="lab-1"):
    return lab.json("machine", "show", machine)["Temporal"]


def folders(lab):
    return sorted(f for f in os.listdir(f"{lab.dir}/state/overlays") if f.startswith("temporal-"))


def end(lab, boot, *args):
    lab.run("boot", "end", str(boot), *args)
    until("the boot's overlays are gone", lambda: not os.path.exists(f"{lab.dir}/state/overlays/{boot}"))


def refused(lab, status, text, *args):
    try:
        lab.run(*args)
    except CommandFailed as e:
        assert e.status == status and text in e.stderr, e
        return
    raise AssertionError(f"{args} was accepted")


def events(lab, text):
    with contextlib.closing(sqlite3.connect(f"file:{lab.dir}/state/catalog.db?mode=ro", uri=True, timeout=10)) as c:
        return c.execute("SELECT count(*) FROM event WHERE what = 'temporal-dropped' AND detail LIKE ?",
                         (f"%{text}",)).fetchone()[0]


def write(lab, export, data, at, address=None):
    with lab.nbd(export, address) as h:
        h.pwrite(data, at)


def read(lab, export, n, at):
    with lab.nbd(export) as h:
        return h.pread(n, at)


def it_goes_on_however_a_boot_ends(lab, mac):
    scratch = mac + "/scratch"
    boot = queue(lab)
    write(lab, scratch, b"first".ljust(4096), 0)
    write(lab, mac, b"lost".ljust(4096), 0)
    end(lab, boot)
    assert len(kept(lab)) == 1 and kept(lab)[0]["Name"] == "scratch" and len(folders(lab)) == 1
    for how in ((), ("--discard",)):
        boot = queue(lab, "--update")
        assert read(lab, scratch, 5, 0) == b"first"
        write(lab, scratch, b"more".ljust(4096), 8192)
        end(lab, boot, *how)
    assert lab.versions("scratch") == [VERSION], "it became a version"
    boot = queue(lab)
    assert read(lab, scratch, 5, 0) == b"first" and read(lab, scratch, 4, 8192) == b"more"
    assert read(lab, mac, 4, 0) == bytes(4), "a scratch boot of the root was kept"
    end(lab, boot)
    assert len(folders(lab)) == 1


def it_stays_on_its_base(lab, mac):
    scratch = mac + "/scratch"
    newer = lab.image("scratch", lab.file("newer.raw", SIZE, b"newer"))
    boot = queue(lab)
    assert lab.boot(boot)["Images"][1]["Version"] == VERSION
    with lab.nbd(scratch) as h:
        assert h.pread(5, 0) == b"first" and h.pread(8, 16 * MIB) == b"the base"
    end(lab, boot)
    for image in (f"scratch@{VERSION}", "scratch"):
        refused(lab, 4, "machine lab-1 keeps what it wrote", "image", "remove", image, "--force")
    other = lab.machine(2)
    boot = int(lab.run("boot", "queue", "lab-2", "disks"))
    assert read(lab, other + "/scratch", 5, 0) == b"newer", "another machine shares it"
    lab.run("boot", "end", str(boot))
    until("what was never written is not kept", lambda: not kept(lab, "lab-2"))
    assert lab.boot(boot)["Images"][1]["Version"] == newer


def acknowledged_writes_survive_killed_servers(lab, mac):
    scratch = mac + "/scratch"
    written = {}
    for n in range(4):
        queue(lab)

        def write_on():
            h = lab.connect(scratch)
            try:
                while True:
                    at = random.randrange(MIB, SIZE // 2) // 4096 * 4096
                    data = random.randbytes(4096)
                    written.pop(at, None)
                    h.pwrite(data, at)
                    written[at] = data
            except nbd.Error:
                pass
        before = len(written)
        writer = threading.Thread(target=write_on)
        writer.start()
        until("much is written", lambda: len(written) > before + 150)
        command = threading.Thread(target=lambda: n % 2 and lab.run("boot", "end", "lab-1"))
        command.start()  # every other time the server dies about the end of the boot
        until("the server died", lambda: lab.stop(signal.SIGKILL) is not None or True)
        writer.join()
        command.join()  # what the server did not end, it ends itself, and holds the server's lock
        lab.serve()
        if lab.boot("lab-1")["State"] in ("leased", "running"):
            lab.run("boot", "end", "lab-1")
        assert len(folders(lab)) == 1, folders(lab)
        queue(lab)
        with lab.nbd(scratch) as h:
            for at, data in written.items():
                assert h.pread(4096, at) == data, f"an acknowledged write at {at} is lost (kill {n})"
            assert h.pread(8, 16 * MIB) == b"the base"
        lab.run("boot", "end", "lab-1")


def the_next_boot_writes_while_the_old_one_reads(lab, mac):
    queue(lab)
    queue(lab)
    first = until("the script names a boot", lambda: lab.export_of_script(mac))
    old = lab.connect(first + "/scratch", ADDRESS)
    old.pwrite(b"old".ljust(4096), 0)
    with lab.nbd(first + "/done", ADDRESS) as done:
        done.pread(1, 0)
    second = until("the script names the next boot", lambda: lab.export_of_script(mac) not in ("", first) and
                   lab.export_of_script(mac))
    with lab.nbd(second + "/scratch", ADDRESS) as new:
        assert new.pread(3, 0) == b"old"
        new.pwrite(b"new".ljust(4096), 0)
        try:
            old.pwrite(b"late".ljust(4096), 0)
            raise AssertionError("an ended boot wrote")
        except nbd.Error as e:
            assert e.errno == "ESHUTDOWN", e
        assert len(old.pread(4096, 0)) == 4096
        assert new.pread(3, 0) == b"new"
    old.shutdown()
    lab.run("boot", "end", "lab-1")


def it_is_dropped_on_request(lab, mac):
    boot = queue(lab)
    write(lab, mac + "/scratch", b"again".ljust(4096), 0)
    lab.wait_state(boot, "running")  # the catalog hears of it a moment later
    refused(lab, 4, f"boot {boot}, which has image scratch, is running", "machine", "set", "lab-1", "--drop-temporal",
            "scratch")
    end(lab, boot)
    lab.run("machine", "set", "lab-1", "--drop-temporal", "alice/scratch")
    assert not kept(lab) and not folders(lab) and events(lab, "asked for") == 1
    refused(lab, 3, "the machine keeps nothing of this image", "machine", "set", "lab-1", "--drop-temporal", "scratch")
    boot = queue(lab)
    assert read(lab, mac + "/scratch", 5, 0) == b"newer"
    end(lab, boot)


def it_is_dropped_after_its_days(lab, mac):
    boot = queue(lab)
    write(lab, mac + "/scratch", b"old".ljust(4096), 0)
    end(lab, boot)
    lab.stop()
    for days, stays in ((6, True), (8, False)):
        with contextlib.closing(sqlite3.connect(f"{lab.dir}/state/catalog.db", timeout=10)) as c:
            c.execute(f"UPDATE temporal SET used = unixepoch() - {days} * 86400")
            c.commit()
        lab.serve()
        if stays:
            boot = int(lab.run("boot", "queue", "lab-2", "disks"))
            read(lab, "52-54-00-00-00-02/scratch", 5, 0)
            lab.run("boot", "end", str(boot))
            until("the server has looked", lambda: not kept(lab, "lab-2"))
            assert folders(lab) and kept(lab), "it was dropped too early"
        else:
            until("it is dropped", lambda: not folders(lab) and not kept(lab))
            assert events(lab, "not used for 7 days") == 1
        if stays:
            lab.stop()
    lab.stop()
    lab.settings["store"]["temporal-days"] = "0"
    lab.write_conf()
    lab.serve()
    boot = queue(lab)
    write(lab, mac + "/scratch", b"short".ljust(4096), 0)
    assert folders(lab)
    lab.run("boot", "end", str(boot))
    until("it goes with its boot", lambda: not folders(lab) and not kept(lab))


def a_cut_off_drop_is_finished(lab, mac):
    lab.stop()
    lab.settings["store"]["temporal-days"] = "7"
    lab.write_conf()
    lab.serve()
    boot = queue(lab)
    write(lab, mac + "/scratch", b"x".ljust(4096), 0)
    end(lab, boot)
    lab.stop(signal.SIGKILL)
    with contextlib.closing(sqlite3.connect(f"{lab.dir}/state/catalog.db", timeout=10)) as c:
        c.execute("DELETE FROM temporal")  # the row has gone, and then came the crash
        c.commit()
    os.mkdir(f"{lab.dir}/state/overlays/temporal-999999")  # not of this catalog
    lab.serve()
    assert folders(lab) == ["temporal-999999"], folders(lab)
    lab.run("machine", "remove", "lab-1")


with Lab() as lab:
    mac = lab.machine(1)
    lab.hook("add", mac, ADDRESS, "lab-1")
    lab.image("root", lab.ext4(16))
    base = lab.file("scratch.raw", SIZE)
    with open(base, "r+b") as f:
        f.seek(16 * MIB)
        f.write(b"the base")
    VERSION = lab.image("scratch", base, "--kind", "temporal")
    lab.run("setup", "create", "disks", "--owner", "alice", "--image", "root", "--image", "scratch")
    lab.serve()
    for story in (it_goes_on_however_a_boot_ends, it_stays_on_its_base, acknowledged_writes_survive_killed_servers,
                  the_next_boot_writes_while_the_old_one_reads, it_is_dropped_on_request, it_is_dropped_after_its_days,
                  a_cut_off_drop_is_finished):
        story(lab, mac)
        print("ok -", story.__name__, flush=True)
    assert lab.stop() == 0
