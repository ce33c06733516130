-- SPDX-License-Identifier: BSD-3-Clause
-- The catalog of labboot, version 1: the manual of the data. The comments stay in the database (sqlite3's .schema).
--
-- Spellings: a MAC is '52:54:00:12:34:56', a UUID lower case with dashes, an address the 16 bytes of IPv6 (IPv4 as
-- ::ffff:a.b.c.d), so that addresses sort; a time is seconds since 1970, NULL for never; sizes are bytes; a truth is
-- 0 or 1. A constraint's name is what a person reads when it is violated.
--
-- The program adds functions of its own (now(), ip_text(), ...); no table, trigger or index here uses them, so that sqlite3
-- can check and repair a catalog.

-- ---- people ---------------------------------------------------------------------------------------------------
CREATE TABLE user (
    username TEXT PRIMARY KEY
        CONSTRAINT "a user has a name" CHECK (username <> ''),
    name     TEXT NOT NULL DEFAULT '',
    email    TEXT NOT NULL UNIQUE
        CONSTRAINT "an email address looks like name@example.org" CHECK (email LIKE '_%@_%' AND email NOT GLOB '*[ 	]*'),
    role     TEXT NOT NULL DEFAULT 'user'
        CONSTRAINT "a role is user, moderator or admin" CHECK (role IN ('user', 'moderator', 'admin'))
) STRICT;

-- ---- images and versions --------------------------------------------------------------------------------------
CREATE TABLE image (
    uuid         TEXT PRIMARY KEY
        CONSTRAINT "a UUID has 36 characters" CHECK (length(uuid) = 36),
    name         TEXT NOT NULL
        CONSTRAINT "no image is named done or machine" CHECK (name NOT IN ('', 'done', 'machine')),
    -- NULL for the image of a machine, which belongs to that alone
    owner        TEXT REFERENCES user ON UPDATE CASCADE ON DELETE CASCADE,
    type         TEXT NOT NULL
        CONSTRAINT "an image's type is boot, system, user, temporal or machine"
        CHECK (type IN ('boot', 'system', 'user', 'temporal', 'machine')),
    compression  TEXT NOT NULL
        CONSTRAINT "compression is none, zstd or gzip" CHECK (compression IN ('none', 'zstd', 'gzip')),
    file_type    TEXT NOT NULL
        CONSTRAINT "an image's file type is raw or qcow2" CHECK (file_type IN ('raw', 'qcow2')),
    filesystem   TEXT NOT NULL
        CONSTRAINT "a file system is fat32, ext4 or raw" CHECK (filesystem IN ('fat32', 'ext4', 'raw')),
    -- what `latest` means; NULL before the first version
    head         INTEGER,
    -- the highest number that a version of it ever had, removed ones too: numbers are never used twice
    last_version INTEGER NOT NULL DEFAULT 0,
    comment      TEXT,
    UNIQUE (owner, name),
    CONSTRAINT "only a machine's image has no owner" CHECK ((owner IS NULL) = (type = 'machine')),
    FOREIGN KEY (uuid, head) REFERENCES version (image, number)
) STRICT;

-- A row is made after the layer's file is there, and goes before the file goes: a file without a row is no version.
CREATE TABLE version (
    image        TEXT NOT NULL REFERENCES image ON DELETE CASCADE,
    number       INTEGER NOT NULL
        CONSTRAINT "a version's number is a time" CHECK (number > 0),
    -- what it was made from, also when that is gone since (flattened); NULL: from nothing
    parent       INTEGER
        CONSTRAINT "a version is younger than its parent" CHECK (parent < number),
    layer        TEXT NOT NULL UNIQUE,
    virtual_size INTEGER NOT NULL,
    -- bytes of its own file
    stored_size  INTEGER NOT NULL,
    -- SHA-256 over the disk's size and the hashes of its chunks
    checksum     BLOB NOT NULL CHECK (length(checksum) = 32),
    -- of the whole disk, once somebody asked for it
    sha256       BLOB CHECK (length(sha256) = 32),
    -- release of the kernel found inside; NULL: it cannot boot a machine
    kernel       TEXT,
    -- when its row was made: its number may be later, where clocks went backwards
    made         INTEGER NOT NULL,
    -- the boot that made it; NULL: imported
    boot         INTEGER REFERENCES boot ON DELETE SET NULL,
    state        TEXT NOT NULL DEFAULT 'published' CHECK (state IN ('published', 'damaged')),
    -- what was found wrong with it; damaged versions are refused for new boots
    damage       TEXT,
    -- when all of it was read and checked last; NULL: not since it was made
    verified     INTEGER,
    -- how much of its disk the server has read since; what it found so far is whole
    verified_to  INTEGER NOT NULL DEFAULT 0,
    -- 1: it was published beside the head, and `latest` never had it since: what it has is its own
    branch       INTEGER NOT NULL DEFAULT 0 CHECK (branch IN (0, 1)),
    comment      TEXT,
    PRIMARY KEY (image, number),
    CHECK ((state = 'damaged') = (damage IS NOT NULL))
) STRICT;
CREATE INDEX version_boot ON version (boot);
CREATE INDEX version_damaged ON version (image) WHERE state = 'damaged';

-- The layers in whose files the damage of a version lies, as far as the last reading of all of it told. A layer that is no
-- version any more lies in retired/.
CREATE TABLE damage (
    image  TEXT NOT NULL,
    number INTEGER NOT NULL,
    layer  TEXT NOT NULL,
    -- 0: what is damaged there is no chunk
    chunks INTEGER NOT NULL,
    PRIMARY KEY (image, number, layer),
    FOREIGN KEY (image, number) REFERENCES version (image, number) ON DELETE CASCADE
) STRICT;
CREATE INDEX damage_layer ON damage (layer);

-- ---- setups: the disks that a machine gets together --------------------------------------------------------------
CREATE TABLE setup (
    uuid  TEXT PRIMARY KEY CHECK (length(uuid) = 36),
    name  TEXT NOT NULL
        CONSTRAINT "a setup has a name" CHECK (name <> ''),
    owner TEXT NOT NULL REFERENCES user ON UPDATE CASCADE ON DELETE CASCADE,
    UNIQUE (owner, name)
) STRICT;

-- ImageFrozen. Position 0 is the root disk. One image once, since an export's name must mean one disk.
CREATE TABLE setup_image (
    setup    TEXT NOT NULL REFERENCES setup ON DELETE CASCADE,
    position INTEGER NOT NULL CHECK (position >= 0),
    image    TEXT NOT NULL REFERENCES image ON DELETE CASCADE,
    -- the version that it is pegged to, which therefore cannot be removed; NULL: `latest`
    version  INTEGER,
    -- what machines write to it is kept, whether their boot is an update or not
    updates  INTEGER NOT NULL DEFAULT 0 CHECK (updates IN (0, 1)),
    PRIMARY KEY (setup, position),
    UNIQUE (setup, image),
    FOREIGN KEY (image, version) REFERENCES version (image, number)
) STRICT;
CREATE INDEX setup_image_image ON setup_image (image, version);

-- ---- machines ---------------------------------------------------------------------------------------------------
CREATE TABLE machine (
    mac           TEXT PRIMARY KEY CHECK (length(mac) = 17),
    name          TEXT NOT NULL UNIQUE
        CONSTRAINT "a machine has a name" CHECK (name <> ''),
    architecture  TEXT NOT NULL
        CONSTRAINT "an architecture is x86_64, Arm64 or unknown" CHECK (architecture IN ('x86_64', 'Arm64', 'unknown')),
    -- 0: never touched: it boots from its own disk and gets no export
    managed       INTEGER NOT NULL DEFAULT 1 CHECK (managed IN (0, 1)),
    -- what it boots when its queue is empty
    default_setup TEXT REFERENCES setup ON DELETE SET NULL,
    -- Its boot scripts are right when script_done = script_wanted. The triggers at the end of this file raise
    -- script_wanted in the very transaction that changes what they say.
    script_wanted INTEGER NOT NULL DEFAULT 1,
    script_done   INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX machine_default_setup ON machine (default_setup);
CREATE INDEX machine_script ON machine (mac) WHERE script_done <> script_wanted;

-- All MACs of a machine, position 0 the one that is its key: docks, second cards.
CREATE TABLE machine_mac (
    mac      TEXT PRIMARY KEY CHECK (length(mac) = 17),
    machine  TEXT NOT NULL REFERENCES machine ON UPDATE CASCADE ON DELETE CASCADE,
    position INTEGER NOT NULL,
    UNIQUE (machine, position)
) STRICT;

-- The machine's own persistent disk: an image of type machine, written in place, the same at every boot. Its file is
-- made at its first use, and gone with its row; image.filesystem is what it is made with.
CREATE TABLE machine_image (
    machine  TEXT PRIMARY KEY REFERENCES machine ON UPDATE CASCADE ON DELETE CASCADE,
    image    TEXT NOT NULL UNIQUE REFERENCES image ON DELETE CASCADE,
    size_mib INTEGER NOT NULL DEFAULT 128
        CONSTRAINT "a machine's disk has at least 1 MiB" CHECK (size_mib > 0)
) STRICT;

-- MACs of no machine whose boot scripts may still lie in the TFTP tree, until they are removed there.
CREATE TABLE script_gone (
    mac TEXT PRIMARY KEY
) STRICT;

-- The address that a MAC has for good.
CREATE TABLE address (
    mac     TEXT PRIMARY KEY REFERENCES machine_mac ON UPDATE CASCADE ON DELETE CASCADE,
    address BLOB NOT NULL UNIQUE CHECK (length(address) = 16)
) STRICT;

-- What the DHCP server gave out, to MACs of no machine too.
CREATE TABLE lease (
    mac     TEXT NOT NULL,
    address BLOB NOT NULL UNIQUE CHECK (length(address) = 16),
    -- 0: infinite
    expires INTEGER NOT NULL,
    PRIMARY KEY (mac, address)
) STRICT;

-- ---- boots -------------------------------------------------------------------------------------------------------
-- One entry of a machine's queue and what became of it. The queue of a machine is its rows in state queued: those
-- that are resumed, those that somebody queued, by id, then the one made from its default setup. A boot that was leased and
-- never came is queued again under its old id: at the head.
CREATE TABLE boot (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    machine      TEXT NOT NULL REFERENCES machine ON UPDATE CASCADE ON DELETE CASCADE,
    -- the history survives the setup, under the name that it had
    setup        TEXT REFERENCES setup ON DELETE SET NULL,
    setup_name   TEXT NOT NULL,
    origin       TEXT NOT NULL CHECK (origin IN ('queue', 'default')),
    updates      INTEGER NOT NULL CHECK (updates IN (0, 1)),
    state        TEXT NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'leased', 'running', 'committing', 'committed', 'branched', 'discarded', 'interrupted',
                         'cancelled')),
    -- the one that it was leased by; NULL before, and when it was leased by MAC alone
    token        TEXT,
    -- how often it was leased and never came
    attempts     INTEGER NOT NULL DEFAULT 0,
    -- It was interrupted, and goes on where it was, or has taken over what another one had written: from then on its images
    -- are frozen and its overlays stay, also while it is queued once more, which it is before all others.
    resumed      INTEGER NOT NULL DEFAULT 0 CHECK (resumed IN (0, 1)),
    queued       INTEGER NOT NULL,
    leased       INTEGER,
    started      INTEGER,
    -- since when it has no connection; NULL: it has one, or none was known
    disconnected INTEGER,
    -- when the machine was through with it: a commit may take longer
    ended        INTEGER,
    -- the peer that leased it, as text; NULL: a Unix socket
    address      TEXT,
    -- How it is to end, from the moment when somebody said so: 'auto' keeps what is clean, else the boot is interrupted;
    -- 'done' takes what nobody can judge for clean, 'commit' everything; 'abandon' throws away what is not clean, 'discard'
    -- everything. 'away' is 'auto' of a machine that had no connection any more, and may come back to this boot with its
    -- token, until it leases another one: then it becomes 'auto'. NULL: nobody has.
    ending       TEXT CHECK (ending IN ('auto', 'away', 'done', 'abandon', 'commit', 'discard')),
    -- why it ended
    result       TEXT,
    -- It was interrupted for want of space, and is to end as `ending` says once so many bytes are free on the file system
    -- of the images. NULL: it was not.
    space_wanted INTEGER,
    comment      TEXT,
    CHECK (state <> 'committing' OR ending IS NOT NULL),
    CHECK (state = 'interrupted' OR space_wanted IS NULL)
) STRICT;
CREATE UNIQUE INDEX boot_active ON boot (machine) WHERE state IN ('leased', 'running');
CREATE INDEX boot_machine ON boot (machine, state);
CREATE INDEX boot_setup ON boot (setup, state);
CREATE INDEX boot_state ON boot (state);
CREATE INDEX boot_ended ON boot (ended) WHERE ended IS NOT NULL;
CREATE INDEX boot_away ON boot (machine) WHERE ending = 'away';

