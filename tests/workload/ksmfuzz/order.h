/* SPDX-License-Identifier: GPL-2.0-only */
/* What the root of the tree tells a process, and what it answers. */
#pragma once
#include <sys/types.h>

#define SLOTS 24
#define MORE_STEPS 15

/* Sizes in pages: of the memory that each process works on, and of what a step works on. */
#define ARENA_PAGES 768U
#define FEW_PAGES 8U
#define MANY_PAGES 64U
#define HUGE_PAGES 512U

/* Inherited by every process: its own end is OWN_FD + slot; files are FILE_FD. */
#define FILE_FD 90
#define OWN_FD 100
#define ROOT_FD 140
/* A child of the root itself. */
#define ROOT (-1)
/* The error of a process that has ended without an answer. */
#define DIED (-1)

/* One operation on `pages` pages from `first`; `other` is a slot, a target's or a new child's. */
struct step {
    int verb;
    unsigned first;
    unsigned pages;
    unsigned argument;
    int other;
    pid_t pid;
};

/*
 * What a process is told: to do `main`, and in a thread meanwhile `beside`, if any; then `more`
 * steps on its memory without asking, for a change of processes takes longer than most steps.
 */
struct order {
    struct step main;
    struct step beside;
    unsigned more;
    struct step next[MORE_STEPS];
};

struct answer {
    int error;
    int value;
    int errors[MORE_STEPS];
};
