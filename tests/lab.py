# SPDX-License-Identifier: BSD-3-Clause
"""A lab of its own for a test: a temporary state folder, its configuration, the command `labboot`, and a server.

    with Lab() as lab:
        lab.image("debian", lab.ext4(64))
        ...
        with lab.nbd("52-54-00-00-00-01") as h: h.pread(...)

The programs of an uninstalled tree come from the environment that `make check` sets: LABBOOT, LABBOOT_PLUGIN,
LABBOOT_LIBEXECDIR. Every process that a lab starts is ended by its pid.
"""
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import nbd

LABBOOT = os.environ.get("LABBOOT", "labboot")
LIBEXECDIR = os.environ.get("LABBOOT_LIBEXECDIR", "/usr/libexec/labboot")
# How many times more time and memory all may take: scripts/sanitize.
SLOWNESS = int(os.environ.get("LABBOOT_SLOWNESS", "1"))


class CommandFailed(Exception):
    def __init__(self, args, status, stderr):
        super().__init__(f"{' '.join(args)}: exit status {status}: {stderr.strip()}")
        self.status = status
        self.stderr = stderr


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(what, condition, seconds=20.0):
    """Waits until condition() is true, and returns what it returned. `what` is a text, or a function that makes it."""
    end = time.monotonic() + seconds * SLOWNESS
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")


def in_a_mount_namespace():
    """Runs the test again in one, where that may be; whether it is in one: then it may mount file systems of its own."""
    if "LAB_MOUNTS" not in os.environ:
        may = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0
        if may:
            os.execvpe("unshare", ["unshare", "-m", sys.executable, *sys.argv], dict(os.environ, LAB_MOUNTS="1"))
    return "LAB_MOUNTS" in os.environ


