// SPDX-License-Identifier: GPL-2.0-only
/* Operations on the memory of another process. */
#define _GNU_SOURCE
#include "../memory.h"
#include "operations.h"

/* vmwrite PID ADDRESS COUNT: into the pages of another process. */
int do_vmwrite(struct command *c)
{
    for (unsigned long i = 0; i < number_at(c, 3); i++)
        if (write_into((pid_t)number_at(c, 1), number_at(c, 2) + i * PAGE, unique_content()))
            return -1;
    return 0;
}

/* poke PID ADDRESS COUNT: as a debugger does, read-only areas included. */
int do_poke(struct command *c)
{
    pid_t pid = (pid_t)number_at(c, 1);
    int result = 0;

    if (seize(pid))
        return -1;
    for (unsigned long i = 0; i < number_at(c, 3) && !result; i++)
        result = (int)ptrace(PTRACE_POKEDATA, pid, number_at(c, 2) + i * PAGE, unique_content());
    if (ptrace(PTRACE_DETACH, pid, NULL, NULL))
        return -1;
    return result;
}

/* procmadvise PID ADDRESS COUNT ADVICE */
int do_procmadvise(struct command *c)
{
    return advise_process((pid_t)number_at(c, 1), number_at(c, 2), bytes_of(c),
                          advice_by_name(word_at(c, 4)));
}