-- What a leased boot got, frozen by the lease; queued boots have none, but for resumed ones. The history survives the image, under the name that it had.
CREATE TABLE boot_image (
    boot     INTEGER NOT NULL REFERENCES boot ON DELETE CASCADE,
    position INTEGER NOT NULL,
    image    TEXT REFERENCES image ON DELETE SET NULL,
    name     TEXT NOT NULL,
    version  INTEGER NOT NULL,
    -- what is written to it becomes a version
    keep     INTEGER NOT NULL CHECK (keep IN (0, 1)),
    -- the version made of it; NULL: none
    result   INTEGER,
    -- what is written to it goes on from the machine's boots before
    temporal INTEGER REFERENCES temporal ON DELETE SET NULL,
    -- The overlay was begun by an interrupted boot of the machine, as its disk of this position, and went over to this boot:
    -- a user's data. Until its files have moved, that row still has keep.
    follows  INTEGER REFERENCES boot ON DELETE SET NULL,
    follows_position INTEGER,
    PRIMARY KEY (boot, position)
) STRICT;
CREATE INDEX boot_image_image ON boot_image (image, version);
CREATE INDEX boot_image_temporal ON boot_image (temporal) WHERE temporal IS NOT NULL;
CREATE INDEX boot_image_follows ON boot_image (follows) WHERE follows IS NOT NULL;

