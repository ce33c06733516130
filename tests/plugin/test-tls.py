#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""[access] tls = require: what comes by TCP without TLS learns nothing and changes nothing, the Unix socket needs none, and
a server with bad credentials does not start, and says why."""
import os
import secrets
import shutil
import socket
import struct
import subprocess
import sys

import nbd

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import LABBOOT, Lab, until  # noqa: E402

MIB = 1 << 20
MACHINE, ADMIN = "127.0.1.91", "127.0.0.1"
NO_TLS = "came without TLS, which [access] tls requires"

# ---- credentials ----


def openssl(*args):
    subprocess.run(["openssl", *args], check=True, capture_output=True)


KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout")


class Authority:
    """A certificate authority in a folder of its own."""

    def __init__(self, lab, name):
        self.dir = f"{lab.dir}/{name}"
        os.mkdir(self.dir)
        self.cert, self.key = f"{self.dir}/ca-cert.pem", f"{self.dir}/ca-key.pem"
        openssl("req", "-x509", *KEY, self.key, "-out", self.cert, "-days", "300", "-subj", f"/CN={name}")

    def issue(self, folder, role, days=300):
        """ROLE-cert.pem and ROLE-key.pem, with the authority's certificate, in that folder."""
        os.makedirs(folder, exist_ok=True)
        base = f"{folder}/{role}"
        with open(f"{base}.ext", "w", encoding="ascii") as f:
            f.write(f"subjectAltName = IP:{ADMIN}\n")
        openssl("req", *KEY, f"{base}-key.pem", "-out", f"{base}.csr", "-subj", f"/CN={role}")
        openssl("x509", "-req", "-in", f"{base}.csr", "-CA", self.cert, "-CAkey", self.key, "-CAcreateserial",
                "-days", str(days), "-extfile", f"{base}.ext", "-out", f"{base}-cert.pem")
        shutil.copy(self.cert, f"{folder}/ca-cert.pem")
        return folder


def x509(folder):
    def prepare(h):
        h.set_tls(nbd.TLS_REQUIRE)
        h.set_tls_certificates(folder)
    return prepare


def psk(path, user):
    def prepare(h):
        h.set_tls(nbd.TLS_REQUIRE)
        h.set_tls_psk_file(path)
        h.set_tls_username(user)
    return prepare


def write(path, text):
    with open(path, "w", encoding="ascii") as f:
        f.write(text)
    return path


# ---- a client that speaks without TLS, byte by byte (NBD's doc/proto.md) ----

LIST, INFO, GO, LIST_META, EXPORT_NAME = 3, 6, 7, 9, 1


