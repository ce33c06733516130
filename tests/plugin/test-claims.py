#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Which boot a connection belongs to, by its token, its address and what else is connected; and what ends a boot, or does not."""
import contextlib
import os
import socket
import sqlite3
import sys
import threading
import time

import nbd

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import CommandFailed, Lab, until  # noqa: E402

MACHINE, ADDRESS, OTHER, ADMIN = "lab-1", "127.0.1.91", "127.0.1.92", "127.0.1.200"
AT = 12 << 20  # in free space of the file system
TCP_REPAIR = 19  # tcp(7): what is closed so tells its peer nothing


def queue(lab, *args):
    return int(lab.run("--quiet", "boot", "queue", MACHINE, "debian", *args))


def new_export(lab, mac, old=""):
    return until("a new boot script", lambda: lab.export_of_script(mac) not in ("", old) and lab.export_of_script(mac))


def state(lab, boot):
    return lab.boot(boot)["State"]


def start(lab, mac, *args, **how):
    """A boot that its machine has begun to write to: boot, export, connection."""
    boot = queue(lab, *args)
    export = new_export(lab, mac)
    h = lab.connect(export, ADDRESS, **how)
    h.pwrite(b"running".ljust(4096), AT)
    lab.wait_state(boot, "running")
    return boot, export, h


def fails(call, *errnos):
    try:
        call()
    except nbd.Error as e:
        assert e.errno in errnos, e
        return
    raise AssertionError("it was served")


def catalog(lab, sql, *values):
    with contextlib.closing(sqlite3.connect(f"{lab.dir}/state/catalog.db", timeout=10)) as c:
        c.execute(sql, values)
        c.commit()


def events(lab, boot):
    return [(e["What"], e["Actor"], e["Address"], e["Detail"]) for e in lab.json("log", "--boot", str(boot))]


def end(lab, boot, *args):
    with contextlib.suppress(CommandFailed):
        lab.run("boot", "end", str(boot), *args)


# ---- tokens -----------------------------------------------------------------------------------------------------


def an_ended_token_is_refused_with_its_end(lab, mac, _):
    boot, export, h = start(lab, mac)
    h.shutdown()
    end(lab, boot)
    assert lab.refused(export, ADDRESS)
    why = f"boot {boot} of {MACHINE} is discarded: ended by an admin"
    assert f"refused '{export}' to {ADDRESS}: {why}" in lab.log(), lab.log()
    refused = lab.json("log", "--what", "export-refused")[-1]
    assert refused["Address"] == ADDRESS and refused["MachineMAC"] == mac and why in refused["Detail"], refused


def a_superseded_token_has_its_own_version(lab, mac, root):
    first = lab.versions("debian")[0]
    boot = queue(lab)
    old = new_export(lab, mac)
    second = lab.image("debian", root)
    new = new_export(lab, mac, old)
    token = old.partition(".")[2]
    catalog(lab, "UPDATE token SET superseded = unixepoch() - 601 WHERE token = ?", token)
    assert lab.refused(old, ADDRESS) and "its token is too old" in lab.log()
    catalog(lab, "UPDATE token SET superseded = unixepoch() - 500 WHERE token = ?", token)
    with lab.nbd(old, ADDRESS) as h:
        h.pwrite(b"x" * 512, AT)
        assert lab.refused(new, ADDRESS), "the newer token of the same boot was let in beside it"
    assert lab.boot(boot)["Images"][0]["Version"] == first
    # Nor does it change any more: by another latest, or by another server.
    lab.image("debian", root)
    lab.stop()
    lab.serve()
    with lab.nbd(old, ADDRESS):
        assert lab.boot(boot)["Images"][0]["Version"] == first
    end(lab, boot)
    lab.run("image", "rollback", "debian", "--to", str(second))


