/* SPDX-License-Identifier: BSD-3-Clause */
/* catalog/: users, machines, addresses, images, setups, requests, events. */
#include "tests/unit/catalog-bench.h"

#include "lib/base/bytes.h"

/* ---- people, machines ---------------------------------------------------------------------------------- */

static void users_are_checked(void)
{
    struct bench b = bench_open();
    CHECK_FAILS(user_add(b.c, "root", "alice", "", "other@example.org", "user", &e), ERR_STATE);
    CHECK_FAILS(user_add(b.c, "root", "bob", "", "alice@example.org", "user", &e), ERR_STATE);
    CHECK_FAILS(user_add(b.c, "root", "Bob", "", "b@example.org", "user", &e), ERR_USAGE);
    CHECK_FAILS(user_add(b.c, "root", "bob", "", "b@example.org", "king", &e), ERR_USAGE);
    CHECK_STR(e.msg, "a role is user, moderator or admin");
    CHECK_FAILS(user_add(b.c, "root", "bob", "", "no address", NULL, &e), ERR_USAGE);
    CHECK_FAILS(user_add(b.c, "root", "bob", "", NULL, NULL, &e), ERR_USAGE);
    CHECK_OK(user_add(b.c, "root", "bob", NULL, "b@example.org", "admin", &e));
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'user-added' AND object = 'user bob'") == 1);
    bench_close(&b);
}

static void all_that_there_is(void)
{
    struct bench b = bench_open();
    cleanup(free) struct user *users = NULL;
    cleanup(free) struct setup *setups = NULL;
    size_t nusers, nsetups;
    struct uuid setup;
    CHECK_OK(user_add(b.c, "root", "bob", "Bob", "b@example.org", "moderator", &e));
    CHECK_OK(users_all(b.c, &users, &nusers, &e));
    CHECK_OK(setups_all(b.c, &setups, &nsetups, &e));
    CHECK(nusers == 2 && users[1].role == ROLE_MODERATOR && nsetups == 1);
    CHECK_STR(users[1].name, "Bob");
    CHECK_STR(users[1].email, "b@example.org");
    CHECK_STR(setups[0].owner, "alice");
    CHECK_OK(machine_default(b.c, &b.mac, &setup, &e));
    CHECK(uuid_is_zero(&setup));
    bench_close(&b);
}

static void owners_are_known(void)
{
    struct bench b = bench_open();
    CHECK_OK(user_add(b.c, "root", "bob", "", "b@example.org", "admin", &e));
    CHECK_FAILS(user_check_owns_nothing(b.c, "alice", &e), ERR_STATE);
    CHECK_STR(e.msg, "user alice still owns: image lab, setup desk");
    CHECK_OK(user_check_owns_nothing(b.c, "bob", &e));
    bench_close(&b);
}

static void views_go_with_their_transaction(void)
{
    struct bench b = bench_open();
    for (int i = 0; i < 2; i++) {
        cleanup(free) char *json = NULL;
        cleanup(tx) struct catalog *tx = NULL;
        CHECK_OK(tx_begin(b.c, &tx, &e));
        cleanup(tx) struct catalog *inner = NULL;
        CHECK_OK(tx_begin(b.c, &inner, &e));
        CHECK_OK(query_json(b.c, QUERY_USERS, NULL, &json, &e)); /* again, after all was rolled back */
        if (i == 0)
            CHECK_OK(tx_commit(&inner, &e));
    }
    bench_close(&b);
}

static void machines_by_any_name(void)
{
    struct bench b = bench_open();
    struct mac more[] = {bench_mac(101), bench_mac(102)}, *macs;
    struct machine_new new = {
        .mac = bench_mac(100), .more = more, .nmore = 2, .name = "desk-7", .managed = true};
    struct machine m;
    size_t count;
    CHECK_OK(machine_add(b.c, "root", &new, &e));
    CHECK_OK(machine_find(b.c, "desk-7", &m, &e));
    CHECK_STR(m.name, "desk-7");
    CHECK_STR(m.architecture, "x86_64");
    CHECK(m.managed && mac_equal(&m.mac, &new.mac));
    CHECK_OK(machine_find(b.c, "5254.0000.0066", &m, &e));
    CHECK_STR(m.name, "desk-7");
    CHECK_OK(machine_by_mac(b.c, &more[0], &m, &e));
    CHECK_OK(machine_macs(b.c, &more[1], &macs, &count, &e));
    CHECK(count == 3 && mac_equal(&macs[0], &new.mac) && mac_equal(&macs[2], &more[1]));
    free(macs);
    CHECK_OK(machine_find(b.c, "machine-525400000001", &m, &e));
    CHECK_FAILS(machine_find(b.c, "52-54-00-00-77-77", &m, &e), ERR_NOT_FOUND);
    CHECK_FAILS(machine_find(b.c, "525400007777", &m, &e), ERR_NOT_FOUND);
    CHECK_FAILS(machine_find(b.c, "desk-8", &m, &e), ERR_NOT_FOUND);
    CHECK_FAILS(machine_find(b.c, "Desk 8", &m, &e), ERR_USAGE);
    struct machine *all;
    CHECK_OK(machines_all(b.c, &all, &count, &e));
    CHECK(count == 2 && mac_equal(&all[0].mac, &new.mac));
    free(all);
    struct mac none = bench_mac(999);
    CHECK_FAILS(machine_macs(b.c, &none, &macs, &count, &e), ERR_NOT_FOUND);
    bench_close(&b);
}

