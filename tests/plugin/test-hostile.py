#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Clients that are broken, or mean harm: they speak half the protocol, ask for too much, come by the hundred, or never read
what they asked for. The server lives on, a bystander notices nothing, and nothing is left of them: no descriptor, no memory,
no lease, no overlay. LABBOOT_SEED: the same ones again."""
import multiprocessing
import os
import random
import socket
import struct
import sys
import time

import nbd

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import nbd_raw  # noqa: E402
from lab import SLOWNESS, Lab, until  # noqa: E402
from nbd_raw import Raw  # noqa: E402

SEED = int(os.environ.get("LABBOOT_SEED", str(os.getpid())))
ADDRESS = "127.0.0.1"
SIZE = 16 << 20
BIG = (9 << 30) + 12345
MOST = (1 << 32) - 1
CONNECTIONS = 16 * 2  # of a boot with one image: that and the machine's own disk
WAITING = 128  # of an address, that have opened nothing
MEMORY = SLOWNESS * 96 << 20  # by which the server may grow in all of this; its cache for chunks is 64 MiB of it
PATIENCE = 3.0 * SLOWNESS  # seconds, the longest that the bystander may wait for one answer on a machine that is busy
MACS = [f"52:54:00:00:00:{n:02x}" for n in range(1, 5)]
BYSTANDER, VICTIM, QUEUED, ROOMY = MACS


class Bystander(multiprocessing.Process):
    """A machine at work, in a process of its own."""

    def __init__(self, lab):
        super().__init__()
        self.lab = lab
        self.over, self.failed = multiprocessing.Value("b", 0), multiprocessing.Value("b", 0)
        self.operations, self.worst = multiprocessing.Value("i", 0), multiprocessing.Value("d", 0)

    def run(self):
        self.failed.value = 1
        rng, disk = random.Random(SEED), None
        with self.lab.nbd(BYSTANDER, ADDRESS) as h:
            disk = bytearray(h.pread(SIZE, 0))
            while not self.over.value:
                at, count = rng.randrange(SIZE - 65536), rng.choice((512, 4096, 65536))
                start = time.monotonic()
                if rng.random() < 0.3:
                    disk[at:at + count] = rng.randbytes(count)
                    h.pwrite(disk[at:at + count], at)
                assert h.pread(count, at) == disk[at:at + count]
                self.worst.value = max(self.worst.value, time.monotonic() - start)
                self.operations.value += 1
                time.sleep(0.001)
            assert h.pread(SIZE, 0) == disk
        self.failed.value = 0


class Watch:
    """What the server has, before and after."""

    def __init__(self, lab):
        self.lab = lab
        self.bystander = Bystander(lab)
        self.bystander.start()
        until("the bystander works", lambda: self.bystander.operations.value > 100)
        self.descriptors, self.memory, self.left = self.count_descriptors(), self.rss(), self.traces()

    def count_descriptors(self):
        return len(os.listdir(f"/proc/{self.lab.server.pid}/fd"))

    def rss(self):
        with open(f"/proc/{self.lab.server.pid}/statm", encoding="ascii") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def traces(self):
        return sorted(os.listdir(f"{self.lab.dir}/state/overlays")), [(b["ID"], b["State"]) for b in self.lab.json("boot", "list")]

    def check(self, what):
        assert self.lab.alive(), f"{what}: {self.lab.log()[-3000:]}"
        before, b = self.bystander.operations.value, self.bystander
        until(f"the bystander goes on after {what}", lambda: b.operations.value > before + 20 or not b.is_alive())
        assert b.is_alive(), f"the bystander failed: {what}"
        until(lambda: f"descriptors after {what}: {self.count_descriptors()}, not {self.descriptors}",
              lambda: self.count_descriptors() <= self.descriptors)
        until(lambda: f"memory after {what}: {(self.rss() - self.memory) >> 20} MiB more", lambda: self.rss() - self.memory < MEMORY, 5)
        memory = self.rss() - self.memory
        assert self.traces() == self.left, f"{what}: {self.traces()}, not {self.left}"
        print(f"ok - {what}: the bystander waited {b.worst.value:.3f} s at most, {memory >> 20} MiB more", flush=True)
        b.worst.value = 0

    def end(self):
        self.bystander.over.value = 1
        self.bystander.join()
        assert not self.bystander.failed.value


def half_messages(lab, rng):
    """Cut at every byte of a handshake and of some requests."""
    def told(*parts):
        return b"".join(parts)
    hello = struct.pack(">I", nbd_raw.FIXED_NO_ZEROES)
    go = Raw.option(nbd_raw.OPT_GO, Raw.named("image/disk"))
    haggling = told(hello, Raw.option(nbd_raw.OPT_STRUCTURED), Raw.option(nbd_raw.OPT_LIST), go)
    requests = told(Raw.request(nbd_raw.READ, 0, 4096), Raw.request(nbd_raw.STATUS, 0, 4096))
    for cut in range(len(haggling)):
        c = Raw(lab, ADDRESS if cut % 2 else None)
        c.s.sendall(haggling[:cut])
        c.close(reset=rng.random() < 0.5)
    for cut in range(len(requests)):
        c = Raw(lab)
        assert c.go("image/disk") == SIZE
        c.s.sendall(requests[:cut])
        c.close(reset=rng.random() < 0.5)
    for cut in range(0, 70000, 3500):  # of a write, which is not done
        c = Raw(lab)
        assert c.go("image/disk") == SIZE
        c.s.sendall(Raw.request(nbd_raw.WRITE, 0, 65536) + bytes(cut))
        c.close(reset=rng.random() < 0.5)


def nonsense(lab, rng):
    """Wrong magics, options and lengths; requests past the end, too long, of kinds that there are not."""
    hello = struct.pack(">I", nbd_raw.FIXED_NO_ZEROES)
    for sent in (rng.randbytes(64), hello + rng.randbytes(64), hello + Raw.option(nbd_raw.OPT_GO, length=MOST),
                 hello + Raw.option(nbd_raw.OPT_GO, struct.pack(">I", MOST) + b"x" * 100),
                 hello + Raw.option(nbd_raw.OPT_META, struct.pack(">II", MOST, MOST)),
                 hello + Raw.option(0xdead, b"x"), struct.pack(">I", MOST)):
        with Raw(lab) as c:
            c.receive(18)
            c.s.sendall(sent)
            c.s.settimeout(0.05)
            try:
                while c.s.recv(4096):
                    pass
            except (socket.timeout, ConnectionError):
                pass
    with Raw(lab) as c:
        assert c.go("image/disk") == SIZE
        for kind, offset, length in ((nbd_raw.READ, SIZE, 1), (nbd_raw.READ, SIZE - 1, 2), (nbd_raw.READ, MOST << 32, 4096),
                                     (nbd_raw.READ, 0, (64 << 20) + 1), (nbd_raw.READ, 0, MOST), (nbd_raw.READ, 0, 0),
                                     (nbd_raw.ZEROES, 0, 4096), (nbd_raw.STATUS, 0, MOST), (99, 0, 4096)):
            assert c.ask(kind, offset, length)[0] != 0, (kind, offset, length)
        assert c.ask(nbd_raw.READ, 0, SIZE)[0] == 0, "it goes on"
    for length in ((64 << 20) + 1, MOST):  # of a write the data would come: the server cannot but hang up
        with Raw(lab) as c:
            assert c.go("image/disk") == SIZE
            c.s.sendall(Raw.request(nbd_raw.WRITE, 0, length) + bytes(100))
    with Raw(lab) as c:
        c.s.sendall(hello + b"NBD_REQUEST before the export" * 10)


def names(lab, rng):
    mac = QUEUED.replace(":", "-")
    for name in (b"x" * 4096, b"x" * 5000, b"%s%n%x%p" * 20, b"../../../etc/passwd", b"image/../../x", b"/" * 300, b"image/",
                 b"disk\nlabboot: error: forged", b"image/disk\0more", b"\0", b"\xff\xfe\xc3\x28", "日本語/\u202e".encode(),
                 mac.encode() + b".", mac.encode() + b"." + b"A" * 4000, mac.encode() + b"/done", mac.encode() + b"/../disk",
                 mac.encode() + b".%s/done", b"image/disk@99999999999999999999", rng.randbytes(200), b"\x1b[2J\x07"):
        for option in (nbd_raw.OPT_INFO, nbd_raw.OPT_GO, nbd_raw.OPT_EXPORT_NAME):
            with Raw(lab, ADDRESS) as c:
                c.greet()
                try:
                    if option == nbd_raw.OPT_EXPORT_NAME:
                        c.s.sendall(Raw.option(option, name))
                        c.receive(10)
                        raise AssertionError(f"{name[:60]}: served")
                    assert c.info(name, option) is None, f"{name[:60]}: served"
                except (nbd_raw.Closed, ConnectionError):
                    pass
    log = lab.log()
    assert "\nlabboot: error: forged" not in log and "\x1b" not in log and "\x07" not in log, "the log tells what clients want"


def floods(lab, _):
    """By themselves and together; none of it leases a boot, though one is queued that is named here."""
    connected = [Raw(lab, ADDRESS if n % 2 else None) for n in range(400)]
    for n, c in enumerate(connected):
        c.close(reset=n % 3 == 0)
    for n in range(120):  # nbdkit hangs up after 32 options
        with Raw(lab, ADDRESS if n % 2 else None) as c:
            c.greet()
            assert c.haggle(nbd_raw.OPT_LIST)[-1][0] == 1
            for _ in range(10):
                assert c.haggle(nbd_raw.OPT_LIST)[-1][0] & nbd_raw.REP_ERROR, "nbdkit lists once"
                assert c.info(QUEUED) == SIZE
                assert c.info("image/nothing") is None
    for n in range(100):
        with Raw(lab, ADDRESS) as c:
            c.greet()
            c.info(QUEUED)
            c.haggle(nbd_raw.OPT_LIST)
            if n % 2:
                assert c.info(QUEUED, nbd_raw.OPT_GO) == SIZE


def goes(c, export):
    """Whether it is served; not so where the connection is refused as a whole."""
    try:
        return c.go(export) is not None
    except (nbd_raw.Closed, ConnectionError):
        return False


def told_since(started):
    """How many lines about refusals there may be: 20 are told in 10 seconds, by the server and by nbdkit, and a few besides."""
    return 42 * (2 + (time.monotonic() - started) // 10)


def a_crowd(lab, _):
    """500 connections of one boot: some of them are allowed."""
    lines, started = lab.log().count("connections already"), time.monotonic()
    crowd, allowed = [], 0
    for _ in range(500):
        crowd.append(Raw(lab, ADDRESS))
        allowed += goes(crowd[-1], VICTIM)
    assert allowed == CONNECTIONS, allowed
    lines = lab.log().count("connections already") - lines
    assert 1 <= lines <= told_since(started), f"{lines} lines"
    for n, c in enumerate(crowd):
        c.close(reset=n % 2 == 0)
    until("there is room again", lambda: not lab.refused(VICTIM, ADDRESS))


def those_who_open_nothing(lab, _):
    """They connect, or ask what there is, and stay. The bystander has their address, and what it has is open."""
    def threads():
        return len(os.listdir(f"/proc/{lab.server.pid}/task"))
    before, lines, started = threads(), lab.log().count("refused"), time.monotonic()
    stay = []
    for n in range(2000):
        c = Raw(lab, ADDRESS)
        try:
            if n % 3:
                c.greet()
                assert c.info("image/disk") is None and c.haggle(nbd_raw.OPT_LIST)
        except (nbd_raw.Closed, ConnectionError):
            pass
        stay.append(c)
    until(lambda: f"{threads() - before} threads more", lambda: threads() - before <= WAITING)
    assert threads() - before == WAITING, threads() - before
    assert not goes(Raw(lab, ADDRESS), VICTIM), "one more was let in"
    for address in ("127.0.0.9", None):
        with Raw(lab, address) as other:
            assert other.go(VICTIM) == SIZE, "another address has to suffer"
    assert lab.log().count("refused") - lines <= told_since(started)
    # Those that open something make room for others; closing them does too.
    assert all(c.info(VICTIM, nbd_raw.OPT_GO) == SIZE for n, c in enumerate(stay[:15]) if n % 3)
    until("there is room", lambda: goes(Raw(lab, ADDRESS), VICTIM))
    for c in stay:
        c.close()


def silent_readers(lab, _):
    """They ask for as much as the sockets take, and read nothing of it."""
    silent = [Raw(lab, ADDRESS if n % 2 else None) for n in range(12)]
    for n, c in enumerate(silent):
        export = VICTIM if n % 2 else "image/disk"
        assert c.go(export) == SIZE
        c.never_read(c.request(nbd_raw.READ, 0, SIZE))
    time.sleep(1)
    for c in silent:
        c.close()


def whole_disks(lab, rng):
    """Zero and trim of nearly 4 GiB, a byte more or less to either side, against a model: few bytes are not zero."""
    marks = {}
    with lab.nbd(ROOMY, ADDRESS) as h:
        assert h.get_size() == BIG
        for n in range(10):
            zero = n % 2 == 0
            start = rng.choice((0, 1, 4095, 4096, 4097, 65535, 65537, (1 << 32) - 1, 1 << 32, (1 << 32) + 1, BIG - MOST))
            length = rng.choice((MOST, MOST - 1, MOST - 4095, MOST - 65536))
            length = min(length, BIG - start)
            spots = {min(max(at + d, 0), BIG - 1) for at in (start, start + length, start + length // 2) for d in (-4097, -1, 0, 1, 70000)}
            for at in spots:
                marks[at] = rng.randrange(1, 256)
                h.pwrite(bytes([marks[at]]), at)
            (h.zero if zero else h.trim)(length, start)
            marks = {at: byte for at, byte in marks.items() if not start <= at < start + length}
            for at in sorted(spots | set(marks)):
                found, around = h.pread(min(BIG, at + 3) - max(at - 2, 0), max(at - 2, 0)), range(max(at - 2, 0), min(BIG, at + 3))
                assert found == bytes(marks.get(a, 0) for a in around), f"at {at} after {'zero' if zero else 'trim'} {length}@{start}"
        extents(h, marks)


def extents(h, marks):
    """As much as can be asked at once: what is said to be zero has no mark."""
    at = 0
    while at < BIG:
        asked, told = min(MOST, BIG - at), []
        h.block_status(asked, at, lambda _m, _o, entries, _e: told.extend(entries))
        assert told and sum(told[::2]) <= asked, "extents past what was asked for"
        for length, flags in zip(told[::2], told[1::2]):
            assert length > 0 and not (flags & nbd.STATE_ZERO and any(at <= m < at + length for m in marks))
            at += length


def largest_requests(lab, rng):
    with lab.nbd(ROOMY, ADDRESS) as h:
        data = rng.randbytes(1 << 20) * 64
        at = (5 << 30) + 1
        h.pwrite(data, at)
        assert h.pread(64 << 20, at) == data
        h.zero(64 << 20, at)
        h.cache(MOST, 0)
        assert h.pread(64 << 20, at) == bytes(64 << 20)


def descriptors_that_are_left(lab, rng):
    """A server that may have few: connections from many addresses leave some, and nbdkit, which would spin without, waits."""
    lab.serve(before=["prlimit", "--nofile=400:400"])
    with lab.nbd(BYSTANDER, ADDRESS) as h:
        h.pread(SIZE, 0)
        crowd = [Raw(lab, f"127.0.2.{n % 20 + 1}") for n in range(600)]
        until("the last one is refused", lambda: "there are 100 already" in lab.log())
        time.sleep(1)

        def ticks():
            with open(f"/proc/{lab.server.pid}/stat", encoding="ascii") as f:
                return sum(map(int, f.read().split()[13:15]))
        before = ticks()
        time.sleep(2)
        assert ticks() - before < 100, "it spins"
        assert len(os.listdir(f"/proc/{lab.server.pid}/fd")) < 200
        at = rng.randrange(SIZE // 2)
        h.pwrite(b"on", at)
        assert h.pread(2, at) == b"on"
        for c in crowd:
            c.close()
    until("there is room again", lambda: not lab.refused(VICTIM, ADDRESS))
    assert len(lab.log()) < 1 << 20
    assert lab.stop() == 0
    print("ok - descriptors that are left", flush=True)


def main():
    rng = random.Random(SEED)
    with Lab({"access": {"check": "none"}}) as lab:
        for name, size, content in (("disk", SIZE, rng.randbytes(SIZE // 2)), ("big", BIG, b"")):
            lab.image(name, lab.file(name, size, content))
            lab.run("setup", "create", name, "--owner", "alice", "--image", name)
        for n, mac in enumerate(MACS):
            lab.machine(n + 1)
            lab.run("boot", "queue", mac, "big" if mac == ROOMY else "disk")
        lab.serve()
        for mac in (VICTIM, ROOMY):  # they run already
            with lab.nbd(mac, ADDRESS) as h:
                h.pwrite(b"x", 0)
                h.zero(1, 0)
        until("they run", lambda: [b["State"] for b in lab.json("boot", "list")].count("running") == 2)
        watch = Watch(lab)
        until("the bystander's boot runs", lambda: [b["State"] for b in lab.json("boot", "list")].count("running") == 3)
        watch.left = watch.traces()
        for hostile in (half_messages, nonsense, names, floods, a_crowd, those_who_open_nothing, silent_readers, whole_disks, largest_requests):
            started = time.monotonic()
            hostile(lab, rng)
            watch.check(f"{hostile.__name__.replace('_', ' ')} ({time.monotonic() - started:.1f} s)")
        watch.end()
        assert lab.stop() == 0
        print(f"ok - {watch.bystander.operations.value} operations of the bystander (seed {SEED})")
        descriptors_that_are_left(lab, rng)


main()
