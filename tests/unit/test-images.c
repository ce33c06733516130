/* SPDX-License-Identifier: BSD-3-Clause */
/* catalog/image-change: what becomes of images and versions, and who keeps them. */
#include "tests/unit/catalog-bench.h"

static const struct image_change nothing;

/* Version START + n of the bench's image, on top of its head. */
static void publish(struct bench *b, unsigned n)
{
    struct image i;
    CHECK_OK(image_by_uuid(b->c, &b->image, &i, &e));
    struct version_new v = bench_version(&b->image, START + n, i.head);
    CHECK_OK(version_publish(b->c, "alice", NULL, &v, &e));
}

static uint64_t head(struct bench *b)
{
    struct image i;
    CHECK_OK(image_by_uuid(b->c, &b->image, &i, &e));
    return i.head;
}

static void check_refused(const char *message)
{
    if (e.code != ERR_STATE || !strstr(e.msg, message))
        fprintf(stderr, "'%s' is not in: %s\n", message, e.msg), exit(1);
}

static int change(struct bench *b, struct image_change change)
{
    return image_change(b->c, "root", &b->image, &change, &e);
}

static int remove_version(struct bench *b, unsigned n, bool force)
{
    struct version_file gone;
    int r = version_remove(b->c, "root", &b->image, START + n, force, &gone, &e);
    CHECK(r < 0 || gone.version == START + n);
    return r;
}

/* "0 2 3": the versions that are there. */
static void check_versions(struct bench *b, const char *wanted)
{
    struct version_file *list;
    size_t count;
    char text[100] = "";
    CHECK_OK(versions_of(b->c, &b->image, &list, &count, &e));
    for (size_t i = 0; i < count; i++)
        sprintf(text + strlen(text), "%s%u", i ? " " : "", (unsigned)(list[i].version - START));
    free(list);
    CHECK_STR(text, wanted);
}

static void check_keep(struct bench *b, uint64_t last, uint64_t days, bool dry_run, const char *wanted)
{
    struct version_file *gone;
    size_t count;
    char text[100] = "";
    CHECK_OK(image_keep(b->c, "root", &b->image, last, days, dry_run, &gone, &count, &e));
    for (size_t i = 0; i < count; i++)
        sprintf(text + strlen(text), "%s%u", i ? " " : "", (unsigned)(gone[i].version - START));
    free(gone);
    CHECK_STR(text, wanted);
}

/* ---- change ------------------------------------------------------------------------------------------------ */

static void a_change_is_one_event(void)
{
    struct bench b = bench_open();
    struct image i;
    CHECK_OK(user_add(b.c, "root", "bob", "Bob", "bob@example.org", NULL, &e));
    int64_t events = bench_ask(&b, "SELECT count(*) FROM event");
    CHECK_OK(change(&b, (struct image_change){.name = "lab2",
                                              .owner = "bob",
                                              .type = "user",
                                              .compression = "none",
                                              .filesystem = "raw",
                                              .comment = "what it is"}));
    CHECK_OK(image_by_uuid(b.c, &b.image, &i, &e));
    CHECK_STR(i.name, "lab2");
    CHECK_STR(i.owner, "bob");
    CHECK_STR(i.type, "user");
    CHECK_STR(i.compression, "none");
    CHECK_STR(i.filesystem, "raw");
    CHECK(bench_ask(&b, "SELECT count(*) FROM event") == events + 1);
    CHECK(bench_ask(
              &b,
              "SELECT detail = 'name: lab -> lab2, owner: alice -> bob, kind: system -> user, compression: "
              "zstd "
              "-> none, filesystem: ext4 -> raw, comment: what it is' FROM event ORDER BY id DESC LIMIT 1") ==
          1);
    CHECK_OK(change(&b, (struct image_change){.name = "lab2", .owner = "bob", .comment = "what it is"}));
    CHECK_OK(change(&b, nothing));
    CHECK(bench_ask(&b, "SELECT count(*) FROM event") == events + 1);
    CHECK_OK(change(&b, (struct image_change){.comment = ""}));
    CHECK(bench_ask(&b, "SELECT comment IS NULL FROM image") == 1);
    CHECK_OK(version_set_comment(b.c, "root", &b.image, START, "first", &e));
    CHECK(bench_ask(&b, "SELECT comment = 'first' FROM version") == 1);
    bench_close(&b);
}

