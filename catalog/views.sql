-- SPDX-License-Identifier: BSD-3-Clause
-- What lists and shows print, as views of the connection alone, so that a change here is no change of the schema.
-- NAME_json has one JSON object a row, with the field names of the BAAS model first and ours after them; times are seconds
-- since 1970, null for never. NAME_row is for people: its column names are the headings.
-- made_json() is json() for text that one of these views has made: it takes it for JSON without reading all of it again.

-- What the running server tells of its boots (query_set_counters), in bytes.
CREATE TEMP TABLE counter (
    boot INTEGER PRIMARY KEY,
    bytes_read INTEGER NOT NULL,
    bytes_written INTEGER NOT NULL,
    overlay INTEGER NOT NULL
) STRICT;

-- What the store knows of versions (query_set_alone), in bytes.
CREATE TEMP TABLE alone (
    image TEXT NOT NULL,
    number INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (image, number)
) STRICT;

-- The versions that were verified just now (query_set_verified), and how many of their chunks cannot be read.
CREATE TEMP TABLE verified (
    image TEXT NOT NULL,
    number INTEGER NOT NULL,
    chunks INTEGER NOT NULL,
    PRIMARY KEY (image, number)
) STRICT;

-- ---- JSON -------------------------------------------------------------------------------------------------------
CREATE TEMP VIEW user_json (username, json) AS
SELECT username, json_object('Username', username, 'Name', name, 'Email', email, 'Role', role) FROM user;

CREATE TEMP VIEW image_json (uuid, name, owner, type, json) AS
SELECT i.uuid, i.name, i.owner, i.type,
    json_object('Name', i.name,
        'Versions', (SELECT json_group_array(json_object('Version', number, 'ImageModelUUID', image)) FROM
            (SELECT number, image FROM version WHERE image = i.uuid ORDER BY number)),
        'UUID', i.uuid,
        'Username', coalesce(i.owner, ''),
        'DiskCompressionStrategy', i.compression,
        'ImageFileType', i.file_type,
        'Type', i.type,
        'Checksum', coalesce(lower(hex(h.checksum)), ''),
        'Filesystem', i.filesystem,
        'Head', i.head,
        'VirtualSize', h.virtual_size,
        'Setups', (SELECT json_group_array(json(one)) FROM
            (SELECT json_object('UUID', s.uuid, 'Name', s.owner || '/' || s.name) AS one
             FROM setup_image p JOIN setup s ON s.uuid = p.setup WHERE p.image = i.uuid ORDER BY s.owner, s.name)),
        'Comment', i.comment)
FROM image i LEFT JOIN version h ON h.image = i.uuid AND h.number = i.head;

-- ---- who needs a version ------------------------------------------------------------------------------------------
-- Setups that peg a version, and boots that have it and have not ended.
CREATE TEMP VIEW version_peg (image, number, uuid, name) AS
SELECT p.image, p.version, s.uuid, s.owner || '/' || s.name FROM setup_image p JOIN setup s ON s.uuid = p.setup
WHERE p.version IS NOT NULL;

CREATE TEMP VIEW version_use (image, number, boot) AS
SELECT u.image, u.version, b.id FROM boot_image u JOIN boot b ON b.id = u.boot
WHERE b.state IN ('queued', 'leased', 'running', 'committing', 'interrupted');

-- A token stands for a version as long as a machine may come with it: ten minutes after it was superseded (TOKEN_GRACE).
CREATE TEMP VIEW version_token (image, number, boot) AS
SELECT i.image, i.version, t.boot FROM token_image i JOIN token t ON t.token = i.token JOIN boot b ON b.id = t.boot
WHERE b.state = 'queued' AND (t.superseded IS NULL OR now() - t.superseded < 600);

-- Why a version may not be removed, for people. forcible: --force may all the same.
CREATE TEMP VIEW version_hold (image, number, why, forcible) AS
SELECT u.image, u.number, 'boot ' || b.id || ' of ' || m.name || ' is ' || b.state || ' with it', 0
FROM version_use u JOIN boot b ON b.id = u.boot JOIN machine m ON m.mac = b.machine
UNION ALL
SELECT image, number, 'setup ' || name || ' pegs it', 1 FROM version_peg
UNION ALL
SELECT t.image, t.number, 'boot ' || t.boot || ' of ' || m.name || ' may start with it', 1
FROM version_token t JOIN boot b ON b.id = t.boot JOIN machine m ON m.mac = b.machine
UNION ALL
SELECT t.image, t.version, 'machine ' || m.name || ' keeps what it wrote to it (see labboot machine set --drop-temporal)', 0
FROM temporal t JOIN machine m ON m.mac = t.machine
UNION ALL
SELECT image, number, 'it is a branch, which no other version has', 1 FROM version WHERE branch;

