#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The machine's own disk: made at its first use, kept over boots and killed servers, fenced like the boot's disks."""
import glob
import os
import random
import signal
import subprocess
import sys
import threading

import nbd

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import CommandFailed, Lab, in_a_mount_namespace, until  # noqa: E402

MIB = 1 << 20
ADDRESS = ["127.0.1.51", "127.0.1.52"]


def own(mac):
    return mac.replace(":", "-") + "/machine"


def file_of(lab, machine):
    return f"{lab.dir}/state/images/{lab.json('machine', 'show', machine)['ImageUUID']}/machine.raw"


def queue(lab, machine="lab-1", *args):
    return int(lab.run("boot", "queue", machine, "disk", *args))


def refused_by_cli(lab, status, text, *args):
    try:
        lab.run(*args)
    except CommandFailed as e:
        assert e.status == status and text in e.stderr, e
        return
    raise AssertionError(f"{args} was accepted")


def fails(call, *errnos):
    try:
        call()
    except nbd.Error as e:
        assert e.errno in errnos, e
        return
    raise AssertionError("it was accepted")


def it_is_made_at_its_first_use(lab, macs):
    path = file_of(lab, "lab-1")
    boot = queue(lab)
    with lab.nbd(own(macs[0])) as h:
        assert h.get_size() == 128 * MIB and not h.is_read_only() and h.can_multi_conn() and h.can_fua()
        assert "its own disk" in h.get_export_description()
        h.flush()
        assert not os.path.exists(path) and lab.boot(boot)["State"] == "queued", "opening it did something"
        assert h.pread(2, 1024 + 0x38) == b"\x53\xef", "no ext4 superblock"
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert subprocess.run(["e2fsck", "-fn", path], capture_output=True).returncode == 0
    assert subprocess.run(["e2label", path], capture_output=True, text=True).stdout.strip() == "machine"
    used = lab.json("machine", "show", "lab-1")["MachineImage"]["AllocatedBytes"]
    assert 0 < used < MIB, used
    assert not os.listdir(os.path.dirname(path) + "/tmp")
    lab.run("boot", "end", str(boot))


def other_file_systems(lab, macs):
    lab.run("machine", "set", "lab-2", "--disk-size", "160M", "--disk-filesystem", "fat32")
    boot = queue(lab, "lab-2")
    with lab.nbd(own(macs[1])) as h:
        assert h.get_size() == 160 * MIB and h.pread(5, 82) == b"FAT32"
    assert subprocess.run(["fsck.fat", "-n", file_of(lab, "lab-2")], capture_output=True).returncode == 0
    refused_by_cli(lab, 4, f"its disk cannot change while its boot {boot} is", "machine", "set", "lab-2",
                   "--disk-filesystem", "raw")
    lab.run("boot", "end", str(boot))
    refused_by_cli(lab, 4, "in use with fat32 already", "machine", "set", "lab-2", "--disk-filesystem", "raw")
    raw = lab.machine(3, "--disk-filesystem", "raw", "--disk-size", "1M")
    boot = queue(lab, "lab-3")
    with lab.nbd(own(raw)) as h:
        assert h.pread(MIB, 0) == bytes(MIB)
    lab.run("boot", "end", str(boot))


def reads_and_writes_match_a_model(lab, macs, disk):
    r = random.Random(11)
    boot = queue(lab)
    with lab.nbd(own(macs[0])) as a, lab.nbd(own(macs[0])) as b:
        disk[:] = a.pread(32 * MIB, 0)
        for _ in range(500):
            h = r.choice((a, b))
            at = r.randrange(len(disk))
            n = min(r.choice((1, 512, 4096, 5000, 65536, 300000)), len(disk) - at)
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
        assert b.pread(32 * MIB, 0) == disk
        extents_agree(a, disk)
    assert lab.boot(boot)["State"] == "running"
    lab.run("boot", "end", str(boot))
    assert not os.path.exists(f"{lab.dir}/state/overlays/{boot}"), "it went into an overlay"


