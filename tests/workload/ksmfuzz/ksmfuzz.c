// SPDX-License-Identifier: GPL-2.0-only
/*
 * A random program over a tree of processes, the same one for the same seed.
 *
 *     ksmfuzz --seed S --ops N [--pause EVERY] [--without VERB]... [--print]
 *
 * The root draws operations, sends them to a process and waits for the answer, while ksmd
 * runs beside. Operations on memory go in rows. Some go to two processes at once, and some have
 * a thread that does another one meanwhile. What is drawn depends on nothing that the kernel
 * answers, so N is the length of a prefix of the endless program of a seed and an EVERY.
 *
 * Every EVERY operations nothing happens: ksmd is stopped, "quiescent OPERATIONS" is
 * printed, and a line on stdin lets it go on. At the end everything is unmerged,
 * "unmerged OPERATIONS" is printed and answered likewise. tests/fuzz/fuzz.py is the other end.
 *
 * Every process does everything within one arena at the same address, so a range is valid in
 * each of them, mapped or not. Only the first eight bytes of a page are ever written.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <getopt.h>
#include <linux/mempolicy.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arena.h"
#include "draw.h"
#include "operations.h"
#include "process.h"
#include "report.h"
#include "root.h"
#include "tree.h"

static void pause_ksmd(void)
{
    if (set_ksmd("0"))
        fail("ksm/run");
    report("quiescent");
}

/* All pairs of sockets are there before the first fork, for every process to inherit. */
static void open_descriptors(void)
{
    int file = memfd_create("ksmfuzz", 0);

    if (ftruncate(file, ARENA_PAGES * PAGE) || dup2(file, FILE_FD) < 0)
        fail("memfd");
    close(file);
    for (int i = 0; i < SLOTS; i++) {
        int ends[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) || dup2(ends[0], OWN_FD + i) < 0 ||
            dup3(ends[1], ROOT_FD + i, O_CLOEXEC) < 0)
            fail("socketpair");
        close(ends[0]);
        close(ends[1]);
    }
}

/* Pages come to each node in turn. Children and new programs inherit that. */
static void spread_over_nodes(void)
{
    unsigned long all = (1UL << count_nodes()) - 1;

    if (all > 1 && syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, &all, 8 * sizeof(all)))
        fail("set_mempolicy");
}

static void run(unsigned long operations, unsigned long every)
{
    open_descriptors();
    begin_settings();
    if (set_ksmd("1"))
        fail("ksm/run");
    while (operation < operations) {
        operate_until(operation + every < operations ? operation + every : operations);
        if (operation < operations) {
            pause_ksmd();
            set_ksmd("1");
        }
    }
    pause_ksmd();
    if (set_ksmd("2"))
        fail("ksm/run");
    report("unmerged");
    end_all();
    end_settings();
    report_counters();
    puts("ended");
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},
        {"ops", required_argument, NULL, 'o'},
        {"pause", required_argument, NULL, 'p'},
        {"print", no_argument, NULL, 't'},
        {"serve", required_argument, NULL, 'S'},
        {"without", required_argument, NULL, 'w'},
        {0},
    };
    unsigned long operations = 20000, every = 2000;
    struct answer ready = {.value = getpid()};
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 's')
            seed_draws(strtoul(optarg, NULL, 0));
        else if (option == 'o')
            operations = strtoul(optarg, NULL, 0);
        else if (option == 'p')
            every = strtoul(optarg, NULL, 0);
        else if (option == 'w')
            leave_out(optarg);
        else if (option == 't')
            begin_showing();
        else if (option == 'S') {
            send(OWN_FD + atoi(optarg), &ready, sizeof(ready), 0);
            begin_life(atoi(optarg));
        } else
            return 2;
    }
    if (!seeded() || !every)
        return 2;
    /* Children that end are nobody's business but the root's, who has a pidfd. */
    signal(SIGCHLD, SIG_IGN);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    spread_over_nodes();
    run(operations, every);
    return 0;
}
