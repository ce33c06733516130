# SPDX-License-Identifier: BSD-3-Clause
"""Commands that die, or whose disk fails, at a call by which they change a file: what the tests of that share."""
import collections
import os
import random
import re
import shutil
import subprocess

CALLS = ("pwrite64 write fdatasync fsync sync_file_range ftruncate fallocate rename renameat renameat2 link linkat unlink "
         "unlinkat mkdir mkdirat rmdir copy_file_range").split()
FAULTS = {"killed": "signal=KILL", "ENOSPC": "error=ENOSPC", "EIO": "error=EIO"}


def fast_folder():
    """Where syncs cost nothing, if there is room: what these tests ask is not whether the kernel keeps its word."""
    fs = os.statvfs("/dev/shm") if os.path.isdir("/dev/shm") else None
    return "/dev/shm" if fs and fs.f_bavail * fs.f_frsize > 1 << 30 else None


def can_trace():
    return shutil.which("strace") and subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"],
                                                     check=False).returncode == 0


def run(words):
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)


def in_turn(lists, seed):
    """One after the other of each list, which the seed has shuffled."""
    for some in lists:
        random.Random(seed).shuffle(some)
    return [some[i] for i in range(max(map(len, lists))) for some in lists if i < len(some)]


def count_points(trace):
    """(call, n) for each call on a file, by its number within its thread. The trace is one with strace's -y."""
    seen, points = collections.Counter(), set()
    with open(trace, encoding="utf-8", errors="replace") as f:
        for line in f:
            found = re.match(r"(\d+)\s+(\w+)\((\d+<\w+:)?", line)  # 7<pipe:[123]>
            if found:
                thread, call, other = found.groups()
                seen[thread, call] += 1
                if not other:
                    points.add((call, seen[thread, call]))
    return sorted(points)


def points(words, trace):
    """Those of an undisturbed run. `trace`: a file to use."""
    r = run(["strace", "-f", "-y", "-qq", "-o", trace, "-e", "trace=" + ",".join(CALLS), *words])
    assert r.returncode == 0, f"{' '.join(words)}: {r.stderr}"
    return count_points(trace)


def injection(fault, call, n):
    """For strace: the n-th such call of a thread fails, or is its last."""
    return ["-e", "trace=" + call, "-e", f"inject={call}:{FAULTS[fault]}:when={n}"]


def inject(words, fault, call, n):
    return run(["strace", "-f", "-qq", "-o", "/dev/null", *injection(fault, call, n), *words])
