#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The disks of a boot over NBD: contents, writes, zeroes, extents, what is listed, what is refused."""
import os
import random
import socket
import struct
import sys

import nbd

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import Lab, until  # noqa: E402

SIZE = 24 * 1024 * 1024 + 1536  # no multiple of a block or a chunk


def make_disk(seed):
    r = random.Random(seed)
    disk = bytearray(SIZE)
    for _ in range(60):
        at = r.randrange(SIZE - 70000)
        n = r.randrange(1, 70000)
        disk[at:at + n] = r.randbytes(n) if r.random() < 0.5 else bytes([r.randrange(256)]) * n
    return disk


def check_whole(h, disk):
    step = 4 << 20
    for at in range(0, SIZE, step):
        n = min(step, SIZE - at)
        assert h.pread(n, at) == disk[at:at + n], f"the disk differs between {at} and {at + n}"


def reads_and_writes_match_a_model(lab, mac, disk):
    lab.run("boot", "queue", "lab-1", "setup")
    r = random.Random(7)
    with lab.nbd(mac) as a, lab.nbd(mac) as b:
        assert a.get_size() == SIZE and a.can_multi_conn() and not a.is_read_only()
        assert a.can_fua() and a.can_zero() and a.can_trim() and a.can_flush() and a.can_cache()
        assert a.get_block_size(nbd.SIZE_MINIMUM) == 1 and a.get_block_size(nbd.SIZE_PREFERRED) == 65536
        check_whole(a, disk)
        for _ in range(600):
            h = r.choice((a, b))
            at = r.randrange(SIZE)
            n = min(r.choice((1, 512, 4096, 5000, 65536, 200000)), SIZE - at)
            action = r.randrange(5)
            if action == 0:
                data = r.randbytes(n)
                h.pwrite(data, at, r.choice((0, nbd.CMD_FLAG_FUA)))
                disk[at:at + n] = data
            elif action == 1:
                h.zero(n, at, r.choice((0, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FUA)))
                disk[at:at + n] = bytes(n)
            elif action == 2:
                h.trim(n, at)
                disk[at:at + n] = bytes(n)
            elif action == 3:
                h.flush()
                h.cache(n, at)
            else:
                assert h.pread(n, at) == disk[at:at + n], f"{n} bytes at {at}"
        check_whole(b, disk)
        extents_agree(a, disk)
        past_the_end_is_refused(a)


def extents_agree(h, disk):
    seen = []
    for at in range(0, SIZE, 1 << 20):
        n = min(1 << 20, SIZE - at)
        found = []
        h.block_status(n, at, lambda context, offset, entries, error: found.extend(entries))
        total = 0
        for length, flags in zip(found[::2], found[1::2]):
            assert length > 0
            length = min(length, n - total)
            if flags & nbd.STATE_ZERO:
                assert not any(disk[at + total:at + total + length]), f"extent at {at + total} is not zero"
            total += length
            seen.append(flags)
        assert total == n, f"extents at {at} cover {total} of {n}"
    assert any(f & nbd.STATE_HOLE for f in seen) and any(f == 0 for f in seen)


def past_the_end_is_refused(h):
    h.set_strict_mode(0)
    for call in (lambda: h.pread(1, SIZE), lambda: h.pwrite(b"x", SIZE), lambda: h.zero(2, SIZE - 1)):
        try:
            call()
            raise AssertionError("a request past the end was accepted")
        except nbd.Error:
            pass


def an_ended_boot_is_thrown_away(lab, mac, base):
    assert lab.json("boot", "show", "lab-1")["State"] == "running"

    def counted():
        status = lab.json("status")[0]
        return all((status[name] or 0) > least for name, least in
                   (("BytesRead", SIZE), ("BytesWritten", 0), ("OverlayBytes", 4096)))
    until("what was read and written is in the status", counted)
    lab.run("boot", "end", "lab-1")
    assert lab.json("boot", "show", "lab-1")["State"] == "discarded"
    until("the overlay is removed", lambda: not os.listdir(f"{lab.dir}/state/overlays"))
    lab.run("boot", "queue", "lab-1", "setup")
    with lab.nbd(mac) as h:
        check_whole(h, base)
    lab.run("boot", "end", "lab-1")