def without_a_token_the_lease_says_what_is_latest(lab, mac, root):
    boot = queue(lab)
    h = lab.connect(mac, ADDRESS)
    latest = lab.image("debian", root)
    h.pread(512, 0)
    assert lab.boot(boot)["Images"][0]["Version"] == latest
    lab.run("boot", "discard", str(boot))
    # A disk that has changed its size since it was opened is no longer what its client was told.
    boot = queue(lab)
    h = lab.connect(mac, ADDRESS)
    grown = lab.file("grown.img", 24 << 20)
    lab.image("debian", grown)
    fails(lambda: h.pread(512, 0), "ESHUTDOWN")
    assert "has changed its size" in lab.log()
    with lab.nbd(mac, ADDRESS) as h:
        assert h.get_size() == 24 << 20 and h.pread(512, 0)
    lab.run("boot", "discard", str(boot))
    lab.run("image", "rollback", "debian", "--to", str(latest))


def scripts_are_brought_up_to_date_at_the_start(lab, mac, _):
    boot = queue(lab)
    export = new_export(lab, mac)
    lab.stop()
    path = f"{lab.dir}/state/tftp/boot/mac-{mac.replace(':', '-')}.ipxe"
    os.unlink(path)
    catalog(lab, "UPDATE machine SET script_wanted = script_wanted + 1 WHERE mac = ?", mac)
    lab.serve()
    until("the script is there again", lambda: lab.export_of_script(mac) == export)
    lab.run("boot", "cancel", str(boot))


# ---- connections ------------------------------------------------------------------------------------------------


def opening_the_next_one_ends_nothing(lab, mac, _):
    boot, export, h = start(lab, mac)
    following = queue(lab)
    with lab.nbd(new_export(lab, mac, export), ADDRESS) as probe:
        probe.flush()
    time.sleep(0.3)
    assert state(lab, boot) == "running" and state(lab, following) == "queued"
    h.pwrite(b"y" * 512, AT)
    h.shutdown()
    end(lab, boot)
    lab.run("boot", "cancel", str(following))


def another_address_has_to_wait(lab, mac, _):
    """A dock that moves from one laptop to another takes its address along, and must not end the boot of the first."""
    boot, export, h = start(lab, mac)
    following = queue(lab)
    second = new_export(lab, mac, export)
    lab.hook("add", mac, OTHER, MACHINE)
    for name in (export, second, mac):
        assert lab.refused(name, OTHER), name
    assert f"boot {boot} of {MACHINE} is in use from {ADDRESS}" in lab.log()
    # One that was opened while nobody was there does not end it either.
    h.shutdown()
    until("the machine is gone", lambda: not lab.refused(second, OTHER))
    early = lab.connect(second, OTHER)
    h = lab.connect(export, ADDRESS)
    fails(lambda: early.pread(512, 0), "EIO", "EPERM", "ESHUTDOWN")
    assert state(lab, boot) == "running" and h.pread(7, AT) == b"running"
    h.shutdown()
    # As soon as the first one has failed.
    until("the machine is gone", lambda: not lab.refused(second, OTHER))
    with lab.nbd(second, OTHER) as h:
        h.pwrite(b"x" * 512, AT)
        lab.wait_state(boot, "discarded")
        assert lab.wait_state(following, "running")["Address"] == OTHER
    end(lab, following)
    lab.hook("add", mac, ADDRESS, MACHINE)


def a_machine_without_power_is_missed(lab, mac, _):
    boot, export, h = start(lab, mac)
    following = queue(lab)
    second = new_export(lab, mac, export)
    lab.hook("add", mac, OTHER, MACHINE)
    with socket.socket(fileno=os.dup(h.aio_get_fd())) as s:
        try:
            s.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        except PermissionError:
            print("skipped - only root can cut a connection off without a word", flush=True)
            return
    del h
    assert lab.refused(second, OTHER), "a connection that nobody has missed yet was passed over"
    until("its connection has failed", lambda: not lab.refused(second, OTHER))
    assert state(lab, boot) == "running", "it is disconnected, not ended"
    end(lab, boot)
    lab.run("boot", "cancel", str(following))
    lab.hook("add", mac, ADDRESS, MACHINE)


