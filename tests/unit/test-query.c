/* SPDX-License-Identifier: BSD-3-Clause */
/* catalog/query: lists and shows, for people and as JSON. */
#include "tests/unit/catalog-bench.h"

#include "lib/base/strbuf.h"

/* ---- JSON, read with SQLite's functions ------------------------------------------------------------------------- */

/* malloc'ed text of an SQL expression over ?1 = json, ?2 = argument; NULL for NULL. */
static char *evaluate(const char *sql, const char *json, const char *argument)
{
    sqlite3 *db;
    sqlite3_stmt *s;
    CHECK(sqlite3_open(":memory:", &db) == SQLITE_OK);
    CHECK(sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK);
    sqlite3_bind_text(s, 1, json, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 2, argument, -1, SQLITE_STATIC);
    CHECK(sqlite3_step(s) == SQLITE_ROW);
    const char *text = (const char *)sqlite3_column_text(s, 0);
    char *ret = text ? strdup(text) : NULL;
    sqlite3_finalize(s);
    sqlite3_close(db);
    return ret;
}

/* The value at a path as JSON text: "true", "7", "\"text\"", "null"; "-" where there is none. */
static void check_at(const char *json, const char *path, const char *wanted)
{
    cleanup(free) char *is = evaluate("SELECT ?1 -> ?2", json, path);
    CHECK_STR(is ? is : "-", wanted);
}

static void check_fields(const char *json, const char *path, const char *wanted)
{
    cleanup(free) char *is = evaluate("SELECT group_concat(key) FROM json_each(?1, ?2)", json, path);
    CHECK_STR(is ? is : "-", wanted);
}

static char *ask_json(struct bench *b, enum query q, const char *argument)
{
    char *json;
    CHECK_OK(query_json(b->c, q, argument, &json, &e));
    cleanup(free) char *valid = evaluate("SELECT json_valid(?1)", json, NULL);
    CHECK_STR(valid, "1");
    CHECK(!strstr(json, "UUIDImage") && !strstr(json, "VersionID") && !strstr(json, "ImageSetupUUID"));
    CHECK(!strstr(json, "ImagePath") && !strstr(json, "\"Token\""));
    return json;
}

/* ---- rows ------------------------------------------------------------------------------------------------------- */

static int append_row(void *ctx, int count, const char *const *columns, const char *const *cells,
                      struct err *err)
{
    struct strbuf *text = ctx;
    (void)err;
    for (int i = 0; i < count; i++)
        strbuf_appendf(text, "%s%c",
                       !cells     ? columns[i]
                       : cells[i] ? cells[i]
                                  : "-",
                       i + 1 < count ? '|' : '\n');
    return 0;
}

static void check_rows(struct bench *b, enum query q, const char *argument, const char *wanted)
{
    cleanup(strbuf) struct strbuf text = STRBUF_INIT;
    CHECK_OK(query_rows(b->c, q, argument, append_row, &text, &e));
    CHECK_STR(strbuf_text(&text), wanted);
}

static int refuse_row(void *ctx, int count, const char *const *columns, const char *const *cells,
                      struct err *err)
{
    (void)ctx;
    (void)count;
    (void)columns;
    return cells ? err_set(err, ERR_DENIED, "no more") : 0;
}

/* ---- stories ---------------------------------------------------------------------------------------------------- */

/* Boot 1 of machine 1 runs and keeps, boot 2 is queued, machine 2 has a default setup. */
static struct bench lively(void)
{
    struct bench b = bench_open();
    struct boot boot;
    struct in6_addr a = bench_ip("10.0.0.5");
    CHECK_OK(address_assign_all(b.c, &a, &a, &e));
    bench_queue(&b, true);
    CHECK_OK(boot_lease(b.c, &b.mac, NULL, "10.0.0.5", &boot, &e));
    CHECK_OK(boot_start(b.c, boot.id, &e));
    bench_queue(&b, false);
    bench_machine(b.c, 2, &b.setup);
    bench_setup(b.c, "pegged", b.image, START, true);
    return b;
}

static void empty_lists_are_arrays(void)
{
    struct bench b = {.path = path_format("%s/empty.db", unit_dir())};
    static const enum query lists[] = {QUERY_USERS,  QUERY_MACHINES, QUERY_IMAGES, QUERY_VERSIONS,
                                       QUERY_SETUPS, QUERY_BOOTS,    QUERY_STATUS};
    CHECK_OK(catalog_create(b.path, &e));
    CHECK_OK(catalog_open(b.path, CATALOG_FULL, &b.c, &e));
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        cleanup(free) char *json = ask_json(&b, lists[i], NULL);
        CHECK_STR(json, "[]");
    }
    check_rows(&b, QUERY_USERS, NULL, "USER|ROLE|EMAIL|NAME|IMAGES|SETUPS\n");
    bench_close(&b);
}