class Plain:
    def __init__(self, lab, address):
        self.socket = socket.create_connection(("127.0.0.1", lab.port), source_address=(address, 0), timeout=10)
        assert self.read(16) == b"NBDMAGICIHAVEOPT"
        self.read(2)
        self.socket.sendall(struct.pack(">I", 3))  # fixed newstyle, no zeroes

    def read(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise EOFError(data)
            data += more
        return data

    def ask(self, option, payload=b""):
        """The kinds of the replies to one option, up to the last one; more than a kind is what must not be said."""
        self.socket.sendall(b"IHAVEOPT" + struct.pack(">II", option, len(payload)) + payload)
        kinds = []
        while True:
            _, _, kind, length = struct.unpack(">QIII", self.read(20))
            text = self.read(length)
            assert kind >> 31 or not text, (option, text)
            kinds.append(kind)
            if kind >> 31 or kind == 1:  # an error, or NBD_REP_ACK
                return kinds

    def ask_export(self, option, name):
        name = name.encode()
        return self.ask(option, struct.pack(">I", len(name)) + name + struct.pack(">H", 0))


def is_error(kinds):
    return len(kinds) == 1 and kinds[0] >> 31


def learns_nothing(lab, address, exports):
    for name in exports:
        client = Plain(lab, address)
        assert is_error(client.ask(LIST))
        assert is_error(client.ask_export(INFO, name)) and is_error(client.ask_export(GO, name))
        client.socket.sendall(b"IHAVEOPT" + struct.pack(">II", EXPORT_NAME, len(name)) + name.encode())
        try:
            raise AssertionError(client.read(1))
        except EOFError as e:
            assert e.args == (b"",)


# ---- the stories ----


def lab_with_a_boot(lab):
    path = lab.ext4(8)
    lab.image("disk", path, "--kind", "system")
    lab.run("setup", "create", "desk", "--owner", "alice", "--image", "disk")
    mac = lab.machine(1)
    lab.hook("add", mac, MACHINE)
    with open(path, "rb") as f:
        return mac, lab.run("boot", "queue", mac, "desk"), f.read(2 * MIB)


def without_tls(lab, mac, boot):
    token = until("a script", lambda: lab.export_of_script(mac))
    assert is_error(Plain(lab, MACHINE).ask(LIST))
    until("the log", lambda: f"{MACHINE} {NO_TLS}" in lab.log())
    learns_nothing(lab, MACHINE, (mac, token, f"{token}/disk", f"{token}/done", f"{mac}/machine", "", "no such"))
    learns_nothing(lab, ADMIN, (mac, "image/disk", "image/nosuch", "52-54-00-00-00-99"))
    assert lab.boot(boot)["State"] == "queued"
    for folder in ("overlays", "images"):
        names = os.listdir(f"{lab.dir}/state/{folder}")
        assert not [n for n in names if n == boot or n.startswith("machine")], names
    assert f"refused '{mac}' to {MACHINE}: {MACHINE} {NO_TLS}" in lab.log()
    events = lab.json("log", "--machine", mac)
    assert [e for e in events if e["What"] == "export-refused" and NO_TLS in str(e)], events
    doctor = subprocess.run([LABBOOT, "--config", lab.conf, "doctor", mac], capture_output=True, text=True)
    assert f"{NO_TLS}; try: TLS in labboot.conf(5)" in doctor.stdout, doctor


def with_tls(lab, mac, boot, client, contents):
    with lab.nbd(lab.export_of_script(mac), MACHINE, client) as h:
        assert h.pread(2 * MIB, 0) == contents
        h.pwrite(b"x" * 4096, 4 * MIB)
        h.flush()
        assert h.pread(4096, 4 * MIB) == b"x" * 4096
        assert h.get_tls_negotiated()
    assert lab.boot(boot)["State"] == "running"


def lists_with_tls(lab, folder, other):
    def run(folder):
        # By a URI: libnbd looks at a server's certificate only where it knows whose it should be.
        return subprocess.run(["nbdinfo", "--list", f"nbds://{ADMIN}:{lab.port}/?tls-certificates={folder}"],
                              capture_output=True, text=True)
    r = run(folder)
    assert r.returncode == 0 and 'export="image/alice/disk"' in r.stdout, r
    r = run(other)
    assert r.returncode and "certificate" in r.stderr and "disk" not in r.stdout, r


def nbd_client_lists(lab, folder, other):
    def run(*options):
        return subprocess.run(["nbd-client", "-l", ADMIN, str(lab.port), *options], capture_output=True, text=True,
                              timeout=30)
    r = run("-cacertfile", f"{folder}/ca-cert.pem", "-tlshostname", ADMIN)
    assert "image/alice/disk" in r.stdout, r
    r = run("-cacertfile", f"{other}/ca-cert.pem", "-tlshostname", ADMIN)
    assert "disk" not in r.stdout, r
    r = run()
    assert "disk" not in r.stdout, r


def unix_socket_needs_none(lab, mac):
    with lab.nbd(mac) as h:
        assert h.get_size() == 8 * MIB
    r = subprocess.run(["nbdinfo", "--list", f"nbd+unix:///?socket={lab.socket}"], capture_output=True, text=True,
                       check=True)
    assert 'export="image/alice/disk"' in r.stdout, r


def certificates(lab, authority, other):
    mac, boot, contents = lab_with_a_boot(lab)
    lab.serve()
    anyone = f"{lab.dir}/anyone"
    os.mkdir(anyone)
    shutil.copy(authority.cert, anyone)
    without_tls(lab, mac, boot)
    unix_socket_needs_none(lab, mac)
    with_tls(lab, mac, boot, x509(anyone), contents)
    assert lab.refused("image/disk", MACHINE, x509(anyone)), "TLS opens nothing that was closed without"
    lists_with_tls(lab, anyone, other.dir)
    nbd_client_lists(lab, anyone, other.dir)
    lab.stop()


def certificates_of_clients(lab, authority, other):
    ours, theirs = f"{lab.dir}/ours", f"{lab.dir}/theirs"
    authority.issue(ours, "client")
    other.issue(theirs, "client")
    shutil.copy(authority.cert, theirs)  # it trusts the server, but the server not it
    lab.serve("--tls-verify-peer")
    assert lab.refused("image/disk", ADMIN, x509(f"{lab.dir}/anyone"))
    assert lab.refused("image/disk", ADMIN, x509(theirs))
    with lab.nbd("image/disk", ADMIN, x509(ours)) as h:
        assert h.get_size() == 8 * MIB
    lab.stop()


def access(lab, **keys):
    lab.settings["access"].update({k.replace("_", "-"): v for k, v in keys.items()})
    lab.write_conf()


def keys(lab):
    good = write(f"{lab.dir}/good.psk", f"lab:{secrets.token_hex(32)}\nalice:{secrets.token_hex(32)}\n")
    bad = write(f"{lab.dir}/bad.psk", f"lab:{secrets.token_hex(32)}\n")
    access(lab, tls_credentials=good)
    lab.serve()
    learns_nothing(lab, ADMIN, ("image/disk", "image/nosuch"))
    assert lab.refused("image/disk", ADMIN, psk(bad, "lab"))
    assert lab.refused("image/disk", ADMIN, psk(good, "nobody"))
    with lab.nbd("image/disk", ADMIN, psk(good, "alice")) as h:
        assert h.get_size() == 8 * MIB
    lab.stop()


def off(lab):
    access(lab, tls="off", tls_credentials=f"{lab.dir}/nosuch")
    lab.serve()
    with lab.nbd("image/disk", ADMIN) as h:
        assert h.get_size() == 8 * MIB
    access(lab, tls="require")
    changed = lab.json("config", "reload")
    assert {"Key": "[access] tls", "Restart": "labboot serve"} in changed["Restart"], changed
    with lab.nbd("image/disk", ADMIN):
        pass
    lab.stop()


def run(lab, *args, before=()):
    return subprocess.run([*before, LABBOOT, "--config", lab.conf, *args], capture_output=True, text=True, timeout=60)


def does_not_start(lab, path, why, before=()):
    access(lab, tls_credentials=path)
    r = run(lab, "serve", before=before)
    assert r.returncode and len(r.stderr.splitlines()) == 1 and why in r.stderr and "; try: " in r.stderr, (why, r)
    doctor = run(lab, "doctor", before=before)
    assert "error: tls: " in doctor.stdout and why in doctor.stdout, doctor
    line = 1 + lab_lines(lab).index(f"tls-credentials = {path}\n")
    check = run(lab, "config", "check", before=before)
    wanted = f"{lab.conf}:{line}: tls-credentials: {why}" if "no such file" in why else ""
    assert check.stdout.startswith(wanted) and bool(check.returncode) == bool(wanted), check


def lab_lines(lab):
    with open(lab.conf, encoding="ascii") as f:
        return f.readlines()


def bad_credentials(lab, authority):
    def folder(name, days=300):
        return authority.issue(f"{lab.dir}/{name}", "server", days)

    missing = folder("missing")
    os.unlink(f"{missing}/server-key.pem")
    does_not_start(lab, missing, f"{missing}/server-key.pem: no such file")
    does_not_start(lab, f"{lab.dir}/nosuch", f"{lab.dir}/nosuch: no such file")

    mixed = folder("mixed")
    shutil.copy(f"{folder('another')}/server-key.pem", mixed)
    does_not_start(lab, mixed, "The certificate and the given key do not match")
    garbage = folder("garbage")
    write(f"{garbage}/server-cert.pem", "no certificate\n")
    does_not_start(lab, garbage, f"{garbage}/server-cert.pem")
    expired = folder("expired", days=-1)
    does_not_start(lab, expired, f"{expired}/server-cert.pem: it has expired")
    does_not_start(lab, write(f"{lab.dir}/empty.psk", "lab:\n"), f"{lab.dir}/empty.psk: it has no line USER:KEY")

    does_not_start(lab, "/dev/zero", "/dev/zero: it is neither a folder nor a file")

    closed = folder("closed")
    os.chmod(f"{closed}/server-key.pem", 0)
    # Root too, without what lets it read everything.
    before = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    does_not_start(lab, closed, f"{closed}/server-key.pem: the server's user may not read it", before)

    # Without a line of its own, the one that wants the credentials is to blame.
    del lab.settings["access"]["tls-credentials"]
    lab.write_conf()
    default = lab.json("config", "show")["access"]["tls-credentials"]
    if not os.path.exists(default):
        line = 1 + lab_lines(lab).index("tls = require\n")
        assert run(lab, "config", "check").stdout.startswith(f"{lab.conf}:{line}: tls-credentials: {default}: no such")

    access(lab, tls_credentials=folder("ending", days=10))
    r = run(lab, "doctor")
    assert f"warning: tls-expiring: {lab.dir}/ending/server-cert.pem: " in r.stdout, r
    access(lab, tls_credentials=folder("lasting"))
    r = run(lab, "doctor")
    assert "tls" not in r.stdout, r
    assert run(lab, "config", "check").stdout == ""


with Lab({"access": {"admin": ADMIN, "tls": "require"}}) as lab:
    ca, other_ca = Authority(lab, "ca"), Authority(lab, "other-ca")
    server = ca.issue(f"{lab.dir}/server", "server")
    access(lab, tls_credentials=server)
    certificates(lab, ca, other_ca)
    certificates_of_clients(lab, ca, other_ca)
    keys(lab)
    off(lab)
    bad_credentials(lab, ca)