static void names_stay_unique(void)
{
    struct bench b = bench_open();
    struct uuid setup, bobs;
    CHECK_OK(user_add(b.c, "root", "bob", "Bob", "bob@example.org", NULL, &e));
    bench_image(b.c, "other", "alice", "system");
    bobs = bench_image(b.c, "data", "bob", "user");
    bench_image(b.c, "lab", "bob", "user");
    CHECK_FAILS(change(&b, (struct image_change){.name = "other"}), ERR_STATE);
    CHECK_FAILS(change(&b, (struct image_change){.owner = "bob"}), ERR_STATE);
    check_refused("image 'bob/lab' exists already");
    CHECK_FAILS(change(&b, (struct image_change){.owner = "eve"}), ERR_NOT_FOUND);
    CHECK_FAILS(change(&b, (struct image_change){.name = "Not a name"}), ERR_USAGE);
    /* alice/lab beside bob/data in one setup: neither may take the other's name. */
    struct setup_image both[] = {{.image = b.image}, {.image = bobs}};
    CHECK_OK(setup_create(b.c, "alice", "both", "alice", both, 2, &setup, &e));
    CHECK_FAILS(change(&b, (struct image_change){.name = "data"}), ERR_STATE);
    check_refused("setup alice/both has another image 'data'");
    CHECK_OK(change(&b, (struct image_change){.name = "data2"}));
    bench_close(&b);
}

static void a_new_name_or_kind_wants_the_script(void)
{
    struct bench b = bench_open();
    bench_queue(&b, false);
    bench_render(&b);
    CHECK_OK(change(&b, (struct image_change){.comment = "x", .compression = "none"}));
    CHECK_OK(change(&b, (struct image_change){.type = "user"}));
    CHECK(bench_script_wanted(&b));
    struct script_job job = bench_render(&b);
    CHECK(job.boot.keep);
    bench_close(&b);
}

/* What the machine keeps waits for the day that the image is temporal again. */
static void temporal_data_holds_its_version_and_nothing_else(void)
{
    struct bench b = bench_open();
    struct boot boot;
    CHECK_OK(change(&b, (struct image_change){.type = "temporal"}));
    bench_queue(&b, false);
    CHECK_OK(boot_lease(b.c, &b.mac, NULL, NULL, &boot, &e));
    CHECK(boot.images[0].temporal != 0);
    CHECK_OK(boot_end(b.c, "root", boot.id, BOOT_DISCARDED, "over", &e));
    publish(&b, 1);
    CHECK_FAILS(remove_version(&b, 0, true), ERR_STATE);
    check_refused("machine machine-525400000001 keeps what it wrote to it");
    CHECK_FAILS(image_remove(b.c, "root", &b.image, true, &e), ERR_STATE);
    check_keep(&b, 1, 0, false, "");
    bench_queue(&b, false);
    CHECK(bench_render(&b).boot.images[0].version == START);
    CHECK_OK(change(&b, (struct image_change){.type = "system"}));
    CHECK(bench_render(&b).boot.images[0].version == START + 1);
    bench_close(&b);
}

/* ---- rollback ------------------------------------------------------------------------------------------------ */

static void any_good_version_becomes_the_head(void)
{
    struct bench b = bench_open();
    publish(&b, 1);
    publish(&b, 2);
    bench_queue(&b, false);
    CHECK(bench_render(&b).boot.images[0].version == START + 2);
    CHECK_OK(image_rollback(b.c, "root", &b.image, START, &e));
    CHECK(head(&b) == START && bench_script_wanted(&b));
    CHECK(bench_render(&b).boot.images[0].version == START);
    int64_t events = bench_ask(&b, "SELECT count(*) FROM event");
    CHECK_OK(image_rollback(b.c, "root", &b.image, START, &e));
    CHECK(bench_ask(&b, "SELECT count(*) FROM event") == events);
    CHECK_OK(version_mark_damaged(b.c, &b.image, START + 1, "chunk 7", &e));
    CHECK_FAILS(image_rollback(b.c, "root", &b.image, START + 1, &e), ERR_STATE);
    CHECK_FAILS(image_rollback(b.c, "root", &b.image, START + 9, &e), ERR_NOT_FOUND);
    CHECK(head(&b) == START);
    /* What comes next is newer than all there ever were. */
    uint64_t next;
    CHECK_OK(version_choose(b.c, &b.image, 0, &next, &e));
    CHECK(next == START + 3);
    bench_close(&b);
}