-- What a machine writes to an image of type temporal: kept from boot to boot in overlays/temporal-<id>, upon the version
-- that it was begun with, until it was not used for [store] temporal-days. It never becomes a version. The row is made by
-- the lease and goes before the folder goes; an id is never given out twice.
CREATE TABLE temporal (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    machine TEXT NOT NULL REFERENCES machine ON UPDATE CASCADE ON DELETE CASCADE,
    image   TEXT NOT NULL REFERENCES image,
    version INTEGER NOT NULL,
    -- when a boot began or ceased to use it last
    used    INTEGER NOT NULL,
    UNIQUE (machine, image),
    FOREIGN KEY (image, version) REFERENCES version (image, number)
) STRICT;
CREATE INDEX temporal_image ON temporal (image, version);

-- A token stands in a machine's boot script for exactly what that was rendered with. It is good while its boot is
-- queued: the newest one, and one that was superseded less than ten minutes ago. The one that a boot was leased by is good
-- until that has ended; where the machine comes back to what was committed of it, another boot takes the token over.
CREATE TABLE token (
    token      TEXT PRIMARY KEY CHECK (length(token) = 16),
    boot       INTEGER NOT NULL REFERENCES boot ON DELETE CASCADE,
    made       INTEGER NOT NULL,
    superseded INTEGER
) STRICT;
CREATE INDEX token_boot ON token (boot);

