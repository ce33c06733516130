#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Old versions go by themselves, by the server and by gc, as [store] keep-versions and keep-days say; never one that
somebody needs."""
import glob
import os
import sqlite3
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import Lab, until  # noqa: E402

ADDRESS = "127.0.1.91"
DAY = 86400


def again(lab, root, text):
    """One more version."""
    with open(root, "r+b") as f:
        f.seek(20 << 20)
        f.write(text * 300000)
    return lab.image("debian", root)


def files(lab, image="debian"):
    uuid = lab.json("image", "show", image)["UUID"]
    found = glob.glob(f"{lab.dir}/state/images/{uuid}/*.img")
    return sorted(int(os.path.basename(path)[:-4]) for path in found)


def make_older(lab, days):
    db = sqlite3.connect(f"{lab.dir}/state/catalog.db")
    db.execute("UPDATE version SET made = made - ?", (days * DAY,))
    db.commit()
    db.close()


def removed(lab, actor):
    return [e["Object"] for e in lab.json("log", "--what", "version-removed") if e["Actor"] == actor]


def settings(lab, versions, days=0):
    lab.settings["store"].update({"keep-versions": str(versions), "keep-days": str(days)})
    lab.write_conf()


def by_gc():
    with Lab() as lab:
        root = lab.ext4(40)
        made = [lab.image("debian", root)] + [again(lab, root, text) for text in (b"a", b"b", b"c")]
        assert [r for r in lab.json("gc", "--dry-run") if r["Code"] == "old-version"] == [], "nothing is said of old ones"
        settings(lab, 2)
        dry = [r for r in lab.json("gc", "--dry-run") if r["Code"] == "old-version"]
        assert [r["Object"] for r in dry] == [f"image alice/debian@{v}" for v in made[:2]], dry
        assert sum(r["Bytes"] for r in dry) > 0, dry
        assert lab.versions("debian") == made[::-1] and files(lab) == made
        lab.run("gc")
        assert lab.versions("debian") == made[:1:-1] and files(lab) == made[2:]
        assert lab.json("gc") == [], "a second time there is nothing to do"
        # By age: the newest stays whatever happens, and what is young.
        settings(lab, 0, 10)
        lab.run("gc")
        assert lab.versions("debian") == made[:1:-1]
        make_older(lab, 11)
        newest = again(lab, root, b"d")
        make_older(lab, 3)
        lab.run("gc")
        assert lab.versions("debian") == [newest]
        settings(lab, 1, 10)
        newer = again(lab, root, b"e")
        lab.run("gc")
        assert lab.versions("debian") == [newer, newest], "both are younger than that"
        exported = lab.file("out.raw", 0)
        lab.run("image", "export", f"debian@{newest}", exported, "--force")
    print("ok - gc removes what is old")


def by_the_server():
    with Lab() as lab:
        mac = lab.machine(1)
        root = lab.ext4(40)
        first = lab.image("debian", root)
        pegged = again(lab, root, b"p")
        used = again(lab, root, b"u")
        lab.run("setup", "create", "lab", "--owner", "alice", "--image", "debian")
        lab.run("setup", "create", "pegged", "--owner", "alice", "--image", f"debian@{pegged}")
        lab.run("setup", "create", "used", "--owner", "alice", "--image", f"debian@{used}")
        lab.hook("old", mac, ADDRESS, "lab-1")
        settings(lab, 1)
        other = lab.machine(2)
        lab.serve()
        until("the first version has gone", lambda: lab.versions("debian") == [used, pegged])
        assert removed(lab, "server") == [f"image alice/debian@{first}"]
        # One that a machine runs is not taken, also when no setup has it any more.
        lab.run("boot", "queue", "lab-2", "used")
        with lab.nbd(other) as running:
            was = bytes(running.pread(300000, 20 << 20))
            running.pwrite(b"x" * 4096, 0)
            until("it runs", lambda: lab.json("boot", "list", "lab-2")[0]["State"] == "running")
            lab.run("setup", "peg", "used", "debian@latest")
            boot = lab.run("boot", "queue", "lab-1", "lab", "--update")
            export = until("a script", lambda: lab.export_of_script(mac))
            with lab.nbd(export, ADDRESS) as h:
                h.pwrite(lab.mounted(root), 0)
                h.pwrite(b"news", 30 << 20)
                h.pwrite(lab.unmounted(root), 0)
            lab.run("boot", "end", boot)
            newest = lab.versions("debian")[0]
            assert newest > used
            lab.run("config", "reload")
            assert lab.versions("debian") == [newest, used, pegged], "both are held"
            assert bytes(running.pread(300000, 20 << 20)) == was
        lab.run("boot", "end", "lab-2")
        # After the next commit nobody holds it any more.
        boot = lab.run("boot", "queue", "lab-1", "lab", "--update")
        export = until("another script", lambda: lab.export_of_script(mac) not in ("", export) and lab.export_of_script(mac))
        with lab.nbd(export, ADDRESS) as h:
            h.pwrite(lab.mounted(root), 0)
            h.pwrite(b"newer", 31 << 20)
            h.pwrite(lab.unmounted(root), 0)
        lab.run("boot", "end", boot)
        newer = lab.versions("debian")[0]
        until("the rest has gone", lambda: lab.versions("debian") == [newer, pegged])
        until("their files too", lambda: files(lab) == [pegged, newer])
        lab.run("image", "verify", "debian")
        # Another configuration is taken over.
        again(lab, root, b"z")
        assert len(lab.versions("debian")) == 3
        settings(lab, 5)
        lab.run("config", "reload")
        assert len(lab.versions("debian")) == 3
    print("ok - the server removes what is old, and nothing that is needed")


by_gc()
by_the_server()