def without_a_token_clean_disks_are_the_end(lab, mac, root):
    boot = queue(lab, "--update")
    with lab.nbd(mac, ADDRESS) as h:
        h.pwrite(lab.mounted(root), 0)
        h.pwrite(b"at work".ljust(4096), AT)
        lab.wait_state(boot, "running")
    with lab.nbd(mac, ADDRESS) as h:  # dirty: it was away for a moment
        assert h.pread(7, AT) == b"at work" and state(lab, boot) == "running"
        h.pwrite(lab.unmounted(root), 0)
        with lab.nbd(mac, ADDRESS) as one_more:
            assert state(lab, boot) == "running", "opening it ended the boot"
            following = queue(lab)
            assert one_more.pread(4096, 0), "clean: it was shut down, and this is the next one"
            lab.wait_state(boot, "committed")
            assert state(lab, following) == "leased"
        fails(lambda: h.pread(512, 0), "ESHUTDOWN")
    assert "shut down and came back" in lab.boot(boot)["Result"], lab.boot(boot)
    lab.run("boot", "discard", str(following))


def admins_come_second(lab, mac, root):
    """From an address of [access] admin as from the Unix socket."""
    for address in (ADMIN, None):
        boot = queue(lab, "--update")
        with lab.nbd(mac, address) as h:
            assert not h.is_read_only()
            h.pwrite(lab.mounted(root), 0)
            lab.wait_state(boot, "running")
            with lab.nbd(mac, ADDRESS) as machine:
                fails(lambda: h.pwrite(b"x" * 512, AT), "EPERM", "EROFS")
                with lab.nbd(mac, address) as beside:
                    assert beside.is_read_only() and beside.pread(512, 0)
                machine.pwrite(lab.unmounted(root), 0)
            # The machine is gone and its disks are clean: for the machine itself that were the end.
            with lab.nbd(mac, address) as beside:
                assert beside.pread(512, 0) and state(lab, boot) == "running"
            token = f"{mac}/done"
            with lab.nbd(token, address) as done:
                fails(lambda: done.pread(1, 0), "EPERM")
            assert state(lab, boot) == "running"
        lab.run("boot", "discard", str(boot))


def a_users_disk_has_one_machine_that_writes(lab, mac, root):
    """Whoever leased it first; another one reads what was there then, whatever it was told when it opened it."""
    lab.image("home", root, "--kind", "user")
    lab.run("setup", "create", "at-home", "--owner", "alice", "--image", "debian", "--image", "home")
    second = lab.machine(2)
    boots = [int(lab.run("--quiet", "boot", "queue", m, "at-home")) for m in (MACHINE, "lab-2")]
    with lab.nbd(f"{second}/home") as early, lab.nbd(f"{mac}/home") as h:
        assert not early.is_read_only()
        h.pwrite(lab.mounted(root), 0)
        h.pwrite(b"mine".ljust(4096), AT)
        for call in (lambda: early.pwrite(b"yours".ljust(4096), AT), lambda: early.zero(4096, AT), lambda: early.trim(4096, AT)):
            fails(call, "EPERM", "EROFS")
        with lab.nbd(f"{second}/home") as late, lab.nbd(second) as scratch:
            assert late.is_read_only() and late.pread(4, AT) == bytes(4)
            scratch.pwrite(b"as ever".ljust(4096), AT)
            h.pwrite(lab.unmounted(root), 0)
            lab.run("boot", "end", str(boots[0]))
            fails(lambda: early.pwrite(b"yours".ljust(4096), AT), "EPERM", "EROFS")
            lab.run("boot", "end", str(boots[1]))
    assert [lab.boot(b)["State"] for b in boots] == ["committed", "discarded"] and len(lab.versions("home")) == 2
    boot = int(lab.run("--quiet", "boot", "queue", "lab-2", "at-home"))
    with lab.nbd(f"{second}/home") as h:
        assert not h.is_read_only() and h.pread(4, AT) == b"mine"
        h.pwrite(b"yours".ljust(4096), AT)
    lab.run("boot", "end", str(boot), "--commit")
    assert len(lab.versions("home")) == 3 and lab.boot(boot)["State"] == "committed"


# ---- ends -------------------------------------------------------------------------------------------------------