/* An update boot from the head, and an import meanwhile: it ends as a branch. */
static uint64_t make_branch(struct bench *b)
{
    struct boot boot;
    enum boot_state state;
    bench_queue(b, true);
    CHECK_OK(boot_lease(b->c, &b->mac, NULL, NULL, &boot, &e));
    publish(b, 5);
    struct version_new v = bench_version(&b->image, START + 6, boot.images[0].version);
    CHECK_OK(boot_begin_end(b->c, "root", boot.id, ENDING_AUTO, "over", &e));
    CHECK_OK(boot_publish(b->c, boot.id, &v, 1, &state, &e));
    CHECK(state == BOOT_BRANCHED);
    return v.version;
}

static void a_branch_is_kept_until_it_is_taken(void)
{
    struct bench b = bench_open();
    uint64_t branch = make_branch(&b);
    CHECK(head(&b) == START + 5);
    CHECK_FAILS(remove_version(&b, 6, false), ERR_STATE);
    check_refused("it is a branch");
    check_keep(&b, 1, 0, true, "0");
    CHECK_OK(image_rollback(b.c, "root", &b.image, branch, &e));
    CHECK(bench_ask(&b, "SELECT count(*) FROM version WHERE branch") == 0);
    CHECK_OK(image_rollback(b.c, "root", &b.image, START, &e));
    CHECK_OK(remove_version(&b, 6, false));
    check_versions(&b, "0 5");
    bench_close(&b);
}

static void a_branch_goes_by_force(void)
{
    struct bench b = bench_open();
    make_branch(&b);
    CHECK_OK(remove_version(&b, 6, true));
    check_versions(&b, "0 5");
    bench_close(&b);
}

/* ---- remove a version ------------------------------------------------------------------------------------------ */

static void the_head_stays(void)
{
    struct bench b = bench_open();
    CHECK_FAILS(remove_version(&b, 0, true), ERR_STATE);
    check_refused("it is the only version; try: labboot image remove alice/lab");
    publish(&b, 1);
    CHECK_FAILS(remove_version(&b, 1, true), ERR_STATE);
    check_refused("try: labboot image rollback alice/lab --to VERSION");
    CHECK_FAILS(remove_version(&b, 2, false), ERR_NOT_FOUND);
    CHECK_OK(remove_version(&b, 0, false));
    check_versions(&b, "1");
    bench_close(&b);
}

static void a_boot_that_has_not_ended_keeps_its_base(void)
{
    struct bench b = bench_open();
    struct boot boot;
    bench_queue(&b, true);
    CHECK_OK(boot_lease(b.c, &b.mac, NULL, NULL, &boot, &e));
    publish(&b, 1);
    static const enum boot_state states[] = {BOOT_LEASED, BOOT_RUNNING, BOOT_COMMITTING, BOOT_INTERRUPTED};
    for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
        if (states[i] == BOOT_RUNNING)
            CHECK_OK(boot_start(b.c, boot.id, &e));
        if (states[i] > BOOT_RUNNING)
            end(&b, boot.id, states[i]);
        CHECK_FAILS(remove_version(&b, 0, true), ERR_STATE);
        check_refused("boot 1 of machine-525400000001 is ");
        CHECK_FAILS(image_remove(b.c, "root", &b.image, true, &e), ERR_STATE);
        check_keep(&b, 1, 0, false, "");
    }
    CHECK_OK(boot_end(b.c, "root", boot.id, BOOT_DISCARDED, "over", &e));
    CHECK_OK(remove_version(&b, 0, false));
    CHECK_OK(boot_get(b.c, boot.id, &boot, &e));
    CHECK(boot.images[0].version == START);
    bench_close(&b);
}

static void a_peg_holds_until_force(void)
{
    struct bench b = bench_open();
    bench_setup(b.c, "pegged", b.image, START, false);
    publish(&b, 1);
    CHECK_FAILS(remove_version(&b, 0, false), ERR_STATE);
    check_refused("setup alice/pegged pegs it");
    check_keep(&b, 1, 0, false, "");
    CHECK_OK(remove_version(&b, 0, true));
    CHECK(bench_ask(&b, "SELECT count(*) FROM setup_image WHERE version IS NULL") == 2);
    bench_close(&b);
}

