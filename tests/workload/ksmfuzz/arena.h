/* SPDX-License-Identifier: GPL-2.0-only */
/* The memory that a process works on: one arena at the same address in each. */
#pragma once
#include <stdint.h>

#include "../memory.h"
#include "order.h"

#define ARENA 0x200000000000UL

static inline char *page_at(unsigned page)
{
    return (char *)ARENA + page * PAGE;
}

static inline size_t bytes_of(struct step *s)
{
    return s->pages * PAGE;
}

/* Contents that no other page has. */
static inline uint64_t unique_content(struct step *s, unsigned page)
{
    return (uint64_t)s->argument << 32 | 1UL << 31 | page;
}
