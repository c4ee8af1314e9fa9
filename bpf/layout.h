/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How the programs reach into kernel structures.
 *
 * Without kernel headers every offset comes from the running kernel's BTF, as
 * -DOFF_<struct>_<member>=<bytes> (ksmwatch/kernel/struct_layout.py has the list). With
 * -DLAYOUT_FROM_HEADERS they come from the headers of the running kernel.
 */
#pragma once

#ifdef LAYOUT_FROM_HEADERS
#include <linux/mm_types.h>
#include <linux/rmap.h>
#include <linux/sched.h>
#include <uapi/linux/ptrace.h>
#ifdef HAVE_STRUCT_FOLIO_HOOKS
#define OFF_page_mapping offsetof(struct folio, mapping)
#define OFF_page__mapcount offsetof(struct folio, _mapcount)
#else
#define OFF_page_mapping offsetof(struct page, mapping)
#define OFF_page__mapcount offsetof(struct page, _mapcount)
#endif
#define OFF_page_compound_head offsetof(struct page, compound_head)
#define OFF_vm_area_struct_vm_mm offsetof(struct vm_area_struct, vm_mm)
#define OFF_vm_area_struct_anon_vma offsetof(struct vm_area_struct, anon_vma)
#define OFF_anon_vma_root offsetof(struct anon_vma, root)
#define OFF_anon_vma_rb_root offsetof(struct anon_vma, rb_root)
#define OFF_anon_vma_chain_vma offsetof(struct anon_vma_chain, vma)
#define OFF_anon_vma_chain_rb offsetof(struct anon_vma_chain, rb)
#define OFF_rb_node_rb_right offsetof(struct rb_node, rb_right)
#define OFF_rb_node_rb_left offsetof(struct rb_node, rb_left)
#define OFF_mm_struct_owner offsetof(struct mm_struct, owner)
#define OFF_mm_struct_mm_users offsetof(struct mm_struct, mm_users)
#define OFF_mm_struct_total_vm offsetof(struct mm_struct, total_vm)
#define OFF_task_struct_mm offsetof(struct task_struct, mm)
#define OFF_task_struct_tgid offsetof(struct task_struct, tgid)
#define OFF_task_struct_group_leader offsetof(struct task_struct, group_leader)
#define OFF_task_struct_comm offsetof(struct task_struct, comm)
#define OFF_task_struct_start_boottime offsetof(struct task_struct, start_boottime)
#else
#include <asm/ptrace.h>
#include <linux/types.h>
#endif

/* FIELD(vma, vm_area_struct_vm_mm) is the eight bytes at that member, 0 where unreadable. */
#define FIELD(pointer, member) read_u64((pointer) + OFF_##member)

/* The helper fills with zeros what it cannot read. */
static __always_inline u64 read_u64(u64 address)
{
    u64 value;

    bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
    return value;
}

static __always_inline u32 read_u32(u64 address)
{
    u32 value;

    bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
    return value;
}

static __always_inline u8 read_u8(u64 address)
{
    u8 value;

    bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
    return value;
}

/*
 * PAGE_MAPPING_KSM (FOLIO_MAPPING_KSM since 6.17): both low bits of the mapping.
 * One bit alone means anonymous or movable. The pointer above may still be NULL.
 */
#define MAPPING_KSM 3

#ifdef OFF_page_compound_head
/*
 * Before 6.8 the rmap functions take a page, which may be a tail of a huge page:
 * there the mapping's place holds other things. No KSM page is a tail.
 */
static __always_inline bool is_tail(u64 page)
{
    return FIELD(page, page_compound_head) & 1;
}
#else
static __always_inline bool is_tail(u64 page)
{
    return false;
}
#endif

/* Or it is a tail. The lowest byte is enough, and the quickest to read. */
static __always_inline bool may_be_ksm(u64 page)
{
    return (read_u8(page + OFF_page_mapping) & MAPPING_KSM) == MAPPING_KSM;
}

static __always_inline bool is_ksm(u64 page)
{
    return may_be_ksm(page) && !is_tail(page);
}

/* Number of PTEs that map a small page. It can change while it is read. */
static __always_inline int mapcount(u64 page)
{
    return (int)read_u32(page + OFF_page__mapcount) + 1;
}
