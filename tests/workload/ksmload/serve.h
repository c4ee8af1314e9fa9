/* SPDX-License-Identifier: GPL-2.0-only */
/* The connection of a process to the test. */
#pragma once
#include "command.h"

/* Obeys the test under this name until it closes the connection. */
void serve(const char *name);

/* This program again, with nothing in memory. Returns only if that fails. */
int exec_as(const char *name);

/* verbs.c: does the command; 0, or -1 and errno. */
int obey(struct command *c);
