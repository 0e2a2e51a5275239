// SPDX-License-Identifier: GPL-2.0
/*
 * A device that copies memory by DMA: QEMU's "igb", by libvfio.
 */
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <libvfio.h>

#include "copier.h"

#define COPIER_REGION	(2UL << 20)

/**
 * struct copier - The device
 * @mode: Says that it is an iommufd, for libvfio
 * @iommu: The IOAS, for libvfio
 * @device: The device
 */
struct copier {
	struct iommu_mode mode;
	struct iommu iommu;
	struct vfio_pci_device *device;
};

const char *copier_bdf(void)
{
	return getenv("VFIO_SELFTESTS_BDF");
}

static int map_region(struct copier *copier)
{
	struct dma_region *region = &copier->device->driver.region;

	region->vaddr = mmap(NULL, COPIER_REGION, PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (region->vaddr == MAP_FAILED)
		return -1;
	region->iova = COPIER_IOVA;
	region->size = COPIER_REGION;
	iommu_map(&copier->iommu, region);
	return 0;
}

struct copier *copier_open(const char *bdf, const struct ioas *ioas)
{
	struct copier *copier = calloc(1, sizeof(*copier));

	if (!copier)
		return NULL;

	copier->mode.name = MODE_IOMMUFD;
	copier->iommu.mode = &copier->mode;
	copier->iommu.iommufd = ioas->iommufd;
	copier->iommu.ioas_id = ioas->id;
	INIT_LIST_HEAD(&copier->iommu.dma_regions);

	copier->device = vfio_pci_device_init(bdf, &copier->iommu);
	if (map_region(copier)) {
		copier_close(copier);
		return NULL;
	}
	vfio_pci_driver_init(copier->device);
	return copier;
}

void copier_close(struct copier *copier)
{
	struct vfio_pci_driver *driver = &copier->device->driver;

	/* Resets the device, so nothing uses its memory any more. */
	if (driver->initialized)
		vfio_pci_driver_remove(copier->device);
	if (driver->region.size) {
		iommu_unmap(&copier->iommu, &driver->region);
		munmap(driver->region.vaddr, driver->region.size);
	}
	vfio_pci_device_cleanup(copier->device);
	free(copier);
}

void copier_mark(void *src)
{
	struct ethhdr header = { .h_proto = htons(ETH_P_802_EX1) };

	memset(header.h_dest, 0xff, sizeof(header.h_dest));
	header.h_source[0] = 0x02;	/* locally administered */
	memset(src, 0, COPIER_MARK);
	memcpy(src, &header, sizeof(header));
}

void copier_copy(struct copier *copier, __u64 src, __u64 dst, __u32 size)
{
	struct vfio_pci_driver *driver = &copier->device->driver;

	/* Not vfio_pci_driver_memcpy_start(): that allows one at a time. */
	driver->ops->memcpy_start(copier->device, src, dst, size, 1);
}

int copier_wait(struct copier *copier)
{
	return copier->device->driver.ops->memcpy_wait(copier->device);
}
