/* SPDX-License-Identifier: BSD-3-Clause */
#include "catalog/statements.h"

/* clang-format off */

#define MACHINE_OF_MAC "(SELECT machine FROM machine_mac WHERE mac = ?)"
#define USER                                                                                                          \
    "SELECT username, CASE role WHEN 'admin' THEN 2 WHEN 'moderator' THEN 1 ELSE 0 END, name, email FROM user "
#define MACHINE "SELECT m.mac, m.name, m.architecture, m.managed FROM machine m "
#define IMAGE                                                                                                         \
    "SELECT uuid, name, owner, type, compression, file_type, filesystem, head, last_version FROM image "
#define IMAGE_NAMED "SELECT uuid, name, owner FROM image WHERE type <> 'machine' AND "
#define SETUP_NAMED "SELECT uuid, name, owner FROM setup WHERE "

/* What version_row_take reads. */
#define VERSION_ROW "number, parent, layer, virtual_size, stored_size, checksum, kernel, state = 'damaged'"
#define IMAGE_DAMAGED(image) "EXISTS (SELECT 1 FROM version d WHERE d.image = " image " AND d.state = 'damaged') "
/* It was read ?1 days ago, or a day where the image has a damaged version; what was written was read. */
#define SCRUB_DUE                                                                                                     \
    "coalesce(v.verified, v.made) <= now() - 86400 * iif(" IMAGE_DAMAGED("v.image") ", 1, ?1) "

/* What boot_take reads. */
#define BOOT                                                                                                          \
    "SELECT b.id, b.machine, m.name, b.state, b.updates, b.origin = 'default', b.setup, b.setup_name, "               \
    "  CASE b.state WHEN 'queued' THEN (SELECT token FROM token WHERE boot = b.id AND superseded IS NULL) "           \
    "    ELSE b.token END, "                                                                                          \
    "  b.attempts, b.resumed, b.queued, b.leased, b.started, b.disconnected, b.ended, b.address, b.ending, b.result "           \
    "FROM boot b JOIN machine m ON m.mac = b.machine "

/* The newest boots of a machine (?1), or of all (''), in a state (?2), of a setup (?3), that had not ended at a time (?4),
 * so many (?5; '': 100), without looking at the older ones of either. */
#define BOOTS_WANTED(machine)                                                                                         \
    "SELECT id FROM (SELECT id FROM boot WHERE " machine " AND ?2 IN ('', state) AND ?3 IN ('', setup) "               \
    "  AND (?4 = '' OR ended IS NULL OR ended >= CAST(?4 AS INTEGER)) "                                                \
    "  ORDER BY id DESC LIMIT coalesce(CAST(nullif(?5, '') AS INTEGER), 100)) "
#define NEWEST_BOOTS "(" BOOTS_WANTED("machine = ?1") "UNION ALL " BOOTS_WANTED("?1 = ''") ")"

#define BOOT_COLUMNS                                                                                                  \
    "SELECT BOOT, MACHINE, SETUP, STATE, \"UPDATE\", VERSIONS, QUEUED, STARTED, ENDED, RESULT FROM boot_row "

/* Whole words of a text, "boot 1" of "boot 1" but not of "boot 12"; none asked for: true. */
#define HAS_WORDS(text, words)                                                                                        \
    "(" words " IS NULL OR instr(' ' || replace(" text ", '@', ' ') || ' ', ' ' || replace(" words ", '@', ' ') || ' ')) "
/* The newest events that a filter leaves, oldest first: trail.c. */
#define TRAIL(which)                                                                                                  \
    "SELECT * FROM (SELECT id, time, actor, what, object, detail, peer, machine, machine_name, json FROM event_json " \
    "  WHERE " which " AND id > ?3 AND (?4 = 0 OR at >= ?4) AND (?5 = 0 OR at <= ?5) "                                \
    "  AND " HAS_WORDS("actor", "?6") "AND " HAS_WORDS("object", "?7")                                                \
    "  AND (?8 IS NULL OR what GLOB ?8) ORDER BY id DESC LIMIT coalesce(?9, 0)) ORDER BY id"

/* With the owner where ?1 is 'owner', or where the name alone would not tell. */
#define NAMES_OWNED(from)                                                                                             \
    "SELECT iif(?1 = 'owner' OR count(*) OVER (PARTITION BY name) > 1, owner || '/' || name, name) FROM " from

/* What a server that died had done, but not answered. */
#define FULFILLED                                                                                                     \
    "answered IS NULL AND taken IS NOT NULL "                                                                         \
    "AND boot IN (SELECT id FROM boot WHERE state IN ('committed', 'branched', 'discarded'))"

/* It has ended before a time, and no version came from it. */
#define OLD_BOOT                                                                                                      \
    "b.ended < ?1 AND b.state IN ('committed', 'branched', 'discarded', 'cancelled') "                                 \
    "AND NOT EXISTS (SELECT 1 FROM version WHERE boot = b.id) "

/* Setups of an owner, with an image of a name; '' is all. */
#define SETUPS_WANTED(owner, uuid)                                                                                    \
    "WHERE ?1 IN ('', " owner ") AND (?2 = '' OR " uuid " IN (SELECT p.setup FROM setup_image p "                      \
    "JOIN image i ON i.uuid = p.image WHERE i.name = ?2)) "

/* An image of a user has one machine that writes to it at a time; for others it is read-only, which is what not to keep it
 * means there. Few boots are at it: by them, not by all that ever had the image. */
#define WRITTEN_ELSEWHERE(image_of, machine_of)                                                                       \
    "EXISTS (SELECT 1 FROM boot o CROSS JOIN boot_image oi ON oi.boot = o.id "                                        \
    "  WHERE o.state IN ('leased', 'running', 'committing') AND o.machine <> " machine_of                             \
    "    AND oi.image = " image_of " AND oi.keep)"

/* What temporal_take reads, and the boot that has one in use. */
#define TEMPORAL                                                                                                      \
    "SELECT t.id, t.machine, t.image, i.owner, i.name, t.version, t.used FROM temporal t JOIN image i ON i.uuid = t.image "
#define TEMPORAL_BOOT(id)                                                                                             \
    "SELECT b.id, b.state FROM boot_image bi JOIN boot b ON b.id = bi.boot WHERE bi.temporal = " id                   \
    " AND b.state IN ('leased', 'running', 'committing')"

/* Lists and shows: one JSON value out of a view of views.sql. */
#define JSON_LIST(view, order) "SELECT json_group_array(made_json(json)) FROM (SELECT json FROM " view " ORDER BY " order ")"
#define JSON_ONE(view, key) "SELECT json FROM " view " WHERE " key " = ?"

