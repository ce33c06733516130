# SPDX-License-Identifier: BSD-3-Clause
"""What programs do to a folder, recorded by strace with all data, and what a power cut may leave of it:

- What is written to a file may be missing, wholly or in any of its sectors of 512 bytes, until the file is synced: by a sync
  that began after the write had ended.
- A file that was made longer may have its length without the data: then it has zeroes.
- A name that was made, changed or removed may be as it was before, each by itself, until its folder is synced; in another
  half of the states names are lost from the end, as by a journal. A rename is there or not, as a whole."""
import collections
import os
import re
import shutil
import time

import crash

SECTOR = 512
CALLS = ("openat pwrite64 write lseek ftruncate fallocate copy_file_range rename renameat renameat2 link linkat unlink "
         "unlinkat mkdir mkdirat rmdir fsync fdatasync").split()
SYNCS = ("fsync", "fdatasync")


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


# time: when it had ended, or, of the "begin" of a sync, when that began.
Op = collections.namedtuple("Op", "call arguments result time")


def tracer(trace, *options):
    return ["strace", *options, "-f", "-y", "-xx", "-ttt", "-s", "100000000", "-o", trace, "-e", "trace=" + ",".join(CALLS)]


def read_trace(trace):
    """Its calls that did not fail, in the order in which they ended."""
    ops, begun = [], {}
    with open(trace, encoding="ascii", errors="replace") as f:
        for line in f:
            thread, when, rest = line.rstrip("\n").split(None, 2)
            if rest.endswith(" <unfinished ...>"):
                begun[thread] = rest[:-len(" <unfinished ...>")]
                call, _, text = begun[thread].partition("(")
                if call in SYNCS:
                    ops.append(Op("begin " + thread, arguments(text), "", float(when)))
                continue
            resumed = re.match(r"<\.\.\. (\w+) resumed>", rest)
            if resumed:
                rest = begun.pop(thread) + rest[resumed.end():]
            found = re.match(r"(\w+)\((.*)\)\s+= (-?\d+)(?:<[^>]*>)?", rest)
            if found and not found[3].startswith("-"):
                call = f"{found[1]} {thread}" if resumed and found[1] in SYNCS else found[1]
                ops.append(Op(call, arguments(found[2]), found[3], float(when)))
    os.unlink(trace)
    return ops


def record(words, trace, allowed=(0,)):
    r = crash.run(tracer(trace, "-qq") + words)
    assert r.returncode in allowed, r.stderr
    return read_trace(trace), r.returncode


def cut_points(ops):
    """After how many calls something may be lost that was not before."""
    idle = [op.call == "lseek" or op.call == "openat" and not re.search("O_CREAT|O_TRUNC", op.arguments[2]) for op in ops]
    return [at for at in range(len(ops) + 1) if at in (0, len(ops)) or not idle[at - 1]]


