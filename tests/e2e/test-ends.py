#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A real kernel with a FAT32 and an ext4 of a disk with partitions, which goes in every way that a machine may go: what is kept
tells from the disk whether it went well."""
import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import CommandFailed, Lab, until  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
SECONDS = 90  # for one machine, from its start to its end

# As the first process. What the state byte of the FAT32 is, the guest says itself.
INIT = """#!/bin/sh
mkdir -p /proc /fat /ext; mount -t proc proc /proc; mount -t devtmpfs dev /dev
for m in virtio_pci virtio_net nbd; do modprobe $m; done
for m in fat vfat nls_cp437 nls_ascii; do insmod /lab/$m.ko; done
busybox ip addr add 10.0.2.15/24 dev eth0; busybox ip link set eth0 up
nbd-client -N $LABMAC 10.0.2.2 $LABPORT /dev/nbd0
until : < /dev/nbd0 && [ -b /dev/nbd0p2 ]; do sleep 0.1; done
state() { echo "lab: $1 $(busybox dd if=/dev/nbd0p1 bs=1 skip=65 count=1 2> /dev/null | busybox hexdump -e '1/1 "%d"')"; }
keep() { echo "$LABEND" > $1/$LABEND && sync; }
state before
mount -t vfat /dev/nbd0p1 /fat && keep /fat
state mounted
[ $LABEND = fat ] || { mount -t ext4 /dev/nbd0p2 /ext && keep /ext; }
case $LABEND in
    fat) umount /fat; state unmounted; busybox poweroff -f;;
    unmount) umount /fat /ext; state unmounted; busybox poweroff -f;;
    remount) busybox mount -o remount,ro /fat; busybox mount -o remount,ro /ext; state read-only; busybox reboot -f;;
    poweroff) busybox poweroff -f;;
    reboot-ext) umount /fat; busybox reboot -f;;
    killed-fat) umount /ext; echo lab: kill me; sleep 999;;
    killed) echo lab: kill me; sleep 999;;
    panic) echo c > /proc/sysrq-trigger;;
esac
"""

FAT_MOUNTED = "partition 1: FAT32: was not unmounted"
EXT_MOUNTED = "partition 2: ext4: needs journal recovery"
# How it ends, what the guest saw of the FAT32's state byte, and why the server keeps nothing (None: it does).
ENDS = [
    ("unmount", "before 0, mounted 1, unmounted 0", None),
    ("remount", "before 0, mounted 1, read-only 0", None),
    ("fat", "before 0, mounted 1, unmounted 0", None),
    ("poweroff", "before 0, mounted 1", FAT_MOUNTED),
    ("reboot-ext", "before 0, mounted 1", EXT_MOUNTED),
    ("killed-fat", "before 0, mounted 1", FAT_MOUNTED),
    ("killed", "before 0, mounted 1", FAT_MOUNTED),
    ("panic", "before 0, mounted 1", FAT_MOUNTED),
]


def skip(why):
    print(f"{os.path.basename(sys.argv[0])}: skipped: {why}", file=sys.stderr)
    sys.exit(77)


def root_image():
    """The disk that the other end-to-end tests boot, for its kernel."""
    if os.getuid() != 0 or not shutil.which("qemu-system-x86_64"):
        skip("needs root and qemu")
    state = os.environ.get("LABBOOT_STATE") or os.path.join(os.environ.get("builddir", "."), "_state")
    made = subprocess.run([f"{HERE}/make-root", state], stdout=subprocess.PIPE, text=True)
    if made.returncode != 0:
        skip("the machines' root cannot be made here")
    return made.stdout.strip()


def debugfs(image, request):
    return subprocess.run(["debugfs", "-R", request, image], check=True, capture_output=True).stdout.decode()


def cpio(files):
    """An archive for the kernel (newc): of (name, mode, contents)."""
    out = b""
    for name, mode, contents in [*files, ("TRAILER!!!", 0, b"")]:
        fields = [0, mode, 0, 0, 1, 0, len(contents), 0, 0, 0, 0, len(name) + 1, 0]
        head = b"070701" + b"".join(b"%08x" % f for f in fields) + name.encode() + b"\0"
        for part in (head, contents):
            out += part + b"\0" * (-len(part) % 4)
    return out


def make_initrd(lab, root):
    """The guest's own initramfs, and one behind it whose files come on top."""
    release = next(w.split("/")[5] for w in debugfs(root, "ls -p /lib/modules").split("\n") if "cloud" in w)
    for part in (f"/boot/vmlinuz-{release}", f"/boot/initrd.img-{release}"):
        debugfs(root, f"dump {part} {lab.dir}/{part.split('/')[2].split('-')[0]}")
    files = [("init", 0o100755, INIT.encode()), ("lab", 0o040755, b"")]
    for module in ("fs/fat/fat", "fs/fat/vfat", "fs/nls/nls_cp437", "fs/nls/nls_ascii"):
        debugfs(root, f"dump /lib/modules/{release}/kernel/{module}.ko {lab.dir}/module")
        with open(f"{lab.dir}/module", "rb") as f:
            files.append((f"lab/{os.path.basename(module)}.ko", 0o100644, f.read()))
    with open(f"{lab.dir}/initrd.img", "ab") as f:
        f.write(b"\0" * (-f.tell() % 4) + cpio(files))