/* A machine may have fetched its script: for ten minutes after that was rendered anew. */
static void a_token_holds_for_ten_minutes(void)
{
    struct bench b = bench_open();
    bench_queue(&b, false);
    bench_render(&b);
    publish(&b, 1);
    CHECK_FAILS(remove_version(&b, 0, false), ERR_STATE);
    check_refused("boot 1 of machine-525400000001 may start with it");
    bench_render(&b);
    db_set_now(b.c, START + TOKEN_GRACE - 1);
    CHECK_FAILS(remove_version(&b, 0, false), ERR_STATE);
    check_keep(&b, 1, 0, false, "");
    db_set_now(b.c, START + TOKEN_GRACE);
    check_keep(&b, 1, 0, false, "0");
    CHECK(bench_render(&b).boot.id == 0);
    bench_close(&b);
}

static void force_takes_a_token_away(void)
{
    struct bench b = bench_open();
    struct boot boot;
    bench_queue(&b, false);
    struct script_job old = bench_render(&b);
    publish(&b, 1);
    struct script_job now = bench_render(&b);
    CHECK_OK(remove_version(&b, 0, true));
    CHECK_FAILS(boot_lease(b.c, &b.mac, old.boot.token, NULL, &boot, &e), ERR_NOT_FOUND);
    CHECK_OK(boot_lease(b.c, &b.mac, now.boot.token, NULL, &boot, &e));
    bench_close(&b);
}

/* ---- keep -------------------------------------------------------------------------------------------------------- */

static void the_newest_stay(void)
{
    struct bench b = bench_open();
    for (unsigned n = 1; n <= 5; n++)
        publish(&b, n);
    check_keep(&b, 3, 0, true, "0 1 2");
    check_versions(&b, "0 1 2 3 4 5");
    CHECK_OK(image_rollback(b.c, "root", &b.image, START + 1, &e));
    check_keep(&b, 3, 1, false, "");
    db_set_now(b.c, START + 86400);
    check_keep(&b, 3, 2, false, "");
    check_keep(&b, 3, 1, false, "0 2");
    check_versions(&b, "1 3 4 5");
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'version-removed'") == 2);
    bench_close(&b);
}

/* ---- remove an image ----------------------------------------------------------------------------------------------- */

static void setups_hold_an_image_until_force(void)
{
    struct bench b = bench_open();
    struct setup_image left[SETUP_IMAGES_MAX];
    struct uuid setup, data = bench_image(b.c, "data", "alice", "user"),
                       more = bench_image(b.c, "more", "alice", "user");
    struct setup_image three[] = {{.image = b.image}, {.image = data, .update = true}, {.image = more}};
    size_t count;
    CHECK_OK(setup_create(b.c, "alice", "three", "alice", three, 3, &setup, &e));
    bench_machine(b.c, 2, &setup);
    CHECK_FAILS(image_remove(b.c, "root", &b.image, false, &e), ERR_STATE);
    check_refused("image alice/lab: setup alice/desk has it; setup alice/three has it, the default of "
                  "machine-525400000002");
    bench_queue(&b, false);
    bench_render(&b);
    CHECK_OK(image_remove(b.c, "root", &b.image, true, &e));
    CHECK(
        bench_ask(
            &b,
            "SELECT state = 'cancelled' AND result = 'its setup has no disk left' FROM boot WHERE id = 1") ==
        1);
    CHECK(bench_script_wanted(&b));
    CHECK_OK(setup_images(b.c, &setup, left, &count, &e));
    CHECK(count == 2 && uuid_equal(&left[0].image, &data) && left[0].update &&
          uuid_equal(&left[1].image, &more));
    CHECK(bench_ask(&b, "SELECT group_concat(position) = '0,1' FROM setup_image") == 1);
    CHECK(bench_ask(&b, "SELECT count(*) FROM version WHERE image NOT IN (SELECT uuid FROM image)") == 0);
    CHECK_FAILS(image_remove(b.c, "root", &b.image, true, &e), ERR_NOT_FOUND);
    bench_close(&b);
}

static void history_survives_the_image(void)
{
    struct bench b = bench_open();
    struct boot boot;
    struct uuid other = bench_image(b.c, "other", "alice", "system");
    b.setup = bench_setup(b.c, "others", other, 0, false);
    bench_queue(&b, false);
    CHECK_OK(boot_lease(b.c, &b.mac, NULL, NULL, &boot, &e));
    CHECK_OK(boot_end(b.c, "root", boot.id, BOOT_DISCARDED, "over", &e));
    CHECK_OK(image_remove(b.c, "root", &other, true, &e));
    CHECK_OK(boot_get(b.c, boot.id, &boot, &e));
    CHECK_STR(boot.images[0].name, "other");
    CHECK(
        bench_ask(
            &b, "SELECT count(*) FROM event WHERE what = 'image-removed' AND object = 'image alice/other'") ==
        1);
    bench_close(&b);
}

