// SPDX-License-Identifier: GPL-2.0-only
/* The tree of processes, as its root knows it. */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "draw.h"
#include "operations.h"
#include "process.h"
#include "report.h"
#include "tree.h"
#include "verbs.h"

struct process processes[SLOTS];
static int next_mm;

int draw_process(int except)
{
    int found[SLOTS], count = 0;

    for (int i = 0; i < SLOTS; i++)
        if (processes[i].alive && (except < 0 || processes[i].mm != processes[except].mm))
            found[count++] = i;
    return count ? found[below(count)] : ROOT;
}

int free_slot(void)
{
    for (int i = 0; i < SLOTS; i++)
        if (!processes[i].alive)
            return i;
    return ROOT;
}

int living(void)
{
    int count = 0;

    for (int i = 0; i < SLOTS; i++)
        count += processes[i].alive;
    return count;
}

void born(int slot, int parent, struct step *s, pid_t pid)
{
    struct process *p = &processes[slot];
    bool shares = verbs[s->verb].run == do_clonevm;

    p->alive = true;
    p->depth = parent == ROOT ? 0 : processes[parent].depth + 1;
    p->mm = shares ? processes[parent].mm : next_mm++;
    p->pid = pid;
    show_born(slot);
    p->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (p->pidfd < 0)
        fail("pidfd_open");
}

void renewed(int slot)
{
    processes[slot].mm = next_mm++;
}

void buried(int slot)
{
    struct process *p = &processes[slot];
    struct pollfd end = {p->pidfd, POLLIN, 0};
    struct answer late;

    if (poll(&end, 1, -1) < 0)
        fail("poll");
    while (recv(ROOT_FD + slot, &late, sizeof(late), MSG_DONTWAIT) > 0)
        ;
    while (recv(OWN_FD + slot, &late, sizeof(late), MSG_DONTWAIT) > 0)
        ;
    close(p->pidfd);
    p->alive = false;
}

void bury_sharers(int slot)
{
    for (int i = 0; i < SLOTS; i++)
        if (i != slot && processes[i].alive && processes[i].mm == processes[slot].mm)
            buried(i);
}

void spawn(void)
{
    struct step nothing = {0};
    int slot = free_slot();
    pid_t pid = fork();

    if (pid == 0)
        begin_life(slot);
    if (pid < 0)
        fail("fork");
    born(slot, ROOT, &nothing, pid);
}

void end_all(void)
{
    for (int i = 0; i < SLOTS; i++)
        if (processes[i].alive) {
            kill(processes[i].pid, SIGKILL);
            buried(i);
        }
}
