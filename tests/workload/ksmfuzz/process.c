// SPDX-License-Identifier: GPL-2.0-only
/* The life of a process below the root: it does what it is told, and answers. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arena.h"
#include "operations.h"
#include "process.h"
#include "verbs.h"

static void *do_beside(void *step)
{
    struct step *s = step;

    verbs[s->verb].run(s);
    return NULL;
}

void obey_root(int slot)
{
    int own = OWN_FD + slot;
    struct order order;

    survive_faults();
    close_range(ROOT_FD, ROOT_FD + SLOTS - 1, 0);
    while (recv(own, &order, sizeof(order), 0) == sizeof(order)) {
        struct answer answer = {0};
        pthread_t thread;
        bool threaded =
            order.beside.verb && !pthread_create(&thread, NULL, do_beside, &order.beside);

        if (verbs[order.main.verb].run(&order.main))
            answer.error = errno;
        answer.value = order.main.pid;
        if (threaded)
            pthread_join(thread, NULL);
        for (unsigned i = 0; i < order.more; i++)
            if (verbs[order.next[i].verb].run(&order.next[i]))
                answer.errors[i] = errno;
        if (send(own, &answer, sizeof(answer), 0) < 0)
            break;
    }
    _exit(0);
}

void begin_life(int slot)
{
    struct step all = {.pages = ARENA_PAGES, .argument = ROOT_FD};

    do_map(&all);
    if (slot % 2)
        do_mergeable(&all);
    obey_root(slot);
}
