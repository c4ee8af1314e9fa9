/* SPDX-License-Identifier: GPL-2.0-only */
/* The life of a process below the root. */
#pragma once

/* Does what the root tells this slot, until the root has gone. */
_Noreturn void obey_root(int slot);

/* A process that inherits nothing: all of the arena is there, for few operations to fail. */
_Noreturn void begin_life(int slot);
