-- SPDX-License-Identifier: BSD-3-Clause
-- Fills a fresh catalog with what a school has after some years: 30 users, 500 images with 20000 versions, 300 setups, 1000
-- machines (50 of them with a dock, one setup in ten by default), 100000 boots of history with their events, 200 boots
-- that wait and 100 that run. The same rows every time, but for the hour: run by the sqlite3 shell on what `labboot init` made.
PRAGMA foreign_keys = ON;
PRAGMA synchronous = OFF;
PRAGMA temp_store = MEMORY;
BEGIN IMMEDIATE;

CREATE TEMP TABLE n (n INTEGER PRIMARY KEY);
INSERT INTO n SELECT value FROM generate_series(0, 99999);
CREATE TEMP VIEW key_of (n, user, image, setup, mac, address) AS
SELECT n, printf('user-%02d', n % 30),
    printf('10000000-0000-4000-8000-%012x', n % 500),
    printf('20000000-0000-4000-8000-%012x', n % 300),
    printf('52:54:00:00:%02x:%02x', (n % 1000) / 250, n % 250),
    CAST(x'00000000000000000000ffff0a00' || char(1 + (n % 1000) / 100, 1 + n % 100) AS BLOB)
FROM n;

INSERT INTO user (username, name, email, role)
    SELECT user, 'User ' || n, user || '@lab.example', CASE n WHEN 0 THEN 'admin' WHEN 1 THEN 'moderator' ELSE 'user' END
    FROM key_of WHERE n < 30;

-- Forty versions each, an hour apart, each upon the one before.
INSERT INTO image (uuid, name, owner, type, compression, file_type, filesystem)
    SELECT image, printf('image-%03d', n), user, iif(n % 5 = 4, 'user', 'system'), 'zstd', 'raw', 'ext4' FROM key_of
    WHERE n < 500;
INSERT INTO version (image, number, parent, layer, virtual_size, stored_size, checksum, kernel, made)
    SELECT k.image, 1700000000 + 3600 * v.n, iif(v.n = 0, NULL, 1700000000 + 3600 * (v.n - 1)),
        printf('30000000-0000-4000-8000-%012x', 100 * k.n + v.n), 8 << 30, 1 << 24, randomblob(32), '6.1.0-37-amd64',
        1700000000 + 3600 * v.n
    FROM key_of k JOIN n v ON v.n < 40 WHERE k.n < 500;
UPDATE image SET head = 1700000000 + 3600 * 39, last_version = 1700000000 + 3600 * 39;

-- A root disk, and the data of a user; every fourth setup pegs its root.
INSERT INTO setup (uuid, name, owner) SELECT setup, printf('setup-%03d', n), user FROM key_of WHERE n < 300;
INSERT INTO setup_image (setup, position, image, version)
    SELECT k.setup, p.n, i.image, iif(p.n = 0 AND k.n % 4 = 0, 1700000000 + 3600 * 20, NULL)
    FROM key_of k JOIN n p ON p.n < 2 JOIN key_of i ON i.n = (k.n * 7 + p.n * 101) % 500 WHERE k.n < 300;

INSERT INTO machine (mac, name, architecture, default_setup)
    SELECT mac, printf('machine-%03d', n), 'x86_64', iif(n % 10 = 0, setup, NULL) FROM key_of WHERE n < 1000;
INSERT INTO machine_mac (mac, machine, position) SELECT mac, mac, 0 FROM key_of WHERE n < 1000;
INSERT INTO machine_mac (mac, machine, position)
    SELECT replace(mac, '52:54:00', '52:54:01'), mac, 1 FROM key_of WHERE n < 50;
INSERT INTO address (mac, address) SELECT mac, address FROM key_of WHERE n < 1000;
INSERT INTO lease (mac, address, expires)
    SELECT mac, address, unixepoch() + 3600 FROM key_of WHERE n < 1000;
INSERT INTO image (uuid, name, owner, type, compression, file_type, filesystem)
    SELECT replace(image, '10000000-0000', printf('40000000-%04x', n)), printf('machine-%03d', n), NULL, 'machine', 'none', 'raw',
        'ext4' FROM key_of WHERE n < 1000;
INSERT INTO machine_image (machine, image)
    SELECT mac, replace(image, '10000000-0000', printf('40000000-%04x', n)) FROM key_of WHERE n < 1000;

-- Each boot with its two disks, the token that it was leased by, and its events.
CREATE TEMP VIEW past (id, n, at, state) AS
SELECT n + 1, n, unixepoch() - 200 * (100000 - n),
    CASE WHEN n >= 99900 THEN 'running' WHEN n >= 99700 THEN 'queued' WHEN n % 5 = 0 THEN 'committed' ELSE 'discarded' END FROM n;
INSERT INTO boot (id, machine, setup, setup_name, origin, updates, state, token, queued, leased, started, ended, address, result)
    SELECT p.id, k.mac, k.setup, printf('setup-%03d', k.n % 300), 'queue', p.state = 'committed', p.state,
        iif(p.state = 'queued', NULL, printf('token%011d', p.id)), p.at,
        iif(p.state = 'queued', NULL, p.at + 60), iif(p.state = 'queued', NULL, p.at + 70),
        iif(p.state IN ('queued', 'running'), NULL, p.at + 7000), iif(p.state = 'queued', NULL, '10.0.1.1'),
        iif(p.state = 'discarded', 'nothing to keep', NULL)
    FROM past p JOIN key_of k ON k.n = p.n;
INSERT INTO boot_image (boot, position, image, name, version, keep)
    SELECT b.id, s.position, s.image, i.name, 1700000000 + 3600 * (b.id % 40), b.updates
    FROM boot b JOIN setup_image s ON s.setup = b.setup JOIN image i ON i.uuid = s.image WHERE b.state <> 'queued';
INSERT INTO token (token, boot, made, superseded)
    SELECT token, id, queued, iif(state = 'running', NULL, ended) FROM boot WHERE token IS NOT NULL;
INSERT INTO token_image (token, position, image, version, keep)
    SELECT b.token, i.position, i.image, i.version, i.keep FROM boot_image i JOIN boot b ON b.id = i.boot;
INSERT INTO event (at, actor, what, object, detail, machine)
    SELECT p.at + 10 * e.n, iif(e.n = 0, k.user, 'machine ' || k.mac),
        CASE e.n WHEN 0 THEN 'boot-queued' WHEN 1 THEN 'boot-leased' WHEN 2 THEN 'boot-running' ELSE 'boot-' || p.state END,
        'boot ' || p.id, iif(e.n = 0, printf('setup-%03d', k.n % 300), ''), k.mac
    FROM past p JOIN key_of k ON k.n = p.n JOIN n e ON e.n < 4 WHERE p.state <> 'queued' OR e.n = 0 ORDER BY p.id, e.n;
-- All scripts are as they are wanted.
UPDATE machine SET script_done = script_wanted;
COMMIT;
