// SPDX-License-Identifier: GPL-2.0-only
/* Operations on another process, and those that make, replace or end a process. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>

#include "arena.h"
#include "operations.h"
#include "process.h"

int do_vmwrite(struct step *s)
{
    for (unsigned i = 0; i < s->pages; i++)
        if (write_into(s->pid, (unsigned long)page_at(s->first + i), unique_content(s, i)))
            return -1;
    return 0;
}

int do_poke(struct step *s)
{
    int error = 0;

    if (seize(s->pid))
        return -1;
    for (unsigned i = 0; i < s->pages && i < FEW_PAGES; i++)
        if (ptrace(PTRACE_POKEDATA, s->pid, page_at(s->first + i), unique_content(s, i)))
            error = errno;
    ptrace(PTRACE_DETACH, s->pid, NULL, NULL);
    errno = error;
    return error ? -1 : 0;
}

int do_procmadvise(struct step *s)
{
    return advise_process(s->pid, (unsigned long)page_at(s->first), bytes_of(s),
                          s->argument % 2 ? MADV_PAGEOUT : MADV_COLD);
}

int do_fork(struct step *s)
{
    pid_t pid = fork();

    if (pid == 0)
        obey_root(s->other);
    s->pid = pid;
    return pid < 0 ? -1 : 0;
}

static int in_shared_mm(void *slot)
{
    obey_root((int)(intptr_t)slot);
}

/* Another process with this address space. */
int do_clonevm(struct step *s)
{
    char *stack = new_stack();

    s->pid =
        stack ? clone(in_shared_mm, stack, CLONE_VM | SIGCHLD, (void *)(intptr_t)s->other) : -1;
    return s->pid < 0 ? -1 : 0;
}

/* This program again, with nothing in memory. */
static void exec_as(int slot)
{
    char text[16];

    snprintf(text, sizeof(text), "%d", slot);
    execl("/proc/self/exe", "ksmfuzz", "--serve", text, NULL);
}

int do_vforkexec(struct step *s)
{
    pid_t pid = vfork();

    if (pid == 0) {
        exec_as(s->other);
        _exit(127);
    }
    s->pid = pid;
    return pid < 0 ? -1 : 0;
}

int do_exec(struct step *s)
{
    exec_as(s->other);
    return -1;
}

int do_exit(struct step *s)
{
    (void)s;
    _exit(0);
}

int do_kill(struct step *s)
{
    return kill(s->pid, SIGKILL);
}

/* Lets the OOM killer take the process, and whoever shares its memory. */
int do_oomkill(struct step *s)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", s->pid);
    return write_file(path, "1000") || write_file("/proc/sysrq-trigger", "f");
}
