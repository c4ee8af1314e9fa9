/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * bcc asks for a version only to choose between spellings of its own macros.
 * The programs are chosen by features, so any version after 5.10 says the same.
 */
#pragma once
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#define LINUX_VERSION_CODE KERNEL_VERSION(5, 10, 0)