def reading_much_is_running_too(lab, mac, _):
    """Firmware and partition scans read little; who reads for long boots, though it may write nothing."""
    boot = queue(lab)
    with lab.nbd(new_export(lab, mac), ADDRESS) as h:
        h.pread(1 << 20, 0)
        time.sleep(0.2)
        assert state(lab, boot) == "leased"
        for at in range(1, 6):
            h.pread(1 << 20, at << 20)
        lab.wait_state(boot, "running")
    end(lab, boot)


def what_was_in_flight_is_drained(lab, mac, root):
    """Of a machine that still writes when its end comes all is kept that was acknowledged, and nothing that was not."""
    boot, _, h = start(lab, mac, "--update")
    h.pwrite(lab.mounted(root), 0)
    h.pwrite(lab.unmounted(root), 0)
    acknowledged = []

    def write_on():
        with contextlib.suppress(nbd.Error):
            for n in range(1 << 20):
                h.pwrite(n.to_bytes(8, "big") * 512, AT + n % 256 * 4096)
                acknowledged.append(n)
    writer = threading.Thread(target=write_on)
    writer.start()
    until("it writes", lambda: len(acknowledged) > 50)
    lab.hook("tftp", "100", ADDRESS, f"{lab.dir}/state/tftp/boot/wait-{mac.replace(':', '-')}-{boot}.ipxe")
    lab.wait_state(boot, "committed")
    writer.join()
    last = {n % 256: n for n in acknowledged}
    unanswered = acknowledged[-1] + 1
    with lab.nbd("image/debian") as v:
        for slot, n in last.items():
            found = int.from_bytes(v.pread(8, AT + slot * 4096), "big")
            assert found in (n, unanswered), f"slot {slot}: {found}, not {n}"


def all_that_is_kept_is_clean_or_nothing_is_kept(lab, mac, root):
    lab.image("data", root)
    lab.image("spare", root)
    lab.run("setup", "create", "three", "--owner", "alice", "--image", "debian", "--image", "data", "--image", "spare")
    before = {i: lab.versions(i) for i in ("debian", "data", "spare")}
    boot = int(lab.run("boot", "queue", MACHINE, "three", "--update"))
    with lab.nbd(mac, ADDRESS) as one, lab.nbd(f"{mac}/data", ADDRESS) as two:
        one.pwrite(lab.mounted(root), 0)
        one.pwrite(lab.unmounted(root), 0)
        two.pwrite(lab.mounted(root), 0)
        lab.wait_state(boot, "running")
    end(lab, boot)
    assert state(lab, boot) == "interrupted" and "image data: not clean" in lab.boot(boot)["Result"], lab.boot(boot)
    assert before == {i: lab.versions(i) for i in before}
    assert lab.json("status")[0]["Interrupted"] == [boot]
    lab.run("boot", "resume", str(boot))
    with lab.nbd(f"{mac}/data", ADDRESS) as two:
        two.pwrite(lab.unmounted(root), 0)
        lab.wait_state(boot, "running")
    made = lab.run("boot", "end", str(boot)).split()
    assert [m.partition("@")[0] for m in made] == ["debian", "data"], "what was not written to has a version"
    boot = queue(lab, "--update")
    with lab.nbd(mac, ADDRESS) as h:
        for at in range(6):
            h.pread(1 << 20, at << 20)
        lab.wait_state(boot, "running")
    assert lab.run("boot", "end", str(boot)) == ""
    assert state(lab, boot) == "discarded" and lab.boot(boot)["Result"] == "nothing was written"


def a_disk_that_was_never_in_use_is_not_shut_down(lab, mac, root):
    """Clean all the time: nobody has seen it go from dirty to clean. Last, for the grace is short from here on."""
    lab.settings["boot"]["grace"] = "1s"
    lab.write_conf()
    lab.run("config", "reload")
    boot, export, h = start(lab, mac)
    h.shutdown()
    time.sleep(2.5)
    assert state(lab, boot) == "running"
    with lab.nbd(export, ADDRESS) as h:
        h.pwrite(lab.mounted(root), 0)
        h.pwrite(lab.unmounted(root), 0)
    ended = lab.wait_state(boot, "discarded")
    assert ended["Result"] == "the machine was shut down: its disks are clean and its connections gone", ended