def make_disk(lab):
    path = lab.file("disk.raw", 80 << 20)
    table = b"label: gpt\nstart=1M, size=48M\nstart=49M, size=24M\n"
    subprocess.run(["sfdisk", "--quiet", path], input=table, check=True)
    subprocess.run(["mkfs.fat", "-F", "32", "-s", "1", "--offset", "2048", path, str(48 << 10)], check=True, capture_output=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", f"offset={49 << 20}", path, "24M"], check=True, capture_output=True)
    return path


def run_machine(lab, mac, end):
    """Its console."""
    log = f"{lab.dir}/{end}.console"
    line = f"console=ttyS0 quiet panic=-1 LABMAC={mac} LABPORT={lab.port} LABEND={end}"
    command = ["qemu-system-x86_64", "-accel", os.environ.get("LABBOOT_ACCEL", "tcg"), "-cpu", "max", "-m", "384",
               "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", f"file:{log}",
               "-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,romfile=",
               "-kernel", f"{lab.dir}/vmlinuz", "-initrd", f"{lab.dir}/initrd.img", "-append", line]
    said = lambda: open(log, encoding="utf-8", errors="replace").read() if os.path.exists(log) else ""  # noqa: E731
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as qemu:
        try:
            until(lambda: f"{end}: {said()[-2000:]}", lambda: qemu.poll() is not None or "lab: kill me" in said(), SECONDS)
        finally:
            qemu.kill()
    return said()


def states(console):
    return ", ".join(line[5:].strip() for line in console.split("\n") if line.startswith("lab: ") and "kill" not in line)


def goes(lab, mac, end, fat, why):
    boot, versions = int(lab.run("boot", "queue", "lab-1", "disk", "--update")), lab.versions("disk")
    console = run_machine(lab, mac, end)
    assert states(console) == fat, (states(console), console[-2000:])
    if why is None:
        lab.wait_state(boot, "committed")
        assert len(lab.versions("disk")) == len(versions) + 1
        return
    try:
        lab.run("boot", "end", str(boot))
        raise AssertionError(f"{end}: it was taken for clean")
    except CommandFailed as e:
        assert why in str(e), e
    assert lab.boot(boot)["State"] == "interrupted" and lab.versions("disk") == versions
    lab.run("boot", "end", str(boot), "--discard")


root = root_image()
with Lab({"boot": {"grace": "1s"}}) as lab:
    make_initrd(lab, root)
    lab.image("disk", make_disk(lab))
    lab.run("setup", "create", "disk", "--owner", "alice", "--image", "disk")
    mac = lab.machine()
    lab.hook("add", mac, "127.0.0.1", "lab-1")
    lab.serve()
    for end, fat, why in ENDS:
        began = time.monotonic()
        goes(lab, mac, end, fat, why)
        print(f"ok - {end} ({time.monotonic() - began:.0f} s)", flush=True)
    assert lab.stop() == 0
