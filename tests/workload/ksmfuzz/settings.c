// SPDX-License-Identifier: GPL-2.0-only
/* Settings of the kernel that change while everything else goes on. */
#include <stddef.h>

#include "operations.h"

#define VALUES 4
/* The last ones, which fuzz.py chooses for a seed to begin with. */
#define OF_SEED 3

/* The first value is that at the beginning. What a kernel does not have is an error of the step. */
static const struct setting {
    const char *path;
    const char *values[VALUES];
} settings[] = {
    {"/sys/kernel/mm/transparent_hugepage/enabled", {"madvise", "always", "never"}},
    {"/sys/kernel/mm/transparent_hugepage/defrag", {"madvise", "always", "never"}},
    {"/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs", {"10000", "10"}},
    {"/sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled", {"never", "always"}},
    {"/sys/kernel/mm/transparent_hugepage/hugepages-16kB/enabled", {"never", "always"}},
    {"/sys/module/zswap/parameters/enabled", {"N", "Y"}},
    {"/sys/kernel/mm/lru_gen/enabled", {"0", "7"}},
    {"/sys/kernel/debug/sched/preempt", {"full", "voluntary", "none", "lazy"}},
    {"/proc/sys/net/core/bpf_jit_harden", {"0", "2"}},
    {"/proc/sys/kernel/perf_event_paranoid", {"2", "4", "-1"}},
    {"/proc/sys/kernel/numa_balancing", {"0", "1"}},
    {"/proc/sys/vm/swappiness", {"60", "200", "0"}},
    {"/sys/fs/cgroup/ksmfuzz/memory.high", {"max", "48M"}},
    {"/sys/kernel/mm/ksm/advisor_mode", {"none", "scan-time"}},
    {"/sys/kernel/mm/ksm/use_zero_pages", {"0", "1"}},
    {"/sys/kernel/mm/ksm/smart_scan", {"1", "0"}},
    {"/sys/kernel/mm/ksm/sleep_millisecs", {"20", "0", "50"}},
};

#define SETTINGS (sizeof(settings) / sizeof(*settings))

static int set(const struct setting *setting, unsigned value)
{
    return write_file(setting->path, setting->values[value]);
}

void reset_settings(void)
{
    for (size_t i = 0; i < SETTINGS - OF_SEED; i++)
        set(&settings[i], 0);
}

int do_setting(struct step *s)
{
    const struct setting *setting = &settings[s->argument % SETTINGS];
    unsigned choices = 0;

    while (choices < VALUES && setting->values[choices])
        choices++;
    return set(setting, (s->argument >> 8) % choices);
}