-- The same of an image as a whole.
CREATE TEMP VIEW image_hold (image, why, forcible) AS
SELECT image, why, forcible FROM version_hold WHERE NOT forcible
UNION ALL
SELECT p.image, 'setup ' || s.owner || '/' || s.name || ' has it' || coalesce(
    (SELECT ', the default of ' || group_concat(name, ', ') FROM (SELECT name FROM machine WHERE default_setup = s.uuid
                                                                 ORDER BY name)), ''), 1
FROM setup_image p JOIN setup s ON s.uuid = p.setup
UNION ALL
SELECT t.image, 'boot ' || t.boot || ' of ' || m.name || ' may start with it', 1
FROM version_token t JOIN boot b ON b.id = t.boot JOIN machine m ON m.mac = b.machine
WHERE NOT EXISTS (SELECT 1 FROM setup_image p WHERE p.setup = b.setup AND p.image = t.image);

CREATE TEMP VIEW version_json (image, number, json) AS
SELECT v.image, v.number,
    json_object('Version', v.number,
        'ImageModelUUID', v.image,
        'Head', json(iif(i.head IS v.number, 'true', 'false')),
        'Parent', v.parent,
        'VirtualSize', v.virtual_size,
        'StoredSize', v.stored_size,
        'AloneSize', (SELECT bytes FROM alone a WHERE a.image = v.image AND a.number = v.number),
        'Checksum', lower(hex(v.checksum)),
        'SHA256', nullif(lower(hex(v.sha256)), ''),
        'State', v.state,
        'Damage', v.damage,
        'DamagedFiles', (SELECT json_group_array(made_json(json)) FROM
            (SELECT json FROM damage_json d WHERE d.image = v.image AND d.number = v.number ORDER BY file)),
        'VerifiedAt', v.verified,
        'Branch', json(iif(v.branch, 'true', 'false')),
        'Kernel', v.kernel,
        'MadeAt', v.made,
        'Boot', v.boot,
        'MachineMAC', (SELECT machine FROM boot WHERE id = v.boot),
        'PeggedBy', (SELECT json_group_array(json_object('UUID', p.uuid, 'Name', p.name)) FROM version_peg p
                     WHERE p.image = v.image AND p.number = v.number),
        'UsedBy', (SELECT json_group_array(u.boot) FROM version_use u
                   WHERE u.image = v.image AND u.number = v.number),
        'Comment', v.comment)
FROM version v JOIN image i ON i.uuid = v.image;

-- Setups that give a version to machines: they peg it, or follow the image whose latest it is.
CREATE TEMP VIEW version_setup (image, number, uuid, name) AS
SELECT p.image, coalesce(p.version, i.head), s.uuid, s.owner || '/' || s.name
FROM setup_image p JOIN setup s ON s.uuid = p.setup JOIN image i ON i.uuid = p.image;

-- Boots that have a version, and queued ones that get it as their setup is now (as boot_disk has them, but by version).
CREATE TEMP VIEW version_boot (image, number, boot, machine, state) AS
SELECT u.image, u.number, b.id, m.name, b.state
FROM version_use u JOIN boot b ON b.id = u.boot JOIN machine m ON m.mac = b.machine
UNION ALL
SELECT i.uuid,
    CAST(coalesce((SELECT t.version FROM temporal t
                   WHERE t.machine = b.machine AND t.image = i.uuid AND i.type = 'temporal'), s.version, i.head)
         AS INTEGER), b.id, m.name, b.state
FROM setup_image s JOIN image i ON i.uuid = s.image JOIN boot b ON b.setup = s.setup JOIN machine m ON m.mac = b.machine
WHERE b.state = 'queued' AND NOT b.resumed;

