/* SPDX-License-Identifier: GPL-2.0-only */
/* bcc force-includes this file before any other. Its front end looks at one option only. */
#define CONFIG_BPF_SYSCALL 1
