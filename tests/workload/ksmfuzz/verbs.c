// SPDX-License-Identifier: GPL-2.0-only
#include <stddef.h>

#include "operations.h"
#include "verbs.h"

const struct verb verbs[] = {
    {"none", 0, ON_MEMORY, NULL},
    {"fresh", 160, ON_MEMORY, do_fresh},
    {"fill", 120, ON_MEMORY, do_fill},
    {"write", 60, ON_MEMORY, do_write},
    {"read", 60, ON_MEMORY, do_read},
    {"map", 30, ON_MEMORY, do_map},
    {"huge", 3, ON_MEMORY, do_huge},
    {"munmap", 25, ON_MEMORY, do_munmap},
    {"mergeable", 60, ON_MEMORY, do_mergeable},
    {"unmergeable", 15, ON_MEMORY, do_unmergeable},
    {"advise", 60, ON_MEMORY, do_advise},
    {"pageout", 20, ON_MEMORY, do_pageout},
    {"shrink", 8, ON_MEMORY, do_shrink},
    {"grow", 8, ON_MEMORY, do_grow},
    {"move", 30, ON_MEMORY, do_move},
    {"shuttle", 10, ON_MEMORY, do_shuttle},
    {"uffdmove", 8, ON_MEMORY, do_uffdmove},
    {"collapse", 2, ON_MEMORY, do_collapse},
    {"offline", 1, ON_MEMORY, do_offline},
    {"flash", 6, ON_MEMORY, do_flash},
    {"mprotect", 40, ON_MEMORY, do_mprotect},
    {"mlock", 10, ON_MEMORY, do_mlock},
    {"munlock", 15, ON_MEMORY, do_munlock},
    {"movepages", 3, ON_MEMORY, do_movepages},
    {"memorymerge", 4, ON_MEMORY, do_memorymerge},
    {"vmwrite", 15, ON_ANOTHER, do_vmwrite},
    {"poke", 10, ON_ANOTHER, do_poke},
    {"procmadvise", 10, ON_ANOTHER, do_procmadvise},
    {"fork", 30, MAKES_CHILD, do_fork},
    {"clonevm", 5, MAKES_CHILD, do_clonevm},
    {"vforkexec", 4, MAKES_CHILD, do_vforkexec},
    {"exec", 4, REPLACES, do_exec},
    {"exit", 12, ENDS, do_exit},
    {"kill", 12, ENDS, do_kill},
    {"oomkill", 1, ENDS, do_oomkill},
    {"compact", 2, ON_HOST, do_compact},
    {"dropcaches", 1, ON_HOST, do_dropcaches},
    {"reclaim", 4, ON_HOST, do_reclaim},
    {"swapoff", 1, ON_HOST, do_swapoff},
    {"ksmd", 2, ON_HOST, do_ksmd},
    {"setting", 6, ON_HOST, do_setting},
};

_Static_assert(sizeof(verbs) / sizeof(*verbs) == VERBS, "VERBS is their number");