def wait_for_end(trace):
    """Of a tracer that outlives what it traces for a moment."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with open(trace, "rb") as f:
            f.seek(max(0, os.path.getsize(trace) - 200))
            if re.search(rb"\+\+\+ (exited with|killed by) .*\+\+\+\n$", f.read()):
                return
        time.sleep(0.02)
    raise AssertionError("the trace does not end")


# ---- the disk ---------------------------------------------------------------------------------------------------------

class File:
    def __init__(self, data=b"", mode=0o600):
        self.mode = mode
        self.data = bytearray(data)  # as it is on the disk for sure
        self.size = len(data)  # as programs see it
        self.pending = []  # (offset, bytes), or (length, None) for a change of the length
        self.begun = {}  # thread: how much was pending when its sync began

    def change(self, offset, data):
        self.pending.append((offset, data))
        self.size = offset if data is None else max(self.size, offset + len(data))

    def begin_sync(self, thread):
        self.begun[thread] = len(self.pending)

    def sync(self, thread):
        count = self.begun.pop(thread, len(self.pending))
        for offset, data in self.pending[:count]:
            self.apply(offset, data)
        del self.pending[:count]
        self.begun = {t: max(0, n - count) for t, n in self.begun.items()}

    def apply(self, offset, data):
        if data is None:
            del self.data[offset:]
            self.data.extend(bytes(offset - len(self.data)))
            return
        if offset + len(data) > len(self.data):
            self.data.extend(bytes(offset + len(data) - len(self.data)))
        self.data[offset:offset + len(data)] = data

    def now(self):
        """As programs see it."""
        copy = File(self.data)
        for offset, data in self.pending:
            copy.apply(offset, data)
        return bytes(copy.data)

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
    """The folder `root`: what is on the disk for sure, and the changes of names since, in their order."""

    def __init__(self, root):
        self.root = root
        self.top = self.read(root)
        self.now = self.flat(self.top, "")  # path: node, as programs see it
        self.pending = []  # (folder, changes), changes a list of (folder, name, node or None)
        self.begun = {}  # thread: the changes that were pending when its sync began
        self.positions = {}  # of descriptors

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
        """A path of the folder, relative to it; None for what lies elsewhere or has no name."""
        if name is not None:
            name = name.decode()
            where = name if name.startswith("/") else f"{where}/{name}"
        where = os.path.normpath(where)
        if where.endswith(" (deleted)") or not (where + "/").startswith(self.root + "/"):
            return None
        return where[len(self.root):].strip("/")

    def change(self, *changes):
        """Names that come and go at once. Pending in the folder of the last one."""
        resolved, moved = [], {}
        for path, node in changes:
            folder, _, name = path.rpartition("/")
            resolved.append((self.now[folder], name, node))
            if node is None:
                for known in [p for p in self.now if p == path or p.startswith(path + "/")]:
                    moved[known[len(path):]] = self.now.pop(known)
            else:
                self.now[path] = node
                if isinstance(node, Folder):
                    self.now.update({path + rest: child for rest, child in moved.items()})
        self.pending.append((resolved[-1][0], resolved))

    def sync_folder(self, folder, thread):
        sure = self.begun.pop(thread, self.pending)
        for p in sure:
            if p[0] is folder and any(p is q for q in self.pending):
                self.make_sure(p[1])
        self.pending = [p for p in self.pending if p[0] is not folder or not any(p is q for q in sure)]

    @staticmethod
    def make_sure(changes):
        for folder, name, node in changes:
            if node is None:
                folder.names.pop(name, None)
            else:
                folder.names[name] = node

    # -- calls

    def do(self, op):
        a = op.arguments
        call, _, thread = op.call.partition(" ")
        if call == "openat":
            self.do_open(op)
        elif call in ("mkdir", "mkdirat"):
            path = self.inner(*((os.getcwd(), a[0]) if call == "mkdir" else (a[0][1], a[1])))
            if path is not None:
                self.change((path, Folder(int(a[-1], 8))))
        elif call in ("unlink", "unlinkat", "rmdir"):
            path = self.inner(*((a[0][1], a[1]) if call == "unlinkat" else (os.getcwd(), a[0])))
            if path is not None:
                self.change((path, None))
        elif call.startswith(("rename", "link")):
            self.do_two(op)
        elif call == "copy_file_range":
            self.do_copy(a, int(op.result))
        else:
            self.do_file(call, thread, op)

    def do_open(self, op):
        a = op.arguments
        path = self.inner(a[0][1], a[1])
        if path is None:
            return
        self.positions[op.result] = 0
        if "O_CREAT" in a[2] and path not in self.now:
            self.change((path, File(mode=int(a[3], 8))))
        elif "O_TRUNC" in a[2]:
            self.now[path].change(0, None)

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

    def do_copy(self, a, count):
        source, target = (self.now.get(self.inner(where)) for _, where in (a[0], a[2]))
        start, to = (int(re.match(r"\[(\d+)", x)[1]) for x in (a[1], a[3]))
        target.change(to, source.now()[start:start + count])

    def do_file(self, call, thread, op):
        fd, where = op.arguments[0]
        node = self.now.get(self.inner(where))
        a = op.arguments
        if node is None:
            return
        if isinstance(node, Folder):
            if call == "begin":
                self.begun[thread] = list(self.pending)
            elif call in SYNCS:
                self.sync_folder(node, thread)
        elif call == "begin":
            node.begin_sync(thread)
        elif call in SYNCS:
            node.sync(thread)
        elif call == "pwrite64":
            node.change(int(a[3]), a[1][:int(op.result)])
        elif call == "write":
            at = self.positions.get(fd, 0)
            node.change(at, a[1][:int(op.result)])
            self.positions[fd] = at + int(op.result)
        elif call == "lseek":
            self.positions[fd] = int(op.result)
        elif call == "ftruncate":
            node.change(int(a[1]), None)
        else:
            self.do_allocate(node, a[1], int(a[2]), int(a[3]))

    @staticmethod
    def do_allocate(node, mode, offset, length):
        if "KEEP_SIZE" not in mode and offset + length > node.size:
            node.change(offset + length, None)
        if "PUNCH_HOLE" in mode or "ZERO_RANGE" in mode:
            node.change(offset, bytes(max(0, min(length, node.size - offset))))

    # -- the cut

    def write_out(self, rng, to):
        """One of the states that the disk may be in; without rng, what programs see."""
        folders = {}

        def copy(node):
            if isinstance(node, File):
                return node
            if id(node) not in folders:
                folders[id(node)] = made = Folder(node.mode)
                made.names = {name: copy(child) for name, child in node.names.items()}
            return folders[id(node)]
        top = copy(self.top)
        kept = rng.randint(0, len(self.pending)) if rng and rng.random() < 0.5 else None
        for n, (_, changes) in enumerate(self.pending):
            if not rng or (n < kept if kept is not None else rng.random() < 0.5):
                self.make_sure([(copy(folder), name, node and copy(node)) for folder, name, node in changes])
        shutil.rmtree(to, ignore_errors=True)
        self.write_node(rng, top, to, {})

    def write_node(self, rng, node, path, written):
        if isinstance(node, Folder):
            os.mkdir(path)
            for name, child in node.names.items():
                if name != "catalog.db-shm":  # of memory that is gone
                    self.write_node(rng, child, f"{path}/{name}", written)
        elif id(node) in written:
            os.link(written[id(node)], path)
        else:
            written[id(node)] = path
            with open(path, "wb") as f:
                f.write(node.after_cut(rng) if rng else node.now())
        os.chmod(path, node.mode)
