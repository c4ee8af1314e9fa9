/* SPDX-License-Identifier: GPL-2.0-only */
/* The root's side of the operations. */
#pragma once

/* How many have been done. */
extern unsigned long operation;

/* Does operations until so many have been done. */
void operate_until(unsigned long pause_at);
