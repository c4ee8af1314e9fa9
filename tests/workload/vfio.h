/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory for a device that a process drives by itself, as QEMU drives one passed through. */
#pragma once
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <sys/ioctl.h>

/* All of it stays where it is from now on. `group`: the file of the device's IOMMU group. */
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
