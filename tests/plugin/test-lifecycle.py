#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The life of a boot: what its end is taken from, what is committed, discarded or interrupted, and what comes next."""
import os
import signal
import sqlite3
import sys
import time

import nbd

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import SLOWNESS, Lab, CommandFailed, until  # noqa: E402

AT = 20 << 20  # in the data of the file system
MACHINE, ADDRESS = "lab-1", "127.0.1.91"


def queue(lab, *args):
    return int(lab.run("boot", "queue", MACHINE, "debian", *args))


def new_export(lab, mac, old=""):
    return until("a new boot script", lambda: lab.export_of_script(mac) not in ("", old) and lab.export_of_script(mac))


def waits(lab, mac):
    return until("the waiting script", lambda: "/boot/wait-" in lab.script(mac))


def write_as_guest(h, lab, root, data, clean=True):
    """Mounts, writes, and unmounts (or not)."""
    h.pwrite(lab.mounted(root), 0)
    h.pwrite(data, AT)
    if clean:
        h.pwrite(lab.unmounted(root), 0)
    h.flush()


def fetch_waiting_script(lab, mac, boot):
    lab.hook("tftp", "100", ADDRESS, f"{lab.dir}/state/tftp/boot/wait-{mac.replace(':', '-')}-{boot}.ipxe")


def an_update_that_reboots_boots_its_own_version(lab, mac, root):
    boot = queue(lab, "--update")
    export = new_export(lab, mac)
    first = lab.versions("debian")
    h = lab.connect(export, ADDRESS)
    write_as_guest(h, lab, root, b"first update".ljust(4096))
    assert lab.wait_state(boot, "running")
    waits(lab, mac)
    queue(lab)  # what it will boot next
    assert "/boot/wait-" in lab.script(mac), "a boot with something to keep was passed over"
    fetch_waiting_script(lab, mac, boot)
    ended = lab.wait_state(boot, "committed")
    second = lab.versions("debian")
    assert len(second) == len(first) + 1, second
    again = new_export(lab, mac, export)
    assert f"/{max(second)}/" in lab.script(mac), "the kernel is not that of the version that boots"
    try:
        h.pread(512, 0)
        raise AssertionError("the old connection still reads")
    except nbd.Error:
        pass
    with lab.nbd(again, ADDRESS) as h2:
        assert h2.pread(12, AT) == b"first update"
        assert "reset" in ended["Result"], ended
    assert lab.refused(export, ADDRESS), "the token of an ended boot was let in"


def a_scratch_boot_is_gone_at_the_next_token(lab, mac, root):
    """The boot queued above runs; it writes; the machine comes with its next boot's token."""
    running = lab.json("boot", "show", MACHINE)["ID"]
    export = lab.export_of_script(mac)
    h = lab.connect(export, ADDRESS)
    h.pwrite(b"scratch".ljust(4096), AT)
    assert h.pread(7, AT) == b"scratch"
    lab.wait_state(running, "running")
    queue(lab)
    following = new_export(lab, mac, export)
    with lab.nbd(following, ADDRESS) as h2:
        assert h2.pread(12, AT) == b"first update"
        lab.wait_state(running, "discarded")
        h2.pwrite(b"x" * 512, AT)
    lab.run("boot", "end", MACHINE)


def an_unclean_update_is_interrupted(lab, mac, root):
    boot = queue(lab, "--update")
    before = lab.versions("debian")
    with lab.nbd(new_export(lab, mac), ADDRESS) as h:
        write_as_guest(h, lab, root, b"torn update".ljust(4096), clean=False)
    waits(lab, mac)
    fetch_waiting_script(lab, mac, boot)
    ended = lab.wait_state(boot, "interrupted")
    assert "recovery" in ended["Result"], ended
    assert lab.versions("debian") == before
    assert os.path.isdir(f"{lab.dir}/state/overlays/{boot}"), "an interrupted boot lost its overlay"
    made = lab.run("boot", "end", str(boot), "--commit")
    assert lab.boot(boot)["State"] == "committed"
    assert made == f"debian@{max(lab.versions('debian'))}", made
    with lab.nbd("image/debian") as h:
        assert h.pread(11, AT) == b"torn update"


def an_admins_discard(lab, mac, root):
    boot = queue(lab, "--update")
    before = lab.versions("debian")
    with lab.nbd(new_export(lab, mac), ADDRESS) as h:
        write_as_guest(h, lab, root, b"unwanted".ljust(4096))
    lab.run("boot", "end", str(boot), "--discard")
    assert lab.boot(boot)["State"] == "discarded" and lab.versions("debian") == before
    try:
        lab.run("boot", "end", str(boot))
        raise AssertionError("an ended boot was ended again")
    except CommandFailed as e:
        assert e.status == 4, e


