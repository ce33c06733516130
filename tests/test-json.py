#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What every command prints with --json is what cli/labboot-json-1.schema.json says, strictly.

A command that the schema or the story below does not have fails the test. The story goes from top to bottom: each line is
a command with its words, and {} in them are what earlier ones made. A ? says that it may fail, with its value all the same.
"""
import json
import os
import re
import subprocess
import sys

import jsonschema

sys.path.insert(0, os.path.join(os.environ.get("srcdir", "."), "tests"))
from lab import LABBOOT, CommandFailed, Lab, until  # noqa: E402

SCHEMA = os.path.join(os.environ.get("srcdir", "."), "cli", "labboot-json-1.schema.json")
# They become another program, or are for one.
WITHOUT_JSON = {"serve", "dhcp", "complete"}

STORY = """
init
config check
config show
config example
config reload
status
log
log --limit 0
doctor ?
user list
user add bob --email bob@lab.example --name Bob
user show bob
user set bob --email bob@example.org
image list
image create bob/empty --size 16M
image import debian {disk} --owner alice
image import debian {disk} --comment new
image import scratch {disk} --owner alice --kind temporal
image list
image show debian
image versions debian
image set debian --comment better
image set debian@latest --comment best
image export debian {out}
image verify debian
image verify debian --sha256
image flatten debian --level 9
image versions debian
setup list
setup create lab --image debian,update --owner alice
setup create other --image debian@latest --image scratch --owner alice
setup show lab
setup show lab --image debian
setup list
setup add-image lab empty
setup move-image lab empty --to 1
setup move-image lab empty --to 2
setup peg lab debian@{first}
setup peg lab debian@latest
setup remove-image lab empty
setup rename other extra
setup set extra --owner bob
image list
image versions debian
machine list
machine add 52:54:00:00:00:01 --name lab1 --mac 52:54:00:00:00:02 --default-setup extra
machine add 52:54:00:00:00:03 --name lab3 --unmanaged
machine set lab1 --mac 52:54:00:00:00:04
machine show lab1
machine list
boot list
boot next lab1
boot queue lab1 lab --comment why
boot queue lab1 lab --update
boot queue --all lab
boot list
boot list lab1 --limit 1
boot show 2
boot next lab1
boot cancel 4
status
{run 2}
status
boot show lab1
machine show lab1
doctor ?
boot end 2
{run 3}
boot commit 3
image versions debian
{queue}
{run 5}
boot discard 5
image rollback debian --to {first}
image keep debian --last 1
image remove debian@{second} --force
log
log --machine lab1 --what boot-*
doctor lab1 ?
apply --dry-run
apply
config show
gc
gc --dry-run
fsck ?
boot list
setup remove lab --force
machine remove lab3
machine remove lab1 --force
image remove scratch --force
user remove bob --force
log --limit 500
"""
# Only where the server can be asked to.
INTERRUPTED = "boot resume"


def commands():
    """All that labboot knows, from its help."""
    text = subprocess.run([LABBOOT, "help"], capture_output=True, text=True, check=True).stdout
    # A verb, or where a noun has none the end of the line or what it takes.
    return {" ".join(m) .strip() for m in re.findall(r"^  labboot ([a-z]+)(?: ([a-z][a-z-]*)(?= |$))?", text, re.M)}


def validator(schema, command):
    part = {"$schema": schema["$schema"], "$defs": schema["$defs"], **schema["commands"][command]}
    jsonschema.Draft202012Validator.check_schema(part)
    return jsonschema.Draft202012Validator(part)


def check_strict(node, where="#"):
    """Every object with fields refuses others."""
    if isinstance(node, dict):
        assert "properties" not in node or node.get("additionalProperties") is False, f"{where} is not strict"
        for key, value in node.items():
            check_strict(value, f"{where}/{key}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            check_strict(value, f"{where}/{i}")


class Story:
    def __init__(self, lab, schema):
        self.lab = lab
        self.schema = schema
        self.known = commands()
        self.told = set()
        self.values = {"disk": lab.ext4(16), "out": f"{lab.dir}/out.raw"}

    def command_of(self, words):
        two = " ".join(words[:2])
        return two if two in self.known or words[0] not in self.known else words[0]

    def ask(self, words, may_fail):
        r = subprocess.run([LABBOOT, "--config", self.lab.conf, "--quiet", "--json", *words], capture_output=True,
                           text=True, timeout=60)
        if r.returncode != 0 and not may_fail:
            raise CommandFailed(words, r.returncode, r.stderr)
        return json.loads(r.stdout)

    def tell(self, line):
        words = line.removesuffix(" ?").format(**self.values).split()
        command = self.command_of(words)
        if command not in self.known:
            return  # in the schema, but not in this labboot
        self.check(command, words, self.ask(words, line.endswith(" ?")))
        versions = self.lab.json("image", "versions", "debian") if words[:3] == ["image", "import", "debian"] else []
        if versions:
            self.values["second"], self.values["first"] = versions[0]["Version"], versions[-1]["Version"]

    def check(self, command, words, value):
        assert command in self.schema["commands"], f"the schema says nothing of '{command}'"
        errors = sorted(validator(self.schema, command).iter_errors(value), key=str)
        for error in errors[:3]:
            while error.context:  # the nearest of several
                error = max(error.context, key=lambda e: len(e.path))
            print(f"{' '.join(words)}: at /{'/'.join(map(str, error.path))}: {error.message}", file=sys.stderr)
        assert not errors, f"'{' '.join(words)}' is not as the schema says"
        self.told.add(command)

    def run_boot(self, boot):
        """The machine attaches its disk, writes, and is shut down."""
        with self.lab.nbd("52-54-00-00-00-01") as h:
            first = h.pread(4096, 0)
            h.pwrite(first, 0)
            h.flush()
            until(f"boot {boot} runs", lambda: self.lab.boot(boot)["State"] == "running")
            self.check("status", ["status"], self.lab.json("status"))
            self.check("boot show", ["boot show"], self.lab.boot(boot))


def interrupted_boots(story):
    """An update of disks that are not clean waits for a decision, and may go on."""
    lab = story.lab
    if INTERRUPTED not in story.known:
        return
    lab.image("unclean", lab.ext4(16), "--new")
    lab.run("setup", "create", "unclean", "--image", "unclean", "--owner", "alice")
    lab.machine(9)
    boot = lab.run("--quiet", "boot", "queue", "lab-9", "unclean", "--update")
    with lab.nbd("52-54-00-00-00-09") as h:
        h.pwrite(lab.mounted(story.values["disk"]), 0)
        h.flush()
    subprocess.run([LABBOOT, "--config", lab.conf, "boot", "end", boot], capture_output=True, check=False)
    lab.wait_state(boot, "interrupted")
    story.tell("doctor ?")
    story.tell("status")
    story.tell(f"boot resume {boot}")


def following(story):
    """One event a line."""
    with subprocess.Popen([LABBOOT, "--config", story.lab.conf, "--json", "log", "--follow"],
                          stdout=subprocess.PIPE, text=True) as p:
        for _ in range(10):
            story.check("log", ["log --follow"], json.loads(p.stdout.readline()))
        p.terminate()
        assert p.wait(20) == 0


def main():
    with open(SCHEMA, encoding="utf-8") as f:
        schema = json.load(f)
    check_strict(schema)
    missing = commands() - set(schema["commands"]) - WITHOUT_JSON
    assert not missing, f"the schema has no entry for: {', '.join(sorted(missing))}"
    with Lab() as lab:
        story = Story(lab, schema)
        lab.serve()
        for line in STORY.strip().splitlines():
            if m := re.fullmatch(r"\{run (\d+)\}", line):
                story.run_boot(m.group(1))
            elif line == "{queue}":
                lab.run("--quiet", "boot", "queue", "lab1", "lab")
            else:
                story.tell(line)
        following(story)
        interrupted_boots(story)
        shown = subprocess.run([LABBOOT, "--json", "--version"], capture_output=True, text=True, check=True).stdout
        story.check("--version", ["--version"], json.loads(shown))
        untold = commands() - story.told - WITHOUT_JSON
        assert not untold, f"the story does not tell: {', '.join(sorted(untold))}"
    print("ok - every command prints what the schema says")


main()
