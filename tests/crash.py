# SPDX-License-Identifier: BSD-3-Clause
"""Commands that die, or whose disk fails, at a call by which they change a file: what the tests of that share."""
import collections
import re
import shutil
import subprocess

CALLS = ("pwrite64 write fdatasync fsync sync_file_range ftruncate fallocate rename renameat renameat2 link linkat unlink "
         "unlinkat mkdir mkdirat rmdir").split()
FAULTS = {"killed": "signal=KILL", "ENOSPC": "error=ENOSPC", "EIO": "error=EIO"}


def can_trace():
    return shutil.which("strace") and subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"],
                                                     check=False).returncode == 0


def run(words):
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)


def points(words, trace):
    """(call, n) for each call of an undisturbed run, by its number within its thread. `trace`: a file to use."""
    r = run(["strace", "-f", "-qq", "-o", trace, "-e", "trace=" + ",".join(CALLS), *words])
    assert r.returncode == 0, f"{' '.join(words)}: {r.stderr}"
    seen = collections.Counter()
    with open(trace, encoding="utf-8", errors="replace") as f:
        for line in f:
            found = re.match(r"(\d+)\s+(\w+)\(", line)
            if found:
                seen[found.groups()] += 1
    most = collections.Counter()
    for (_, call), n in seen.items():
        most[call] = max(most[call], n)
    return [(call, n) for call in most for n in range(1, most[call] + 1)]


def inject(words, fault, call, n):
    """Runs it with the n-th such call of a thread failing, or being its last."""
    return run(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + call, "-e",
                f"inject={call}:{FAULTS[fault]}:when={n}", *words])
