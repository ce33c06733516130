#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A machine that was merely away when its boot ended comes back with its token: to what was committed of it, or to its
interrupted boot; and to nothing at all where it would not find its disks as it left them."""
import contextlib
import os
import signal
import sqlite3
import sys
import time

import nbd

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import CommandFailed, Lab, until  # noqa: E402

MACHINE, ADDRESS = "lab-1", "127.0.1.91"
AT = 12 << 20  # in free space of the file system


def queue(lab, *args, setup="debian"):
    return int(lab.run("--quiet", "boot", "queue", MACHINE, setup, *args))


def next_export(lab, mac, boot):
    def rendered():
        return lab.json("boot", "next", MACHINE)["ID"] == boot and lab.export_of_script(mac)
    return until(f"a script of boot {boot}", rendered)


def leave(lab, root, export, data, clean=True):
    """What a guest writes before nobody hears of it any more."""
    with lab.nbd(export, ADDRESS) as h:
        h.pwrite(lab.mounted(root), 0)
        h.pwrite(data.ljust(4096), AT)
        if clean:
            h.pwrite(lab.unmounted(root), 0)


def ended(lab, boot, *states):
    """Ended, and nobody is at its overlays any more."""
    found = lab.wait_state(boot, *states)
    until("the log has it", lambda: f"boot {boot} of {MACHINE}" in lab.log())
    return found


def refused(lab, export, why):
    assert lab.refused(export, ADDRESS), "it was let in"
    assert why in lab.log(), lab.log()


def running(lab):
    return lab.json("boot", "list", MACHINE, "--state", "running")


def catalog(lab, sql):
    with contextlib.closing(sqlite3.connect(f"{lab.dir}/state/catalog.db", timeout=10)) as c:
        c.execute(sql)
        c.commit()


def told(lab, boot):
    return [(e["What"], e["Actor"], e["Address"], e["Detail"]) for e in lab.json("log", "--boot", str(boot))]


# ---- what was committed -----------------------------------------------------------------------------------------


def what_was_committed_goes_on(lab, mac, root):
    boot = queue(lab, "--update")
    export = next_export(lab, mac, boot)
    leave(lab, root, export, b"once")
    version = ended(lab, boot, "committed")["Images"][0]["Result"]
    assert lab.refused(export), "an admin came back for the machine"
    assert lab.refused(export + "/done", ADDRESS), "it has not come back yet"
    lab.stop(signal.SIGKILL)
    lab.serve()
    with lab.nbd(export, ADDRESS) as h:
        assert h.get_size() == 16 << 20 and not running(lab), "opening it made a boot"
    with lab.nbd(export, ADDRESS) as h, lab.nbd(export, ADDRESS) as other:
        assert h.pread(4, AT) == b"once"
        again, = running(lab)
        assert again["ID"] > boot and again["Update"] and again["Images"][0]["Version"] == version, again
        assert other.pread(4, AT) == b"once" and len(running(lab)) == 1, "each connection has a boot of its own"
        until("the waiting script", lambda: f"/boot/wait-{mac.replace(':', '-')}-{again['ID']}.ipxe" in lab.script(mac))
        h.pwrite(lab.mounted(root), 0)
        h.pwrite(b"twice".ljust(4096), AT + 4096)
    assert told(lab, again["ID"])[0] == ("boot-reopened", f"machine {mac}", ADDRESS, f"its machine came back to boot {boot}")
    # From here on it is a boot like any other: also over a restart, also when it is away again.
    lab.stop()
    lab.serve()
    with lab.nbd(export, ADDRESS) as h:
        assert h.pread(5, AT + 4096) == b"twice"
        h.pwrite(lab.unmounted(root), 0)
    second = ended(lab, again["ID"], "committed")["Images"][0]["Result"]
    assert lab.versions("debian")[:2] == [second, version] and lab.boot(boot)["Images"][0]["Result"] == version
    with lab.nbd(export, ADDRESS) as h:
        assert h.pread(4, AT) + h.pread(5, AT + 4096) == b"oncetwice"
    assert running(lab)[0]["Images"][0]["Version"] == second
    lab.run("boot", "discard", MACHINE)
    refused(lab, export, "is discarded")


def a_branch_goes_on_too(lab, mac, root):
    boot = queue(lab, "--update")
    export = next_export(lab, mac, boot)
    with lab.nbd(export, ADDRESS) as h:
        h.pwrite(lab.mounted(root), 0)
        lab.image("debian", root)
    leave(lab, root, export, b"beside")
    branch = ended(lab, boot, "branched")["Images"][0]["Result"]
    with lab.nbd(export, ADDRESS) as h:
        assert h.pread(6, AT) == b"beside" and running(lab)[0]["Images"][0]["Version"] == branch
    lab.run("boot", "discard", MACHINE)


def a_disk_that_was_not_kept_is_missed(lab, mac, root):
    """Only where it was written to."""
    spare = lab.image("spare", root)
    lab.run("setup", "create", "two", "--owner", "alice", "--image", "debian,update", "--image", "spare")
    boot = queue(lab, setup="two")
    export = next_export(lab, mac, boot)
    with lab.nbd(export + "/spare", ADDRESS) as h:
        h.pread(4096, 0)
        leave(lab, root, export, b"kept")
    ended(lab, boot, "committed")
    with lab.nbd(export + "/spare", ADDRESS) as h:
        assert h.pread(4, AT) == bytes(4)
        images = running(lab)[0]["Images"]
        assert images[1]["Version"] == spare and [i["Keep"] for i in images] == [True, False], images
        h.pwrite(b"scratch".ljust(4096), AT)
    leave(lab, root, export, b"kept too")
    again = ended(lab, running(lab)[0]["ID"], "committed")
    why = "its connections gone; what it wrote to image spare is not kept"
    assert again["Result"].endswith(why), again
    refused(lab, export, why)


def what_was_thrown_away_is_gone(lab, mac, root):
    boot = queue(lab)
    export = next_export(lab, mac, boot)
    leave(lab, root, export, b"scratch")
    ended(lab, boot, "discarded")
    refused(lab, export, f"boot {boot} of {MACHINE} is discarded: the machine was shut down")


def the_next_lease_is_the_end(lab, mac, root):
    boot = queue(lab, "--update")
    export = next_export(lab, mac, boot)
    leave(lab, root, export, b"last")
    ended(lab, boot, "committed")
    following = queue(lab)
    with lab.nbd(next_export(lab, mac, following), ADDRESS) as h:
        h.pread(512, 0)
        refused(lab, export, f"boot {boot} of {MACHINE} is committed: the machine was shut down")
    lab.wait_state(following, "queued")  # nothing came
    assert lab.refused(export, ADDRESS)
    lab.run("boot", "cancel", str(following))


def its_version_may_be_gone(lab, mac, root):
    boot = queue(lab, "--update")
    before = lab.versions("debian")[0]
    export = next_export(lab, mac, boot)
    leave(lab, root, export, b"last")
    version = ended(lab, boot, "committed")["Images"][0]["Result"]
    lab.run("image", "rollback", "debian", "--to", str(before))
    lab.run("image", "remove", f"debian@{version}", "--force")
    refused(lab, export, f"boot {boot} of {MACHINE} is committed")
    assert not running(lab)


# ---- what was interrupted ---------------------------------------------------------------------------------------


def abandoned(lab, mac, root, *args, setup="debian"):
    boot = queue(lab, *args, setup=setup)
    export = next_export(lab, mac, boot)
    leave(lab, root, export, b"at work", clean=False)
    return boot, export


def an_abandoned_boot_just_runs_on(lab, mac, root):
    boot = queue(lab, setup="two")
    export = next_export(lab, mac, boot)
    with lab.nbd(export + "/spare", ADDRESS) as h:
        h.pwrite(b"scratch".ljust(4096), AT)
        leave(lab, root, export, b"at work", clean=False)
    ended(lab, boot, "interrupted")
    assert lab.boot(boot)["Result"] == "image debian: not clean: ext4: needs journal recovery"
    lab.stop(signal.SIGKILL)
    lab.serve()
    # A server that dies between the overlays and the catalog leaves what the next attempt finishes.
    catalog(lab, "CREATE TRIGGER broken BEFORE UPDATE OF state ON boot BEGIN SELECT RAISE(ABORT, 'a test'); END")
    with lab.nbd(export, ADDRESS) as h:
        with contextlib.suppress(nbd.Error):
            h.pread(512, 0)
            raise AssertionError("it was served")
    catalog(lab, "DROP TRIGGER broken")
    lab.stop(signal.SIGKILL)
    lab.serve()
    assert lab.boot(boot)["State"] == "interrupted"
    before = lab.versions("debian")
    with lab.nbd(export + "/spare", ADDRESS) as spare, lab.nbd(export, ADDRESS) as h:
        assert spare.pread(7, AT) == b"scratch" and h.pread(7, AT) == b"at work"
        assert [b["ID"] for b in running(lab)] == [boot] and not lab.boot(boot)["EndedAt"]
        until("the waiting script", lambda: f"/boot/wait-{mac.replace(':', '-')}-{boot}.ipxe" in lab.script(mac))
        spare.pwrite(b"on and on".ljust(4096), AT)
        h.pwrite(b"and on".ljust(4096), AT + 4096)
        h.pwrite(lab.unmounted(root), 0)
        assert spare.pread(9, AT) == b"on and on"
    ended(lab, boot, "committed")
    assert len(lab.versions("debian")) == len(before) + 1
    with lab.nbd("image/debian") as h:
        assert h.pread(7, AT) + h.pread(6, AT + 4096) == b"at workand on"
    edges = [e for e in told(lab, boot) if e[0] not in ("boot-disconnected", "boot-reconnected")]
    assert [e[0] for e in edges][3:6] == ["boot-committing", "boot-interrupted", "boot-reopened"], edges
    assert edges[5] == ("boot-reopened", f"machine {mac}", ADDRESS, "its machine came back"), edges


def who_left_an_overlay_broken_stays_interrupted(lab, mac, root):
    """Also a scratch disk, which a boot that is resumed would begin anew: this guest has it mounted."""
    boot = queue(lab, setup="two")
    export = next_export(lab, mac, boot)
    with lab.nbd(export + "/spare", ADDRESS) as h:
        h.pwrite(b"scratch".ljust(4096), AT)
        leave(lab, root, export, b"at work", clean=False)
    ended(lab, boot, "interrupted")
    path = f"{lab.dir}/state/overlays/{boot}/1/data"
    until("its overlays are closed", lambda: not open_by_server(lab, path))
    os.unlink(path)
    with lab.nbd(export, ADDRESS) as h:
        with contextlib.suppress(nbd.Error):
            h.pread(512, 0)
            raise AssertionError("it was served")
    assert f"boot {boot}: image spare: " in lab.log(), lab.log()
    assert lab.boot(boot)["State"] == "interrupted" and os.path.isdir(os.path.dirname(path))
    lab.run("boot", "discard", str(boot))


def open_by_server(lab, path):
    fds = f"/proc/{lab.server.pid}/fd"
    with contextlib.suppress(FileNotFoundError):
        return any(os.readlink(f"{fds}/{fd}") == path for fd in os.listdir(fds))
    return True


def whoever_was_interrupted_otherwise_stays_so(lab, mac, root):
    """By an admin, before and after it was abandoned, and by a reset."""
    boot, export = abandoned(lab, mac, root, "--update")
    with contextlib.suppress(CommandFailed):
        lab.run("boot", "end", str(boot))
    refused(lab, export, f"boot {boot} of {MACHINE} is interrupted: image debian: not clean")
    lab.run("boot", "discard", str(boot))
    boot, export = abandoned(lab, mac, root, "--update")
    ended(lab, boot, "interrupted")
    assert not lab.refused(export, ADDRESS)
    with contextlib.suppress(CommandFailed):
        lab.run("boot", "end", str(boot))
    refused(lab, export, f"boot {boot} of {MACHINE} is interrupted: image debian: not clean")
    lab.run("boot", "discard", str(boot))
    boot, export = abandoned(lab, mac, root, "--update")
    lab.hook("tftp", "100", ADDRESS, f"{lab.dir}/state/tftp/boot/wait-{mac.replace(':', '-')}-{boot}.ipxe")
    ended(lab, boot, "interrupted")
    refused(lab, export, f"boot {boot} of {MACHINE} is interrupted: image debian: not clean")
    lab.run("boot", "discard", str(boot))


def what_a_commit_has_begun_is_for_a_commit(lab, mac, root):
    boot = queue(lab, "--update")
    export = next_export(lab, mac, boot)
    catalog(lab, "CREATE TRIGGER broken BEFORE INSERT ON version BEGIN SELECT RAISE(ABORT, 'a test'); END")
    leave(lab, root, export, b"written")
    ended(lab, boot, "interrupted")
    catalog(lab, "DROP TRIGGER broken")
    refused(lab, export, f"boot {boot} of {MACHINE} is interrupted: image")
    with lab.nbd("image/" + lab.run("boot", "commit", str(boot))) as h:
        assert h.pread(7, AT) == b"written"
    refused(lab, export, f"boot {boot} of {MACHINE} is committed")


def its_next_boot_leaves_it_interrupted(lab, mac, root):
    boot, export = abandoned(lab, mac, root, "--update")
    ended(lab, boot, "interrupted")
    following = queue(lab)
    with lab.nbd(next_export(lab, mac, following), ADDRESS) as h:
        h.pwrite(b"x" * 4096, AT)
        lab.wait_state(following, "running")
        refused(lab, export, f"boot {boot} of {MACHINE} is interrupted: image debian: not clean")
    lab.run("boot", "discard", str(following))
    refused(lab, export, f"boot {boot} of {MACHINE} is interrupted: image debian: not clean")
    lab.run("boot", "discard", str(boot))


with Lab({"boot": {"grace": "1s", "abandon": "3s", "lease": "5s"}}) as lab:
    mac = lab.machine(1)
    root = lab.ext4(16)
    lab.image("debian", root)
    lab.run("setup", "create", "debian", "--owner", "alice", "--image", "debian")
    lab.hook("add", mac, ADDRESS, MACHINE)
    lab.serve()
    for story in (what_was_committed_goes_on, a_branch_goes_on_too, a_disk_that_was_not_kept_is_missed,
                  what_was_thrown_away_is_gone, the_next_lease_is_the_end, its_version_may_be_gone,
                  an_abandoned_boot_just_runs_on, who_left_an_overlay_broken_stays_interrupted,
                  whoever_was_interrupted_otherwise_stays_so, what_a_commit_has_begun_is_for_a_commit,
                  its_next_boot_leaves_it_interrupted):
        began = time.monotonic()
        story(lab, mac, root)
        print(f"ok - {story.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
    assert lab.stop() == 0
