#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A disk of 1 TiB, nearly empty, as large as any that a lab will have: no command takes memory by its size, and neither does
the server that commits to it."""
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lab import LABBOOT, Lab  # noqa: E402

SIZE = 1 << 40
PIECES = 2000
MOST = 256 << 20
MIB = 1 << 20


def somewhere(rng):
    return rng.randrange(SIZE // 4096) * 4096


def peak(lab, *words):
    """Of its memory, in bytes."""
    quiet = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    pid = os.posix_spawn(LABBOOT, [LABBOOT, "--config", lab.conf, *words], os.environ, file_actions=quiet)
    _, status, usage = os.wait4(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, words
    return usage.ru_maxrss * 1024


def check(what, used):
    print(f"{what:40} {used / MIB:7.1f} MiB", flush=True)
    assert used < MOST, what


def peak_of_server(lab):
    with open(f"/proc/{lab.server.pid}/status", encoding="ascii") as f:
        return int(next(line for line in f if line.startswith("VmHWM")).split()[1]) * 1024


with Lab({"access": {"check": "none"}}) as lab:
    rng = random.Random(1)
    disk = lab.file("big.raw", SIZE)
    with open(disk, "r+b") as f:
        for _ in range(PIECES):
            f.seek(somewhere(rng))
            f.write(rng.randbytes(4096))
    check("image import", peak(lab, "image", "import", "big", disk, "--owner", "alice"))
    lab.run("setup", "create", "lab", "--owner", "alice", "--image", "big,update")
    mac = lab.machine(1, "--default-setup", "lab")
    lab.serve()
    with lab.nbd(mac) as h:
        for _ in range(PIECES // 4):
            h.pwrite(rng.randbytes(4096), somewhere(rng))
        h.flush()
    lab.run("boot", "end", mac, "--commit")
    assert len(lab.versions("big")) == 2
    check("the server, with a commit", peak_of_server(lab))
    lab.stop()
    for words in (["image", "verify", "big"], ["image", "versions", "big"], ["image", "flatten", "big"], ["gc"]):
        check(" ".join(words), peak(lab, *words))
    for form in ("raw", "qcow2", "raw.zst"):
        out = f"{lab.dir}/out"
        check(f"image export --format {form}", peak(lab, "image", "export", "big", out, "--format", form))
        os.unlink(out)
print("ok - memory is bounded")
