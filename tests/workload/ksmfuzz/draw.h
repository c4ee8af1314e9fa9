/* SPDX-License-Identifier: GPL-2.0-only */
/* What the random program does next. Depends on the seed and what is left out, nothing else. */
#pragma once
#include <stdbool.h>

#include "order.h"

void seed_draws(unsigned long seed);
bool seeded(void);
/* A verb that shall not be drawn. */
void leave_out(const char *name);

unsigned below(unsigned limit);
bool one_in(unsigned number);
struct step draw_step(void);

/* Further steps for the process, up to one not on memory; the order gets `room` steps at most. */
void draw_more(struct order *order, unsigned long room);
