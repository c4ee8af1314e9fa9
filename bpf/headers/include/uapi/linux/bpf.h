/* SPDX-License-Identifier: GPL-2.0-only */
/* bcc carries a copy of the BPF definitions inside the library: use that one. */
#include <bcc/bpf.h>
