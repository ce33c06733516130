#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""[access] tls = require: over the network nothing without TLS, on the Unix socket as before; and a server whose
credentials are wrong says so instead of starting."""
import os
import socket
import struct
import subprocess
import sys

import nbd

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import LABBOOT, CommandFailed, Lab, until  # noqa: E402

KEY = "00112233445566778899aabbccddeeff"


def openssl(*args):
    subprocess.run(["openssl", *args], check=True, capture_output=True)


def certificates(folder, days=30):
    """A CA, and the server's certificate for 127.0.0.1 by it."""
    os.makedirs(folder)
    ca, server = f"{folder}/ca", f"{folder}/server"
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=the lab", "-days", "30", "-keyout",
            f"{ca}-key.pem", "-out", f"{ca}-cert.pem")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-addext",
            "subjectAltName=IP:127.0.0.1", "-keyout", f"{server}-key.pem", "-out", f"{server}.csr")
    openssl("x509", "-req", "-in", f"{server}.csr", "-CA", f"{ca}-cert.pem", "-CAkey", f"{ca}-key.pem", "-days",
            str(days), "-copy_extensions", "copy", "-out", f"{server}-cert.pem")


def connect(lab, export, prepare):
    h = nbd.NBD()
    h.set_export_name(export)
    prepare(h)
    h.connect_tcp("127.0.0.1", str(lab.port))
    return h


def fails(*args):
    try:
        connect(*args)
    except nbd.Error:
        return True
    return False


def plain(h):
    h.set_tls(nbd.TLS_DISABLE)


def with_ca(folder):
    def prepare(h):
        h.set_tls(nbd.TLS_REQUIRE)
        h.set_tls_certificates(folder)
    return prepare


def with_key(path):
    def prepare(h):
        h.set_tls(nbd.TLS_REQUIRE)
        h.set_tls_psk_file(path)
        h.set_tls_username("lab")
    return prepare


def old_style(lab, export):
    """NBD_OPT_EXPORT_NAME, which has no error: the connection is closed."""
    with socket.create_connection(("127.0.0.1", lab.port)) as s:
        s.settimeout(10)
        assert s.recv(18, socket.MSG_WAITALL)[:8] == b"NBDMAGIC"
        s.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, len(export)) + export.encode())
        return s.recv(10)


def starts_not(lab, why):
    """The server says why, and nothing is left of it."""
    r = subprocess.run([LABBOOT, "--config", lab.conf, "serve"], capture_output=True, text=True, timeout=20)
    assert r.returncode != 0 and why in r.stderr, r.stderr


def findings(lab):
    try:
        return lab.run("doctor")
    except CommandFailed as e:
        return e.stderr + subprocess.run([LABBOOT, "--config", lab.conf, "doctor"], capture_output=True, text=True).stdout


def new_lab(credentials):
    return Lab({"access": {"check": "none", "tls": "require", "tls-credentials": credentials}})


def prepared(lab):
    lab.image("debian", lab.ext4(16))
    lab.run("setup", "create", "lab", "--image", "debian")
    mac = lab.machine(1, "--default-setup", "lab")
    lab.serve()
    return mac


def by_certificates():
    with new_lab("/nonexistent") as lab:
        good, other = f"{lab.dir}/good", f"{lab.dir}/other"
        starts_not(lab, "[access] tls-credentials: /nonexistent: No such file")
        assert "tls-credentials: /nonexistent" in findings(lab)
        certificates(good)
        certificates(other, days=3)
        lab.settings["access"]["tls-credentials"] = good
        lab.write_conf()
        os.rename(f"{good}/server-key.pem", f"{good}/aside")
        starts_not(lab, f"{good}/server-key.pem: No such file")
        os.rename(f"{good}/aside", f"{good}/server-key.pem")
        mac = prepared(lab)
        for client in (plain, with_ca(other)):
            assert fails(lab, mac, client)
            assert fails(lab, "image/debian", client)
        assert old_style(lab, mac) == b""
        h = nbd.NBD()
        h.set_tls(nbd.TLS_DISABLE)
        h.set_opt_mode(True)
        h.connect_tcp("127.0.0.1", str(lab.port))
        names = []
        try:
            h.opt_list(lambda name, _: names.append(name))
        except nbd.Error:
            pass
        h.opt_abort()
        assert names == [], names
        assert {b["State"] for b in lab.json("boot", "list")} <= {"queued"}, "no boot was begun"
        assert "without TLS, which [access] tls requires" in lab.log()
        refusals = lab.json("log", "--what", "export-refused")
        assert refusals and all("without TLS" in e["Detail"] for e in refusals), refusals
        with lab.nbd(mac) as local:
            assert local.get_size() == 16 << 20
        h = connect(lab, mac, with_ca(good))
        assert h.get_tls_negotiated() and h.get_size() == 16 << 20
        h.pwrite(b"secret" * 100, 4096)
        assert h.pread(600, 4096) == b"secret" * 100
        h.shutdown()
        assert "TLS" not in findings(lab)
        lab.settings["access"]["tls-credentials"] = other
        lab.write_conf()
        assert "expires within two weeks" in findings(lab)
    print("ok - certificates")


def by_key():
    with new_lab("/nonexistent") as lab:
        keys, wrong = f"{lab.dir}/keys.psk", f"{lab.dir}/wrong.psk"
        for path, key in ((keys, KEY), (wrong, KEY[::-1])):
            with open(path, "w", encoding="ascii") as f:
                f.write(f"lab:{key}\n")
        lab.settings["access"]["tls-credentials"] = keys
        lab.write_conf()
        mac = prepared(lab)
        assert fails(lab, mac, plain)
        assert fails(lab, mac, with_key(wrong))
        h = connect(lab, mac, with_key(keys))
        assert h.get_tls_negotiated() and len(h.pread(4096, 0)) == 4096
        h.shutdown()
    print("ok - pre-shared keys")


def off():
    with Lab({"access": {"check": "none", "tls-credentials": "/nonexistent"}}) as lab:
        mac = prepared(lab)
        h = connect(lab, mac, plain)
        assert not h.get_tls_negotiated()
        h.shutdown()
        lab.settings["access"]["tls"] = "require"
        lab.write_conf()
        changed = lab.json("config", "reload")
        assert {"Key": "[access] tls", "Restart": "labboot serve"} in changed["Restart"], changed
        until("it is as before", lambda: not fails(lab, mac, plain))
    print("ok - off")


by_certificates()
by_key()
off()
