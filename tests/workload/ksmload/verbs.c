// SPDX-License-Identifier: GPL-2.0-only
/* Which operations there are. */
#include <errno.h>
#include <string.h>

#include "operations.h"
#include "serve.h"

static const struct verb {
    const char *name;
    int (*run)(struct command *c);
} verbs[] = {
    {"map", do_map},
    {"ring", do_ring},
    {"churn", do_churn},
    {"pin", do_pin},
    {"fill", do_fill},
    {"write", do_write},
    {"threadwrite", do_threadwrite},
    {"read", do_read},
    {"madvise", do_madvise},
    {"munmap", do_munmap},
    {"mremap", do_mremap},
    {"move", do_move},
    {"mprotect", do_mprotect},
    {"mlock", do_mlock},
    {"munlock", do_munlock},
    {"addr", do_addr},
    {"fork", do_fork},
    {"clonevm", do_clonevm},
    {"exec", do_exec},
    {"vforkexec", do_vforkexec},
    {"exit", do_exit},
    {"comm", do_comm},
    {"memorymerge", do_memorymerge},
    {"vmsplice", do_vmsplice},
    {"passthrough", do_passthrough},
    {"userfault", do_userfault},
    {"faults", do_faults},
    {"copyin", do_copyin},
    {"zeroin", do_zeroin},
    {"protect", do_protect},
    {"movein", do_movein},
    {"vmwrite", do_vmwrite},
    {"poke", do_poke},
    {"procmadvise", do_procmadvise},
};

int obey(struct command *c)
{
    for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
        if (!strcmp(verbs[i].name, word_at(c, 0)))
            return verbs[i].run(c);
    errno = EINVAL;
    return -1;
}