static void machines_are_checked(void)
{
    struct bench b = bench_open();
    struct mac first = bench_mac(1), more = bench_mac(3);
    struct uuid nowhere;
    uuid_make(&nowhere);
    struct machine_new new = {.mac = bench_mac(2), .name = "machine-525400000001", .managed = true};
    CHECK_FAILS(machine_add(b.c, "root", &new, &e), ERR_STATE);
    new = (struct machine_new){.mac = bench_mac(2), .more = &first, .nmore = 1};
    CHECK_FAILS(machine_add(b.c, "root", &new, &e), ERR_STATE);
    new = (struct machine_new){.mac = bench_mac(2), .architecture = "vax"};
    CHECK_FAILS(machine_add(b.c, "root", &new, &e), ERR_USAGE);
    new = (struct machine_new){.mac = bench_mac(2), .default_setup = &nowhere};
    CHECK_FAILS(machine_add(b.c, "root", &new, &e), ERR_NOT_FOUND);
    new = (struct machine_new){.mac = bench_mac(2), .name = "no_good"};
    CHECK_FAILS(machine_add(b.c, "root", &new, &e), ERR_USAGE);
    new = (struct machine_new){.mac = bench_mac(2), .more = (struct mac[]){more, more}, .nmore = 2};
    CHECK_FAILS(machine_add(b.c, "root", &new, &e), ERR_STATE);
    CHECK(bench_ask(&b, "SELECT count(*) FROM machine") == 1);
    CHECK(bench_ask(&b, "SELECT count(*) FROM machine_mac") == 1);
    bench_close(&b);
}

/* ---- addresses ----------------------------------------------------------------------------------------- */

struct seen {
    size_t count;
    struct in6_addr last;
};

static int see(void *ctx, const struct mac *mac, const struct in6_addr *address, const char *name,
               struct err *err)
{
    struct seen *s = ctx;
    CHECK(mac->b[0] == 0x52 && name[0]);
    CHECK(s->count == 0 || memcmp(&s->last, address, sizeof *address) < 0);
    s->last = *address;
    if (++s->count == 100)
        return err_set(err, ERR_FAILED, "enough");
    return 0;
}

static void addresses_are_stable(void)
{
    struct bench b = bench_open();
    struct in6_addr first = bench_ip("10.0.0.254"), last = bench_ip("10.0.1.1"), a;
    struct mac stranger = bench_mac(500), one = bench_mac(1), two = bench_mac(2);
    struct machine_new unmanaged = {.mac = bench_mac(9)};
    struct seen seen = {0};
    CHECK_OK(machine_add(b.c, "root", &unmanaged, &e));
    /* .255 is leased to somebody else. */
    struct in6_addr leased = bench_ip("10.0.0.255");
    CHECK_OK(lease_record(b.c, &stranger, &leased, 0, &e));
    CHECK_FAILS(address_of_mac(b.c, &one, &a, &e), ERR_NOT_FOUND);
    CHECK_OK(address_assign_all(b.c, &first, &last, &e));
    bench_machine(b.c, 2, NULL);
    CHECK_OK(address_assign_all(b.c, &first, &last, &e));
    CHECK_OK(address_of_mac(b.c, &one, &a, &e));
    CHECK(memcmp(&a, &first, sizeof a) == 0);
    CHECK_OK(address_of_mac(b.c, &two, &a, &e));
    a.s6_addr[15]++;
    CHECK(memcmp(&a, &last, sizeof a) == 0); /* 10.0.1.0 and one more */
    CHECK_OK(address_each(b.c, see, &seen, &e));
    CHECK(seen.count == 2);
    seen = (struct seen){.count = 99};
    seen.last = bench_ip("1.1.1.1");
    CHECK_FAILS(address_each(b.c, see, &seen, &e), ERR_FAILED);
    bench_machine(b.c, 3, NULL);
    bench_machine(b.c, 4, NULL);
    CHECK_FAILS(address_assign_all(b.c, &first, &last, &e), ERR_STATE);
    CHECK(bench_ask(&b, "SELECT count(*) FROM address") == 2);
    CHECK_FAILS(address_assign_all(b.c, &last, &first, &e), ERR_USAGE);
    bench_close(&b);
}

static struct machine_disk disk_of(struct bench *b, unsigned n)
{
    struct machine_disk disk;
    struct mac mac = bench_mac(n);
    CHECK_OK(machine_disk_get(b->c, &mac, &disk, &e));
    return disk;
}

