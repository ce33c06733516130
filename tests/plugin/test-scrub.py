#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The server reads all versions in the background: it finds damage and its end, keeps to its rate, is in nobody's way, and
goes on where it was stopped."""
import os
import sqlite3
import subprocess
import sys
import time

import nbd

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import SLOWNESS, CommandFailed, Lab, until  # noqa: E402

MIB = 1 << 20
ADDRESS = "127.0.1.91"


def ask(lab, query, *values):
    db = sqlite3.connect(f"{lab.dir}/state/catalog.db", timeout=10)
    rows = db.execute(query, values).fetchall()
    db.commit()
    db.close()
    return rows


def make_due(lab):
    ask(lab, "UPDATE version SET verified = 1, verified_to = 0")


def all_verified(lab):
    return ask(lab, "SELECT 1 FROM version WHERE coalesce(verified, 1) = 1") == []


def change(lab, **keys):
    lab.settings["store"].update({k.replace("_", "-"): str(v) for k, v in keys.items()})
    lab.write_conf()
    if lab.server:
        lab.run("config", "reload")


def path_of(lab, version, image="debian"):
    return f"{lab.dir}/state/images/{lab.json('image', 'show', image)['UUID']}/{version}.img"


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 0x55]))


def refused(lab, text, *args):
    try:
        lab.run(*args)
    except CommandFailed as e:
        assert e.status == 4 and text in e.stderr, e
    else:
        raise AssertionError(f"{args} was not refused")


def state_of(lab, version):
    return next(v["State"] for v in lab.json("image", "versions", "debian") if v["Version"] == version)


def read_by(pid):
    """Bytes that the server asked the kernel for."""
    with open(f"/proc/{pid}/io", encoding="ascii") as f:
        return int(f.readline().split()[1])


def seconds_of(pid):
    """Processor time of all its threads."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def who_stepped_back(pid):
    """How many threads let everybody else go first, to the processor and to the disk."""
    count = 0
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/stat", encoding="ascii") as f:
            nice = f.read().rpartition(")")[2].split()[16]
        disk = subprocess.run(["ionice", "-p", tid], capture_output=True, text=True, check=True).stdout.strip()
        assert (nice == "19") == (disk == "idle"), (nice, disk)
        count += nice == "19"
    return count


def damage_is_found_and_its_end(lab, mac, root):
    first = lab.versions("debian")[0]
    with open(root, "r+b") as f:
        f.seek(20 * MIB)
        f.write(os.urandom(MIB))
    second = lab.image("debian", root)
    lab.run("setup", "create", "lab", "--owner", "alice", "--image", "debian")
    lab.run("setup", "create", "old", "--owner", "alice", "--image", f"debian@{first}")
    other = lab.machine(2, "--default-setup", "lab")
    until("a script of the default setup", lambda: lab.export_of_script(other))
    boot = int(lab.run("boot", "queue", "lab-1", "lab"))
    old_export = until("a script", lambda: lab.export_of_script(mac))
    good = path_of(lab, first)
    flip(good, 100)
    make_due(lab)
    until("the damage is found", lambda: state_of(lab, first) == "damaged" and state_of(lab, second) == "damaged", 30)
    until("it was read to its end", lambda: all_verified(lab))

    # Told once, by whom, and what it touches.
    events = [e for e in lab.json("log", "--what", "version-damaged") if e["Actor"] == "server"]
    assert [e["Object"] for e in events] == [f"image alice/debian@{v}" for v in (first, second)], events
    assert lab.log().count("is damaged: ") == 2, lab.log()
    found = {v["Version"]: v for v in lab.json("image", "versions", "debian")}
    files = found[second]["DamagedFiles"]
    assert files == [{"File": f"{first}.img", "Chunks": 1, "SharedWith": [first]}], files
    try:
        lab.run("doctor")
        raise AssertionError("doctor found nothing")
    except CommandFailed:
        pass
    assert f"debian@{second},damaged" in lab.run("status")
    assert {m["Name"]: m["Images"][0]["Damaged"] for m in lab.json("status")} == {"lab-1": True, "lab-2": True}

    # Nothing starts with it: not what is queued, nor what is about to be.
    refused(lab, "is damaged; try: labboot image verify", "boot", "queue", "lab-2", "lab")
    until("no boot script any more", lambda: not lab.export_of_script(mac) and not lab.export_of_script(other))
    assert lab.refused(old_export, ADDRESS) or not can_read(lab, old_export), "a token of before still boots"
    assert lab.boot(boot)["State"] == "queued"
    why = [e["Detail"] for e in lab.json("log", "--machine", "lab-1", "--what", "script-*")]
    assert any("is damaged" in w for w in why), why

    # The file is restored, the day after.
    flip(good, 100)
    make_due(lab)
    until("it is whole again", lambda: state_of(lab, first) == state_of(lab, second) == "published", 30)
    assert [e["Actor"] for e in lab.json("log", "--what", "version-whole")] == ["server", "server"]
    assert ask(lab, "SELECT count(*) FROM damage") == [(0,)]
    assert lab.log().count("is whole again") == 2
    until("a boot script again", lambda: lab.export_of_script(mac) and lab.export_of_script(other))
    lab.run("boot", "cancel", str(boot))
    return first, second


def can_read(lab, export):
    try:
        with lab.nbd(export, ADDRESS) as h:
            h.pread(4096, 0)
        return True
    except nbd.Error:
        return False


