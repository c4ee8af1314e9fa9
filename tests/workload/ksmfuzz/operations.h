/* SPDX-License-Identifier: GPL-2.0-only */
/* The operations, by the names in verbs.c. Each returns 0, or -1 and sets errno. */
#pragma once
#include "order.h"

/* on_memory.c: on the memory of the process that does it */
int do_fresh(struct step *s);
int do_fill(struct step *s);
int do_write(struct step *s);
int do_read(struct step *s);
int do_map(struct step *s);
int do_huge(struct step *s);
int do_munmap(struct step *s);
int do_mergeable(struct step *s);
int do_unmergeable(struct step *s);
int do_advise(struct step *s);
int do_pageout(struct step *s);
int do_shrink(struct step *s);
int do_grow(struct step *s);
int do_move(struct step *s);
int do_shuttle(struct step *s);
int do_uffdmove(struct step *s);
int do_collapse(struct step *s);
int do_offline(struct step *s);
int do_flash(struct step *s);
int do_mprotect(struct step *s);
int do_mlock(struct step *s);
int do_munlock(struct step *s);
int do_movepages(struct step *s);
int do_memorymerge(struct step *s);

/* Errors instead of signals for what touches memory that is not there. */
void survive_faults(void);

/* on_processes.c: on another process, or on which processes there are */
int do_vmwrite(struct step *s);
int do_poke(struct step *s);
int do_procmadvise(struct step *s);
int do_fork(struct step *s);
int do_clonevm(struct step *s);
int do_vforkexec(struct step *s);
int do_exec(struct step *s);
int do_exit(struct step *s);
int do_kill(struct step *s);
int do_oomkill(struct step *s);

/* on_host.c: on the whole host, by its files */
int do_compact(struct step *s);
int do_dropcaches(struct step *s);
int do_reclaim(struct step *s);
int do_swapoff(struct step *s);
int do_ksmd(struct step *s);

/* How many nodes of memory there are, from 0 on. */
unsigned count_nodes(void);

/* settings.c: how the kernel is set up */
int do_setting(struct step *s);

int write_file(const char *path, const char *text);
/* Writes /sys/kernel/mm/ksm/run. */
int set_ksmd(const char *run);
/* The same settings for each seed to begin with, and at the end what they were before. */
void begin_settings(void);
void end_settings(void);
