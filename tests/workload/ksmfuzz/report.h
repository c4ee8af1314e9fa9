/* SPDX-License-Identifier: GPL-2.0-only */
/* What the program tells the test, and a person. */
#pragma once
#include "order.h"

/* Ends the program; errno says why `what` has failed. */
void fail(const char *what);

/* From now on `show` prints, to stderr. */
void begin_showing(void);
void show(int slot, struct order *order);
void show_born(int slot);

/* For the counters of a verb; a row of steps takes the time of its first. */
void note(struct step *s, int error);
void note_seconds(struct step *s, double more);

/* Says where it stands and waits for a line. */
void report(const char *what);
void report_counters(void);