CREATE TABLE token_image (
    token    TEXT NOT NULL REFERENCES token ON DELETE CASCADE,
    position INTEGER NOT NULL,
    image    TEXT NOT NULL,
    version  INTEGER NOT NULL,
    keep     INTEGER NOT NULL CHECK (keep IN (0, 1)),
    PRIMARY KEY (token, position),
    FOREIGN KEY (image, version) REFERENCES version (image, number) ON DELETE CASCADE
) STRICT;
CREATE INDEX token_image_image ON token_image (image, version);

-- ---- requests to the running server, and the event trail ------------------------------------------------------------
CREATE TABLE request (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    kind     TEXT NOT NULL CHECK (kind IN ('end', 'commit', 'discard', 'reset', 'reload')),
    boot     INTEGER REFERENCES boot ON DELETE CASCADE,
    actor    TEXT NOT NULL,
    asked    INTEGER NOT NULL,
    taken    INTEGER,
    answered INTEGER,
    -- 0: done; else the exit status of labboot
    code     INTEGER,
    answer   TEXT,
    CHECK ((answered IS NULL) = (code IS NULL))
) STRICT;
CREATE INDEX request_boot ON request (boot);
CREATE INDEX request_open ON request (id) WHERE answered IS NULL;

-- What is one of a kind. configuration-generation: raised when an admin says that the configuration file was changed.
CREATE TABLE setting (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
INSERT INTO setting VALUES ('configuration-generation', 1);

-- Who did what to what, when: written in the transaction that does it, and never changed.
CREATE TABLE event (
    id      INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    what    TEXT NOT NULL,
    -- 'boot 12', 'image alice/debian-lab', …
    object  TEXT NOT NULL,
    detail  TEXT NOT NULL DEFAULT '',
    -- the address that a machine did it from; NULL: it was done on this host
    peer    TEXT,
    -- the key of the machine that it is about, also when that is gone; NULL: about none
    machine TEXT
) STRICT;
CREATE INDEX event_machine ON event (machine, id);
CREATE INDEX event_object ON event (object, id);

-- ---- what may not go -------------------------------------------------------------------------------------------------
CREATE TRIGGER version_in_use BEFORE DELETE ON version
WHEN EXISTS (SELECT 1 FROM boot_image JOIN boot ON boot.id = boot_image.boot
             WHERE boot_image.image = OLD.image AND boot_image.version = OLD.number
               AND boot.state IN ('queued', 'leased', 'running', 'committing', 'interrupted'))
BEGIN
    SELECT RAISE(ABORT, 'a boot that has not ended uses this version');
END;

CREATE TRIGGER version_kept BEFORE DELETE ON version
WHEN EXISTS (SELECT 1 FROM temporal WHERE image = OLD.image AND version = OLD.number)
BEGIN
    SELECT RAISE(ABORT, 'a machine keeps what it wrote to this version; try: labboot machine set M --drop-temporal IMAGE');
END;

-- Before the image is gone for its boots' rows too.
CREATE TRIGGER image_in_use BEFORE DELETE ON image
WHEN EXISTS (SELECT 1 FROM boot_image JOIN boot ON boot.id = boot_image.boot
             WHERE boot_image.image = OLD.uuid
               AND boot.state IN ('queued', 'leased', 'running', 'committing', 'interrupted'))
BEGIN
    SELECT RAISE(ABORT, 'a boot that has not ended uses this image');
END;

CREATE TRIGGER boot_in_use BEFORE DELETE ON boot
WHEN OLD.state IN ('leased', 'running', 'committing', 'interrupted') OR (OLD.state = 'queued' AND OLD.resumed)
BEGIN
    SELECT RAISE(ABORT, 'a boot of this machine has not ended');
END;

-- A token without one of its versions stands for nothing.
CREATE TRIGGER token_lost AFTER DELETE ON token_image
BEGIN
    DELETE FROM token WHERE token = OLD.token;
END;

-- ---- queued boots that lose their reason -----------------------------------------------------------------------------
-- Not resumed ones: they have all that they need.
CREATE TRIGGER setup_removed BEFORE DELETE ON setup
BEGIN
    INSERT INTO event (at, actor, what, object, detail, machine)
        SELECT unixepoch(), 'server', 'boot-cancelled', 'boot ' || id, 'its setup was removed', machine
        FROM boot WHERE setup = OLD.uuid AND state = 'queued' AND NOT resumed;
    UPDATE boot SET state = 'cancelled', ended = unixepoch(), result = 'its setup was removed'
        WHERE setup = OLD.uuid AND state = 'queued' AND NOT resumed;
END;

-- History keeps the name that a setup had; what is still to come has the new one.
CREATE TRIGGER setup_renamed AFTER UPDATE OF name ON setup
BEGIN
    UPDATE boot SET setup_name = NEW.name WHERE setup = NEW.uuid AND state = 'queued';
END;

-- One that was resumed has writes to lose: it is interrupted again.
CREATE TRIGGER machine_left_alone AFTER UPDATE OF managed ON machine
WHEN OLD.managed AND NOT NEW.managed
BEGIN
    INSERT INTO event (at, actor, what, object, detail, machine)
        SELECT unixepoch(), 'server', iif(resumed, 'boot-interrupted', 'boot-cancelled'), 'boot ' || id,
            'its machine is not managed any more', machine
        FROM boot WHERE machine = NEW.mac AND state = 'queued';
    UPDATE boot SET state = iif(resumed, 'interrupted', 'cancelled'), ended = unixepoch(),
        result = 'its machine is not managed any more'
        WHERE machine = NEW.mac AND state = 'queued';
END;

-- The boots go with their machine; the trail keeps who lost one.
CREATE TRIGGER machine_removed BEFORE DELETE ON machine
BEGIN
    INSERT INTO event (at, actor, what, object, detail, machine)
        SELECT unixepoch(), 'server', 'boot-cancelled', 'boot ' || id, 'its machine was removed', machine
        FROM boot WHERE machine = OLD.mac AND state = 'queued';
END;

CREATE TRIGGER machine_image_removed AFTER DELETE ON machine_image
BEGIN
    DELETE FROM image WHERE uuid = OLD.image;
END;

CREATE TRIGGER default_setup_changed AFTER UPDATE OF default_setup ON machine
WHEN OLD.default_setup IS NOT NEW.default_setup
BEGIN
    INSERT INTO event (at, actor, what, object, detail, machine)
        SELECT unixepoch(), 'server', 'boot-cancelled', 'boot ' || id, 'the default setup changed', machine
        FROM boot WHERE machine = NEW.mac AND state = 'queued' AND origin = 'default';
    UPDATE boot SET state = 'cancelled', ended = unixepoch(), result = 'the default setup changed'
        WHERE machine = NEW.mac AND state = 'queued' AND origin = 'default';
END;

-- ---- what a machine's scripts depend on --------------------------------------------------------------------------------
-- Once too often costs a rendering; once too few boots a machine into the wrong version. A machine may stand here more
-- than once: UNION would make the whole of it for each question.
CREATE VIEW machine_setup (machine, setup) AS
    SELECT mac, default_setup FROM machine WHERE default_setup IS NOT NULL
    UNION ALL
    SELECT machine, setup FROM boot WHERE state = 'queued' AND setup IS NOT NULL;

CREATE TRIGGER script_boot_made AFTER INSERT ON boot
BEGIN
    UPDATE machine SET script_wanted = script_wanted + 1 WHERE mac = NEW.machine;
END;
CREATE TRIGGER script_boot_changed AFTER UPDATE OF machine, setup, setup_name, updates, state ON boot
BEGIN
    UPDATE machine SET script_wanted = script_wanted + 1 WHERE mac IN (OLD.machine, NEW.machine);
END;
-- History that goes changes nothing.
CREATE TRIGGER script_boot_removed AFTER DELETE ON boot
WHEN OLD.state IN ('queued', 'leased', 'running', 'committing')
BEGIN
    UPDATE machine SET script_wanted = script_wanted + 1 WHERE mac = OLD.machine;
END;

CREATE TRIGGER script_machine_changed AFTER UPDATE OF mac, name, architecture, managed, default_setup ON machine
BEGIN
    UPDATE machine SET script_wanted = script_wanted + 1 WHERE mac = NEW.mac;
END;
CREATE TRIGGER script_mac_made AFTER INSERT ON machine_mac
BEGIN
    UPDATE machine SET script_wanted = script_wanted + 1 WHERE mac = NEW.machine;
    DELETE FROM script_gone WHERE mac = NEW.mac;
END;
CREATE TRIGGER script_mac_changed AFTER UPDATE ON machine_mac
BEGIN
    UPDATE machine SET script_wanted = script_wanted + 1 WHERE mac IN (OLD.machine, NEW.machine);
END;
CREATE TRIGGER script_mac_removed AFTER DELETE ON machine_mac
BEGIN
    INSERT OR IGNORE INTO script_gone (mac) VALUES (OLD.mac);
    UPDATE machine SET script_wanted = script_wanted + 1 WHERE mac = OLD.machine;
END;
CREATE TRIGGER script_temporal_made AFTER INSERT ON temporal
BEGIN
    UPDATE machine SET script_wanted = script_wanted + 1 WHERE mac = NEW.machine;
END;
CREATE TRIGGER script_temporal_removed AFTER DELETE ON temporal
BEGIN
    UPDATE machine SET script_wanted = script_wanted + 1 WHERE mac = OLD.machine;
END;
CREATE TRIGGER script_address_made AFTER INSERT ON address
BEGIN
    UPDATE machine SET script_wanted = script_wanted + 1
        WHERE mac = (SELECT machine FROM machine_mac WHERE mac = NEW.mac);
END;
CREATE TRIGGER script_address_changed AFTER UPDATE ON address
BEGIN
    UPDATE machine SET script_wanted = script_wanted + 1
        WHERE mac IN (SELECT machine FROM machine_mac WHERE mac IN (OLD.mac, NEW.mac));
END;
CREATE TRIGGER script_address_removed AFTER DELETE ON address
BEGIN
    UPDATE machine SET script_wanted = script_wanted + 1
        WHERE mac = (SELECT machine FROM machine_mac WHERE mac = OLD.mac);
END;

CREATE TRIGGER script_setup_renamed AFTER UPDATE OF name ON setup
BEGIN
    UPDATE machine SET script_wanted = script_wanted + 1
        WHERE mac IN (SELECT machine FROM machine_setup WHERE setup = NEW.uuid);
END;
CREATE TRIGGER script_setup_image_made AFTER INSERT ON setup_image
BEGIN
    UPDATE machine SET script_wanted = script_wanted + 1
        WHERE mac IN (SELECT machine FROM machine_setup WHERE setup = NEW.setup);
END;
CREATE TRIGGER script_setup_image_changed AFTER UPDATE ON setup_image
BEGIN
    UPDATE machine SET script_wanted = script_wanted + 1
        WHERE mac IN (SELECT machine FROM machine_setup WHERE setup IN (OLD.setup, NEW.setup));
END;
CREATE TRIGGER script_setup_image_removed AFTER DELETE ON setup_image
BEGIN
    UPDATE machine SET script_wanted = script_wanted + 1
        WHERE mac IN (SELECT machine FROM machine_setup WHERE setup = OLD.setup);
END;

CREATE TRIGGER script_image_changed AFTER UPDATE OF name, type, head ON image
BEGIN
    UPDATE machine SET script_wanted = script_wanted + 1
        WHERE mac IN (SELECT machine FROM machine_setup
                      WHERE setup IN (SELECT setup FROM setup_image WHERE image = NEW.uuid));
END;
CREATE TRIGGER script_version_changed AFTER UPDATE OF state, kernel ON version
BEGIN
    UPDATE machine SET script_wanted = script_wanted + 1
        WHERE mac IN (SELECT machine FROM machine_setup
                      WHERE setup IN (SELECT setup FROM setup_image WHERE image = NEW.image));
END;