def none_is_due(lab):
    return ask(lab, "SELECT 1 FROM version WHERE verified < unixepoch() - 80000") == []


def beside_damage_nothing_is_taken_for_whole(lab, first, second):
    """A client met damage in the second version; it lies in the file of the first, which was found whole a moment ago."""
    flip(path_of(lab, first), 100)
    ask(lab, "UPDATE version SET verified = unixepoch()")
    ask(lab, "UPDATE version SET state = 'damaged', damage = 'chunk 0', verified = verified - 90000 WHERE number = ?", second)
    until("it was read again", lambda: none_is_due(lab), 30)
    assert (state_of(lab, first), state_of(lab, second)) == ("published", "damaged")
    ask(lab, "UPDATE version SET verified = verified - 90000")
    until("the day after, both", lambda: state_of(lab, first) == "damaged" and none_is_due(lab), 30)
    flip(path_of(lab, first), 100)
    ask(lab, "UPDATE version SET verified = verified - 90000")
    until("none", lambda: state_of(lab, first) == state_of(lab, second) == "published", 30)


def the_rate_is_kept(lab, big):
    pid = lab.server.pid
    assert who_stepped_back(pid) == 2, "the scrubber and the flattener"
    change(lab, scrub_rate="2M")
    make_due(lab)
    before = read_by(pid)
    until("it reads", lambda: read_by(pid) > before + MIB, 30)
    for rate in (2 * MIB, 6 * MIB):
        change(lab, scrub_rate=rate)
        time.sleep(0.3)
        was, begun, used = read_by(pid), time.monotonic(), seconds_of(pid)
        time.sleep(4)
        took = time.monotonic() - begun
        measured, cpu = (read_by(pid) - was) / took, (seconds_of(pid) - used) / took
        print(f"rate {rate / MIB} MiB/s: {measured / MIB:.2f} MiB/s with {cpu * 100:.1f} % of a processor", flush=True)
        assert 0.6 / SLOWNESS * rate < measured < 1.1 * rate, measured  # a busy host makes it slower
        assert cpu < 0.3 * SLOWNESS, cpu
    # Off, and it stops.
    change(lab, scrub_days=0)
    time.sleep(0.5)
    was = read_by(pid)
    time.sleep(1)
    assert read_by(pid) - was < MIB
    assert state_big(lab, big)["verified"] == 1
    change(lab, scrub_days=30)


def state_big(lab, version):
    return dict(zip(("verified", "to"),
                    ask(lab, "SELECT verified, verified_to FROM version WHERE number = ?", version)[0]))


def it_goes_on_after_a_restart(lab, big):
    """However often the server is stopped: nothing of what it has read is read again, and stopping takes no time."""
    change(lab, scrub_rate="4M")
    until("it reads", lambda: read_by(lab.server.pid) > 30 * MIB or state_big(lab, big)["to"] > 0, 30)
    reached = 0
    for _ in range(3):
        begun = read_by(lab.server.pid)
        until("some more", lambda: read_by(lab.server.pid) > begun + 10 * MIB, 30)
        start = time.monotonic()
        assert lab.stop() == 0
        took = time.monotonic() - start
        assert took < 2 * SLOWNESS, took
        now = state_big(lab, big)
        assert now["to"] > reached, (now, reached)
        reached = now["to"]
        lab.serve()
    assert state_big(lab, big)["verified"] == 1
    rest = 64 * MIB - reached
    begun = read_by(lab.server.pid)
    change(lab, scrub_rate="1T")
    until("all is verified", lambda: all_verified(lab), 30)
    assert read_by(lab.server.pid) - begun < 2 * rest + 20 * MIB
    assert state_big(lab, big)["to"] == 0


def it_stops_at_full_speed_too(lab):
    change(lab, scrub_rate="1T")
    for _ in range(3):
        make_due(lab)
        begun = read_by(lab.server.pid)
        until("it reads", lambda: read_by(lab.server.pid) > begun + MIB, 30)
        start = time.monotonic()
        assert lab.stop() == 0
        assert time.monotonic() - start < 2 * SLOWNESS
        lab.serve()
    until("all is verified", lambda: all_verified(lab), 30)


def an_idle_server_rests(lab):
    time.sleep(1)
    used = seconds_of(lab.server.pid)
    time.sleep(5)
    used = seconds_of(lab.server.pid) - used
    print(f"idle: {used * 20:.1f} % of a processor", flush=True)
    assert used < 0.25, used


def main():
    with Lab({"store": {"scrub-rate": "1G"}}) as lab:
        root = lab.ext4(32)
        lab.image("debian", root)
        mac = lab.machine(1)
        lab.serve()
        lab.hook("old", mac, ADDRESS, "lab-1")
        first, second = damage_is_found_and_its_end(lab, mac, root)
        beside_damage_nothing_is_taken_for_whole(lab, first, second)
        ask(lab, "UPDATE version SET verified = unixepoch()")
        big = lab.image("big", lab.file("big.raw", 64 * MIB, os.urandom(64 * MIB)), "--compression", "none")
        the_rate_is_kept(lab, big)
        it_goes_on_after_a_restart(lab, big)
        it_stops_at_full_speed_too(lab)
        an_idle_server_rests(lab)
        assert lab.stop() == 0


main()
