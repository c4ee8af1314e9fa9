// SPDX-License-Identifier: GPL-2.0-only
/* What the program tells the test, and a person. */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"
#include "root.h"
#include "tree.h"
#include "verbs.h"

#define MAX_ERRNO 134

static bool showing;
static unsigned long done[VERBS][MAX_ERRNO];
static double seconds[VERBS];

void fail(const char *what)
{
    perror(what);
    exit(2);
}

void begin_showing(void)
{
    showing = true;
}

void show(int slot, struct order *order)
{
    struct step *s = &order->main, *b = &order->beside;

    if (!showing)
        return;
    fprintf(stderr, "%lu: %d (%d) %s %u+%u %u other %d", operation, slot,
            slot == ROOT ? 0 : processes[slot].pid, verbs[s->verb].name, s->first, s->pages,
            s->argument, s->other);
    if (b->verb)
        fprintf(stderr, " beside %s %u+%u %u", verbs[b->verb].name, b->first, b->pages,
                b->argument);
    fputc('\n', stderr);
}

void show_born(int slot)
{
    struct process *p = &processes[slot];

    if (showing)
        fprintf(stderr, "%lu: %d is process %d with mm %d\n", operation, slot, p->pid, p->mm);
}

void note(struct step *s, int error)
{
    done[s->verb][error >= 0 && error < MAX_ERRNO ? error : MAX_ERRNO - 1]++;
}

void note_seconds(struct step *s, double more)
{
    seconds[s->verb] += more;
}

void report(const char *what)
{
    char line[64];

    printf("%s %lu\n", what, operation);
    for (int i = 0; i < SLOTS; i++)
        if (processes[i].alive)
            printf("process %d %d\n", processes[i].pid, processes[i].mm);
    puts(".");
    fflush(stdout);
    if (!fgets(line, sizeof(line), stdin))
        exit(3);
}

void report_counters(void)
{
    for (int verb = 1; verb < VERBS; verb++) {
        unsigned long all = 0;

        for (int error = 0; error < MAX_ERRNO; error++)
            all += done[verb][error];
        printf("operation %s %lu in %.1f s", verbs[verb].name, all, seconds[verb]);
        for (int error = 1; error < MAX_ERRNO; error++)
            if (done[verb][error])
                printf(" %s:%lu", error == MAX_ERRNO - 1 ? "died" : strerrorname_np(error),
                       done[verb][error]);
        putchar('\n');
    }
}
