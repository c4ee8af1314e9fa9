// SPDX-License-Identifier: GPL-2.0-only
/* Operations that hold references to pages, or pin them where they are. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <sys/ioctl.h>

#include "../memory.h"
#include "operations.h"

/* vmsplice REGION FIRST COUNT: an extra reference to each, by a pipe that nobody reads. */
int do_vmsplice(struct command *c)
{
    struct iovec pages = {first_page(c), bytes_of(c)};
    int ends[2];

    if (!pages.iov_base || pipe(ends) || fcntl(ends[1], F_SETPIPE_SZ, bytes_of(c)) < 0)
        return -1;
    return vmsplice(ends[1], &pages, 1, 0) == (ssize_t)bytes_of(c) ? 0 : -1;
}

/* pin REGION FIRST COUNT: as a buffer of io_uring, which stays where it is. */
int do_pin(struct command *c)
{
    struct iovec buffer = {first_page(c), bytes_of(c)};
    struct io_uring_params parameters = {0};
    int ring = (int)syscall(SYS_io_uring_setup, 1, &parameters);

    if (ring < 0)
        return -1;
    return (int)syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1);
}

/*
 * For a device that the process drives by itself, as QEMU drives one passed through: all of it
 * stays where it is from now on. `group`: the file of the device's IOMMU group.
 */
static int vfio_map(const char *group, void *first, size_t bytes)
{
    struct vfio_iommu_type1_dma_map map = {
        .argsz = sizeof(map),
        .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        .vaddr = (uintptr_t)first,
        .iova = 1 << 24,
        .size = bytes,
    };
    int container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
    int device = open(group, O_RDWR | O_CLOEXEC);

    if (container < 0 || device < 0 || ioctl(device, VFIO_GROUP_SET_CONTAINER, &container) ||
        ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
        return -1;
    return ioctl(container, VFIO_IOMMU_MAP_DMA, &map);
}

/* passthrough REGION FIRST COUNT GROUP: pinned for a device in this IOMMU group. */
int do_passthrough(struct command *c)
{
    char *page = first_page(c);

    return page ? vfio_map(word_at(c, 4), page, bytes_of(c)) : -1;
}
