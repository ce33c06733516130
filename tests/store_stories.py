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


def contents(path):
    with open(path, "rb") as f:
        return f.read()


# before: the state that it begins with. result: the digest of the version that it makes, or None. gone: versions that may
# be missing after it. image: whose versions these are.
Story = collections.namedtuple("Story", "name before words result gone image", defaults=["data"])

# How what was cut off is brought in order.
WAYS = ("again", "gc", "start")


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
            disk[n * 400000:n * 400000 + 600000] = rng.randbytes(600000)
            path = self.lab.file("disk.raw", SIZE, bytes(disk))
            version = self.lab.image("data", path)
            self.order.append(version)
            self.model[version] = digest(disk)
        self.lab.run("setup", "create", "lab", "--owner", "alice", "--image", "data,update")
        self.save("plain")
        disk[MIB:2 * MIB] = rng.randbytes(MIB)
        self.lab.file("next.raw", SIZE, bytes(disk))
        self.next = digest(disk)
        self.lab.ext4(4)
        self.lab.run("image", "rollback", "data", "--to", str(self.order[0]))
        self.save("rolled-back")
        self.with_rubbish()
        self.written()
        self.own_disk()

    def with_rubbish(self):
        """What gc is for: of each kind, and a retired layer that is needed in part."""
        self.restore("plain")
        self.lab.run("image", "remove", f"data@{self.order[1]}", "--force")
        self.lab.image("data", f"{self.lab.dir}/next.raw")
        newest = self.lab.versions("data")[0]
        db = sqlite3.connect(f"{self.lab.dir}/state/catalog.db")
        db.execute("UPDATE image SET head = ? WHERE name = 'data'", (self.order[3],))
        db.execute("DELETE FROM version WHERE number = ?", (newest,))
        db.commit()
        db.close()
        self.lab.machine(1, "--default-setup", "lab")
        self.boot_that_wrote()
        shutil.copytree(f"{self.lab.dir}/state/overlays/1", f"{self.lab.dir}/dead")
        self.lab.run("boot", "end", "1", "--discard")
        shutil.copytree(f"{self.lab.dir}/dead", f"{self.lab.dir}/state/overlays/1")
        folder = glob.glob(f"{self.lab.dir}/state/images/*/retired/..")[0]
        for name in ("tmp/11111111-1111-4111-8111-111111111111", "7.hot"):
            with open(f"{folder}/{name}", "wb") as f:
                f.write(b"x" * 5000)
        shutil.copytree(folder, f"{self.lab.dir}/state/images/22222222-2222-4222-8222-222222222222")
        found = {f["Code"] for f in self.lab.json("gc", "--dry-run")}
        assert found == {"dead-tmp", "dead-overlay", "stray-hot", "stray-image", "stray-layer", "retired-part"}, found
        self.save("rubbish")

    def boot_that_wrote(self):
        """Of the machine with the setup's images; its server was killed. Returns the disk that it saw."""
        disk = bytearray(contents(f"{self.lab.dir}/disk.raw"))
        rng = random.Random(8)
        self.lab.serve()
        with self.lab.nbd("52-54-00-00-00-01") as h:
            for at in (0, 700000, 2 * MIB):
                data = rng.randbytes(100000)
                disk[at:at + len(data)] = data
                h.pwrite(data, at)
            h.flush()
        until("it runs", lambda: self.lab.boot(1)["State"] == "running")
        self.lab.stop(signal.SIGKILL)
        return disk

    def written(self):
        """A boot that is to be committed."""
        self.restore("plain")
        self.lab.machine(1, "--default-setup", "lab")
        self.committed = digest(self.boot_that_wrote())
        self.save("written")

    def own_disk(self):
        """A machine whose own disk has something on it."""
        self.restore("plain")
        mac = self.lab.machine(1, "--default-setup", "lab", "--disk-size", "8M")
        self.lab.serve()
        with self.lab.nbd(mac + "/machine") as h:
            h.pread(512, 0)
        self.lab.stop()
        self.lab.run("boot", "end", "1", "--discard")
        path, = glob.glob(f"{self.lab.dir}/state/images/*/machine.raw")
        subprocess.run(["debugfs", "-w", "-R", f"write {self.lab.dir}/next.raw kept", path], check=True, capture_output=True)
        self.save("own")

    def stories(self):
        v, c = self.order, self.command
        return [
            Story("import", "plain", c("image", "import", "data", f"{self.lab.dir}/next.raw"), self.next, []),
            Story("import a first version", "plain",
                  c("image", "import", "new", f"{self.lab.dir}/root.img", "--new", "--owner", "alice"),
                  digest(contents(f"{self.lab.dir}/root.img")), [], "new"),
            Story("commit", "written", c("boot", "end", "1", "--commit"), self.committed, []),
            Story("remove a version that others need", "plain", c("image", "remove", f"data@{v[1]}"), None, [v[1]]),
            Story("remove a version that nobody needs", "rolled-back", c("image", "remove", f"data@{v[3]}"), None, [v[3]]),
            Story("remove the image", "plain", c("image", "remove", "data", "--force"), None, v),
            Story("rollback", "plain", c("image", "rollback", "data", "--to", str(v[1])), None, []),
            Story("keep", "plain", c("image", "keep", "data", "--last", "1"), None, v[:3]),
            Story("gc", "rubbish", c("gc"), None, [v[1]]),
            Story("flatten the latest", "plain", c("image", "flatten", "data"), None, []),
            Story("flatten one that others need", "plain", c("image", "flatten", f"data@{v[1]}", "--level", "5"), None, []),
            Story("grow a machine's disk", "own", c("machine", "set", "lab-1", "--disk-size", "16M"), None, []),
        ]

    def run_ok(self, *words):
        r = crash.run(self.command(*words))
        assert r.returncode == 0, f"{' '.join(words)}: {r.returncode}: {r.stdout}{r.stderr}"
        return r.stdout

    def query(self, sql, *values):
        db = sqlite3.connect(f"file:{self.lab.dir}/state/catalog.db?mode=ro", uri=True)
        try:
            return db.execute(sql, values).fetchall()
        finally:
            db.close()

    def versions(self, image):
        assert self.query("PRAGMA integrity_check") == [("ok",)]
        return [n for n, in self.query("SELECT v.number FROM version v JOIN image i ON i.uuid = v.image WHERE i.name = ? "
                                       "ORDER BY 1", image)]

    def export(self, image, version):
        out = subprocess.run(self.command("image", "export", f"{image}@{version}", "-"), capture_output=True, timeout=60,
                             check=False)
        assert out.returncode == 0, out.stderr
        return out.stdout

    def check_versions(self, story):
        """Each one is what it was, or what the story makes; none is missing that has no reason to. Returns the image's."""
        known = self.model if story.before != "rubbish" else {k: d for k, d in self.model.items() if k != self.order[1]}
        data, new = self.versions("data"), self.versions("new")
        assert set(known) - set(data) <= set(story.gone), f"versions {data}"
        for version in data:
            assert digest(self.export("data", version)) == known.get(version, story.result), f"version {version}"
        for version in new:
            assert digest(self.export("new", version)) == story.result, f"version {version} of new"
        self.check_kernels()
        if story.before == "own":
            self.check_own_disk()
        return new if story.image == "new" else data

    def check_kernels(self):
        """Where one is, it is whole."""
        for path in glob.glob(f"{self.lab.dir}/state/tftp/kernels/*/*"):
            if sorted(os.listdir(path)) == ["initrd.img", "release", "vmlinuz"]:
                found = [contents(f"{path}/{name}") for name in ("vmlinuz", "initrd.img", "release")]
                release = b"6.1.0-9-lab"
                assert found == [b"kernel or initrd vmlinuz-" + release, b"kernel or initrd initrd.img-" + release, release]

    def check_own_disk(self):
        path, = glob.glob(f"{self.lab.dir}/state/images/*/machine.raw")
        assert os.path.getsize(path) in (8 * MIB, 16 * MIB)
        copy = shutil.copy(path, f"{self.lab.dir}/own.raw")
        r = crash.run(["e2fsck", "-fn", copy])
        assert r.returncode == 0, r.stdout
        got = subprocess.run(["debugfs", "-R", "cat kept", copy], check=True, capture_output=True).stdout
        assert got == contents(f"{self.lab.dir}/next.raw")

    def check_sound(self):
        """But for scripts: most of these disks have no kernel, and what was rendered is not synced."""
        found = json.loads(crash.run(self.command("--json", "fsck", "--data")).stdout)
        assert [f for f in found if not f["Code"].startswith("script-")] == [], found

    def check_tidy(self):
        """Layers of versions, and retired ones that a version needs, are all there is."""
        assert self.run_ok("--json", "gc").strip() == "[]", "gc finds more"
        images = f"{self.lab.dir}/state/images"
        files = [os.path.relpath(os.path.join(folder, name), images)
                 for folder, _, names in os.walk(images) for name in names
                 if not (folder.endswith("/tmp") and os.path.getsize(os.path.join(folder, name)) == 0)]
        # A folder or file that is empty and young may be about to be used: gc leaves it.
        rows = self.query("SELECT image, number FROM version")
        retired = [f for f in files if "/retired/" in f]
        assert sorted(f for f in files if f not in retired and not f.endswith(("/lock", "/machine.raw"))) == sorted(
            f"{image}/{version}.img" for image, version in rows), files
        assert {f.split("/", 1)[0] for f in retired} <= {image for image, _ in rows}, files

    def recover(self, story, way):
        """Without the same command: what a start of the server, or gc, brings in order is in order."""
        if way == "start":
            self.lab.serve()
            until("nothing is being committed", lambda: not self.query("SELECT 1 FROM boot WHERE state = 'committing'"))
            assert self.lab.stop() == 0
        self.run_ok("gc")
        self.check_sound()
        assert self.run_ok("--json", "gc").strip() == "[]", "gc finds more"
        self.check_versions(story)

    def check_after(self, story, acknowledged, way):
        """At once every version reads as it must; after what `way` says, the same command, gc and fsck all is in order.
        acknowledged: the command had said that it was done."""
        known = self.model if story.image == "data" else {}
        at_once = self.check_versions(story)
        if acknowledged:
            assert not set(story.gone) & set(at_once) and (not story.result or set(at_once) - set(known)), at_once
        if way != "again":
            self.recover(story, way)
        at_once = self.check_versions(story)
        again = crash.run(story.words)
        done = again.returncode in (3, 4)  # refused by what it had done before
        assert again.returncode == 0 or done, f"again: {again.stderr}"
        self.run_ok("gc")
        now = self.check_versions(story)
        assert not set(story.gone) & set(now), f"versions {now}"
        if story.result:
            made = [version for version in now if version not in known]
            before = set(at_once) - set(known) if story.name == "import" else ()
            assert len(made) == 1 + len(before), f"versions {now}"
        if story.before != "written" or story.name == "commit":
            assert os.listdir(f"{self.lab.dir}/state/overlays") == [], "an overlay is left"
        if story.before == "own":
            assert os.path.getsize(glob.glob(f"{self.lab.dir}/state/images/*/machine.raw")[0]) == 16 * MIB
        self.check_sound()
        self.check_tidy()