def extents_agree(h, disk):
    found = []
    h.block_status(len(disk), 0, lambda context, offset, entries, error: found.extend(entries))
    at = 0
    for length, flags in zip(found[::2], found[1::2]):
        length = min(length, len(disk) - at)
        assert length > 0
        if flags & nbd.STATE_ZERO:
            assert not any(disk[at:at + length]), f"the extent at {at} is not zero"
        at += length
    assert {f & nbd.STATE_ZERO for f in found[1::2]} == {0, nbd.STATE_ZERO}


def a_trim_gives_the_space_back(lab, macs, disk):
    boot = queue(lab)
    path = file_of(lab, "lab-1")
    with lab.nbd(own(macs[0])) as h:
        h.pwrite(random.randbytes(8 * MIB), 64 * MIB)
        before = os.stat(path).st_blocks * 512
        h.trim(8 * MIB, 64 * MIB)
        assert before - os.stat(path).st_blocks * 512 >= 8 * MIB
        assert h.pread(MIB, 64 * MIB) == bytes(MIB)
    lab.run("boot", "end", str(boot))


def it_survives_boots_and_killed_servers(lab, macs, disk):
    boot = queue(lab)
    with lab.nbd(own(macs[0])) as h:
        assert h.pread(len(disk), 0) == disk, "another boot finds something else"
    lab.run("boot", "end", str(boot), "--discard")
    queue(lab)
    for n in range(3):
        written = {}

        def write():
            h = lab.connect(own(macs[0]))
            try:
                while True:
                    at = random.randrange(len(disk) // 4096) * 4096
                    data = random.randbytes(4096)
                    written.pop(at, None)  # not acknowledged
                    h.pwrite(data, at)
                    written[at] = data
            except nbd.Error:
                pass
        writer = threading.Thread(target=write)
        writer.start()
        until("much is written", lambda: len(written) > 200)
        lab.stop(signal.SIGKILL)
        writer.join()
        lab.serve()
        with lab.nbd(own(macs[0])) as h:
            for at, data in written.items():
                assert h.pread(4096, at) == data, f"an acknowledged write at {at} is lost (kill {n})"
    lab.run("boot", "end", "lab-1")


def an_old_connection_is_fenced(lab, macs):
    """The machine was reset: it comes with its next token, and what still hangs on the old one writes no more."""
    queue(lab)
    queue(lab)
    first = until("the script names a boot", lambda: lab.export_of_script(macs[0]))
    old = lab.connect(first + "/machine", ADDRESS[0])
    old.pwrite(b"old".ljust(4096), 0)
    second = until("the script names the next boot", lambda: lab.export_of_script(macs[0]) != first and
                   lab.export_of_script(macs[0]))
    with lab.nbd(second + "/machine", ADDRESS[0]) as new:
        assert new.pread(3, 0) == b"old"
        new.pwrite(b"new".ljust(4096), 0)
        for call in (lambda: old.pwrite(b"late".ljust(4096), 0), lambda: old.trim(4096, 0), lambda: old.pread(1, 0)):
            fails(call, "ESHUTDOWN")
        assert new.pread(3, 0) == b"new"
        # From another address it is refused while this one stands.
        lab.hook("add", macs[0], ADDRESS[1], "lab-1")
        assert lab.refused(second + "/machine", ADDRESS[1])
        with lab.nbd(own(macs[0])) as admin:
            assert admin.is_read_only() and admin.pread(3, 0) == b"new"
    lab.run("boot", "end", "lab-1")


def after_done_it_is_read_only(lab, macs):
    queue(lab)
    token = until("the script names a boot", lambda: lab.export_of_script(macs[0]))
    with lab.nbd(token + "/machine", ADDRESS[0]) as h:
        h.pwrite(b"last".ljust(4096), 0)
        with lab.nbd(token + "/done", ADDRESS[0]) as done:
            done.pread(1, 0)
        fails(lambda: h.pwrite(b"later".ljust(4096), 0), "ESHUTDOWN")
        assert h.pread(4, 0) == b"last"


def it_grows(lab, macs):
    boot = queue(lab)
    with lab.nbd(own(macs[0])) as h:
        h.pwrite(bytes(4096), 0)
    refused_by_cli(lab, 4, f"its disk cannot change while its boot {boot} is running", "machine", "set", "lab-1",
                   "--disk-size", "256M")
    lab.run("boot", "end", str(boot))
    mac = lab.machine(4)
    queue(lab, "lab-4")
    with lab.nbd(own(mac)) as h:
        assert h.get_size() == 128 * MIB and h.pread(2, 1024 + 0x38) == b"\x53\xef"
    lab.run("boot", "end", "lab-4")
    lab.run("machine", "set", "lab-4", "--disk-size", "256M")
    path = file_of(lab, "lab-4")
    assert subprocess.run(["e2fsck", "-fn", path], capture_output=True).returncode == 0
    header = subprocess.run(["dumpe2fs", "-h", path], capture_output=True, text=True).stdout
    blocks = [line.split()[-1] for line in header.splitlines() if line.startswith(("Block count", "Block size"))]
    assert int(blocks[0]) * int(blocks[1]) == 256 * MIB, header
    # What is no ext4 any more grows too, and it is said.
    with open(path, "r+b") as f:
        f.write(b"mine".ljust(8192, b"\1"))
    r = subprocess.run([os.environ.get("LABBOOT", "labboot"), "--config", lab.conf, "machine", "set", "lab-4",
                        "--disk-size", "300M"], capture_output=True, text=True)
    assert r.returncode == 0 and "grows, but not the file system on it: e2fsck: " in r.stderr, r
    queue(lab, "lab-4")
    with lab.nbd(own(mac)) as h:
        assert h.get_size() == 300 * MIB and h.pread(4, 0) == b"mine"
    lab.run("boot", "end", "lab-4")


def an_unmanaged_machine_has_none(lab, macs):
    lab.run("machine", "set", "lab-2", "--unmanaged")
    assert lab.refused(own(macs[1])) and lab.refused(macs[1])
    assert "nbdroot" not in lab.script(macs[1]) and lab.script(macs[1])
    refused_by_cli(lab, 4, "is not managed", "boot", "queue", "lab-2", "disk")
    lab.run("machine", "set", "lab-2", "--managed")
    boot = queue(lab, "lab-2")
    with lab.nbd(own(macs[1])) as h:
        assert h.pread(5, 82) == b"FAT32"
    lab.run("boot", "end", str(boot))


def every_mac_finds_it(lab, macs):
    lab.run("machine", "set", "lab-2", "--mac", "52:54:00:00:22:22")
    queue(lab, "lab-2")
    with lab.nbd("5254.0000.2222/machine") as h, lab.nbd(own(macs[1])) as other:
        h.pwrite(b"both".ljust(512), 4096)
        assert other.pread(4, 4096) == b"both"
    lab.run("boot", "end", "lab-2")


def a_removed_machine_leaves_no_files(lab):
    mac = lab.machine(5, "--mac", "52:54:00:00:55:55")
    boot = queue(lab, "lab-5", "--update")
    with lab.nbd(own(mac)) as h, lab.nbd(mac) as root:
        root.pwrite(b"kept?".ljust(4096), 0)
        h.pwrite(b"kept".ljust(512), 0)
        refused_by_cli(lab, 4, f"boot {boot} of machine 'lab-5' is running", "machine", "remove", "lab-5", "--force")
        assert h.pread(4, 0) == b"kept"
    try:
        lab.run("boot", "end", str(boot))
        raise AssertionError("a raw disk was committed")
    except CommandFailed:
        lab.wait_state(boot, "interrupted")
    folder = os.path.dirname(file_of(lab, "lab-5"))
    refused_by_cli(lab, 4, "interrupted", "machine", "remove", "lab-5")
    assert os.path.exists(folder) and os.path.exists(f"{lab.dir}/state/overlays/{boot}")
    lab.run("machine", "remove", "lab-5", "--force")
    assert not os.path.exists(folder) and not os.path.exists(f"{lab.dir}/state/overlays/{boot}")
    assert not glob.glob(f"{lab.dir}/state/tftp/boot/*-52-54-00-00-00-05*")
    assert not glob.glob(f"{lab.dir}/state/tftp/boot/*-52-54-00-00-55-55*")
    assert lab.refused(own(mac))


def without_tools_or_space_it_is_said(lab):
    mac = lab.machine(6)
    images = f"{lab.dir}/state/images"
    queue(lab, "lab-6")
    subprocess.run(["mount", "--bind", "/dev/null", "/usr/sbin/mke2fs"], check=True)
    h = lab.connect(own(mac))
    fails(lambda: h.pread(512, 0), "EIO")
    subprocess.run(["umount", "/usr/sbin/mke2fs"], check=True)
    assert "there is no program mkfs.ext4 here; try: apt-get install e2fsprogs" in lab.log(), lab.log()
    assert not os.path.exists(file_of(lab, "lab-6"))
    with open(f"{images}/ballast", "wb") as f:
        free = os.statvfs(images)
        os.posix_fallocate(f.fileno(), 0, free.f_bavail * free.f_frsize - 128 * 1024)
    fails(lambda: h.pread(512, 0), "ENOSPC", "EIO")
    assert not os.path.exists(file_of(lab, "lab-6")) and lab.alive()
    os.unlink(f"{images}/ballast")
    assert h.pread(2, 1024 + 0x38) == b"\x53\xef", "the same connection does not go on"
    with open(f"{images}/ballast", "wb") as f:
        free = os.statvfs(images)
        os.posix_fallocate(f.fileno(), 0, free.f_bavail * free.f_frsize - 4 * MIB)
    fails(lambda: [h.pwrite(random.randbytes(MIB), at * MIB) for at in range(16, 32)], "ENOSPC")
    assert h.pread(2, 1024 + 0x38) == b"\x53\xef"
    h.trim(16 * MIB, 16 * MIB)
    h.pwrite(b"again".ljust(4096), 16 * MIB)
    os.unlink(f"{images}/ballast")
    h.shutdown()
    lab.run("boot", "end", "lab-6")


def the_reserve_is_left(lab):
    images = f"{lab.dir}/state/images"
    mac = lab.machine(7)
    lab.stop()
    free = os.statvfs(images)
    lab.settings["store"]["reserve"] = str(free.f_bavail * free.f_frsize - 12 * MIB)
    lab.write_conf()
    lab.serve()
    queue(lab, "lab-7")
    with lab.nbd(own(mac)) as h:
        h.pwrite(random.randbytes(MIB), 0)
        fails(lambda: [h.pwrite(random.randbytes(MIB), at * MIB) for at in range(1, 32)], "ENOSPC")
        h.pwrite(random.randbytes(MIB), 0)  # takes no more
    lab.run("boot", "end", "lab-7")


mounts = in_a_mount_namespace()
with Lab() as lab:
    images = f"{lab.dir}/state/images"
    if mounts:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "none", images], check=True)
    macs = [lab.machine(n) for n in (1, 2)]
    lab.hook("add", macs[0], ADDRESS[0], "lab-1")
    lab.image("disk", lab.ext4(16))
    lab.image("bare", lab.file("bare.raw", 16 * MIB))
    lab.run("setup", "create", "disk", "--owner", "alice", "--image", "disk")
    lab.serve()
    model = bytearray()
    for story, args in ((it_is_made_at_its_first_use, (macs,)), (other_file_systems, (macs,)),
                        (reads_and_writes_match_a_model, (macs, model)), (a_trim_gives_the_space_back, (macs, model)),
                        (it_survives_boots_and_killed_servers, (macs, model)), (an_old_connection_is_fenced, (macs,)),
                        (after_done_it_is_read_only, (macs,)), (it_grows, (macs,)),
                        (an_unmanaged_machine_has_none, (macs,)), (every_mac_finds_it, (macs,)),
                        (a_removed_machine_leaves_no_files, ()),
                        *(((without_tools_or_space_it_is_said, ()), (the_reserve_is_left, ())) if mounts else ())):
        story(lab, *args)
        print("ok -", story.__name__, flush=True)
    assert lab.stop() == 0
    if mounts:
        subprocess.run(["umount", images], check=True)
