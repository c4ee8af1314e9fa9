// SPDX-License-Identifier: GPL-2.0-only
/* The root draws each operation, has a process do it, and takes the answer. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <time.h>

#include "draw.h"
#include "operations.h"
#include "report.h"
#include "root.h"
#include "tree.h"
#include "verbs.h"

#define MAX_DEPTH 4
#define FIRST_PROCESSES 4

unsigned long operation;

static void tell(int slot, struct order *order)
{
    if (send(ROOT_FD + slot, order, sizeof(*order), 0) != sizeof(*order))
        fail("send");
}

/* The answer; its error is DIED if the process has ended without one. */
static struct answer hear(int slot)
{
    struct pollfd either[] = {{ROOT_FD + slot, POLLIN, 0}, {processes[slot].pidfd, POLLIN, 0}};
    struct answer answer;

    if (poll(either, 2, -1) < 0)
        fail("poll");
    if (recv(ROOT_FD + slot, &answer, sizeof(answer), MSG_DONTWAIT) == sizeof(answer))
        return answer;
    buried(slot);
    return (struct answer){.error = DIED};
}

/* Gives the step what its kind needs; one that cannot be had becomes a read. */
static void complete(int slot, struct step *s)
{
    enum kind kind = verbs[s->verb].kind;

    if (kind == REPLACES)
        s->other = slot;
    if (kind == MAKES_CHILD && processes[slot].depth < MAX_DEPTH)
        s->other = free_slot();
    if (kind == ON_ANOTHER)
        s->other = draw_process(slot);
    if (kind == ON_ANOTHER && s->other != ROOT)
        s->pid = processes[s->other].pid;
    if ((kind == MAKES_CHILD || kind == ON_ANOTHER) && s->other == ROOT)
        s->verb = INSTEAD;
}

static struct order draw_order(int slot, struct step *s)
{
    struct order order = {.main = *s};

    complete(slot, &order.main);
    if (one_in(10) && verbs[order.main.verb].kind <= MAKES_CHILD) {
        struct step beside = draw_step();

        if (verbs[beside.verb].kind == ON_MEMORY)
            order.beside = beside;
    }
    return order;
}

static void finish(int slot, struct order *order)
{
    struct step *s = &order->main;
    struct answer answer;

    if (verbs[s->verb].run == do_oomkill)
        bury_sharers(slot);
    if (verbs[s->verb].kind == ENDS) {
        buried(slot);
        note(s, 0);
        return;
    }
    answer = hear(slot);
    note(s, answer.error);
    for (unsigned i = 0; i < order->more; i++)
        note(&order->next[i], answer.error == DIED ? DIED : answer.errors[i]);
    if (answer.error)
        return;
    if (verbs[s->verb].kind == MAKES_CHILD)
        born(s->other, slot, s, answer.value);
    /* A new program says that it is there. */
    if (verbs[s->verb].run == do_vforkexec)
        hear(s->other);
    if (verbs[s->verb].kind == REPLACES)
        renewed(slot);
}

static void begin(int slot, struct order *order)
{
    const struct verb *verb = &verbs[order->main.verb];

    show(slot, order);
    if (verb->run != do_kill && verb->run != do_oomkill) {
        tell(slot, order);
        return;
    }
    order->main.pid = processes[slot].pid;
    if (verb->run(&order->main))
        fail(verb->name);
}

/* To two processes at once, which must not both make a child, end or debug each other. */
static void race(int slot, struct order *order)
{
    int second = draw_process(slot);
    struct step s = draw_step();
    struct order other;

    if (second == ROOT || verbs[s.verb].kind > ON_ANOTHER ||
        (verbs[s.verb].run == do_poke && verbs[order->main.verb].run == do_poke)) {
        begin(slot, order);
        finish(slot, order);
        return;
    }
    other = draw_order(second, &s);
    begin(slot, order);
    begin(second, &other);
    finish(slot, order);
    finish(second, &other);
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void do_operation(struct step s, unsigned long pause_at)
{
    struct order order;
    int slot;

    if (living() < FIRST_PROCESSES)
        spawn();
    slot = draw_process(ROOT);
    if (verbs[s.verb].kind == ON_HOST) {
        order = (struct order){.main = s};
        show(ROOT, &order);
        note(&s, verbs[s.verb].run(&s) ? errno : 0);
        return;
    }
    order = draw_order(slot, &s);
    if (one_in(8)) {
        race(slot, &order);
        return;
    }
    if (verbs[order.main.verb].kind == ON_MEMORY)
        draw_more(&order, pause_at - operation);
    begin(slot, &order);
    finish(slot, &order);
    operation += order.more;
}

static void operate(unsigned long pause_at)
{
    struct step s = draw_step();
    double began = now();

    do_operation(s, pause_at);
    operation++;
    note_seconds(&s, now() - began);
}

void operate_until(unsigned long pause_at)
{
    while (operation < pause_at)
        operate(pause_at);
}