static void a_machine_has_a_disk_of_its_own(void)
{
    struct bench b = bench_open();
    struct machine_disk disk = disk_of(&b, 1);
    CHECK(disk.size == 128 << 20);
    CHECK_STR(disk.filesystem, "ext4");
    struct machine_new new = {
        .mac = bench_mac(2), .name = "machine", .disk_size = 3 << 20, .disk_filesystem = "fat32"};
    CHECK_OK(machine_add(b.c, "root", &new, &e));
    disk = disk_of(&b, 2);
    CHECK(disk.size == 3 << 20);
    CHECK_STR(disk.filesystem, "fat32");
    new = (struct machine_new){.mac = bench_mac(3), .disk_size = (3 << 20) + 1024};
    CHECK_FAILS(machine_add(b.c, "root", &new, &e), ERR_USAGE);
    new = (struct machine_new){.mac = bench_mac(3), .disk_filesystem = "xfs"};
    CHECK_FAILS(machine_add(b.c, "root", &new, &e), ERR_USAGE);

    /* No command for images takes it for one of its own. */
    struct image i;
    char uuid[UUID_TEXT_SIZE];
    uuid_to_text(&disk.image, uuid);
    CHECK_FAILS(image_find(b.c, uuid, "alice", &i, &e), ERR_NOT_FOUND);
    CHECK_FAILS(image_find(b.c, "machine-525400000002", "alice", &i, &e), ERR_NOT_FOUND);
    CHECK(bench_ask(&b, "SELECT count(*) FROM image WHERE type = 'machine'") == 2);
    bench_close(&b);
}

static void set_machine(struct bench *b, const struct machine_change *change)
{
    CHECK_OK(machine_set(b->c, "root", &b->mac, change, &e));
}

static void machines_change(void)
{
    static const bool no = false;
    struct bench b = bench_open();
    struct machine m;
    int64_t id = bench_queue(&b, false);
    bench_render(&b);
    set_machine(&b, &(struct machine_change){.name = "desk-1", .architecture = "Arm64"});
    CHECK(bench_script_wanted(&b));
    CHECK_OK(machine_find(b.c, "desk-1", &m, &e));
    CHECK_STR(m.architecture, "Arm64");
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'machine-changed' AND actor = 'root' AND "
                        "detail = 'name desk-1, architecture Arm64'") == 1);
    /* Once more is no change, and no event. */
    set_machine(&b, &(struct machine_change){.name = "desk-1", .disk_size = 128 << 20});
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'machine-changed'") == 1);

    set_machine(&b, &(struct machine_change){.change_default = true, .default_setup = &b.setup});
    bench_render(&b);
    CHECK_OK(boot_cancel(b.c, "root", id, &e));
    bench_render(&b); /* makes the row of the default boot */
    set_machine(&b, &(struct machine_change){.change_default = true});
    CHECK(bench_ask(&b, "SELECT count(*) FROM boot WHERE state = 'queued'") == 0);
    CHECK(bench_ask(&b, "SELECT default_setup IS NULL FROM machine") == 1);

    id = bench_queue(&b, false);
    set_machine(&b, &(struct machine_change){.managed = &no});
    CHECK(bench_ask(&b, "SELECT state = 'cancelled' FROM boot ORDER BY id DESC") == 1);
    CHECK(bench_render(&b).kind == SCRIPT_LOCAL);

    set_machine(&b, &(struct machine_change){.disk_size = 256 << 20, .disk_filesystem = "raw"});
    CHECK(disk_of(&b, 1).size == 256 << 20);
    CHECK_STR(disk_of(&b, 1).filesystem, "raw");
    struct machine_change smaller = {.disk_size = 128 << 20, .name = "other"};
    CHECK_FAILS(machine_set(b.c, "root", &b.mac, &smaller, &e), ERR_STATE);
    CHECK(strstr(e.msg, "its disk has 256M, and can only grow"));
    CHECK_FAILS(machine_find(b.c, "other", &m, &e), ERR_NOT_FOUND);
    bench_close(&b);
}

