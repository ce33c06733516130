#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The serial console of a guest, for scripts.

qemu writes all that the guest says to DIR/console.log, whether or not somebody is connected to DIR/console.sock, which
takes what is typed. DIR/console.pos holds how far earlier calls have read, so that a wait never sees old text again.

usage: console.py DIR wait SECONDS REGEX    waits for a line that matches; prints the match
       console.py DIR run SECONDS COMMAND   types a command of one line to the shell there; prints its output, ends with
                                            its status
       console.py DIR type TEXT             types a line and waits for nothing
"""

import os
import re
import secrets
import socket
import sys
import time

LOOK_AGAIN = 0.1  # seconds
SHOW = 1500  # bytes of the transcript to show when something did not come

# What firmware and boot loaders send to move the cursor and to colour.
ESCAPES = re.compile(rb"\x1b(\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|c)|\r")


class Failure(Exception):
    pass


class Console:
    def __init__(self, folder):
        self.folder = folder
        self.log = os.path.join(folder, "console.log")
        self.pos_file = os.path.join(folder, "console.pos")
        try:
            with open(self.pos_file, encoding="ascii") as f:
                self.pos = int(f.read())
        except FileNotFoundError:
            self.pos = 0

    def text(self):
        """What came since the position; the raw bytes, for positions count those."""
        with open(self.log, "rb") as f:
            f.seek(self.pos)
            return f.read()

    def advance(self, count):
        self.pos += count
        with open(self.pos_file, "w", encoding="ascii") as f:
            f.write(str(self.pos))

    def alive(self):
        """Whether qemu still runs (its pid is in DIR/qemu.pid)."""
        try:
            with open(os.path.join(self.folder, "qemu.pid"), encoding="ascii") as f:
                pid = int(f.read())
            with open(f"/proc/{pid}/stat", encoding="ascii") as f:
                return f.read().rpartition(")")[2].split()[0] != "Z"
        except (OSError, ValueError):
            return False

    def wait(self, seconds, pattern):
        """Waits for a match, moves behind it, returns it with the text before it."""
        regex = re.compile(pattern.encode())
        end = time.monotonic() + seconds
        while True:
            running = self.alive()  # before the read: what came last is still seen
            text = self.text()
            match = regex.search(text)
            if match:
                self.advance(match.end())
                return text[: match.start()], match
            if not running:
                raise Failure(f"qemu has ended before: {pattern}{self.tail()}")
            if time.monotonic() > end:
                raise Failure(f"not within {seconds} s on the console: {pattern}{self.tail()}")
            time.sleep(LOOK_AGAIN)

    def tail(self):
        clean = ESCAPES.sub(b"", self.text()[-SHOW:]).decode("ascii", "replace")
        return "\n---- the console's end\n" + "".join(c if c.isprintable() or c == "\n" else "?" for c in clean)

    def type(self, text):
        """One line; qemu takes it at the guest's pace. What comes back meanwhile is in the log."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(os.path.join(self.folder, "console.sock"))
            s.sendall(text.encode() + b"\n")
            s.shutdown(socket.SHUT_WR)
            while s.recv(4096):
                pass

    def run(self, seconds, command):
        # The marks are typed in two halves, so that the echo of the line is not taken for the output.
        mark = secrets.token_hex(4)
        self.type(f"echo '<{mark}''>'; {command}; echo '<{mark}'\":$?>\"")
        self.wait(seconds, rf"<{mark}>\r*\n")
        output, match = self.wait(seconds, rf"<{mark}:(\d+)>\r*\n")
        sys.stdout.write(output.decode("utf-8", "replace").replace("\r", ""))
        return int(match[1])


def main(argv):
    if len(argv) == 5 and argv[2] == "wait":
        _, match = Console(argv[1]).wait(float(argv[3]), argv[4])
        print(match[0].decode("ascii", "replace").strip())
        return 0
    if len(argv) == 5 and argv[2] == "run":
        return Console(argv[1]).run(float(argv[3]), argv[4])
    if len(argv) == 4 and argv[2] == "type":
        Console(argv[1]).type(argv[3])
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv))
    except (Failure, OSError) as e:
        print(f"console.py: {e}", file=sys.stderr)
        sys.exit(1)