/* ---- kernels ------------------------------------------------------------------------------------------------------- */

static struct uuid image_without_kernel(struct bench *b, const char *name, const char *type)
{
    struct uuid image = bench_image(b->c, name, "alice", type);
    char uuid[UUID_TEXT_SIZE];
    cleanup(free) char *sql =
        path_format("UPDATE version SET kernel = NULL WHERE image = '%s'", uuid_to_text(&image, uuid));
    bench_ask(b, sql);
    return image;
}

static void a_root_without_kernel_boots_that_of_a_boot_image(void)
{
    struct bench b = bench_open();
    char warning[TEXT_SIZE];
    int64_t id;
    struct uuid root = image_without_kernel(&b, "root", "system"),
                data = bench_image(b.c, "data", "alice", "user"),
                boot = bench_image(b.c, "kernels", "alice", "boot"),
                late = bench_image(b.c, "late", "alice", "boot");
    struct setup_image with[] = {
        {.image = root}, {.image = data}, {.image = boot, .version = START}, {.image = late}};
    CHECK_OK(setup_create(b.c, "alice", "with", "alice", with, 4, &b.setup, &e));
    /* The setup pegs it: a newer one changes nothing. */
    struct version_new newer = bench_version(&boot, START + 1, START);
    newer.kernel = "6.9-newer";
    CHECK_OK(version_publish(b.c, "alice", NULL, &newer, &e));
    CHECK_OK(boot_queue(b.c, "alice", &b.mac, &b.setup, false, NULL, &id, warning, &e));
    CHECK_STR(warning, "");
    struct script_job job = bench_render(&b);
    CHECK(job.kernel_image == 2 && job.boot.images[2].version == START);
    CHECK_STR(job.kernel, "6.1.0-37-cloud-amd64");
    /* A root with a kernel of its own boots that. */
    with[0].image = b.image;
    CHECK_OK(setup_create(b.c, "alice", "own", "alice", with, 4, &b.setup, &e));
    CHECK_OK(boot_cancel(b.c, "alice", id, &e));
    bench_queue(&b, false);
    CHECK(bench_render(&b).kernel_image == 0);
    bench_close(&b);
}

static void no_kernel_anywhere_is_warned_about(void)
{
    struct bench b = bench_open();
    char warning[TEXT_SIZE];
    int64_t id;
    struct uuid root = image_without_kernel(&b, "root", "system"),
                boot = image_without_kernel(&b, "kernels", "boot");
    struct setup_image with[] = {{.image = root}, {.image = boot}};
    CHECK_OK(setup_create(b.c, "alice", "with", "alice", with, 2, &b.setup, &e));
    CHECK_OK(boot_queue(b.c, "alice", &b.mac, &b.setup, false, NULL, &id, warning, &e));
    CHECK(strstr(warning, "root@1795460000 has no kernel and initrd, and no image of kind boot"));
    struct script_job job = bench_render(&b);
    CHECK(job.kernel_image == 0);
    CHECK_STR(job.kernel, "");
    bench_close(&b);
}

int main(void)
{
    UNIT(a_change_is_one_event);
    UNIT(names_stay_unique);
    UNIT(a_new_name_or_kind_wants_the_script);
    UNIT(temporal_data_holds_its_version_and_nothing_else);
    UNIT(any_good_version_becomes_the_head);
    UNIT(a_branch_is_kept_until_it_is_taken);
    UNIT(a_branch_goes_by_force);
    UNIT(the_head_stays);
    UNIT(a_boot_that_has_not_ended_keeps_its_base);
    UNIT(a_peg_holds_until_force);
    UNIT(a_token_holds_for_ten_minutes);
    UNIT(force_takes_a_token_away);
    UNIT(the_newest_stay);
    UNIT(setups_hold_an_image_until_force);
    UNIT(history_survives_the_image);
    UNIT(a_root_without_kernel_boots_that_of_a_boot_image);
    UNIT(no_kernel_anywhere_is_warned_about);
    return 0;
}