static void macs_come_and_go(void)
{
    struct bench b = bench_open();
    struct mac second = bench_mac(2), third = bench_mac(3), other = bench_mac(9), *macs;
    struct machine m;
    size_t count;
    int64_t id = bench_queue(&b, false);
    bench_machine(b.c, 9, NULL);
    set_machine(&b, &(struct machine_change){.add = (struct mac[]){second, third}, .nadd = 2});
    set_machine(&b, &(struct machine_change){.remove = &third, .nremove = 1});
    CHECK_FAILS(machine_by_mac(b.c, &third, &m, &e), ERR_NOT_FOUND);
    struct machine_change clash = {.add = &other, .nadd = 1}, not_its = {.remove = &third, .nremove = 1};
    CHECK_FAILS(machine_set(b.c, "root", &b.mac, &clash, &e), ERR_STATE);
    CHECK(strstr(e.msg, "is machine 'machine-525400000009' already"));
    CHECK_FAILS(machine_set(b.c, "root", &b.mac, &not_its, &e), ERR_NOT_FOUND);
    struct machine_change name = {.name = "machine-525400000009"};
    CHECK_FAILS(machine_set(b.c, "root", &b.mac, &name, &e), ERR_STATE);

    /* Another card in the same machine: its queue and its disk follow. */
    struct uuid image = disk_of(&b, 1).image;
    struct machine_change key = {.remove = &b.mac, .nremove = 1};
    set_machine(&b, &key);
    struct uuid now = disk_of(&b, 2).image;
    CHECK(uuid_equal(&image, &now));
    CHECK_OK(machine_macs(b.c, &second, &macs, &count, &e));
    CHECK(count == 1 && mac_equal(&macs[0], &second));
    free(macs);
    struct boot boot;
    CHECK_OK(boot_next(b.c, &second, &boot, &e));
    CHECK(boot.id == id && mac_equal(&boot.machine, &second));
    struct machine_change last = {.remove = &second, .nremove = 1};
    CHECK_FAILS(machine_set(b.c, "root", &second, &last, &e), ERR_STATE);

    /* The scripts of both MACs that went are to go. */
    struct mac gone;
    for (int i = 0; i < 2; i++) {
        CHECK_OK(script_gone_next(b.c, &gone, &e));
        CHECK(mac_equal(&gone, &third) || mac_equal(&gone, &b.mac));
        CHECK_OK(script_gone_done(b.c, &gone, &e));
    }
    CHECK_FAILS(script_gone_next(b.c, &gone, &e), ERR_NOT_FOUND);
    bench_close(&b);
}

static void a_boot_that_runs_holds_its_machine(void)
{
    static const bool no = false;
    struct bench b = bench_open();
    struct boot boot;
    struct mac second = bench_mac(2);
    struct machine_remains gone;
    bench_queue(&b, true);
    set_machine(&b, &(struct machine_change){.add = &second, .nadd = 1});
    CHECK_OK(boot_lease(b.c, &b.mac, NULL, NULL, &boot, &e));
    const struct machine_change refused[] = {{.managed = &no},
                                             {.disk_size = 256 << 20},
                                             {.disk_filesystem = "raw"},
                                             {.remove = &b.mac, .nremove = 1}};
    for (size_t i = 0; i < 4; i++) {
        CHECK_FAILS(machine_set(b.c, "root", &b.mac, &refused[i], &e), ERR_STATE);
        CHECK(strstr(e.msg, "while its boot 1 is leased; try: labboot boot end 1"));
    }
    set_machine(&b, &(struct machine_change){.name = "desk-1"});
    CHECK_FAILS(machine_remove(b.c, "root", &b.mac, true, &gone, &e), ERR_STATE);
    CHECK_STR(e.msg, "boot 1 of machine 'desk-1' is leased; try: labboot boot end 1");
    CHECK_OK(boot_end(b.c, "server", boot.id, BOOT_INTERRUPTED, "not clean", &e));
    CHECK_FAILS(machine_remove(b.c, "root", &b.mac, false, &gone, &e), ERR_STATE);
    CHECK(strstr(e.msg, "or --force"));
    CHECK(bench_ask(&b, "SELECT count(*) FROM machine") == 1);
    CHECK_OK(machine_remove(b.c, "root", &b.mac, true, &gone, &e));
    CHECK(gone.nboots == 1 && gone.boots[0] == boot.id);
    free(gone.boots);
    free(gone.temporals);
    bench_close(&b);
}

static void a_removed_machine_leaves_its_trail(void)
{
    struct bench b = bench_open();
    struct machine_remains gone;
    struct mac mac;
    struct in6_addr a = bench_ip("10.0.0.5"), last = bench_ip("10.0.0.9");
    CHECK_OK(address_assign_all(b.c, &a, &last, &e));
    CHECK_OK(lease_record(b.c, &b.mac, &a, 0, &e));
    bench_queue(&b, false);
    struct uuid image = disk_of(&b, 1).image;
    CHECK_OK(machine_remove(b.c, "root", &b.mac, false, &gone, &e));
    CHECK(uuid_equal(&gone.image, &image) && gone.nboots == 1);
    free(gone.boots);
    free(gone.temporals);
    CHECK(bench_ask(&b, "SELECT (SELECT count(*) FROM machine) + (SELECT count(*) FROM machine_mac) + "
                        "(SELECT count(*) FROM address) + (SELECT count(*) FROM lease) + "
                        "(SELECT count(*) FROM boot) + (SELECT count(*) FROM machine_image) + "
                        "(SELECT count(*) FROM image WHERE type = 'machine')") == 0);
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE machine = '52:54:00:00:00:01' AND what IN "
                        "('machine-removed', 'boot-cancelled')") == 2);
    CHECK_OK(script_gone_next(b.c, &mac, &e));
    CHECK(mac_equal(&mac, &b.mac));
    bench_machine(b.c, 1, NULL); /* comes again: its script is wanted, not gone */
    CHECK_FAILS(script_gone_next(b.c, &mac, &e), ERR_NOT_FOUND);
    CHECK_FAILS(machine_remove(b.c, "root", &(struct mac){{2}}, false, &gone, &e), ERR_NOT_FOUND);
    bench_close(&b);
}