def done_publishes_and_reads_go_on(lab, mac, root):
    boot = queue(lab, "--update")
    before = lab.versions("debian")
    export = new_export(lab, mac)
    h = lab.connect(export, ADDRESS)
    write_as_guest(h, lab, root, b"well done".ljust(4096))
    with lab.nbd(export + "/done", ADDRESS) as d:
        assert d.is_read_only() and d.get_size() == 4096
        assert lab.boot(boot)["State"] in ("leased", "running"), "opening 'done' ended the boot"
        d.pread(4096, 0)
    lab.wait_state(boot, "committed")
    assert h.pread(9, AT) == b"well done"
    try:
        h.pwrite(b"late", AT)
        raise AssertionError("a write after 'done' was accepted")
    except nbd.Error:
        pass
    h.shutdown()
    assert len(lab.versions("debian")) == len(before) + 1


def a_shut_down_machine_is_seen_after_grace(lab, mac, root):
    boot = queue(lab, "--update")
    with lab.nbd(new_export(lab, mac), ADDRESS) as h:
        write_as_guest(h, lab, root, b"powered off".ljust(4096))
        time.sleep(2.5)
        assert lab.boot(boot)["State"] == "running", "a boot with a connection was ended"
    ended = lab.wait_state(boot, "committed")
    assert "shut down" in ended["Result"], ended


def an_unclean_machine_without_connection_waits(lab, mac, root):
    boot = queue(lab, "--update")
    export = new_export(lab, mac)
    with lab.nbd(export, ADDRESS) as h:
        write_as_guest(h, lab, root, b"outage".ljust(4096), clean=False)
    time.sleep(3)
    assert lab.boot(boot)["State"] == "running"
    with lab.nbd(export, ADDRESS) as h:
        assert h.pread(6, AT) == b"outage"
        h.pwrite(lab.unmounted(root), 0)
    lab.wait_state(boot, "committed")


def a_write_that_the_catalog_did_not_hear_of_counts(lab, mac, root):
    """Killed after the first write, before the boot's row says that it runs."""
    boot = queue(lab, "--update")
    export = new_export(lab, mac)
    with lab.nbd(export, ADDRESS) as h:
        write_as_guest(h, lab, root, b"early".ljust(4096))
        lab.wait_state(boot, "running")
        lab.stop(signal.SIGKILL)
    with sqlite3.connect(f"{lab.dir}/state/catalog.db") as db:
        db.create_function("now", 0, lambda: int(time.time()))
        db.execute("UPDATE boot SET state = 'leased', started = NULL WHERE id = ?", (boot,))
    db.close()
    lab.serve()
    assert lab.wait_state(boot, "running", "committed")
    assert lab.wait_state(boot, "committed")["Attempts"] == 0


def a_clock_that_went_back_keeps_nobody_waiting(lab, mac, root):
    boot = queue(lab, "--update")
    with lab.nbd(new_export(lab, mac), ADDRESS) as h:
        write_as_guest(h, lab, root, b"later".ljust(4096))
        lab.wait_state(boot, "running")
        lab.stop(signal.SIGKILL)
    with sqlite3.connect(f"{lab.dir}/state/catalog.db") as db:
        db.execute("UPDATE boot SET disconnected = unixepoch() + 86400 WHERE id = ?", (boot,))
    db.close()
    lab.serve()
    lab.wait_state(boot, "committed")


def a_boot_that_never_ran_is_queued_again(lab, mac):
    boot = queue(lab, "--update")
    with lab.nbd(new_export(lab, mac), ADDRESS) as h:
        h.pread(4096, 0)
        assert lab.boot(boot)["State"] == "leased"
    again = lab.wait_state(boot, "queued")
    assert again["Attempts"] == 1, again
    lab.run("boot", "cancel", str(boot))
    assert lab.boot(boot)["State"] == "cancelled"


def admins_end_nothing(lab, mac, root):
    first, second = queue(lab), queue(lab)
    export = new_export(lab, mac)
    machine = lab.connect(export, ADDRESS)
    machine.pwrite(b"live".ljust(4096), AT)
    lab.wait_state(first, "running")
    with lab.nbd(mac) as h:
        assert h.is_read_only() and h.pread(4, AT) == b"live"
    following = new_export(lab, mac, export)
    assert lab.refused(following), "an admin took a machine's next boot"
    assert lab.boot(first)["State"] == "running"
    machine.shutdown()
    lab.run("boot", "end", str(first))
    with lab.nbd(following) as h:
        h.pwrite(b"by an admin".ljust(4096), AT)
    lab.wait_state(second, "running")
    lab.run("boot", "end", str(second))