def opening_leases_nothing(lab, mac):
    before = lab.json("boot", "list", "lab-2")
    for _ in range(5):
        with lab.nbd(mac) as h:
            assert "boot" in h.get_export_description()
            h.flush()
    assert lab.json("boot", "list", "lab-2") == before
    assert not [b for b in before if b["State"] != "queued"]


def list_exports(lab, address=None):
    h = nbd.NBD()
    h.set_opt_mode(True)
    if address is None:
        h.connect_unix(lab.socket)
    else:
        s = socket.create_connection(("127.0.0.1", lab.port), source_address=(address, 0))
        h.connect_socket(s.detach())
    names = []
    h.opt_list(lambda name, description: names.append(name))
    h.opt_abort()
    return names


def callers_see_and_open_what_is_theirs(lab, one, two):
    address = {m["MacAddress"]["Address"]: m for m in lab.json("machine", "list")}
    assert set(address) == {one, two}
    lab.hook("add", one, "127.0.1.77", "lab-1")
    lab.hook("add", two, "127.0.1.78", "lab-2")
    dashes = two.replace(":", "-")
    everything = list_exports(lab)
    assert dashes in everything and "image/alice/disk" in everything, everything
    seen = list_exports(lab, "127.0.1.78")
    assert seen == [dashes, dashes + "/disk", dashes + "/machine"], seen
    assert list_exports(lab, "127.0.1.79") == []
    for export in ("", two, dashes + "/disk", "525400000002"):
        with lab.nbd(export, "127.0.1.78") as h:
            assert h.get_size() == SIZE
    assert lab.refused(one, "127.0.1.78"), "another machine's export was opened"
    assert lab.refused(two, "127.0.1.79"), "an unknown address opened an export"
    assert lab.refused("", "127.0.1.79")
    assert lab.refused("image/disk", "127.0.1.78")
    with lab.nbd("image/disk") as h:
        assert h.is_read_only()
        check_whole(h, BASE)


def hostile_names_are_refused(lab):
    for name in ("../../etc/passwd", "'\"; DROP TABLE boot; --", "52:54:00:00:00:01/../disk", "image/../../x",
                 "A" * 4096, "52:54:00:00:00:01.nosuchtoken", "52:54:00:00:00:01/nosuch", "52:54:00:00:00:99",
                 "image/nosuch", "image/disk@1", "image/disk@latest@latest", "52:54:00:00:00:01.x/done"):
        assert lab.refused(name), f"{name!r} was opened"
    raw_name(lab, b"\xff\xfe\x80\x01'\"")
    log = lab.log()
    assert "\\xff\\xfe\\x80\\x01\\x27\\x22" in log and "DROP TABLE" in log
    assert "\x01" not in log and lab.alive()
    with lab.nbd("image/disk@" + str(lab.versions("disk")[0])) as h:
        assert h.get_size() == SIZE


def raw_name(lab, name):
    """NBD_OPT_GO with a name that libnbd would not send (protocol: NetworkBlockDevice doc/proto.md)."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10)
    s.connect(lab.socket)
    s.recv(18, socket.MSG_WAITALL)
    payload = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
    s.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 7, len(payload)) + payload)
    reply = s.recv(20, socket.MSG_WAITALL)
    s.close()
    assert len(reply) < 20 or struct.unpack(">I", reply[12:16])[0] & 0x80000000, "a name that is no text was opened"


BASE = bytes(make_disk(1))

with Lab() as lab:
    one, two = lab.machine(1), lab.machine(2)
    lab.image("disk", lab.file("disk.raw", SIZE, BASE))
    lab.run("setup", "create", "setup", "--owner", "alice", "--image", "disk")
    lab.serve()
    reads_and_writes_match_a_model(lab, one, bytearray(BASE))
    an_ended_boot_is_thrown_away(lab, one, BASE)
    lab.run("boot", "queue", "lab-2", "setup")
    opening_leases_nothing(lab, two)
    callers_see_and_open_what_is_theirs(lab, one, two)
    hostile_names_are_refused(lab)
    assert lab.stop() == 0