static void leases_make_an_address_a_machines(void)
{
    struct bench b = bench_open();
    struct in6_addr a = bench_ip("10.0.0.7"), assigned = bench_ip("10.0.0.1");
    struct mac one = bench_mac(1), stranger = bench_mac(500);
    struct machine m;
    CHECK_FAILS(machine_by_address(b.c, &a, &m, &e), ERR_NOT_FOUND);
    CHECK_OK(lease_record(b.c, &one, &a, START + 60, &e));
    CHECK_OK(lease_record(b.c, &one, &a, START + 90, &e));
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'lease-given'") == 1);
    CHECK_OK(machine_by_address(b.c, &a, &m, &e));
    CHECK(mac_equal(&m.mac, &one));
    db_set_now(b.c, START + 90);
    CHECK_FAILS(machine_by_address(b.c, &a, &m, &e), ERR_NOT_FOUND);
    CHECK_OK(lease_record(b.c, &one, &a, 0, &e));
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'lease-given'") == 2);
    CHECK_OK(machine_by_address(b.c, &a, &m, &e));
    /* Given to another MAC since. */
    CHECK_OK(lease_record(b.c, &stranger, &a, 0, &e));
    CHECK_FAILS(machine_by_address(b.c, &a, &m, &e), ERR_NOT_FOUND);
    CHECK_OK(lease_remove(b.c, &one, &a, &e));
    CHECK_OK(lease_remove(b.c, &stranger, &a, &e));
    CHECK_OK(lease_remove(b.c, &stranger, &a, &e));
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'lease-ended'") == 1);
    /* An assignment wins over a lease. */
    CHECK_OK(address_assign_all(b.c, &assigned, &assigned, &e));
    CHECK_OK(lease_record(b.c, &stranger, &assigned, 0, &e));
    CHECK_OK(machine_by_address(b.c, &assigned, &m, &e));
    CHECK(mac_equal(&m.mac, &one));
    bench_close(&b);
}

/* ---- images, versions, setups -------------------------------------------------------------------------- */

static void images_by_name(void)
{
    struct bench b = bench_open();
    struct image i;
    uint64_t v;
    char text[UUID_TEXT_SIZE];
    CHECK_OK(user_add(b.c, "root", "bob", NULL, "b@example.org", NULL, &e));
    CHECK_OK(image_find(b.c, "lab", NULL, &i, &e));
    CHECK_STR(i.owner, "alice");
    CHECK(i.head == START && i.last_version == START);
    struct uuid bobs = bench_image(b.c, "lab", "bob", "user");
    CHECK_FAILS(image_find(b.c, "lab", NULL, &i, &e), ERR_STATE);
    CHECK(strstr(e.msg, "alice/lab, bob/lab"));
    CHECK_OK(image_find(b.c, "lab", "bob", &i, &e));
    CHECK(uuid_equal(&i.uuid, &bobs));
    CHECK_OK(image_find(b.c, "alice/lab", "bob", &i, &e));
    CHECK(uuid_equal(&i.uuid, &b.image));
    CHECK_OK(image_find(b.c, uuid_to_text(&bobs, text), NULL, &i, &e));
    CHECK_STR(i.type, "user");
    struct image *all;
    size_t count;
    CHECK_OK(images_all(b.c, &all, &count, &e));
    CHECK(count == 2 && uuid_equal(&all[0].uuid, &b.image) && uuid_equal(&all[1].uuid, &bobs));
    free(all);
    CHECK_FAILS(image_find(b.c, "nothing", "bob", &i, &e), ERR_NOT_FOUND);
    CHECK_FAILS(image_find(b.c, "bob/nothing", NULL, &i, &e), ERR_NOT_FOUND);
    CHECK_FAILS(image_find(b.c, "bob/../lab", NULL, &i, &e), ERR_USAGE);
    CHECK_FAILS(image_find(b.c, "'; DROP TABLE image; --", NULL, &i, &e), ERR_USAGE);
    CHECK_FAILS(image_find(b.c, "12345678-1234-4234-8234-123456789abc", NULL, &i, &e), ERR_NOT_FOUND);
    CHECK_OK(image_version_find(b.c, "alice/lab@1795460000", NULL, &i, &v, &e));
    CHECK(v == START && uuid_equal(&i.uuid, &b.image));
    CHECK_OK(image_version_find(b.c, "alice/lab@latest", NULL, &i, &v, &e));
    CHECK_OK(image_version_find(b.c, "alice/lab", NULL, &i, &v, &e));
    CHECK_FAILS(image_version_find(b.c, "alice/lab@7", NULL, &i, &v, &e), ERR_NOT_FOUND);
    CHECK_FAILS(image_version_find(b.c, "alice/lab@x", NULL, &i, &v, &e), ERR_USAGE);
    CHECK_FAILS(image_version_find(b.c, "carol/lab@1", NULL, &i, &v, &e), ERR_NOT_FOUND);
    bench_close(&b);
}