-- ---- damage -------------------------------------------------------------------------------------------------------
-- In which files of the image's folder it lies.
CREATE TEMP VIEW version_damage (image, number, layer, file, chunks) AS
SELECT d.image, d.number, d.layer, coalesce(v.number || '.img', 'retired/' || d.layer || '.img'), d.chunks
FROM damage d LEFT JOIN version v ON v.layer = d.layer;

-- Other versions with damage in the same file.
CREATE TEMP VIEW damage_shared (image, number, layer, other) AS
SELECT d.image, d.number, d.layer, o.number FROM damage d JOIN damage o ON o.layer = d.layer AND o.number <> d.number;

CREATE TEMP VIEW damage_json (image, number, file, json) AS
SELECT image, number, file,
    json_object('File', file,
        'Chunks', chunks,
        'SharedWith', (SELECT json_group_array(other) FROM
            (SELECT other FROM damage_shared s WHERE s.image = d.image AND s.number = d.number AND s.layer = d.layer
             ORDER BY other)))
FROM version_damage d;

-- What to do about a damaged version where its file cannot be restored.
CREATE TEMP VIEW damage_remedy (image, number, todo) AS
SELECT image, number,
    CASE WHEN good IS NULL THEN 'labboot image import ' || name || ' FILE'
         WHEN head = number THEN 'labboot image rollback ' || name || ' --to ' || good
         ELSE coalesce((SELECT 'labboot setup peg ' || p.name || ' ' || d.name || '@' || good FROM version_peg p
                        WHERE p.image = d.image AND p.number = d.number LIMIT 1),
                       'labboot image remove ' || name || '@' || number) END
FROM (SELECT v.image, v.number, i.owner || '/' || i.name AS name, i.head,
          (SELECT max(number) FROM version g WHERE g.image = v.image AND g.state <> 'damaged') AS good
      FROM version v JOIN image i ON i.uuid = v.image WHERE v.state = 'damaged') d;

CREATE TEMP VIEW verified_json (number, json) AS
SELECT v.number,
    json_object('Version', v.number,
        'ImageModelUUID', v.image,
        'State', v.state,
        'Damage', v.damage,
        'DamagedChunks', c.chunks,
        'SHA256', nullif(lower(hex(v.sha256)), ''),
        'Setups', (SELECT json_group_array(json_object('UUID', s.uuid, 'Name', s.name)) FROM version_setup s
                   WHERE s.image = v.image AND s.number = v.number),
        'UsedBy', (SELECT json_group_array(u.boot) FROM version_use u
                   WHERE u.image = v.image AND u.number = v.number),
        'DamagedFiles', (SELECT json_group_array(made_json(json)) FROM
            (SELECT json FROM damage_json d WHERE d.image = v.image AND d.number = v.number ORDER BY file)),
        'Boots', (SELECT json_group_array(json_object('ID', boot, 'MachineName', machine, 'State', state)) FROM
            (SELECT boot, machine, state FROM version_boot WHERE image = v.image AND number = v.number ORDER BY boot)),
        'Try', (SELECT todo FROM damage_remedy r WHERE r.image = v.image AND r.number = v.number))
FROM verified c JOIN version v ON v.image = c.image AND v.number = c.number;

-- Version is what the entry means now: Latest says that it follows the image. null: the image has no version yet.
CREATE TEMP VIEW setup_image_json (setup, position, name, json) AS
SELECT p.setup, p.position, m.name,
    json_object('Image', made_json(i.json),
        'Version', json(iif(coalesce(p.version, m.head) IS NULL, 'null',
            json_object('Version', coalesce(p.version, m.head), 'ImageModelUUID', p.image))),
        'Update', json(iif(p.updates, 'true', 'false')),
        'Latest', json(iif(p.version IS NULL, 'true', 'false')))
FROM setup_image p JOIN image m ON m.uuid = p.image JOIN image_json i ON i.uuid = p.image;

CREATE TEMP VIEW setup_json (uuid, name, owner, json) AS
SELECT s.uuid, s.name, s.owner,
    json_object('Name', s.name,
        'Images', (SELECT json_group_array(made_json(json)) FROM
            (SELECT json FROM setup_image_json WHERE setup = s.uuid ORDER BY position)),
        'Username', s.owner,
        'UUID', s.uuid)
FROM setup s;

