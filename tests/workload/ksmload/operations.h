/* SPDX-License-Identifier: GPL-2.0-only */
/* The operations, by the names in verbs.c. Each returns 0, or -1 and sets errno. */
#pragma once
#include <stdint.h>

#include "command.h"

/* mappings.c */
int do_map(struct command *c);
int do_ring(struct command *c);
int do_madvise(struct command *c);
int do_munmap(struct command *c);
int do_mremap(struct command *c);
int do_move(struct command *c);
int do_mprotect(struct command *c);
int do_mlock(struct command *c);
int do_munlock(struct command *c);
int do_addr(struct command *c);

/* contents.c */
int do_fill(struct command *c);
int do_write(struct command *c);
int do_threadwrite(struct command *c);
int do_churn(struct command *c);
int do_read(struct command *c);
/* Contents that no other page has. */
uint64_t unique_content(void);

/* processes.c */
int do_fork(struct command *c);
int do_clonevm(struct command *c);
int do_exec(struct command *c);
int do_vforkexec(struct command *c);
int do_exit(struct command *c);
int do_comm(struct command *c);
int do_memorymerge(struct command *c);

/* other_process.c */
int do_vmwrite(struct command *c);
int do_poke(struct command *c);
int do_procmadvise(struct command *c);

/* references.c */
int do_vmsplice(struct command *c);
int do_pin(struct command *c);
int do_passthrough(struct command *c);

/* userfault.c */
int do_userfault(struct command *c);
int do_faults(struct command *c);
int do_copyin(struct command *c);
int do_zeroin(struct command *c);
int do_protect(struct command *c);
int do_movein(struct command *c);