static void versions_are_numbered(void)
{
    struct bench b = bench_open();
    struct uuid none;
    uint64_t v;
    uuid_make(&none);
    CHECK_OK(version_choose(b.c, &none, 0, &v, &e));
    CHECK(v == START);
    CHECK_OK(version_choose(b.c, &b.image, 0, &v, &e));
    CHECK(v == START + 1);
    CHECK_OK(version_choose(b.c, &b.image, START + 50, &v, &e));
    CHECK(v == START + 50);
    db_set_now(b.c, START - 1000); /* a clock that went backwards */
    CHECK_OK(version_choose(b.c, &b.image, 0, &v, &e));
    CHECK(v == START + 1);
    db_set_now(b.c, START + 1000);
    CHECK_OK(version_choose(b.c, &b.image, 0, &v, &e));
    CHECK(v == START + 1000);
    CHECK(version_exists(b.c, &b.image, START) && !version_exists(b.c, &b.image, 5));
    /* One that was removed keeps its number. */
    struct version_new next = bench_version(&b.image, START + 9, START);
    CHECK_OK(version_publish(b.c, "alice", NULL, &next, &e));
    CHECK(bench_ask(&b, "UPDATE image SET head = 1795460000 WHERE name = 'lab'") == -1);
    CHECK(bench_ask(&b, "DELETE FROM version WHERE number = 1795460009") == -1);
    db_set_now(b.c, START);
    CHECK_OK(version_choose(b.c, &b.image, 0, &v, &e));
    CHECK(v == START + 10);
    bench_close(&b);
}

static void published_versions_are_checked(void)
{
    struct bench b = bench_open();
    struct image i = {.name = "done",
                      .owner = "alice",
                      .type = "system",
                      .compression = "zstd",
                      .file_type = "raw",
                      .filesystem = "ext4"};
    uuid_make(&i.uuid);
    struct version_new v = bench_version(&i.uuid, START, 0);
    CHECK_FAILS(version_publish(b.c, "alice", &i, &v, &e), ERR_USAGE);
    strcpy(i.name, "machine");
    CHECK_FAILS(version_publish(b.c, "alice", &i, &v, &e), ERR_USAGE);
    strcpy(i.name, "../lab");
    CHECK_FAILS(version_publish(b.c, "alice", &i, &v, &e), ERR_USAGE);
    strcpy(i.name, "lab");
    CHECK_FAILS(version_publish(b.c, "alice", &i, &v, &e), ERR_STATE);
    strcpy(i.name, "new");
    strcpy(i.owner, "carol");
    CHECK_FAILS(version_publish(b.c, "alice", &i, &v, &e), ERR_NOT_FOUND);
    strcpy(i.owner, "alice");
    strcpy(i.file_type, "vdi");
    CHECK_FAILS(version_publish(b.c, "alice", &i, &v, &e), ERR_USAGE);
    CHECK(strstr(e.msg, "file type is raw or qcow2"));
    strcpy(i.file_type, "raw");
    v.parent = START;
    CHECK_FAILS(version_publish(b.c, "alice", &i, &v, &e), ERR_USAGE);
    CHECK(bench_ask(&b, "SELECT count(*) FROM image WHERE owner IS NOT NULL") == 1);
    v = bench_version(&b.image, START, 0);
    CHECK_FAILS(version_publish(b.c, "alice", NULL, &v, &e), ERR_STATE);
    v = bench_version(&i.uuid, START, 0);
    CHECK_FAILS(version_publish(b.c, "alice", NULL, &v, &e), ERR_NOT_FOUND);
    v = bench_version(&b.image, START + 1, START);
    CHECK_OK(version_publish(b.c, "alice", NULL, &v, &e));
    CHECK_OK(image_by_uuid(b.c, &b.image, &i, &e));
    CHECK(i.head == START + 1 && i.last_version == START + 1);
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE object = 'image alice/lab@1795460001'") == 1);
    bench_close(&b);
}

static void damage_is_told_once(void)
{
    struct bench b = bench_open();
    int64_t id;
    CHECK_FAILS(version_mark_damaged(b.c, &b.image, 4, "chunk 7", &e), ERR_NOT_FOUND);
    CHECK_OK(version_mark_damaged(b.c, &b.image, START, "chunk 7", &e));
    CHECK_OK(version_mark_damaged(b.c, &b.image, START, "chunk 8", &e));
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'version-damaged' AND detail = 'chunk 7'") ==
          1);
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE detail = 'chunk 8'") == 0);
    CHECK_FAILS(boot_queue(b.c, "alice", &b.mac, &b.setup, false, NULL, &id, NULL, &e), ERR_STATE);
    CHECK(strstr(e.msg, "damaged"));
    bench_close(&b);
}

