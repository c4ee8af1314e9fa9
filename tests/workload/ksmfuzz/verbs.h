/* SPDX-License-Identifier: GPL-2.0-only */
/* Which operations there are, how often each is drawn, and what it needs. */
#pragma once
#include "order.h"

enum kind {
    ON_MEMORY,  /* may also be done by a thread */
    ON_ANOTHER, /* needs another process */
    MAKES_CHILD,
    REPLACES, /* ends in a new program */
    ENDS,
    ON_HOST, /* done by the root */
};

struct verb {
    const char *name;
    unsigned weight;
    enum kind kind;
    int (*run)(struct step *s);
};

/* The first is no operation. */
#define VERBS 41
extern const struct verb verbs[];

/* For what cannot be done: reading needs nothing. */
#define INSTEAD 4