CREATE TEMP VIEW machine_state (mac, state, boot) AS
SELECT m.mac, iif(NOT m.managed, 'unmanaged', coalesce(b.state, 'idle')), b.id
FROM machine m LEFT JOIN boot b ON b.id =
    (SELECT id FROM boot WHERE machine = m.mac AND state IN ('leased', 'running', 'committing', 'queued')
     ORDER BY CASE state WHEN 'running' THEN 0 WHEN 'leased' THEN 1 WHEN 'committing' THEN 2 ELSE 3 END,
              NOT resumed, origin = 'default', id LIMIT 1);

-- How many boots somebody queued for it.
CREATE TEMP VIEW machine_queue (machine, queued) AS
SELECT mac, (SELECT count(*) FROM boot WHERE machine = mac AND state = 'queued' AND origin = 'queue') FROM machine;

-- The addresses of a machine: assigned ones, and live leases. (UNION would make all machines' for each of them.)
CREATE TEMP VIEW machine_address (machine, address) AS
SELECT mm.machine, a.address FROM address a JOIN machine_mac mm ON mm.mac = a.mac
UNION ALL
SELECT mm.machine, l.address FROM lease l JOIN machine_mac mm ON mm.mac = l.mac
WHERE (l.expires = 0 OR l.expires > now())
    AND NOT EXISTS (SELECT 1 FROM address a JOIN machine_mac am ON am.mac = a.mac
                    WHERE a.address = l.address AND am.machine = mm.machine);

-- A machine's own disk, as MachineImageModel has it: an image, with a size in MiB. AllocatedBytes is what its file takes on
-- the server: 0 before its first use, null where nobody looked (query_set_disks).
CREATE TEMP VIEW machine_disk (machine, image, size_mib, filesystem, allocated) AS
SELECT d.machine, d.image, d.size_mib, i.filesystem, disk_bytes(d.image)
FROM machine_image d JOIN image i ON i.uuid = d.image;

CREATE TEMP VIEW machine_json (mac, name, json) AS
SELECT m.mac, m.name,
    json_object('Name', m.name,
        'Architecture', m.architecture,
        'Managed', json(iif(m.managed, 'true', 'false')),
        'MacAddress', json_object('Address', m.mac),
        'ImageUUID', (SELECT image FROM machine_image WHERE machine = m.mac),
        'MoreMacAddresses', (SELECT json_group_array(made_json(one)) FROM
            (SELECT json_object('Address', mac) AS one FROM machine_mac
             WHERE machine = m.mac AND mac <> m.mac ORDER BY position)),
        'DefaultSetupUUID', m.default_setup,
        'Addresses', (SELECT json_group_array(ip_text(address)) FROM
            (SELECT address FROM machine_address WHERE machine = m.mac ORDER BY address)),
        'State', s.state,
        'Queued', (SELECT queued FROM machine_queue WHERE machine = m.mac),
        'MachineImage', (SELECT json_object('UUID', image, 'Type', 'machine', 'ImageFileType', 'raw',
                             'Filesystem', filesystem, 'Size', size_mib, 'AllocatedBytes', allocated)
                         FROM machine_disk WHERE machine = m.mac),
        'Temporal', (SELECT json_group_array(json(one)) FROM
            (SELECT json_object('ID', t.id, 'Name', i.name, 'ImageModelUUID', t.image, 'Version', t.version,
                 'UsedAt', t.used) AS one
             FROM temporal t JOIN image i ON i.uuid = t.image WHERE t.machine = m.mac ORDER BY i.name)))
FROM machine m JOIN machine_state s ON s.mac = m.mac;

-- What a boot has: frozen by its lease; before that what its setup means now, Version null where there is none. Both halves
-- have columns of the same types, and who asks selects what it orders by: else SQLite would go through all boots for each.
CREATE TEMP VIEW boot_disk (boot, position, image, name, version, keep, result) AS
SELECT boot, position, image, name, version, keep, result FROM boot_image
UNION ALL
SELECT b.id, s.position, i.uuid, i.name, 
    CAST(coalesce((SELECT t.version FROM temporal t
                   WHERE t.machine = b.machine AND t.image = i.uuid AND i.type = 'temporal'), s.version, i.head)
         AS INTEGER),
    CAST(CASE i.type WHEN 'temporal' THEN 0
         WHEN 'user' THEN NOT EXISTS (SELECT 1 FROM boot o CROSS JOIN boot_image oi ON oi.boot = o.id
             WHERE o.state IN ('leased', 'running', 'committing') AND o.machine <> b.machine
               AND oi.image = i.uuid AND oi.keep)
         ELSE b.updates OR s.updates END AS INTEGER), CAST(NULL AS INTEGER)
FROM boot b JOIN setup_image s ON s.setup = b.setup JOIN image i ON i.uuid = s.image
WHERE b.state IN ('queued', 'cancelled') AND NOT b.resumed;

CREATE TEMP VIEW boot_json (id, machine, json) AS
SELECT b.id, b.machine,
    json_object('Machine', made_json(m.json),
        'MachineMAC', b.machine,
        'Setup', made_json(coalesce(s.json, 'null')),
        'SetupUUID', b.setup,
        'Update', json(iif(b.updates, 'true', 'false')),
        'ID', b.id,
        'State', b.state,
        'SetupName', b.setup_name,
        'FromDefault', json(iif(b.origin = 'default', 'true', 'false')),
        'Attempts', b.attempts,
        'Resumed', json(iif(b.resumed, 'true', 'false')),
        'QueuedAt', b.queued,
        'LeasedAt', b.leased,
        'StartedAt', b.started,
        'DisconnectedAt', b.disconnected,
        'EndedAt', b.ended,
        'Address', b.address,
        'Result', b.result,
        'Images', (SELECT json_group_array(made_json(one)) FROM
            (SELECT position, json_object('Name', name, 'ImageModelUUID', image, 'Version', version,
                 'Keep', json(iif(keep, 'true', 'false')), 'Result', result) AS one
             FROM boot_disk WHERE boot = b.id ORDER BY position)),
        'Comment', b.comment)
FROM boot b JOIN machine_json m ON m.mac = b.machine LEFT JOIN setup_json s ON s.uuid = b.setup;

CREATE TEMP VIEW status_json (name, json) AS
SELECT m.name,
    json_object('Name', m.name,
        'MacAddress', json_object('Address', m.mac),
        'State', s.state,
        'Boot', b.id,
        'SetupName', b.setup_name,
        'Update', json(CASE b.updates WHEN 1 THEN 'true' WHEN 0 THEN 'false' ELSE 'null' END),
        'Images', (SELECT json_group_array(made_json(one)) FROM
            (SELECT d.position, json_object('Name', d.name, 'Version', d.version,
                 'Keep', json(iif(d.keep, 'true', 'false')),
                 'Damaged', json(iif(v.state = 'damaged', 'true', 'false'))) AS one
             FROM boot_disk d LEFT JOIN version v ON v.image = d.image AND v.number = d.version
             WHERE d.boot = b.id ORDER BY d.position)),
        'Addresses', (SELECT json_group_array(ip_text(address)) FROM
            (SELECT address FROM machine_address WHERE machine = m.mac ORDER BY address)),
        'Queued', (SELECT queued FROM machine_queue WHERE machine = m.mac),
        'Interrupted', (SELECT json_group_array(id) FROM
            (SELECT id FROM boot WHERE machine = m.mac AND state = 'interrupted' ORDER BY id)),
        'StartedAt', b.started,
        'DisconnectedAt', b.disconnected,
        'BytesRead', n.bytes_read,
        'BytesWritten', n.bytes_written,
        'OverlayBytes', n.overlay)
FROM machine m JOIN machine_state s ON s.mac = m.mac LEFT JOIN boot b ON b.id = s.boot
    LEFT JOIN counter n ON n.boot = s.boot;

-- Events are for people and programs at once: `time` is for the former.
CREATE TEMP VIEW event_json (id, at, time, actor, what, object, detail, peer, machine, machine_name, json) AS
SELECT e.id, e.at, datetime(e.at, 'unixepoch', 'localtime'), e.actor, e.what, e.object, e.detail, e.peer, e.machine,
    coalesce(m.name, e.machine),
    json_object('ID', e.id,
        'At', e.at,
        'Actor', e.actor,
        'What', e.what,
        'Object', e.object,
        'Detail', e.detail,
        'Address', e.peer,
        'MachineMAC', e.machine)
FROM event e LEFT JOIN machine m ON m.mac = e.machine;

-- ---- rows -------------------------------------------------------------------------------------------------------
CREATE TEMP VIEW user_row AS
SELECT username AS USER, role AS ROLE, email AS EMAIL, name AS NAME,
    (SELECT count(*) FROM image WHERE owner = username) AS IMAGES,
    (SELECT count(*) FROM setup WHERE owner = username) AS SETUPS
FROM user;

CREATE TEMP VIEW machine_row AS
SELECT m.name AS MACHINE, m.mac AS MAC,
    (SELECT group_concat(mac, ' ') FROM (SELECT mac FROM machine_mac WHERE machine = m.mac AND mac <> m.mac
                                         ORDER BY position)) AS "MORE MACS",
    m.architecture AS ARCH, iif(m.managed, 'yes', 'no') AS MANAGED,
    (SELECT owner || '/' || name FROM setup WHERE uuid = m.default_setup) AS "DEFAULT SETUP",
    (SELECT group_concat(ip_text(address), ' ') FROM (SELECT address FROM machine_address WHERE machine = m.mac
                                                      ORDER BY address)) AS ADDRESS,
    s.state AS STATE, s.boot AS BOOT, (SELECT queued FROM machine_queue WHERE machine = m.mac) AS QUEUED,
    (SELECT size_text(size_mib * 1048576) || ' ' || filesystem || coalesce(', ' || size_text(allocated) || ' used', '')
     FROM machine_disk WHERE machine = m.mac) AS DISK,
    (SELECT group_concat(i.owner || '/' || i.name || '@' || t.version, ' ') FROM temporal t JOIN image i ON i.uuid = t.image
     WHERE t.machine = m.mac) AS TEMPORAL
FROM machine m JOIN machine_state s ON s.mac = m.mac;

CREATE TEMP VIEW image_row AS
SELECT i.name AS IMAGE, coalesce(i.owner, '') AS OWNER, i.type AS KIND, i.filesystem AS FILESYSTEM,
    i.compression AS COMPRESSION, size_text(h.virtual_size) AS SIZE, i.head AS LATEST,
    (SELECT count(*) FROM version WHERE image = i.uuid) AS VERSIONS,
    (SELECT size_text(sum(stored_size)) FROM version WHERE image = i.uuid) AS STORED, i.file_type AS "CAME AS",
    (SELECT group_concat(name, ' ') FROM
        (SELECT s.owner || '/' || s.name AS name FROM setup_image p JOIN setup s ON s.uuid = p.setup
         WHERE p.image = i.uuid ORDER BY 1)) AS SETUPS,
    i.comment AS COMMENT, i.uuid AS UUID
FROM image i LEFT JOIN version h ON h.image = i.uuid AND h.number = i.head;

CREATE TEMP VIEW version_row AS
SELECT v.number AS VERSION, datetime(v.made, 'unixepoch', 'localtime') AS TIME,
    trim(iif(i.head IS v.number, 'latest ', '') || iif(v.branch, 'branch ', '') || iif(v.state = 'damaged', 'damaged', ''))
        AS STATE,
    v.parent AS PARENT, size_text(v.virtual_size) AS SIZE, size_text(v.stored_size) AS STORED,
    (SELECT size_text(bytes) FROM alone a WHERE a.image = v.image AND a.number = v.number) AS ALONE, v.kernel AS KERNEL,
    v.boot AS BOOT, (SELECT m.name FROM boot b JOIN machine m ON m.mac = b.machine WHERE b.id = v.boot) AS MACHINE,
    (SELECT group_concat(name, ' ') FROM version_peg p WHERE p.image = v.image AND p.number = v.number) AS "PEGGED BY",
    (SELECT group_concat(boot, ' ') FROM version_use u WHERE u.image = v.image AND u.number = v.number) AS "USED BY",
    v.comment AS COMMENT, v.image AS IMAGE
FROM version v JOIN image i ON i.uuid = v.image;

CREATE TEMP VIEW verified_row AS
SELECT v.number AS VERSION, iif(v.state = 'damaged', 'damaged', 'whole') AS STATE, c.chunks AS CHUNKS,
    (SELECT group_concat(name, ' ') FROM version_setup s WHERE s.image = v.image AND s.number = v.number) AS SETUPS,
    (SELECT group_concat(boot || ' ' || machine || ' ' || state, ', ') FROM
        (SELECT boot, machine, state FROM version_boot WHERE image = v.image AND number = v.number ORDER BY boot)) AS BOOTS,
    nullif(lower(hex(v.sha256)), '') AS SHA256,
    (SELECT group_concat(file, ' ') FROM version_damage d WHERE d.image = v.image AND d.number = v.number) AS FILES,
    (SELECT group_concat(other, ' ') FROM (SELECT DISTINCT other FROM damage_shared d
     WHERE d.image = v.image AND d.number = v.number ORDER BY other)) AS "SHARED WITH", v.damage AS DAMAGE
FROM verified c JOIN version v ON v.image = c.image AND v.number = c.number;

CREATE TEMP VIEW setup_row AS
SELECT s.name AS SETUP, s.owner AS OWNER,
    (SELECT group_concat(one, ' ') FROM
        (SELECT i.name || '@' || coalesce(p.version, 'latest') || iif(p.updates, ',update', '') AS one
         FROM setup_image p JOIN image i ON i.uuid = p.image WHERE p.setup = s.uuid ORDER BY p.position)) AS IMAGES,
    s.uuid AS UUID
FROM setup s;

CREATE TEMP VIEW setup_image_row AS
SELECT p.setup AS SETUP, i.name AS IMAGE, i.owner AS OWNER, i.type AS KIND,
    iif(p.position = 0, 'root disk', p.position + 1) AS PLACE, coalesce(p.version, i.head) AS VERSION,
    iif(p.version IS NULL, 'the latest', 'pegged') AS FOLLOWS, iif(p.updates, 'always', 'no') AS "UPDATE",
    i.uuid AS UUID
FROM setup_image p JOIN image i ON i.uuid = p.image;

CREATE TEMP VIEW boot_row AS
SELECT b.id AS BOOT, m.name AS MACHINE, b.machine AS MAC, b.setup_name AS SETUP, b.state AS STATE,
    iif(b.updates, 'yes', 'no') AS "UPDATE",
    (SELECT group_concat(one, ' ') FROM
        (SELECT position, name || '@' || coalesce(version, 'latest') || coalesce('->' || result, '') AS one
         FROM boot_disk WHERE boot = b.id ORDER BY position)) AS VERSIONS,
    b.attempts AS ATTEMPTS,
    datetime(b.queued, 'unixepoch', 'localtime') AS QUEUED, datetime(b.started, 'unixepoch', 'localtime') AS STARTED,
    datetime(b.ended, 'unixepoch', 'localtime') AS ENDED, b.address AS ADDRESS, b.result AS RESULT,
    b.comment AS COMMENT
FROM boot b JOIN machine m ON m.mac = b.machine;

CREATE TEMP VIEW status_row AS
SELECT m.name AS MACHINE, m.mac AS MAC, s.state AS STATE, s.boot AS BOOT, b.setup_name AS SETUP,
    CASE b.updates WHEN 1 THEN 'yes' WHEN 0 THEN 'no' END AS "UPDATE",
    (SELECT group_concat(one, ' ') FROM
        (SELECT d.position, d.name || '@' || coalesce(d.version, 'latest') || iif(v.state = 'damaged', ',damaged', '') AS one
         FROM boot_disk d LEFT JOIN version v ON v.image = d.image AND v.number = d.version
         WHERE d.boot = b.id ORDER BY d.position)) AS VERSIONS,
    (SELECT group_concat(ip_text(address), ' ') FROM (SELECT address FROM machine_address WHERE machine = m.mac
                                                      ORDER BY address)) AS ADDRESS,
    datetime(coalesce(b.started, b.leased), 'unixepoch', 'localtime') AS SINCE,
    (SELECT queued FROM machine_queue WHERE machine = m.mac) AS QUEUED,
    (SELECT group_concat(id, ' ') FROM (SELECT id FROM boot WHERE machine = m.mac AND state = 'interrupted'
                                        ORDER BY id)) AS INTERRUPTED,
    size_text(n.bytes_read) AS READ, size_text(n.bytes_written) AS WRITTEN, size_text(n.overlay) AS OVERLAY
FROM machine m JOIN machine_state s ON s.mac = m.mac LEFT JOIN boot b ON b.id = s.boot
    LEFT JOIN counter n ON n.boot = s.boot;