static void setups_are_checked(void)
{
    struct bench b = bench_open();
    struct uuid ret, second;
    struct setup found;
    CHECK_OK(user_add(b.c, "root", "bob", NULL, "b@example.org", NULL, &e));
    struct uuid bobs = bench_image(b.c, "lab", "bob", "user");
    struct setup_image two[] = {{.image = b.image}, {.image = bobs}},
                       twice[] = {{.image = b.image}, {.image = b.image}};
    CHECK_FAILS(setup_create(b.c, "alice", "s", "alice", two, 2, &ret, &e), ERR_STATE);
    CHECK_FAILS(setup_create(b.c, "alice", "s", "alice", twice, 2, &ret, &e), ERR_STATE);
    CHECK_FAILS(setup_create(b.c, "alice", "s", "alice", two, 0, &ret, &e), ERR_USAGE);
    CHECK_FAILS(setup_create(b.c, "alice", "s", "alice", two, SETUP_IMAGES_MAX + 1, &ret, &e), ERR_USAGE);
    CHECK_FAILS(setup_create(b.c, "alice", "S", "alice", two, 1, &ret, &e), ERR_USAGE);
    CHECK_FAILS(setup_create(b.c, "alice", "s", "carol", two, 1, &ret, &e), ERR_NOT_FOUND);
    CHECK_FAILS(setup_create(b.c, "alice", "desk", "alice", two, 1, &ret, &e), ERR_STATE);
    two[0].version = 5;
    CHECK_FAILS(setup_create(b.c, "alice", "s", "alice", two, 1, &ret, &e), ERR_NOT_FOUND);
    two[0].version = 0;
    uuid_make(&two[0].image);
    CHECK_FAILS(setup_create(b.c, "alice", "s", "alice", two, 1, &ret, &e), ERR_NOT_FOUND);
    CHECK_OK(setup_create(b.c, "bob", "desk", "bob", two + 1, 1, &second, &e));
    CHECK_FAILS(setup_find(b.c, "desk", NULL, &found, &e), ERR_STATE);
    CHECK_OK(setup_find(b.c, "desk", "bob", &found, &e));
    CHECK(uuid_equal(&found.uuid, &second));
    CHECK_STR(found.owner, "bob");
    CHECK_FAILS(setup_find(b.c, "chair", "bob", &found, &e), ERR_NOT_FOUND);
    bench_close(&b);
}

/* ---- requests, events ---------------------------------------------------------------------------------- */

static void requests_are_taken_and_answered(void)
{
    struct bench b = bench_open();
    int64_t boot = bench_queue(&b, false), first, second;
    struct request r;
    CHECK_FAILS(request_take(b.c, &r, &e), ERR_NOT_FOUND);
    CHECK_FAILS(request_add(b.c, "root", REQUEST_END, 99, &first, &e), ERR_NOT_FOUND);
    CHECK_OK(request_add(b.c, "root", REQUEST_COMMIT, boot, &first, &e));
    CHECK_OK(request_add(b.c, "alice", REQUEST_DISCARD, 0, &second, &e));
    CHECK_OK(request_take(b.c, &r, &e));
    CHECK(r.id == first && r.kind == REQUEST_COMMIT && r.boot == boot && !r.answered);
    CHECK_STR(r.actor, "root");
    CHECK_OK(request_take(b.c, &r, &e));
    CHECK(r.id == second && r.kind == REQUEST_DISCARD && r.boot == 0);
    CHECK_FAILS(request_take(b.c, &r, &e), ERR_NOT_FOUND);
    CHECK_OK(request_answer(b.c, second, ERR_STATE, "it runs", &e));
    CHECK_OK(request_untake_all(b.c, &e)); /* the server died with the first one */
    CHECK_OK(request_take(b.c, &r, &e));
    CHECK(r.id == first);
    CHECK_OK(request_answer(b.c, first, 0, "1795460001", &e));
    CHECK_FAILS(request_answer(b.c, first, 0, "again", &e), ERR_STATE);
    CHECK_OK(request_get(b.c, first, &r, &e));
    CHECK(r.answered && r.code == 0);
    CHECK_STR(r.answer, "1795460001");
    CHECK_OK(request_get(b.c, second, &r, &e));
    CHECK(r.answered && r.code == ERR_STATE);
    CHECK_FAILS(request_get(b.c, 99, &r, &e), ERR_NOT_FOUND);
    CHECK_OK(request_untake_all(b.c, &e));
    CHECK_FAILS(request_take(b.c, &r, &e), ERR_NOT_FOUND);
    bench_close(&b);
}