static void what_is_not_there_is_an_error(void)
{
    struct bench b = bench_open();
    static const enum query shows[] = {QUERY_USER, QUERY_MACHINE, QUERY_IMAGE, QUERY_SETUP, QUERY_BOOT};
    char *json = NULL;
    for (size_t i = 0; i < sizeof shows / sizeof shows[0]; i++) {
        CHECK_FAILS(query_json(b.c, shows[i], "7", &json, &e), ERR_NOT_FOUND);
        CHECK_FAILS(query_rows(b.c, shows[i], "7", refuse_row, NULL, &e), ERR_NOT_FOUND);
    }
    CHECK_FAILS(query_json(b.c, QUERY_BOOT, "seven", &json, &e), ERR_USAGE);
    CHECK(!json);
    CHECK_FAILS(query_rows(b.c, QUERY_USERS, NULL, refuse_row, NULL, &e), ERR_DENIED);
    check_rows(&b, QUERY_USERS, NULL,
               "USER|ROLE|EMAIL|NAME|IMAGES|SETUPS\nalice|user|alice@example.org|Alice|1|1\n");
    bench_close(&b);
}

static void images_have_the_fields_of_the_model(void)
{
    struct bench b = lively();
    char uuid[UUID_TEXT_SIZE];
    cleanup(free) char *json = ask_json(&b, QUERY_IMAGE, uuid_to_text(&b.image, uuid));
    check_fields(json, "$",
                 "Name,Versions,UUID,Username,DiskCompressionStrategy,ImageFileType,Type,Checksum,Filesystem,"
                 "Head,VirtualSize,Setups,Comment");
    check_fields(json, "$.Versions[0]", "Version,ImageModelUUID");
    check_at(json, "$.DiskCompressionStrategy", "\"zstd\"");
    check_at(json, "$.ImageFileType", "\"raw\"");
    check_at(json, "$.Checksum", "\"c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5\"");
    check_at(json, "$.Versions[0].Version", "1795460000");
    cleanup(free) char *list = ask_json(&b, QUERY_IMAGES, NULL);
    check_at(list, "$[0].Name", "\"lab\"");
    check_at(list, "$[1]", "-");
    cleanup(free) char *versions = ask_json(&b, QUERY_VERSIONS, uuid);
    check_at(versions, "$[0].Head", "true");
    check_at(versions, "$[0].Parent", "null");
    check_at(versions, "$[0].StoredSize", "1048576");
    check_at(versions, "$[0].PeggedBy[0].Name", "\"alice/pegged\"");
    check_at(versions, "$[0].UsedBy", "[1]");
    bench_close(&b);
}

static void versions_newest_first(void)
{
    struct bench b = lively();
    char uuid[UUID_TEXT_SIZE];
    struct version_new v = bench_version(&b.image, START + 9, START);
    v.comment = "with \"quotes\"";
    CHECK_OK(version_publish(b.c, "alice", NULL, &v, &e));
    CHECK_OK(version_mark_damaged(b.c, &b.image, START, "chunk 7", &e));
    cleanup(free) char *json = ask_json(&b, QUERY_VERSIONS, uuid_to_text(&b.image, uuid));
    check_at(json, "$[0].Version", "1795460009");
    check_at(json, "$[0].Comment", "\"with \\\"quotes\\\"\"");
    check_at(json, "$[1].Head", "false");
    check_at(json, "$[1].State", "\"damaged\"");
    check_at(json, "$[1].Damage", "\"chunk 7\"");
    check_rows(
        &b, QUERY_VERSIONS, uuid,
        "VERSION|TIME|STATE|PARENT|SIZE|STORED|ALONE|KERNEL|BOOT|MACHINE|PEGGED BY|USED BY|COMMENT\n"
        "1795460009|2026-11-23 18:53:20|latest|1795460000|1G|1M|-|6.1.0-37-cloud-amd64|-|-|-|-|with "
        "\"quotes\"\n"
        "1795460000|2026-11-23 18:53:20|damaged|-|1G|1M|-|6.1.0-37-cloud-amd64|-|-|alice/pegged|1|-\n");
    bench_close(&b);
}

static void setups_and_users(void)
{
    struct bench b = lively();
    char uuid[UUID_TEXT_SIZE];
    cleanup(free) char *json = ask_json(&b, QUERY_SETUP, uuid_to_text(&b.setup, uuid));
    check_fields(json, "$", "Name,Images,Username,UUID");
    check_fields(json, "$.Images[0]", "Image,Version,Update,Latest");
    check_at(json, "$.Images[0].Image.Name", "\"lab\"");
    check_at(json, "$.Images[0].Version.Version", "1795460000");
    check_at(json, "$.Images[0].Update", "false");
    cleanup(free) char *list = ask_json(&b, QUERY_SETUPS, NULL);
    check_at(list, "$[1].Images[0].Update", "true");
    check_at(list, "$[1].Images[0].Latest", "false");
    cleanup(free) char *users = ask_json(&b, QUERY_USERS, NULL);
    CHECK_STR(
        users,
        "[{\"Username\":\"alice\",\"Name\":\"Alice\",\"Email\":\"alice@example.org\",\"Role\":\"user\"}]");
    cleanup(free) char *line = path_format("SETUP|OWNER|IMAGES|UUID\ndesk|alice|lab@latest|%s\n", uuid);
    check_rows(&b, QUERY_SETUP, uuid, line);
    bench_close(&b);
}

