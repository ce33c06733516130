#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The configuration is changed while the server runs: what it takes over, what waits for a restart, and mistakes."""
import os
import sys
import threading

import nbd

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import CommandFailed, Lab, until  # noqa: E402

MIB = 1 << 20
OWN, FOREIGN = "127.0.1.91", "127.0.0.9"


def lab_with_a_boot(lab):
    lab.image("disk", lab.file("disk.img", 64 * MIB), "--kind", "system")
    lab.run("setup", "create", "desk", "--owner", "alice", "--image", "disk")
    mac = lab.machine(1, "--default-setup", "desk")
    lab.hook("add", mac, OWN)
    return mac


def change(lab, section, **keys):
    lab.settings.setdefault(section, {}).update({k.replace("_", "-"): v for k, v in keys.items()})
    lab.write_conf()


def reload(lab):
    return lab.run("config", "reload").splitlines()


def full(h, data, at):
    try:
        h.pwrite(data, at)
    except nbd.Error as e:
        assert e.errno == "ENOSPC", e
        return True
    return False


def quota_of_a_disk_that_is_written_to(lab, mac):
    block = os.urandom(MIB)
    with lab.nbd(mac) as h:
        h.pwrite(block, 0)
        change(lab, "overlay", quota="2M")
        assert reload(lab) == ["changed: [overlay] quota"]
        assert full(h, 3 * block, 4 * MIB)
        change(lab, "overlay", quota="0")
        reload(lab)
        assert not full(h, 3 * block, 4 * MIB)
        assert h.pread(MIB, 6 * MIB) == block and h.pread(MIB, 0) == block


def access_of_addresses(lab, mac):
    assert lab.refused(mac, FOREIGN) and lab.refused("image/disk", FOREIGN)
    change(lab, "access", admin=FOREIGN)
    reload(lab)
    with lab.nbd("image/disk", FOREIGN):
        pass
    change(lab, "access", admin="")
    reload(lab)
    assert lab.refused(mac, FOREIGN)


def scripts_say_the_new_arguments(lab, mac):
    image = lab.ext4(32)
    lab.image("root", image)
    lab.run("setup", "create", "lab", "--owner", "alice", "--image", "root")
    two = lab.machine(2, "--default-setup", "lab")
    assert "nbdroot=" in lab.script(two)
    change(lab, "boot", kernel_arguments="quiet lab=new", default_action="retry")
    assert reload(lab) == ["changed: [boot] default-action, [boot] kernel-arguments"]
    assert "quiet lab=new" in lab.script(two)
    default = f"{lab.dir}/state/tftp/boot/default.ipxe"
    with open(default, encoding="utf-8") as f:
        assert "goto again" in f.read()
    # And what the server itself renders.
    lab.run("image", "import", "root", image)
    until("the server's script", lambda: "quiet lab=new" in lab.script(two))


def the_rest_waits_for_a_restart(lab, mac):
    old = lab.port
    change(lab, "server", port=str(old + 1), threads="3")
    change(lab, "network", lease_time="1h")
    lines = reload(lab)
    assert lines == ["changed: [server] port, [server] threads, [network] lease-time",
                     "needs a restart: [server] port (labboot serve), [server] threads (labboot serve), "
                     "[network] lease-time (labboot dhcp)"], lines
    assert lab.json("config", "reload") == {
        "Server": True, "Changed": ["[server] port", "[server] threads"],
        "Restart": [{"Key": "[server] port", "Restart": "labboot serve"},
                    {"Key": "[server] threads", "Restart": "labboot serve"}]}
    with lab.nbd(mac, OWN):
        pass
    change(lab, "server", port=str(old), threads="16")
    assert reload(lab) == ["no changes"]


def mistakes_change_nothing(lab, mac):
    change(lab, "access", check="none", admin="nonsense")
    try:
        reload(lab)
        raise AssertionError("a file with a mistake was taken")
    except CommandFailed as e:
        assert e.status == 2 and "labboot.conf:" in e.stderr and "admin: 'nonsense'" in e.stderr, e
    assert lab.refused(mac, FOREIGN)
    change(lab, "access", check="lease", admin="")
    assert reload(lab) == ["no changes"]


def the_log_level(lab, mac):
    reload(lab)
    before = lab.log().count("read " + lab.conf)
    change(lab, "server", log_level="error")
    reload(lab)
    reload(lab)
    assert lab.log().count("read " + lab.conf) == before
    change(lab, "server", log_level="info")
    reload(lab)
    assert lab.log().count("read " + lab.conf) == before + 1


def readers_never_wait(lab, mac):
    """Machines write while an admin cannot stop reloading."""
    failures, stop = [], threading.Event()

    def write(n):
        try:
            with lab.nbd(mac) as h:
                at = n * 8 * MIB
                while not stop.is_set():
                    h.pwrite(os.urandom(65536), at)
                    h.zero(65536, at + MIB)
        except Exception as e:  # pylint: disable=broad-except
            failures.append(e)

    writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for t in writers:
        t.start()
    for i in range(12):
        change(lab, "overlay", quota=f"{100 + i}G")
        assert reload(lab) == ["changed: [overlay] quota"]
    stop.set()
    for t in writers:
        t.join()
    assert not failures, failures


def without_a_server(lab):
    lab.stop()
    change(lab, "boot", grace="2s")
    assert reload(lab) == []
    assert lab.json("config", "reload") == {"Server": False, "Changed": [], "Restart": []}
    lab.serve()
    assert reload(lab) == ["no changes"]


def main():
    with Lab() as lab:
        mac = lab_with_a_boot(lab)
        lab.serve()
        for story in (quota_of_a_disk_that_is_written_to, access_of_addresses, scripts_say_the_new_arguments,
                      the_rest_waits_for_a_restart, mistakes_change_nothing, the_log_level, readers_never_wait):
            print(story.__name__, flush=True)
            story(lab, mac)
            assert lab.alive()
        without_a_server(lab)


if __name__ == "__main__":
    main()