def the_trail_tells_all_of_it(lab, mac, root):
    """Each edge with who did it, from where, and why."""
    machine, user = f"machine {mac}", lab.json("log", "--what", "boot-queued")[-1]["Actor"]
    boot = queue(lab, "--update")
    with lab.nbd(new_export(lab, mac), ADDRESS) as h:
        h.pwrite(lab.mounted(root), 0)
        lab.wait_state(boot, "running")
    until("it is disconnected", lambda: lab.boot(boot)["DisconnectedAt"])
    end(lab, boot)
    lab.run("boot", "resume", str(boot))
    with lab.nbd(new_export(lab, mac), ADDRESS) as h:
        h.pwrite(lab.unmounted(root), 0)
        lab.wait_state(boot, "running")
        lab.hook("tftp", "100", ADDRESS, f"{lab.dir}/state/tftp/boot/wait-{mac.replace(':', '-')}-{boot}.ipxe")
        lab.wait_state(boot, "committed")
    unclean = "image debian: not clean: ext4: needs journal recovery"
    story = [("boot-queued", user, None, "debian"), ("boot-leased", machine, ADDRESS, ""),
             ("boot-running", machine, ADDRESS, ""), ("boot-disconnected", "server", ADDRESS, ""),
             ("request-end", user, None, ""), ("boot-committing", user, None, "ended by an admin"),
             ("boot-interrupted", "server", None, unclean),
             ("request-refused", "server", None, f"end: boot {boot} of {MACHINE} is interrupted: {unclean}"),
             ("boot-resumed", user, None, "resumed"),
             ("boot-leased", machine, ADDRESS, ""), ("boot-running", machine, ADDRESS, ""),
             ("request-reset", machine, ADDRESS, ""),
             ("boot-committing", "server", None, "the machine was reset: it fetched its boot script"),
             ("boot-committed", "server", None, "")]
    answer = f"reset: debian@{lab.versions('debian')[0]}"
    until("the request is answered", lambda: ("request-done", "server", None, answer) in events(lab, boot))
    found = [e for e in events(lab, boot) if e[0] != "request-done"]
    assert found == story, "\n".join(map(str, found))
    boot = queue(lab, "--update")
    export = new_export(lab, mac)
    with lab.nbd(export, ADDRESS) as h:
        h.pwrite(lab.mounted(root), 0)
        h.pwrite(lab.unmounted(root), 0)
        lab.wait_state(boot, "running")
        with lab.nbd(export + "/done", ADDRESS) as done:
            done.pread(1, 0)
        lab.wait_state(boot, "committed")
    assert events(lab, boot)[3:] == [("boot-committing", machine, ADDRESS, "the machine has shut down"),
                                     ("boot-committed", "server", None, "")], events(lab, boot)


with Lab({"boot": {"grace": "1h"}, "access": {"admin": ADMIN}}) as lab:
    mac = lab.machine(1)
    root = lab.ext4(16)
    lab.image("debian", root)
    lab.run("setup", "create", "debian", "--owner", "alice", "--image", "debian")
    lab.hook("add", mac, ADDRESS, MACHINE)
    lab.serve()
    for story in (an_ended_token_is_refused_with_its_end, a_superseded_token_has_its_own_version,
                  without_a_token_the_lease_says_what_is_latest, scripts_are_brought_up_to_date_at_the_start,
                  opening_the_next_one_ends_nothing, another_address_has_to_wait, a_machine_without_power_is_missed,
                  without_a_token_clean_disks_are_the_end, admins_come_second, a_users_disk_has_one_machine_that_writes,
                  reading_much_is_running_too,
                  what_was_in_flight_is_drained, all_that_is_kept_is_clean_or_nothing_is_kept, the_trail_tells_all_of_it,
                  a_disk_that_was_never_in_use_is_not_shut_down):
        began = time.monotonic()
        story(lab, mac, root)
        print(f"ok - {story.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
    assert lab.stop() == 0