class Lab:
    def __init__(self, settings=None):
        self.dir = tempfile.mkdtemp(prefix="labboot-test-")
        self.port = free_port()
        self.server = None
        self.mounts = 0
        self.settings = {
            "server": {"state-dir": f"{self.dir}/state", "run-dir": f"{self.dir}/run",
                       "listen": "127.0.0.1", "port": str(self.port), "log-level": "info"},
            "network": {"interface": "lo", "range": "127.0.1.1-127.0.1.200", "netmask": "255.0.0.0",
                        "next-server": "127.0.0.1"},
            "store": {"cache-memory": "64M", "reserve": "0"},
        }
        for section, keys in (settings or {}).items():
            self.settings.setdefault(section, {}).update(keys)
        self.conf = f"{self.dir}/labboot.conf"
        self.write_conf()
        self.socket = f"{self.dir}/run/nbd.sock"
        self.log_path = f"{self.dir}/server.log"

    def __enter__(self):
        self.run("init")
        self.run("user", "add", "alice", "--email", "alice@lab.example", "--role", "admin")
        return self

    def __exit__(self, kind, value, trace):
        with contextlib.suppress(Exception):
            self.stop()
        if kind and os.path.exists(self.log_path):
            sys.stderr.write(self.log())
        shutil.rmtree(self.dir, ignore_errors=True)

    def write_conf(self):
        with open(self.conf, "w", encoding="ascii") as f:
            for section, keys in self.settings.items():
                f.write(f"[{section}]\n")
                f.writelines(f"{key} = {value}\n" for key, value in keys.items())

    # ---- the command line ----

    def run(self, *args, stdin=None):
        command = [LABBOOT, "--config", self.conf, *args]
        r = subprocess.run(command, stdin=stdin or subprocess.DEVNULL, capture_output=True, text=True, timeout=120 * SLOWNESS)
        if r.returncode != 0:
            raise CommandFailed(command, r.returncode, r.stderr)
        return r.stdout.strip()

    def json(self, *args):
        return json.loads(self.run("--json", *args))

    def image(self, name, path, *args):
        """Imports a file; returns the version."""
        return int(self.run("image", "import", name, path, "--owner", "alice", *args))

    def versions(self, image):
        return [v["Version"] for v in self.json("image", "versions", image)]

    def boot(self, boot):
        return self.json("boot", "show", str(boot))

    def wait_state(self, boot, *states, seconds=20.0):
        return until(lambda: f"boot {boot} {states}: it is {self.boot(boot)}",
                     lambda: self.boot(boot)["State"] in states and self.boot(boot), seconds)

    def file(self, name, size, contents=b""):
        path = f"{self.dir}/{name}"
        with open(path, "wb") as f:
            f.write(contents)
            f.truncate(size)
        return path

    def ext4(self, mib, name="root.img"):
        """A clean ext4 with what passes for a kernel."""
        tree = f"{self.dir}/tree"
        os.makedirs(f"{tree}/boot", exist_ok=True)
        for f in ("vmlinuz-6.1.0-9-lab", "initrd.img-6.1.0-9-lab"):
            with open(f"{tree}/boot/{f}", "wb") as out:
                out.write(b"kernel or initrd " + f.encode())
        path = self.file(name, mib << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-d", tree, path], check=True)
        return path

    def superblock(self, path, *commands):
        """The first block of an ext4 as it would be after these commands of debugfs(8); the file stays."""
        copy = f"{self.dir}/superblock.img"
        subprocess.run(["cp", "--sparse=always", path, copy], check=True)
        for command in commands:
            subprocess.run(["debugfs", "-w", "-R", command, copy], check=True, capture_output=True)
        with open(copy, "rb") as f:
            return f.read(4096)

    def mounted(self, path):
        """As a kernel leaves it while the file system is mounted, once more: its journal needs recovery."""
        self.mounts += 1
        return self.superblock(path, f"set_super_value mnt_count {self.mounts}", "feature needs_recovery")

    def unmounted(self, path):
        """Clean again after the last mounted()."""
        return self.superblock(path, f"set_super_value mnt_count {self.mounts}")

    def machine(self, n=1, *args):
        mac = f"52:54:00:00:00:{n:02x}"
        self.run("machine", "add", mac, "--name", f"lab-{n}", *args)
        return mac

    # ---- the server ----

    def serve(self, *options, before=()):
        """`options` are nbdkit's. before: words that the command is an argument of."""
        assert self.server is None
        with open(self.log_path, "ab") as log:
            self.server = subprocess.Popen([*before, LABBOOT, "--config", self.conf, "serve", "--", *options],
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until("the server listens", self.listens)

    def listens(self):
        assert self.server.poll() is None, f"the server ended: {self.log()}"
        if not os.path.exists(self.socket):
            return False
        try:
            h = nbd.NBD()
            h.set_opt_mode(True)
            h.connect_unix(self.socket)
            h.opt_abort()
            return True
        except nbd.Error:
            return False

    def stop(self, sig=signal.SIGTERM):
        server, self.server = self.server, None
        if server is None:
            return None
        server.send_signal(sig)
        try:
            return server.wait(20 * SLOWNESS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            raise

    def alive(self):
        return self.server.poll() is None

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def connect(self, export="", address=None, prepare=None):
        """A libnbd handle: by the Unix socket, or by TCP from the loopback address `address`. prepare(handle) comes first."""
        h = nbd.NBD()
        if prepare:
            prepare(h)
        h.add_meta_context("base:allocation")
        h.set_full_info(True)
        h.set_export_name(export)
        if address is None:
            h.connect_unix(self.socket)
        else:
            s = socket.create_connection(("127.0.0.1", self.port), source_address=(address, 0))
            h.connect_socket(s.detach())
        return h

    @contextlib.contextmanager
    def nbd(self, export="", address=None, prepare=None):
        h = self.connect(export, address, prepare)
        try:
            yield h
        finally:
            with contextlib.suppress(nbd.Error):
                h.shutdown()

    def refused(self, export, address=None, prepare=None):
        """Whether the export is refused."""
        try:
            self.connect(export, address, prepare).shutdown()
        except nbd.Error:
            return True
        return False

    # ---- what dnsmasq would say ----

    def hook(self, *args):
        env = dict(os.environ, LABBOOT_CONFIG=self.conf)
        return subprocess.run([f"{LIBEXECDIR}/labboot-dhcp-hook", *args], env=env, check=True, timeout=20 * SLOWNESS)

    def script(self, mac):
        path = f"{self.dir}/state/tftp/boot/mac-{mac.replace(':', '-')}.ipxe"
        try:
            with open(path, encoding="utf-8") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def export_of_script(self, mac):
        """MAC.TOKEN, as the machine's script names it now."""
        found = re.search(r"nbdroot=\S+?/(\S+)", self.script(mac))
        return found.group(1) if found else ""
