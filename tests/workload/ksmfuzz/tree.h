/* SPDX-License-Identifier: GPL-2.0-only */
/* What the root knows of the tree of processes. */
#pragma once
#include <stdbool.h>

#include "order.h"

/* Slots with equal `mm` share an address space. */
struct process {
    bool alive;
    int depth;
    int mm;
    pid_t pid;
    int pidfd;
};

extern struct process processes[SLOTS];

/* A process that lives, other than `except` and, if `except` does, with another mm. */
int draw_process(int except);
int free_slot(void);
int living(void);

/* A new child of the root itself. */
void spawn(void);
void born(int slot, int parent, struct step *s, pid_t pid);
/* The process has replaced its address space. */
void renewed(int slot);
/* Returns when the address space has gone, unless another process has it too. */
void buried(int slot);
/* The OOM killer spares nobody who has the same address space. */
void bury_sharers(int slot);
void end_all(void);