def the_queue_goes_on_over_a_restart(lab, mac, root):
    boot = queue(lab, "--update")
    export = new_export(lab, mac)
    with lab.nbd(export, ADDRESS) as h:
        write_as_guest(h, lab, root, b"before".ljust(4096), clean=False)
        lab.wait_state(boot, "running")
        began = time.monotonic()
        assert lab.stop() == 0
        assert time.monotonic() - began < 3 * SLOWNESS, "the server did not end at once"
    lab.serve()
    with lab.nbd(export, ADDRESS) as h:
        assert h.pread(6, AT) == b"before"
        h.pwrite(b"after ".ljust(4096), AT)
        h.pwrite(lab.unmounted(root), 0)
    lab.stop()
    lab.run("boot", "end", str(boot))  # without a server
    assert lab.boot(boot)["State"] == "committed"
    lab.serve()
    with lab.nbd("image/debian") as h:
        assert h.pread(6, AT) == b"after "


def an_abandoned_update(on_interrupt, state):
    """A machine that never comes back: clean is committed all the same, unclean as [boot] on-interrupt says."""
    with Lab({"boot": {"grace": "1s", "abandon": "3s", "on-interrupt": on_interrupt}}) as lab:
        mac, root = lab.machine(1), lab.ext4(16)
        lab.image("debian", root)
        lab.run("setup", "create", "debian", "--owner", "alice", "--image", "debian")
        lab.hook("add", mac, ADDRESS, MACHINE)
        lab.serve()
        boot = queue(lab, "--update")
        with lab.nbd(new_export(lab, mac), ADDRESS) as h:
            h.pwrite(lab.mounted(root), 0)
        ended = lab.wait_state(boot, state)
        assert "recovery" in ended["Result"], ended
    print(f"ok - abandoned, on-interrupt = {on_interrupt}", flush=True)


def what_could_not_be_committed_is_kept():
    """Also with on-interrupt = discard, which is for machines that never come back to unclean disks."""
    with Lab({"boot": {"grace": "1s", "abandon": "3s", "on-interrupt": "discard"}}) as lab:
        mac, root = lab.machine(1), lab.ext4(48)
        lab.image("debian", root)
        lab.run("setup", "create", "debian", "--owner", "alice", "--image", "debian")
        lab.hook("add", mac, ADDRESS, MACHINE)
        lab.serve()
        boot = queue(lab, "--update")
        with lab.nbd(new_export(lab, mac), ADDRESS) as h:
            h.pwrite(lab.mounted(root), 0)
            lab.wait_state(boot, "running")
            waits(lab, mac)
            fetch_waiting_script(lab, mac, boot)
            lab.wait_state(boot, "interrupted")  # a reset is no abandoning
        lab.run("boot", "discard", str(boot))
        with sqlite3.connect(f"{lab.dir}/state/catalog.db") as db:
            db.execute("CREATE TRIGGER broken BEFORE INSERT ON version BEGIN SELECT RAISE(ABORT, 'a test'); END")
        db.close()
        boot = queue(lab, "--update")
        with lab.nbd(new_export(lab, mac), ADDRESS) as h:
            h.pwrite(b"good".ljust(4096), AT)  # clean all the time, so that it is no shutdown that is seen
        ended = lab.wait_state(boot, "interrupted")
        assert "a test" in ended["Result"] and os.path.isdir(f"{lab.dir}/state/overlays/{boot}"), ended
    print("ok - what could not be committed is kept", flush=True)


with Lab({"boot": {"grace": "1s", "lease": "5s"}}) as lab:
    mac = lab.machine(1)
    root = lab.ext4(48)
    lab.image("debian", root)
    lab.run("setup", "create", "debian", "--owner", "alice", "--image", "debian")
    lab.hook("add", mac, ADDRESS, MACHINE)
    lab.serve()
    for story in (an_update_that_reboots_boots_its_own_version, a_scratch_boot_is_gone_at_the_next_token,
                  an_unclean_update_is_interrupted, an_admins_discard, done_publishes_and_reads_go_on,
                  a_shut_down_machine_is_seen_after_grace, an_unclean_machine_without_connection_waits,
                  admins_end_nothing, the_queue_goes_on_over_a_restart,
                  a_write_that_the_catalog_did_not_hear_of_counts, a_clock_that_went_back_keeps_nobody_waiting):
        story(lab, mac, root)
        print("ok -", story.__name__, flush=True)
    a_boot_that_never_ran_is_queued_again(lab, mac)
    assert lab.stop() == 0
an_abandoned_update("keep", "interrupted")
an_abandoned_update("discard", "discarded")
what_could_not_be_committed_is_kept()