/* Not those of machines. */
#define IMAGES_WANTED(owner, kind) "WHERE " owner " <> '' AND ?1 IN ('', " owner ") AND ?2 IN ('', " kind ") "

const char *const statement_sql[SQL_COUNT] = {
    /* ---- the file */
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    /* Of transactions within another one; the name means the innermost. */
    [SQL_SAVEPOINT] = "SAVEPOINT inner_tx",
    [SQL_RELEASE] = "RELEASE inner_tx",
    [SQL_ROLLBACK_TO] = "ROLLBACK TO inner_tx",
    [SQL_APPLICATION_ID] = "PRAGMA application_id",
    [SQL_USER_VERSION] = "PRAGMA user_version",
    [SQL_DATA_VERSION] = "PRAGMA data_version",
    [SQL_OBJECTS] = "SELECT count(*) FROM sqlite_schema",
    [SQL_BACKUP] = "VACUUM INTO ?",

    /* ---- events */
    [SQL_EVENT_ADD] = "INSERT INTO event (at, actor, what, object, detail, peer, machine) VALUES (now(), ?, ?, ?, ?, ?, ?)",

    /* The last thousand events are enough to look through for what is a minute old at most. */
    [SQL_EVENTS_RECENT] =
        "SELECT count(*) FILTER (WHERE detail = ?4), count(*) FROM event WHERE machine IS ?1 "
        "AND id > (SELECT max(id) - 1000 FROM event) AND what = ?2 AND object = ?3 AND at > now() - 60",
    [SQL_TRAIL] = TRAIL("?1 IS NULL AND ?2 IS NULL"),
    [SQL_TRAIL_OF_MACHINE] = TRAIL("machine = ?1 AND ?2 IS NULL"),
    [SQL_TRAIL_OF_BOOT] = TRAIL("(?1 IS NULL OR machine = ?1) AND object = ?2"),

    /* ---- names, for completion; ?1: what is asked for more closely */
    [SQL_NAMES_MACHINES] = "SELECT name FROM machine UNION ALL SELECT mac FROM machine_mac",
    [SQL_NAMES_UNKNOWN_MACS] =
        "SELECT mac FROM lease WHERE (expires = 0 OR expires > now()) AND mac NOT IN (SELECT mac FROM machine_mac)",
    [SQL_NAMES_USERS] = "SELECT username FROM user",
    [SQL_NAMES_IMAGES] = NAMES_OWNED("image WHERE type <> 'machine'"),
    [SQL_NAMES_VERSIONS] = "SELECT number FROM version WHERE image = ?1 ORDER BY number DESC",
    [SQL_NAMES_SETUPS] = NAMES_OWNED("setup"),
    [SQL_NAMES_BOOTS] =
        "SELECT id FROM boot WHERE state IN (SELECT value FROM json_each(?1)) ORDER BY id DESC LIMIT 100",

    /* ---- troubles, for doctor: what, why, and what to do */
    [SQL_TROUBLE_DAMAGED] =
        "SELECT 'version ' || i.owner || '/' || i.name || '@' || v.number, 'it is damaged: ' || v.damage || "
        "  coalesce('; in ' || (SELECT group_concat(file, ', ') FROM version_damage d "
        "    WHERE d.image = v.image AND d.number = v.number), '') || "
        "  coalesce('; damage there is shared with ' || (SELECT group_concat(other, ', ') FROM (SELECT DISTINCT other "
        "    FROM damage_shared d WHERE d.image = v.image AND d.number = v.number ORDER BY other)), '') || "
        "  coalesce('; setups that have it: ' || (SELECT group_concat(name, ', ') FROM version_setup s "
        "    WHERE s.image = v.image AND s.number = v.number), '') || "
        "  coalesce('; boots that have it: ' || (SELECT group_concat(boot || ' of ' || machine || ' (' || state || ')', ', ') "
        "    FROM (SELECT boot, machine, state FROM version_boot WHERE image = v.image AND number = v.number ORDER BY boot)), ''), "
        "  'restore the file, then labboot image verify ' || i.owner || '/' || i.name || '; or ' || r.todo "
        "FROM version v JOIN image i ON i.uuid = v.image JOIN damage_remedy r ON r.image = v.image AND r.number = v.number "
        "WHERE v.state = 'damaged' ORDER BY i.owner, i.name, v.number",
    [SQL_TROUBLE_INTERRUPTED] =
        "SELECT 'boot ' || b.id || ' of ' || m.name, "
        "  'it was interrupted, and waits for ' || iif(b.space_wanted IS NULL, 'a decision', 'space') || ': ' || "
        "  coalesce(b.result, ''), "
        "  iif(b.space_wanted IS NULL, 'labboot boot commit ' || b.id || ', or discard', "
        "    'labboot gc, or labboot image keep; or labboot boot discard ' || b.id) "
        "FROM boot b JOIN machine m ON m.mac = b.machine WHERE b.state = 'interrupted' AND (?1 IS NULL OR m.mac = ?1) ORDER BY b.id",
    [SQL_TROUBLE_STRANGERS] =
        "SELECT mac, 'it has the address ' || ip_text(address) || ', but is no machine''s', 'labboot machine add ' || mac "
        "FROM lease WHERE (expires = 0 OR expires > now()) AND mac NOT IN (SELECT mac FROM machine_mac) ORDER BY mac",
    [SQL_TROUBLE_REQUESTS] =
        "SELECT coalesce('boot ' || boot, 'the server'), actor || ' asked to ' || kind || ' it ' || (now() - asked) || "
        "  ' s ago, and there is no answer', 'labboot log --what ''request-*''; without a server: labboot serve' "
        "FROM request WHERE answered IS NULL AND asked < now() - 10 ORDER BY id",
    [SQL_TROUBLE_SCRIPTS] =
        "SELECT 'machine ' || name, 'its boot script is not the one wanted', 'labboot fsck --repair, or labboot serve, which bring it up to date' "
        "FROM machine WHERE script_done <> script_wanted AND (?1 IS NULL OR mac = ?1) ORDER BY name",

    /* ---- users */
    [SQL_USER] = USER "WHERE username = ?",
    [SQL_USERS] = USER "ORDER BY username",
    [SQL_USER_EXISTS] = "SELECT 1 FROM user WHERE username = ?",
    [SQL_USER_EMAIL_EXISTS] = "SELECT 1 FROM user WHERE email = ?",
    [SQL_USER_ADD] = "INSERT INTO user (username, name, email, role) VALUES (?, ?, ?, ?)",
    [SQL_USER_FIELDS] = "SELECT name, email, role FROM user WHERE username = ?",
    [SQL_USER_CHANGE] =
        "UPDATE user SET name = coalesce(?, name), email = coalesce(?, email), role = coalesce(?, role) WHERE username = ?",
    [SQL_USER_OWNS] =
        "SELECT group_concat(what, ', ') FROM (SELECT 'image ' || name AS what FROM image WHERE owner = ?1 "
        "UNION ALL SELECT 'setup ' || name FROM setup WHERE owner = ?1)",
    [SQL_USER_OTHER_ADMINS] = "SELECT count(*) FROM user WHERE role = 'admin' AND username <> ?",
    [SQL_USER_SETUP] = "SELECT uuid FROM setup WHERE owner = ? ORDER BY name LIMIT 1",
    [SQL_USER_IMAGE] = "SELECT uuid FROM image WHERE owner = ? ORDER BY name LIMIT 1",
    [SQL_USER_REMOVE] = "DELETE FROM user WHERE username = ?",

    /* ---- machines */
    [SQL_MACHINE_BY_MAC] = MACHINE "WHERE m.mac = " MACHINE_OF_MAC,
    [SQL_MACHINE_BY_NAME] = MACHINE "WHERE m.name = ?",
    [SQL_MACHINES] = MACHINE "ORDER BY m.name",
    [SQL_MACHINE_MACS] =
        "SELECT mac FROM machine_mac WHERE machine = " MACHINE_OF_MAC " ORDER BY position",
    [SQL_MACHINE_ADD] =
        "INSERT INTO machine (mac, name, architecture, managed, default_setup) VALUES (?, ?, ?, ?, ?)",
    [SQL_MACHINE_MAC_ADD] = "INSERT INTO machine_mac (mac, machine, position) VALUES (?, ?, ?)",
    [SQL_MACHINE_DEFAULT] = "SELECT default_setup FROM machine WHERE mac = ? AND default_setup IS NOT NULL",

    [SQL_MACHINE_SET_NAME] = "UPDATE machine SET name = ? WHERE mac = ?",
    [SQL_MACHINE_SET_ARCHITECTURE] = "UPDATE machine SET architecture = ? WHERE mac = ?",
    [SQL_MACHINE_SET_MANAGED] = "UPDATE machine SET managed = ? WHERE mac = ?",
    [SQL_MACHINE_SET_DEFAULT] = "UPDATE machine SET default_setup = ?1 WHERE mac = ?2 AND default_setup IS NOT ?1",
    [SQL_MACHINE_SET_KEY] = "UPDATE machine SET mac = ? WHERE mac = ?",
    [SQL_MACHINE_MAC_LAST] = "SELECT max(position) FROM machine_mac WHERE machine = ?",
    [SQL_MACHINE_MAC_NEXT] = "SELECT mac FROM machine_mac WHERE machine = ?1 AND mac <> ?1 ORDER BY position LIMIT 1",
    [SQL_MACHINE_MAC_FIRST] = "UPDATE machine_mac SET position = 0 WHERE mac = ?",
    [SQL_MACHINE_MAC_REMOVE] = "DELETE FROM machine_mac WHERE machine = ? AND mac = ?",
    [SQL_MACHINE_REMOVE] = "DELETE FROM machine WHERE mac = ?",
    [SQL_MACHINE_LEASES_REMOVE] = "DELETE FROM lease WHERE mac IN (SELECT mac FROM machine_mac WHERE machine = ?)",
    [SQL_MACHINE_BOOTS] = "SELECT id FROM boot WHERE machine = ?",
    [SQL_MACHINE_TEMPORALS] = "SELECT id FROM temporal WHERE machine = ?",
    [SQL_MACHINE_DISK_IMAGE_ADD] =
        "INSERT INTO image (uuid, name, type, compression, file_type, filesystem) VALUES (?, ?, 'machine', 'none', 'raw', ?)",
    [SQL_MACHINE_DISK_ADD] = "INSERT INTO machine_image (machine, image, size_mib) VALUES (?, ?, ?)",
    [SQL_MACHINE_DISK] =
        "SELECT i.uuid, d.size_mib, i.filesystem FROM machine_image d JOIN image i ON i.uuid = d.image "
        "WHERE d.machine = " MACHINE_OF_MAC,
    [SQL_MACHINE_DISK_SIZE] = "UPDATE machine_image SET size_mib = ? WHERE machine = ?",
    [SQL_MACHINE_DISK_FILESYSTEM] =
        "UPDATE image SET filesystem = ? WHERE uuid = (SELECT image FROM machine_image WHERE machine = ?)",

    /* ---- addresses */
    [SQL_ADDRESS_MISSING] =
        "SELECT mm.mac, mm.rowid FROM machine_mac mm JOIN machine m ON m.mac = mm.machine "
        "WHERE mm.rowid > ? AND m.managed AND NOT EXISTS (SELECT 1 FROM address a WHERE a.mac = mm.mac) "
        "ORDER BY mm.rowid LIMIT 1",
    [SQL_ADDRESS_TAKEN] =
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM address WHERE address = ?1) "
        "OR EXISTS (SELECT 1 FROM lease WHERE address = ?1 AND mac <> ?2 AND (expires = 0 OR expires > now()))",
    [SQL_ADDRESS_ADD] = "INSERT INTO address (mac, address) VALUES (?, ?)",
    [SQL_ADDRESSES] =
        "SELECT a.mac, a.address, m.name FROM address a JOIN machine_mac mm ON mm.mac = a.mac "
        "JOIN machine m ON m.mac = mm.machine ORDER BY a.address",
    [SQL_ADDRESS_OF_MAC] = "SELECT address FROM address WHERE mac = ?",
    /* The assignment is ours, so it wins over what a DHCP server says. */
    [SQL_MACHINE_BY_ADDRESS] =
        "SELECT mac, name, architecture, managed FROM ("
        "  SELECT m.*, 0 AS preference FROM address a JOIN machine_mac mm ON mm.mac = a.mac "
        "    JOIN machine m ON m.mac = mm.machine WHERE a.address = ?1 "
        "  UNION ALL "
        "  SELECT m.*, 1 FROM lease l JOIN machine_mac mm ON mm.mac = l.mac JOIN machine m ON m.mac = mm.machine "
        "    WHERE l.address = ?1 AND (l.expires = 0 OR l.expires > now())) "
        "ORDER BY preference LIMIT 1",
    [SQL_LEASE_LIVE] =
        "SELECT 1 FROM lease WHERE mac = ? AND address = ? AND (expires = 0 OR expires > now())",
    [SQL_LEASE_SET] = "INSERT OR REPLACE INTO lease (mac, address, expires) VALUES (?, ?, ?)",
    [SQL_LEASE_REMOVE] = "DELETE FROM lease WHERE mac = ? AND address = ?",

    /* ---- images and versions */
    [SQL_IMAGE_NAMED_BY_UUID] = IMAGE_NAMED "uuid = ?",
    [SQL_IMAGE_NAMED_BY_OWNER] = IMAGE_NAMED "owner = ? AND name = ?",
    [SQL_IMAGE_NAMED_BY_NAME] = IMAGE_NAMED "name = ? ORDER BY owner",
    [SQL_IMAGE] = IMAGE "WHERE uuid = ?",
    [SQL_IMAGES] = IMAGE "WHERE type <> 'machine' ORDER BY owner, name",
    [SQL_IMAGE_ADD] =
        "INSERT INTO image (uuid, name, owner, type, compression, file_type, filesystem) VALUES (?, ?, ?, ?, ?, ?, ?)",
    [SQL_IMAGE_HEAD_SET] = "UPDATE image SET head = ? WHERE uuid = ?",
    [SQL_IMAGE_LAST_RAISE] = "UPDATE image SET last_version = max(last_version, ?) WHERE uuid = ?",
    [SQL_VERSION_DAMAGED] = "SELECT state = 'damaged' FROM version WHERE image = ? AND number = ?",
    [SQL_VERSION_KERNEL] = "SELECT kernel FROM version WHERE image = ? AND number = ?",
    [SQL_VERSION_CHOOSE] = "SELECT max(now(), last_version + 1) FROM image WHERE uuid = ?",
    [SQL_VERSION_ADD] =
        "INSERT INTO version (image, number, parent, layer, virtual_size, stored_size, checksum, kernel, comment, boot, "
        "  made) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, now())",
    [SQL_VERSION_DAMAGE] = "UPDATE version SET state = 'damaged', damage = ? WHERE image = ? AND number = ?",
    [SQL_VERSION_WHOLE] =
        "UPDATE version SET state = 'published', damage = NULL WHERE image = ? AND number = ? AND state = 'damaged'",
    [SQL_VERSION_VERIFIED] =
        "UPDATE version SET verified = now(), verified_to = 0 WHERE image = ? AND number = ? AND layer = ?",
    [SQL_DAMAGE_FORGET] = "DELETE FROM damage WHERE image = ? AND number = ?",
    [SQL_DAMAGE_ADD] = "INSERT INTO damage (image, number, layer, chunks) VALUES (?, ?, ?, ?)",
    /* Around: those behind ?2 first. */
    [SQL_SCRUB_IMAGE] = "SELECT v.image FROM version v WHERE " SCRUB_DUE "ORDER BY v.image <= ?2, v.image LIMIT 1",
    [SQL_SCRUB_VERSIONS] =
        "SELECT " VERSION_ROW ", verified_to, " SCRUB_DUE "FROM version v WHERE v.image = ?2 ORDER BY number",
    [SQL_SCRUB_NOTE] =
        "UPDATE version SET verified_to = ?4 WHERE image = ?1 AND number = ?2 AND layer = ?3 AND NOT " IMAGE_DAMAGED("?1"),
    [SQL_VERSION_SET_LAYER] = "UPDATE version SET layer = ?, stored_size = ?, verified_to = 0 WHERE image = ? AND number = ?",
    [SQL_VERSION_OF_LAYER] = "SELECT image, number FROM version WHERE layer = ?",
    [SQL_VERSION_SHA256] = "UPDATE version SET sha256 = ?1 WHERE image = ?2 AND number = ?3 AND sha256 IS NOT ?1",
    [SQL_VERSION_ROWS_OF] =
        "SELECT " VERSION_ROW " FROM version WHERE image = ? ORDER BY number",
    [SQL_VERSION_BRANCH] = "UPDATE version SET branch = 1 WHERE image = ? AND number = ?",
    /* What `latest` has now is no branch any more. */
    [SQL_VERSION_UNBRANCH] =
        "WITH RECURSIVE line (number) AS (SELECT head FROM image WHERE uuid = ?1 "
        "  UNION SELECT v.parent FROM line JOIN version v ON v.image = ?1 AND v.number = line.number) "
        "UPDATE version SET branch = 0 WHERE image = ?1 AND branch AND number IN (SELECT number FROM line)",
    [SQL_VERSION_COMMENT] = "UPDATE version SET comment = ? WHERE image = ? AND number = ?",
    [SQL_VERSIONS] = "SELECT number, layer FROM version WHERE image = ? ORDER BY number",
    [SQL_VERSION_LAYER] = "SELECT number, layer FROM version WHERE image = ? AND number = ?",
    [SQL_VERSION_REMOVE] = "DELETE FROM version WHERE image = ? AND number = ?",
    [SQL_VERSION_HOLDS] =
        "SELECT DISTINCT why, forcible FROM version_hold WHERE image = ?1 AND number = ?2 AND (NOT forcible OR NOT ?3) "
        "ORDER BY forcible, why",
    /* Older ones than the newest and than the day, that nothing needs. */
    [SQL_VERSIONS_STALE] =
        "SELECT number, layer FROM version v WHERE image = ?1 AND made <= now() - ?3 AND number NOT IN "
        "  (SELECT number FROM version WHERE image = ?1 ORDER BY number DESC LIMIT ?2) "
        "AND number IS NOT (SELECT head FROM image WHERE uuid = ?1) "
        "AND NOT EXISTS (SELECT 1 FROM version_hold h WHERE h.image = v.image AND h.number = v.number) "
        "ORDER BY number",
    [SQL_VERSION_UNPEG] = "UPDATE setup_image SET version = NULL WHERE image = ? AND version = ?",
    [SQL_IMAGE_COMMENT] = "SELECT coalesce(comment, '') FROM image WHERE uuid = ?",
    [SQL_IMAGE_CHANGE] =
        "UPDATE image SET name = ?, owner = ?, type = ?, compression = ?, filesystem = ?, file_type = ? WHERE uuid = ?",
    [SQL_IMAGE_COMMENT_SET] = "UPDATE image SET comment = nullif(?, '') WHERE uuid = ?",
    [SQL_IMAGE_NAME_TAKEN] =
        "SELECT s.owner || '/' || s.name FROM setup_image mine JOIN setup_image theirs ON theirs.setup = mine.setup "
        "  JOIN image i ON i.uuid = theirs.image JOIN setup s ON s.uuid = mine.setup "
        "WHERE mine.image = ?1 AND i.uuid <> ?1 AND i.name = ?2 ORDER BY 1 LIMIT 1",
    [SQL_IMAGE_HOLDS] =
        "SELECT DISTINCT why, forcible FROM image_hold WHERE image = ?1 AND (NOT forcible OR NOT ?2) ORDER BY forcible, why",
    [SQL_IMAGE_REMOVE] = "DELETE FROM image WHERE uuid = ?",
    /* Out of setups: those behind it move up, past each other's places. */
    [SQL_IMAGE_BEHIND] =
        "UPDATE setup_image SET position = position + 1000 WHERE position > "
        "(SELECT position FROM setup_image mine WHERE mine.setup = setup_image.setup AND mine.image = ?)",
    [SQL_IMAGE_OUT] = "DELETE FROM setup_image WHERE image = ?",
    [SQL_IMAGES_UP] = "UPDATE setup_image SET position = position - 1001 WHERE position >= 1000",
    /* Queued boots that would have no disk without the image. */
    [SQL_BOOT_OF_IMAGE_ALONE] =
        BOOT "WHERE b.state = 'queued' AND EXISTS (SELECT 1 FROM setup_image WHERE setup = b.setup AND image = ?1) "
        "AND NOT EXISTS (SELECT 1 FROM setup_image WHERE setup = b.setup AND image <> ?1) ORDER BY b.id LIMIT 1",

    /* ---- setups */
    [SQL_SETUPS] = "SELECT uuid, name, owner FROM setup ORDER BY owner, name",
    [SQL_SETUP_NAMED_BY_UUID] = SETUP_NAMED "uuid = ?",
    [SQL_SETUP_NAMED_BY_OWNER] = SETUP_NAMED "owner = ? AND name = ?",
    [SQL_SETUP_NAMED_BY_NAME] = SETUP_NAMED "name = ? ORDER BY owner",
    [SQL_SETUP_ADD] = "INSERT INTO setup (uuid, name, owner) VALUES (?, ?, ?)",
    [SQL_SETUP_SET] = "UPDATE setup SET name = ?, owner = ? WHERE uuid = ?",
    [SQL_SETUP_REMOVE] = "DELETE FROM setup WHERE uuid = ?",
    [SQL_SETUP_HOLDERS] =
        "SELECT 'the default of ' || name FROM machine WHERE default_setup = ?1 "
        "UNION ALL "
        "SELECT 'boot ' || b.id || ' of ' || m.name FROM boot b JOIN machine m ON m.mac = b.machine "
        "WHERE b.setup = ?1 AND (b.state IN ('leased', 'running', 'committing', 'interrupted') OR (b.state = 'queued' AND b.resumed))",
    [SQL_SETUP_QUEUED_UPDATES] =
        "SELECT 1 FROM boot WHERE setup = ? AND state = 'queued' AND updates AND NOT resumed LIMIT 1",
    [SQL_SETUP_QUEUED] = "SELECT count(*) FROM boot WHERE setup = ? AND state = 'queued' AND NOT resumed",
    [SQL_SETUP_IMAGES_REMOVE] = "DELETE FROM setup_image WHERE setup = ?",
    [SQL_SETUP_IMAGE_ADD] =
        "INSERT INTO setup_image (setup, position, image, version, updates) VALUES (?, ?, ?, ?, ?)",

    [SQL_SETUP_ENTRIES] = "SELECT image, version, updates FROM setup_image WHERE setup = ? ORDER BY position",

    /* ---- images of a boot: what images_take reads; the first parameter says whether the boot is an update */
    [SQL_SETUP_IMAGES] =
        "SELECT i.uuid, i.name, i.type, i.compression, "
        "  coalesce((SELECT t.version FROM temporal t WHERE t.machine = ?3 AND t.image = i.uuid AND i.type = 'temporal'), "
        "    s.version, i.head), "
        "  CASE i.type WHEN 'temporal' THEN 0 WHEN 'user' THEN NOT " WRITTEN_ELSEWHERE("i.uuid", "?3")
        "    ELSE ?1 OR s.updates END, NULL, NULL, NULL, NULL "
        "FROM setup_image s JOIN image i ON i.uuid = s.image WHERE s.setup = ?2 ORDER BY s.position",
    [SQL_TOKEN_IMAGES] =
        "SELECT i.uuid, i.name, i.type, i.compression, t.version, "
        "  CASE i.type WHEN 'user' THEN NOT " WRITTEN_ELSEWHERE("i.uuid",
            "(SELECT b.machine FROM token k JOIN boot b ON b.id = k.boot WHERE k.token = t.token)")
        "    ELSE t.keep END, NULL, NULL, NULL, NULL "
        "FROM token_image t JOIN image i ON i.uuid = t.image WHERE t.token = ? ORDER BY t.position",
    [SQL_BOOT_IMAGES] =
        "SELECT b.image, b.name, i.type, i.compression, b.version, b.keep, b.result, b.temporal, "
        "  b.follows, b.follows_position "
        "FROM boot_image b LEFT JOIN image i ON i.uuid = b.image WHERE b.boot = ? ORDER BY b.position",

    /* ---- boots */
    [SQL_BOOT] = BOOT "WHERE b.id = ?",
    [SQL_BOOT_ACTIVE] = BOOT "WHERE b.machine = " MACHINE_OF_MAC " AND b.state IN ('leased', 'running')",
    [SQL_BOOT_LAST] =
        BOOT "WHERE b.machine = " MACHINE_OF_MAC " AND b.state NOT IN ('queued', 'cancelled') "
        "ORDER BY b.state IN ('leased', 'running') DESC, b.ended DESC, b.id DESC LIMIT 1",
    /* The one that stands most in the way first. */
    [SQL_BOOT_UNENDED] =
        BOOT "WHERE b.machine = ? AND (b.state IN ('leased', 'running', 'committing', 'interrupted') "
             "  OR (b.state = 'queued' AND b.resumed)) "
             "ORDER BY b.state IN ('queued', 'interrupted'), b.state = 'committing', b.id LIMIT 1",
    [SQL_BOOT_HEAD] =
        BOOT "WHERE b.machine = ? AND b.state = 'queued' ORDER BY NOT b.resumed, b.origin = 'default', b.id LIMIT 1",
    [SQL_BOOT_QUEUED] =
        BOOT "WHERE b.machine = " MACHINE_OF_MAC " AND b.state = 'queued' AND b.origin = 'queue' "
             "ORDER BY NOT b.resumed, b.id LIMIT 1",
    [SQL_BOOT_WAIT] =
        BOOT "WHERE b.machine = ? AND b.state IN ('leased', 'running', 'committing') "
        "  AND (b.state = 'committing' OR EXISTS (SELECT 1 FROM boot_image i WHERE i.boot = b.id AND i.keep)) "
        "ORDER BY b.state = 'committing', b.id LIMIT 1",
    [SQL_BOOTS_IN_STATE] = BOOT "WHERE b.state = ? ORDER BY b.id",
    [SQL_BOOTS_WITH_SPACE] =
        BOOT "WHERE b.state = 'interrupted' AND b.space_wanted <= ? "
             "  AND NOT EXISTS (SELECT 1 FROM boot WHERE state = 'committing') ORDER BY b.id",
    [SQL_BOOT_ADD] =
        "INSERT INTO boot (machine, setup, setup_name, origin, updates, comment, queued) "
        "SELECT ?1, uuid, name, ?2, ?3, ?4, now() FROM setup WHERE uuid = ?5",
    [SQL_BOOT_MOVE] =
        "UPDATE boot SET state = ?1, result = coalesce(?2, result), space_wanted = NULL, "
        "  leased = CASE ?1 WHEN 'leased' THEN now() WHEN 'queued' THEN NULL WHEN 'running' THEN coalesce(leased, now()) "
        "    ELSE leased END, "
        "  started = CASE ?1 WHEN 'running' THEN now() ELSE started END, "
        "  disconnected = CASE WHEN ?1 IN ('queued', 'leased') THEN NULL ELSE disconnected END, "
        "  ended = CASE WHEN ?1 IN ('queued', 'leased', 'running') THEN NULL ELSE coalesce(ended, now()) END "
        "WHERE id = ?3",
    [SQL_BOOT_LEASE] = "UPDATE boot SET token = ?, address = ? WHERE id = ?",
    [SQL_BOOT_UNLEASE] = "UPDATE boot SET token = NULL, address = NULL, attempts = attempts + 1 WHERE id = ?",
    /* Somebody's word now, also where it was made from the default setup. */
    [SQL_BOOT_RESUME] =
        "UPDATE boot SET resumed = 1, origin = 'queue', token = NULL, address = NULL, ending = NULL WHERE id = ?",
    [SQL_BOOT_TAKE_OVER] = "UPDATE boot SET resumed = 1, origin = 'queue' WHERE id = ?",
    [SQL_BOOT_HAND_OVER] = "UPDATE boot_image SET keep = 0 WHERE boot = ? AND position = ?",
    /* Who takes something over whose files have not moved yet. */
    [SQL_BOOT_TAKER] =
        "SELECT t.boot, t.name FROM boot_image t JOIN boot b ON b.id = t.boot "
        "  JOIN boot_image mine ON mine.boot = t.follows AND mine.position = t.follows_position "
        "WHERE t.follows = ? AND mine.keep AND b.state IN ('queued', 'leased', 'running', 'committing', 'interrupted') "
        "ORDER BY t.boot LIMIT 1",
    [SQL_BOOT_AGAIN] =
        "INSERT INTO boot (machine, setup, setup_name, origin, updates, comment, queued) "
        "SELECT machine, setup, setup_name, origin, updates, comment, now() FROM boot WHERE id = ?",
    [SQL_BOOT_ELSEWHERE] =
        "SELECT m.name FROM boot b JOIN boot_image m ON m.boot = b.id JOIN image i ON i.uuid = m.image "
        "WHERE b.id = ? AND m.keep AND i.type = 'user' AND " WRITTEN_ELSEWHERE("m.image", "b.machine") " LIMIT 1",
    [SQL_BOOT_LEAVE_BEHIND] = "UPDATE boot SET ending = 'auto' WHERE machine = ? AND ending = 'away'",
    [SQL_BOOT_NO_RETURN] =
        "UPDATE boot SET ending = 'auto', result = coalesce(result || '; ', '') || ? WHERE id = ? AND ending = 'away'",
    [SQL_BOOT_ENDING] = "UPDATE boot SET ending = ? WHERE id = ?",
    [SQL_BOOT_SPACE_WANTED] = "UPDATE boot SET space_wanted = ? WHERE id = ?",
    [SQL_BOOT_DISCONNECTED] = "UPDATE boot SET disconnected = nullif(?, 0) WHERE id = ?",
    [SQL_BOOT_IMAGE_ADD] =
        "INSERT INTO boot_image (boot, position, image, name, version, keep, temporal, follows, follows_position) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [SQL_BOOT_IMAGES_REMOVE] = "DELETE FROM boot_image WHERE boot = ?",
    [SQL_BOOT_IMAGE_RESULT] = "UPDATE boot_image SET result = ? WHERE boot = ? AND image = ?",
    [SQL_TEMPORAL_FIND] = TEMPORAL "WHERE t.machine = " MACHINE_OF_MAC " AND t.image = ?",
    [SQL_TEMPORAL] = TEMPORAL "WHERE t.id = ?",
    [SQL_TEMPORALS_IDLE] = TEMPORAL "WHERE NOT EXISTS (" TEMPORAL_BOOT("t.id") ")",
    [SQL_TEMPORAL_USER] = TEMPORAL_BOOT("?"),
    [SQL_TEMPORAL_ADD] = "INSERT INTO temporal (machine, image, version, used) VALUES (?, ?, ?, now())",
    [SQL_TEMPORAL_USE] = "UPDATE temporal SET used = now() WHERE id = ?",
    [SQL_TEMPORAL_CEASE] =
        "UPDATE temporal SET used = now() WHERE id IN (SELECT temporal FROM boot_image WHERE boot = ?)",
    [SQL_TEMPORAL_REMOVE] = "DELETE FROM temporal WHERE id = ?",
    [SQL_TEMPORAL_GONE] = "SELECT seq >= ? FROM sqlite_sequence WHERE name = 'temporal'",
    [SQL_WARN_PEGGED] =
        "SELECT i.name, s.version FROM setup_image s JOIN image i ON i.uuid = s.image "
        "WHERE (?1 OR s.updates) AND s.setup = ?2 AND s.version IS NOT NULL ORDER BY s.position LIMIT 1",
    /* Images of users are kept by every boot: no second update. */
    [SQL_WARN_SECOND] =
        "SELECT other.id, i.name FROM boot me JOIN setup_image mine ON mine.setup = me.setup "
        "  JOIN image i ON i.uuid = mine.image JOIN setup_image theirs ON theirs.image = mine.image "
        "  JOIN boot other ON other.setup = theirs.setup "
        "WHERE me.id = ? AND other.id <> me.id AND other.state IN ('queued', 'leased', 'running') "
        "  AND (me.updates OR mine.updates) AND (other.updates OR theirs.updates) AND i.type <> 'user' "
        "ORDER BY other.id LIMIT 1",

    /* ---- tokens and scripts */
    [SQL_TOKEN] =
        "SELECT boot, superseded IS NOT NULL, coalesce(now() - superseded >= ?, 0) FROM token WHERE token = ?",
    [SQL_TOKEN_ADD] = "INSERT INTO token (token, boot, made) VALUES (?, ?, now())",
    [SQL_TOKEN_IMAGE_ADD] = "INSERT INTO token_image (token, position, image, version, keep) VALUES (?, ?, ?, ?, ?)",
    [SQL_TOKENS_SUPERSEDE] =
        "UPDATE token SET superseded = now() WHERE superseded IS NULL AND token <> ? "
        "AND boot IN (SELECT id FROM boot WHERE machine = ?)",
    [SQL_TOKEN_HAND_ON] = "UPDATE token SET boot = ? WHERE token = ?",
    [SQL_SCRIPT_NEXT] = MACHINE "WHERE m.script_done <> m.script_wanted AND m.mac > ? ORDER BY m.mac LIMIT 1",
    [SQL_SCRIPT_GENERATION] = "SELECT script_wanted FROM machine WHERE mac = ?",
    [SQL_SCRIPT_DONE] = "UPDATE machine SET script_done = max(script_done, ?) WHERE mac = ?",
    [SQL_SCRIPT_WANT_ALL] = "UPDATE machine SET script_wanted = script_wanted + 1",
    [SQL_SCRIPT_GONE] = "SELECT mac FROM script_gone LIMIT 1",
    [SQL_SCRIPT_GONE_DONE] = "DELETE FROM script_gone WHERE mac = ?",

    /* ---- requests */
    [SQL_REQUEST_ADD] = "INSERT INTO request (kind, boot, actor, asked) VALUES (?, ?, ?, now())",
    [SQL_REQUEST] =
        "SELECT id, kind, boot, actor, answered IS NOT NULL, code, answer FROM request WHERE id = ?",
    [SQL_REQUEST_OLDEST] =
        "SELECT id, kind, boot, actor, answered IS NOT NULL, code, answer FROM request "
        "WHERE answered IS NULL AND taken IS NULL ORDER BY id LIMIT 1",
    [SQL_REQUEST_OF_BOOT] =
        "SELECT id, kind, boot, actor, answered IS NOT NULL, code, answer FROM request "
        "WHERE boot = ? AND kind <> 'discard' AND answered IS NULL AND taken IS NULL ORDER BY id LIMIT 1",
    [SQL_REQUEST_TAKE] = "UPDATE request SET taken = now() WHERE id = ?",
    [SQL_REQUEST_ANSWER] =
        "UPDATE request SET answered = now(), code = ?, answer = ? WHERE id = ? AND answered IS NULL",
    [SQL_REQUESTS_FULFILLED] = "UPDATE request SET answered = now(), code = 0, answer = '' WHERE " FULFILLED,
    [SQL_REQUESTS_FULFILLED_EVENTS] =
        "INSERT INTO event (at, actor, what, object, detail, machine) "
        "SELECT now(), 'server', 'request-done', 'boot ' || boot, kind, (SELECT machine FROM boot b WHERE b.id = boot) "
        "FROM request WHERE " FULFILLED " ORDER BY id",
    [SQL_REQUESTS_UNTAKE] = "UPDATE request SET taken = NULL WHERE answered IS NULL AND taken IS NOT NULL",
    [SQL_REQUEST_RESET_PENDING] =
        "SELECT 1 FROM request WHERE boot = ? AND kind = 'reset' AND answered IS NULL",
    [SQL_GENERATION] = "SELECT value FROM setting WHERE name = 'configuration-generation'",
    [SQL_GENERATION_RAISE] = "UPDATE setting SET value = value + 1 WHERE name = 'configuration-generation'",

    /* ---- what files are named after, and the file of the catalog */
    [SQL_BOOT_KNOWN] =
        "SELECT EXISTS (SELECT 1 FROM boot WHERE id = ?), coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'boot'), 0)",
    [SQL_MAC_KNOWN] = "SELECT 1 FROM machine_mac WHERE mac = ?",
    [SQL_SCRIPTS_STALE] = MACHINE "WHERE m.script_done <> m.script_wanted ORDER BY m.name",
    [SQL_INTEGRITY_CHECK] = "SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
    [SQL_FOREIGN_KEY_CHECK] =
        "SELECT 'a row of ' || \"table\" || ' (' || coalesce(rowid, '?') || ') names a row of ' || parent || ' that is not there' "
        "FROM pragma_foreign_key_check",

    /* ---- history. Ids of requests and events are in the order of time, so that the first ones are the oldest. */
    [SQL_HISTORY_COUNT] =
        "SELECT (SELECT count(*) FROM boot b WHERE " OLD_BOOT "), (SELECT count(*) FROM request WHERE answered < ?1), "
        "  (SELECT count(*) FROM event WHERE at < ?1)",
    [SQL_HISTORY_BOOTS] = "DELETE FROM boot WHERE id IN (SELECT id FROM boot b WHERE " OLD_BOOT "LIMIT coalesce(?2, 0))",
    [SQL_HISTORY_REQUESTS] =
        "DELETE FROM request WHERE id IN (SELECT id FROM request ORDER BY id LIMIT coalesce(?2, 0)) AND answered < ?1",
    [SQL_HISTORY_EVENTS] = "DELETE FROM event WHERE id IN (SELECT id FROM event ORDER BY id LIMIT coalesce(?2, 0)) AND at < ?1",

    /* ---- lists and shows, for programs */
    [SQL_USERS_JSON] = JSON_LIST("user_json", "username"),
    [SQL_USER_JSON] = JSON_ONE("user_json", "username"),
    [SQL_MACHINES_JSON] = JSON_LIST("machine_json", "name"),
    [SQL_MACHINE_JSON] = JSON_ONE("machine_json", "mac"),
    [SQL_IMAGES_JSON] = JSON_LIST("image_json " IMAGES_WANTED("owner", "type"), "name, owner"),
    [SQL_IMAGE_JSON] = JSON_ONE("image_json", "uuid"),
    [SQL_VERSIONS_JSON] =
        "SELECT json_group_array(made_json(json)) FROM (SELECT json FROM version_json WHERE image = ? ORDER BY number DESC)",
    [SQL_SETUPS_JSON] = JSON_LIST("setup_json " SETUPS_WANTED("owner", "uuid"), "name, owner"),
    [SQL_SETUP_JSON] = JSON_ONE("setup_json", "uuid"),
    [SQL_SETUP_IMAGE_JSON] = "SELECT json FROM setup_image_json WHERE setup = ? AND name = ?",
    [SQL_BOOTS_JSON] =
        "SELECT json_group_array(made_json(json)) FROM "
        "(SELECT json FROM boot_json WHERE id IN " NEWEST_BOOTS " ORDER BY id DESC)",
    /* ?1: a JSON array of ids. */
    [SQL_BOOTS_OF_JSON] =
        "SELECT json_group_array(made_json(json)) FROM "
        "(SELECT json FROM boot_json WHERE id IN (SELECT value FROM json_each(?1)) ORDER BY id)",
    [SQL_BOOT_JSON] = JSON_ONE("boot_json", "id"),
    [SQL_ALONE_CLEAR] = "DELETE FROM alone",
    [SQL_ALONE_ADD] = "INSERT OR REPLACE INTO alone (image, number, bytes) VALUES (?, ?, ?)",
    [SQL_COUNTERS_CLEAR] = "DELETE FROM counter",
    [SQL_COUNTERS_ADD] = "INSERT OR REPLACE INTO counter (boot, bytes_read, bytes_written, overlay) VALUES (?, ?, ?, ?)",
    [SQL_STATUS_JSON] = JSON_LIST("status_json", "name"),
    [SQL_VERIFIED_CLEAR] = "DELETE FROM verified",
    [SQL_VERIFIED_ADD] = "INSERT OR REPLACE INTO verified (image, number, chunks) VALUES (?, ?, ?)",
    [SQL_VERIFIED_JSON] = JSON_LIST("verified_json", "number DESC"),

    /* ---- and for people */
    [SQL_USERS_ROWS] = "SELECT * FROM user_row ORDER BY 1",
    [SQL_USER_ROWS] = "SELECT * FROM user_row WHERE USER = ?",
    [SQL_MACHINES_ROWS] = "SELECT * FROM machine_row ORDER BY 1",
    [SQL_MACHINE_ROWS] = "SELECT * FROM machine_row WHERE MAC = ?",
    [SQL_IMAGES_ROWS] =
        "SELECT IMAGE, OWNER, KIND, FILESYSTEM, COMPRESSION, SIZE, LATEST, VERSIONS, STORED, UUID FROM image_row "
        IMAGES_WANTED("OWNER", "KIND") "ORDER BY 1, 2",
    [SQL_IMAGE_ROWS] = "SELECT * FROM image_row WHERE UUID = ?",
    [SQL_VERSIONS_ROWS] = 
        "SELECT VERSION, TIME, STATE, PARENT, SIZE, STORED, ALONE, KERNEL, BOOT, MACHINE, \"PEGGED BY\", \"USED BY\", COMMENT "
        "FROM version_row WHERE IMAGE = ? ORDER BY VERSION DESC",
    /* Of the children of a version one goes on in its line: that which leads to the latest, or else the youngest. The others
     * are drawn before, each with its own descendants; depth first, for the deepest are taken out first. A join does not keep
     * that order, a number does. */
    [SQL_VERSION_TREE_ROWS] =
        "WITH RECURSIVE "
        "  line (number) AS (SELECT head FROM image WHERE uuid = ?1 "
        "    UNION SELECT v.parent FROM line JOIN version v ON v.image = ?1 AND v.number = line.number), "
        "  own (number, parent) AS (SELECT number, "
        "      (SELECT number FROM version p WHERE p.image = ?1 AND p.number = v.parent) FROM version v WHERE image = ?1), "
        "  heir (parent, number) AS (SELECT parent, "
        "      coalesce(max(iif(number IN (SELECT number FROM line), number, NULL)), max(number)) FROM own "
        "    WHERE parent IS NOT NULL GROUP BY parent), "
        "  tree (root, depth, number, begins) AS (SELECT number, 0, number, 0 FROM own WHERE parent IS NULL "
        "    UNION ALL "
        "    SELECT t.root, t.depth + (h.number <> o.number), o.number, h.number <> o.number "
        "    FROM tree t JOIN own o ON o.parent = t.number JOIN heir h ON h.parent = t.number ORDER BY 1, 2 DESC, 3), "
        "  placed AS MATERIALIZED (SELECT *, row_number() OVER () AS place FROM tree) "
        "SELECT iif(depth > 0, replace(hex(zeroblob(depth - 1)), '00', '| ') || iif(begins, '+-', '| '), '') || number "
        "    AS VERSION, TIME, STATE, STORED, ALONE, BOOT, MACHINE, COMMENT "
        "FROM placed p JOIN version_row r ON r.IMAGE = ?1 AND r.VERSION = p.number ORDER BY place",
    [SQL_SETUPS_ROWS] = "SELECT * FROM setup_row " SETUPS_WANTED("OWNER", "UUID") "ORDER BY 1, 2",
    [SQL_SETUP_ROWS] = "SELECT * FROM setup_row WHERE UUID = ?",
    [SQL_SETUP_IMAGE_ROWS] =
        "SELECT IMAGE, OWNER, KIND, PLACE, VERSION, FOLLOWS, \"UPDATE\", UUID FROM setup_image_row "
        "WHERE SETUP = ? AND IMAGE = ?",
    [SQL_BOOTS_ROWS] = BOOT_COLUMNS
        "WHERE BOOT IN " NEWEST_BOOTS " ORDER BY BOOT DESC",
    [SQL_BOOTS_OF_ROWS] = BOOT_COLUMNS "WHERE BOOT IN (SELECT value FROM json_each(?1)) ORDER BY BOOT",
    [SQL_BOOT_ROWS] = "SELECT * FROM boot_row WHERE BOOT = ?",
    [SQL_VERIFIED_ROWS] = "SELECT * FROM verified_row ORDER BY 1 DESC",
    [SQL_STATUS_ROWS] = "SELECT * FROM status_row ORDER BY 1",
};
