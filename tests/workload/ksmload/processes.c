// SPDX-License-Identifier: GPL-2.0-only
/* Operations that make, replace, end or mark a process. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <string.h>

#include "../memory.h"
#include "operations.h"
#include "serve.h"

/* fork NAME */
int do_fork(struct command *c)
{
    pid_t pid = fork();

    if (pid == 0) {
        serve(word_at(c, 1));
        _exit(0);
    }
    c->value = pid;
    return pid < 0 ? -1 : 0;
}

static int in_shared_mm(void *name)
{
    serve(name);
    _exit(0);
}

/* clonevm NAME: another process with this address space. */
int do_clonevm(struct command *c)
{
    char *stack = new_stack();
    pid_t pid;

    if (!stack)
        return -1;
    pid = clone(in_shared_mm, stack, CLONE_VM | SIGCHLD, strdup(word_at(c, 1)));
    c->value = pid;
    return pid < 0 ? -1 : 0;
}

/* exec NAME: this program again, with nothing in memory. */
int do_exec(struct command *c)
{
    return exec_as(word_at(c, 1));
}

/* vforkexec NAME */
int do_vforkexec(struct command *c)
{
    pid_t pid = vfork();

    if (pid == 0) {
        do_exec(c);
        _exit(127);
    }
    c->value = pid;
    return pid < 0 ? -1 : 0;
}

/* exit */
int do_exit(struct command *c)
{
    (void)c;
    _exit(0);
}

/* comm NAME */
int do_comm(struct command *c)
{
    return prctl(PR_SET_NAME, word_at(c, 1));
}

/* memorymerge 0|1 */
int do_memorymerge(struct command *c)
{
    return prctl(PR_SET_MEMORY_MERGE, number_at(c, 1), 0, 0, 0);
}