static void a_changed_configuration_is_told(void)
{
    struct bench b = bench_open();
    struct request r;
    int64_t before, after, id = 77;
    static const char wanted[] = "SELECT script_done <> script_wanted FROM machine";
    CHECK(bench_ask(&b, "UPDATE machine SET script_done = script_wanted") == -1);
    CHECK_OK(reload_generation(b.c, &before, &e));
    CHECK_OK(reload_ask(b.c, "root", false, &id, &e));
    CHECK_OK(reload_generation(b.c, &after, &e));
    CHECK(id == 0 && after == before + 1 && bench_ask(&b, wanted) == 1);
    CHECK_FAILS(request_take(b.c, &r, &e), ERR_NOT_FOUND);
    CHECK_OK(reload_ask(b.c, "root", true, &id, &e));
    CHECK_OK(request_take(b.c, &r, &e));
    CHECK(r.id == id && r.kind == REQUEST_RELOAD && r.boot == 0);
    bench_close(&b);
}

static void events_name_their_machine(void)
{
    struct bench b = bench_open();
    CHECK_OK(event_add(b.c, "server", "refused", "machine 52-54-00-00-00-01", "not its address", &e));
    CHECK_OK(event_add(b.c, "server", "refused", "machine of nobody", NULL, &e));
    struct in6_addr nobodys;
    CHECK_OK(parse_ip("10.99.0.1", &nobodys, &e));
    for (int i = 0; i < 3; i++)
        CHECK_OK(tftp_record(b.c, &nobodys, "/boot/\"\n'x", &e));
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'tftp'") == 1);
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE object = 'address 10.99.0.1' AND "
                        "detail = '/boot/\\x22\\x0a\\x27x'") == 1);
    CHECK_OK(tftp_record(b.c, &nobodys, "/ipxe.efi", &e));
    CHECK(bench_ask(&b, "SELECT count(*) FROM event WHERE what = 'tftp'") == 2);
    CHECK(bench_ask(&b,
                    "SELECT count(*) FROM event WHERE what = 'refused' AND machine = '52:54:00:00:00:01'") ==
          1);
    CHECK(bench_ask(
              &b, "SELECT count(*) FROM event WHERE what = 'refused' AND machine IS NULL AND detail = ''") ==
          1);
    CHECK(bench_ask(&b, "SELECT min(at) FROM event") == START);
    bench_close(&b);
}

static int count_faults(void *ctx, const char *text, bool reference, struct err *err)
{
    (void)err;
    CHECK(*text && reference);
    ++*(int *)ctx;
    return 0;
}

static void what_files_are_named_after(void)
{
    struct bench b = bench_open();
    struct mac other = bench_mac(99);
    struct machine *stale;
    size_t count;
    bool newer;
    int64_t id = bench_queue(&b, false);
    CHECK(boot_is_known(b.c, id, &newer, &e) == 1 && !newer);
    CHECK(boot_is_known(b.c, id + 1, &newer, &e) == 0 && newer);
    CHECK_OK(db_script(b.c, "DELETE FROM boot", &e));
    CHECK(boot_is_known(b.c, id, &newer, &e) == 0 && !newer);
    CHECK(mac_is_known(b.c, &b.mac, &e) == 1 && mac_is_known(b.c, &other, &e) == 0);
    CHECK_OK(scripts_stale(b.c, &stale, &count, &e));
    CHECK(count == 1 && mac_equal(&stale[0].mac, &b.mac));
    free(stale);
    bench_close(&b);
}

static void a_catalog_is_checked(void)
{
    struct bench b = bench_open();
    int faults = 0;
    CHECK_OK(catalog_check(b.c, count_faults, &faults, &e));
    CHECK(faults == 0);
    CHECK_OK(db_script(b.c, "PRAGMA foreign_keys = OFF; UPDATE machine_mac SET machine = '52:54:00:00:00:98'",
                       &e));
    CHECK_OK(catalog_check(b.c, count_faults, &faults, &e));
    CHECK(faults == 1);
    CHECK_OK(db_script(b.c, "UPDATE machine_mac SET machine = mac", &e));
    bench_close(&b);
}

int main(void)
{
    UNIT(users_are_checked);
    UNIT(all_that_there_is);
    UNIT(owners_are_known);
    UNIT(views_go_with_their_transaction);
    UNIT(machines_by_any_name);
    UNIT(machines_are_checked);
    UNIT(a_machine_has_a_disk_of_its_own);
    UNIT(machines_change);
    UNIT(macs_come_and_go);
    UNIT(a_boot_that_runs_holds_its_machine);
    UNIT(a_removed_machine_leaves_its_trail);
    UNIT(addresses_are_stable);
    UNIT(leases_make_an_address_a_machines);
    UNIT(images_by_name);
    UNIT(versions_are_numbered);
    UNIT(published_versions_are_checked);
    UNIT(damage_is_told_once);
    UNIT(what_files_are_named_after);
    UNIT(a_catalog_is_checked);
    UNIT(setups_are_checked);
    UNIT(requests_are_taken_and_answered);
    UNIT(a_changed_configuration_is_told);
    UNIT(events_name_their_machine);
    return 0;
}
