# SPDX-License-Identifier: BSD-3-Clause
"""What the store's commands do to an image of four versions, and what must hold whenever one of them was cut off: shared by
those tests that cut them off."""
import collections
import glob
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess

import crash
from lab import LABBOOT, until

MIB = 1 << 20
SIZE = 3 * MIB


def digest(data):
    return hashlib.sha256(data).hexdigest()


# before: the state that it begins with. result: the digest of the version that it makes, or None. gone: versions that may
# be missing after it.
Story = collections.namedtuple("Story", "name before words result gone")


class Bench:
    """An image of four versions, and the states that the stories begin with."""

    def __init__(self, lab):
        self.lab = lab
        self.model = {}  # digest of each version
        self.order = []

    def command(self, *words):
        # One core: so many workers there are, and calls come in the same order each time.
        return ["taskset", "-c", "0", LABBOOT, "--config", self.lab.conf, *words]

    def save(self, name):
        shutil.copytree(f"{self.lab.dir}/state", f"{self.lab.dir}/{name}", symlinks=True)

    def restore(self, name):
        for d in ("state", "run"):
            shutil.rmtree(f"{self.lab.dir}/{d}", ignore_errors=True)
        shutil.copytree(f"{self.lab.dir}/{name}", f"{self.lab.dir}/state", symlinks=True)

    def make(self):
        rng = random.Random(7)
        disk = bytearray(rng.randbytes(SIZE))
        for n in range(4):
            disk[n * 400000:n * 400000 + 300000] = rng.randbytes(300000)
            path = self.lab.file("disk.raw", SIZE, bytes(disk))
            version = self.lab.image("data", path)
            self.order.append(version)
            self.model[version] = digest(disk)
        self.lab.run("setup", "create", "lab", "--owner", "alice", "--image", "data,update")
        self.save("plain")
        disk[MIB:2 * MIB] = rng.randbytes(MIB)
        self.lab.file("next.raw", SIZE, bytes(disk))
        self.next = digest(disk)
        self.lab.run("image", "rollback", "data", "--to", str(self.order[0]))
        self.save("rolled-back")
        self.with_rubbish()
        self.written()

    def with_rubbish(self):
        """What gc is for: of each kind, and a retired layer that is needed in part."""
        self.restore("plain")
        self.lab.run("image", "remove", f"data@{self.order[1]}", "--force")
        folder = glob.glob(f"{self.lab.dir}/state/images/*/")[0]
        for name in ("tmp/11111111-1111-4111-8111-111111111111", "7.hot"):
            with open(folder + name, "wb") as f:
                f.write(b"x" * 5000)
        self.lab.image("data", f"{self.lab.dir}/next.raw")
        newest = self.lab.versions("data")[0]
        db = sqlite3.connect(f"{self.lab.dir}/state/catalog.db")
        db.execute("UPDATE image SET head = ? WHERE name = 'data'", (self.order[3],))
        db.execute("DELETE FROM version WHERE number = ?", (newest,))
        db.commit()
        db.close()
        self.save("rubbish")

    def written(self):
        """A boot that wrote, whose server was killed."""
        self.restore("plain")
        mac = self.lab.machine(1, "--default-setup", "lab")
        with open(f"{self.lab.dir}/disk.raw", "rb") as f:
            disk = bytearray(f.read())
        rng = random.Random(8)
        self.lab.serve()
        with self.lab.nbd(mac) as h:
            for at in (0, 700000, 2 * MIB):
                data = rng.randbytes(100000)
                disk[at:at + len(data)] = data
                h.pwrite(data, at)
            h.flush()
        until("it runs", lambda: self.lab.boot(1)["State"] == "running")
        self.lab.stop(signal.SIGKILL)
        self.committed = digest(disk)
        self.save("written")

    def stories(self):
        v, c = self.order, self.command
        return [
            Story("import", "plain", c("image", "import", "data", f"{self.lab.dir}/next.raw"), self.next, []),
            Story("commit", "written", c("boot", "end", "1", "--commit"), self.committed, []),
            Story("remove a version that others need", "plain", c("image", "remove", f"data@{v[1]}"), None, [v[1]]),
            Story("remove a version that nobody needs", "rolled-back", c("image", "remove", f"data@{v[3]}"), None, [v[3]]),
            Story("remove the image", "plain", c("image", "remove", "data", "--force"), None, v),
            Story("rollback", "plain", c("image", "rollback", "data", "--to", str(v[1])), None, []),
            Story("keep", "plain", c("image", "keep", "data", "--last", "1"), None, v[:3]),
            Story("gc", "rubbish", c("gc"), None, [v[1]]),
            Story("flatten the latest", "plain", c("image", "flatten", "data"), None, []),
            Story("flatten one that others need", "plain", c("image", "flatten", f"data@{v[1]}", "--level", "5"), None, []),
        ]

    def run_ok(self, *words):
        r = crash.run(self.command(*words))
        assert r.returncode == 0, f"{' '.join(words)}: {r.returncode}: {r.stdout}{r.stderr}"
        return r.stdout

    def versions(self):
        db = sqlite3.connect(f"file:{self.lab.dir}/state/catalog.db?mode=ro", uri=True)
        try:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            return [n for n, in db.execute("SELECT v.number FROM version v JOIN image i ON i.uuid = v.image "
                                           "WHERE i.name = 'data' ORDER BY 1")]
        finally:
            db.close()

    def check_versions(self, story):
        """Each one is what it was, or what the story makes; none is missing that has no reason to."""
        now = self.versions()
        known = self.model if story.before != "rubbish" else {k: d for k, d in self.model.items() if k != self.order[1]}
        assert set(known) - set(now) <= set(story.gone), f"versions {now}"
        for version in now:
            out = subprocess.run(self.command("image", "export", f"data@{version}", "-"), capture_output=True, timeout=60)
            assert out.returncode == 0, out.stderr
            assert digest(out.stdout) == known.get(version, story.result), f"version {version}"
        return now

    def check_sound(self):
        """But for a script: there is no kernel on these disks."""
        found = json.loads(crash.run(self.command("--json", "fsck", "--data")).stdout)
        assert [f for f in found if f["Code"] != "script-missing"] == [], found

    def check_tidy(self, story, now):
        """Layers of versions, and retired ones that a version needs, are all there is."""
        assert self.run_ok("--json", "gc").strip() == "[]", "gc finds more"
        files = [os.path.relpath(os.path.join(folder, name), f"{self.lab.dir}/state/images").split("/", 1)[1]
                 for folder, _, names in os.walk(f"{self.lab.dir}/state/images") for name in names
                 if not (folder.endswith("/tmp") and os.path.getsize(os.path.join(folder, name)) == 0)]
        # A folder or file that is empty and young may be about to be used: gc leaves it.
        assert sorted(f for f in files if not f.startswith("retired/") and f != "lock") == [f"{v}.img" for v in now], files
        assert now or not any(f.startswith("retired/") for f in files), files
        if story.before != "written":
            assert os.listdir(f"{self.lab.dir}/state/overlays") == []

    def check_after(self, story, acknowledged):
        """At once every version reads as it must; after the same command, gc and fsck all is in order. acknowledged: the
        command had said that it was done."""
        at_once = self.check_versions(story)
        if acknowledged:
            assert not set(story.gone) & set(at_once) and (not story.result or set(at_once) - set(self.model)), at_once
        again = crash.run(story.words)
        done = again.returncode in (3, 4)  # refused by what it had done before
        assert again.returncode == 0 or done, f"again: {again.stderr}"
        self.run_ok("gc")
        now = self.check_versions(story)
        assert not set(story.gone) & set(now), f"versions {now}"
        if story.result:
            made = [version for version in now if version not in self.model]
            twice = story.name == "import" and set(at_once) - set(self.model)
            assert len(made) == 1 + bool(twice), f"versions {now}"
        if story.name == "commit":
            assert os.listdir(f"{self.lab.dir}/state/overlays") == [], "an overlay is left"
        self.check_sound()
        self.check_tidy(story, now)