static void boots_and_machines(void)
{
    struct bench b = lively();
    cleanup(free) char *boot = ask_json(&b, QUERY_BOOT, "1");
    check_fields(
        boot, "$",
        "Machine,MachineMAC,Setup,SetupUUID,Update,ID,State,SetupName,FromDefault,Attempts,Resumed,QueuedAt,"
        "LeasedAt,StartedAt,DisconnectedAt,EndedAt,Address,Result,Images,Comment");
    check_fields(boot, "$.Machine",
                 "Name,Architecture,Managed,MacAddress,ImageUUID,MoreMacAddresses,DefaultSetupUUID,"
                 "Addresses,State,Queued,MachineImage,Temporal");
    check_fields(boot, "$.Machine.MachineImage", "UUID,Type,ImageFileType,Filesystem,Size,AllocatedBytes");
    check_at(boot, "$.Machine.MachineImage.Size", "128");
    check_at(boot, "$.Machine.MachineImage.AllocatedBytes", "null");
    check_at(boot, "$.Machine.MacAddress", "{\"Address\":\"52:54:00:00:00:01\"}");
    check_at(boot, "$.MachineMAC", "\"52:54:00:00:00:01\"");
    check_at(boot, "$.Setup.Name", "\"desk\"");
    check_at(boot, "$.Update", "true");
    check_at(boot, "$.State", "\"running\"");
    check_at(boot, "$.Images[0].Keep", "true");
    check_at(boot, "$.EndedAt", "null");
    cleanup(free) char *list = ask_json(&b, QUERY_BOOTS, "");
    check_at(list, "$[0].ID", "2");
    check_at(list, "$[1].ID", "1");
    cleanup(free) char *none = ask_json(&b, QUERY_BOOTS, "52:54:00:00:00:02");
    CHECK_STR(none, "[]");
    cleanup(free) char *machine = ask_json(&b, QUERY_MACHINE, "52:54:00:00:00:01");
    check_at(machine, "$.Addresses", "[\"10.0.0.5\"]");
    check_at(machine, "$.Managed", "true");
    check_rows(&b, QUERY_BOOTS, "",
               "BOOT|MACHINE|SETUP|STATE|UPDATE|VERSIONS|QUEUED|STARTED|ENDED|RESULT\n"
               "2|machine-525400000001|desk|queued|no|lab@1795460000|2026-11-23 18:53:20|-|-|-\n"
               "1|machine-525400000001|desk|running|yes|lab@1795460000|2026-11-23 18:53:20|2026-11-23 "
               "18:53:20|-|-\n");
    bench_close(&b);
}

static void status_is_a_line_a_machine(void)
{
    struct bench b = lively();
    cleanup(free) char *json = ask_json(&b, QUERY_STATUS, NULL);
    check_at(json, "$[0].State", "\"running\"");
    check_at(json, "$[0].Queued", "1");
    check_at(json, "$[0].Update", "true");
    check_at(json, "$[1].State", "\"idle\"");
    check_at(json, "$[1].Update", "null");
    CHECK_OK(boot_end(b.c, "root", 1, BOOT_INTERRUPTED, "power cut", &e));
    const struct boot_counters counters = {
        .boot = 2, .bytes_read = 2048, .bytes_written = 512, .overlay = 4096};
    CHECK_OK(query_set_counters(b.c, &counters, 1, &e));
    check_rows(
        &b, QUERY_STATUS, NULL,
        "MACHINE|MAC|STATE|BOOT|SETUP|UPDATE|VERSIONS|ADDRESS|SINCE|QUEUED|INTERRUPTED|READ|WRITTEN|OVERLAY\n"
        "machine-525400000001|52:54:00:00:00:01|queued|2|desk|no|lab@1795460000|10.0.0.5|-|1|1|2K|512|4K\n"
        "machine-525400000002|52:54:00:00:00:02|idle|-|-|-|-|-|-|0|-|-|-|-\n");
    CHECK_OK(query_set_counters(b.c, NULL, 0, &e));
    bench_close(&b);
}

static void a_removed_setup_is_null(void)
{
    struct bench b = lively();
    CHECK(bench_ask(&b, "DELETE FROM setup") == -1);
    cleanup(free) char *json = ask_json(&b, QUERY_BOOT, "1");
    check_at(json, "$.Setup", "null");
    check_at(json, "$.SetupUUID", "null");
    check_at(json, "$.SetupName", "\"desk\"");
    check_at(json, "$.Images[0].Name", "\"lab\"");
    bench_close(&b);
}

int main(void)
{
    setenv("TZ", "UTC", 1); /* rows have local times */
    UNIT(empty_lists_are_arrays);
    UNIT(what_is_not_there_is_an_error);
    UNIT(images_have_the_fields_of_the_model);
    UNIT(versions_newest_first);
    UNIT(setups_and_users);
    UNIT(boots_and_machines);
    UNIT(status_is_a_line_a_machine);
    UNIT(a_removed_setup_is_null);
    return 0;
}
