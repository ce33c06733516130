#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The power goes in the middle of the store's commands: what was not synced is there in parts, or not at all.

strace records all that a command does to files, with the data. From that record the state of the disk after a power cut at
any call is made, by this model:
- What is written to a file may be missing, wholly or in any of its sectors of 512 bytes, until the file is synced.
- A file that was made longer may have its length without the data: then it has zeroes.
- A name that was made, changed or removed may be as it was before, each by itself, until its folder is synced; in another
  half of the runs names are lost from the end, as by a journal. A rename is there or not, as a whole.
The catalog is among the files. Then the versions must read as they did, and what the command had acknowledged must be there;
the same command, gc and fsck bring the rest in order.

make check takes what a seed (LABBOOT_SEED) chooses for a while; LABBOOT_LONG=1 all cuts, each several times."""
import collections
import os
import random
import re
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import crash  # noqa: E402
from lab import Lab  # noqa: E402
from store_stories import Bench  # noqa: E402

LONG = os.environ.get("LABBOOT_LONG") == "1"
SEED = int(os.environ.get("LABBOOT_SEED", "1"))
SECONDS = 20  # of a sample
TIMES = 4  # that each cut is taken with LABBOOT_LONG
SECTOR = 512
CALLS = ("openat pwrite64 write ftruncate fallocate rename renameat renameat2 link linkat unlink unlinkat mkdir mkdirat rmdir "
         "fsync fdatasync").split()


# ---- the record -------------------------------------------------------------------------------------------------------

def text_of(quoted):
    return bytes.fromhex(quoted.replace("\\x", ""))


def arguments(text):
    """Of a call, as strace -xx -y prints them: strings as bytes, descriptors as (number, path), the rest as text."""
    found = []
    for quoted, fd, path, other in re.findall(r'"((?:\\x[0-9a-f]{2})*)"|(AT_FDCWD|\d+)<([^>]*)>|([^,\s][^,]*)', text):
        if fd:
            found.append((fd, text_of(path).decode() if path.startswith("\\x") else path))
        else:
            found.append(other if other else text_of(quoted))
    return found


Op = collections.namedtuple("Op", "call arguments result")


def record(words, trace):
    r = crash.run(["strace", "-f", "-y", "-xx", "-qq", "-s", "100000000", "-o", trace, "-e", "trace=" + ",".join(CALLS),
                   *words])
    assert r.returncode == 0, r.stderr
    ops = []
    with open(trace, encoding="ascii", errors="replace") as f:
        for line in f:
            found = re.match(r"\d+\s+(\w+)\((.*)\)\s+= (-?\d+)(?:<([^>]*)>)?", line)
            if found and not found[3].startswith("-"):
                ops.append(Op(found[1], arguments(found[2]), found[3]))
    os.unlink(trace)
    return ops


# ---- the disk ---------------------------------------------------------------------------------------------------------

class File:
    def __init__(self, data=b"", mode=0o600):
        self.mode = mode
        self.data = bytearray(data)  # as it is on the disk for sure
        self.pending = []  # (offset, bytes), or (length, None) for a change of the length

    def sync(self):
        for offset, data in self.pending:
            self.apply(offset, data)
        self.pending = []

    def apply(self, offset, data):
        if data is None:
            del self.data[offset:]
            self.data.extend(bytes(offset - len(self.data)))
            return
        if offset + len(data) > len(self.data):
            self.data.extend(bytes(offset + len(data) - len(self.data)))
        self.data[offset:offset + len(data)] = data

    def after_cut(self, rng):
        """One of the contents that it may have."""
        copy = File(self.data)
        for offset, data in self.pending:
            fate = rng.random()
            if data is None:
                if fate < 0.5:
                    copy.apply(offset, None)
            elif fate < 0.4:
                copy.apply(offset, data)
            elif fate < 0.8:  # its sectors one by one; the length may have come before
                if rng.random() < 0.5:
                    copy.apply(max(len(copy.data), offset + len(data)), None)
                for at in range(0, len(data), SECTOR):
                    if rng.random() < 0.5:
                        copy.apply(offset + at, data[at:at + SECTOR])
        return bytes(copy.data)


class Folder:
    def __init__(self, mode=0o700):
        self.mode = mode
        self.names = {}


class Disk:
    """The state folder: what is on the disk for sure, and the changes of names since, in their order."""

    def __init__(self, root):
        self.root = root
        self.top = self.read(root)
        self.now = self.flat(self.top, "")  # path: node, as programs see it
        self.pending = []  # [folder, changes], changes a list of (folder, name, node or None)

    def read(self, path):
        mode = os.stat(path).st_mode & 0o7777
        if not os.path.isdir(path):
            with open(path, "rb") as f:
                return File(f.read(), mode)
        folder = Folder(mode)
        for name in os.listdir(path):
            if not os.path.islink(f"{path}/{name}"):
                folder.names[name] = self.read(f"{path}/{name}")
        return folder

    def flat(self, node, path):
        found = {path: node}
        if isinstance(node, Folder):
            for name, child in node.names.items():
                found.update(self.flat(child, f"{path}/{name}" if path else name))
        return found

    def inner(self, where, name=None):
        """A path of the state, relative to it; None for what lies elsewhere or has no name."""
        if name is not None:
            name = name.decode()
            where = name if name.startswith("/") else f"{where}/{name}"
        if where.endswith(" (deleted)") or not (where + "/").startswith(self.root + "/"):
            return None
        return where[len(self.root):].strip("/")

    def change(self, *changes):
        """Names that come and go at once. Pending in the folder of the last one."""
        resolved = []
        for path, node in changes:
            folder, _, name = path.rpartition("/")
            resolved.append((self.now[folder], name, node))
            if node is None:
                for known in [p for p in self.now if p == path or p.startswith(path + "/")]:
                    del self.now[known]
            else:
                self.now.update(self.flat_now(node, path))
        self.pending.append((resolved[-1][0], resolved))

    @staticmethod
    def flat_now(node, path):
        return {path: node}

    def sync_folder(self, folder):
        for at, changes in self.pending:
            if at is folder:
                self.make_sure(changes)
        self.pending = [p for p in self.pending if p[0] is not folder]

    @staticmethod
    def make_sure(changes):
        for folder, name, node in changes:
            if node is None:
                folder.names.pop(name, None)
            else:
                folder.names[name] = node

    # -- calls

    def do(self, op, positions):
        a = op.arguments
        if op.call == "openat":
            path = self.inner(a[0][1], a[1])
            positions[op.result] = 0
            if path is None:
                return
            if "O_CREAT" in a[2] and path not in self.now:
                self.change((path, File()))
            elif "O_TRUNC" in a[2]:
                self.now[path].pending.append((0, None))
        elif op.call in ("pwrite64", "write", "ftruncate", "fallocate", "fsync", "fdatasync"):
            self.do_file(op, positions)
        elif op.call in ("mkdir", "mkdirat"):
            path = self.inner(*((os.getcwd(), a[0]) if op.call == "mkdir" else (a[0][1], a[1])))
            if path is not None:
                self.change((path, Folder()))
        elif op.call in ("unlink", "unlinkat", "rmdir"):
            path = self.inner(*((a[0][1], a[1]) if op.call == "unlinkat" else (os.getcwd(), a[0])))
            if path is not None:
                self.change((path, None))
        else:
            self.do_two(op)

    def do_two(self, op):
        names = [self.inner(a[1] if isinstance(a, tuple) else os.getcwd(), b) for a, b in self.pairs(op.arguments)]
        if None in names:
            return
        old, new = names
        node = self.now[old]
        if op.call.startswith("link"):
            self.change((new, node))
        elif self.now.get(new) is not node:  # else rename does nothing
            self.change((old, None), (new, node))

    @staticmethod
    def pairs(a):
        if isinstance(a[0], tuple):
            return [(a[0], a[1]), (a[2], a[3])]
        return [(None, a[0]), (None, a[1])]

    def do_file(self, op, positions):
        fd, where = op.arguments[0]
        node = self.now.get(self.inner(where))
        if node is None:
            return
        a = op.arguments
        if op.call in ("fsync", "fdatasync"):
            if isinstance(node, Folder):
                self.sync_folder(node)
            else:
                node.sync()
        elif op.call == "pwrite64":
            node.pending.append((int(a[3]), a[1]))
        elif op.call == "write":
            node.pending.append((positions.get(fd, 0), a[1]))
            positions[fd] = positions.get(fd, 0) + len(a[1])
        elif op.call == "ftruncate":
            node.pending.append((int(a[1]), None))
        elif "PUNCH_HOLE" in a[1]:
            node.pending.append((int(a[2]), bytes(int(a[3]))))

    # -- the cut

    def write_out(self, rng, to):
        """One of the states that the disk may be in."""
        folders = {}

        def copy(node):
            if isinstance(node, File):
                return node
            if id(node) not in folders:
                folders[id(node)] = made = Folder(node.mode)
                made.names = {name: copy(child) for name, child in node.names.items()}
            return folders[id(node)]
        top = copy(self.top)
        kept = rng.randint(0, len(self.pending)) if rng.random() < 0.5 else None
        for n, (_, changes) in enumerate(self.pending):
            if n < kept if kept is not None else rng.random() < 0.5:
                self.make_sure([(copy(folder), name, node and copy(node)) for folder, name, node in changes])
        shutil.rmtree(to, ignore_errors=True)
        self.write_node(rng, top, to, {})

    def write_node(self, rng, node, path, written):
        if isinstance(node, Folder):
            os.mkdir(path)
            for name, child in node.names.items():
                self.write_node(rng, child, f"{path}/{name}", written)
        elif id(node) in written:
            os.link(written[id(node)], path)
        else:
            written[id(node)] = path
            with open(path, "wb") as f:
                f.write(node.after_cut(rng))
        os.chmod(path, node.mode)


# ---- stories ----------------------------------------------------------------------------------------------------------

def cut(bench, story, ops, at, rng):
    """The power goes after the first `at` calls."""
    state = f"{bench.lab.dir}/state"
    bench.restore(story.before)
    disk, positions = Disk(state), {}
    for op in ops[:at]:
        disk.do(op, positions)
    disk.write_out(rng, state)
    for path in (f"{state}/catalog.db-shm",):
        if os.path.exists(path):
            os.unlink(path)  # of memory that is gone
    bench.check_after(story, at == len(ops))


if not crash.can_trace():
    print("test-power-loss.py: skipped: strace cannot trace here")
    sys.exit(77)

with Lab({"access": {"check": "none"}}) as lab:
    bench = Bench(lab)
    bench.make()
    stories = bench.stories()
    cuts = []
    for number, story in enumerate(stories):
        bench.restore(story.before)
        ops = record(story.words, f"{lab.dir}/trace")
        cuts += [(story, ops, at, f"{SEED}-{number}-{at}-{n}") for at in range(len(ops) + 1) for n in range(TIMES)]
    random.Random(SEED).shuffle(cuts)
    counts = collections.Counter()
    end = time.monotonic() + SECONDS
    for story, ops, at, seed in cuts:
        if not LONG and time.monotonic() > end:
            break
        try:
            cut(bench, story, ops, at, random.Random(seed))
        except Exception:
            before = f"after {ops[at - 1].call}" if at else "before the first call"
            print(f"{story.name}: cut at {at} of {len(ops)}, {before} (seed {seed})", flush=True)
            raise
        counts[story.name] += 1
    for story in stories:
        print(f"{story.name}: {counts[story.name]}")
    print(f"ok - {sum(counts.values())} of {len(cuts)} states of the disk (seed {SEED})")
