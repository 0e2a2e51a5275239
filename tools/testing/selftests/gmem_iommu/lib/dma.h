/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Real DMA by QEMU's "edu" PCI device, through vfio-pci and iommufd.
 *
 * The device copies between memory and a buffer of one page of its own, one
 * transfer in 100 ms. It does not notice when the IOMMU blocks a transfer, so a
 * test judges by the data: dma_read() first puts a canary into the buffer.
 *
 * Functions return 0 or a negative errno unless they say otherwise.
 */
#ifndef SELFTESTS_GMEM_IOMMU_DMA_H
#define SELFTESTS_GMEM_IOMMU_DMA_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

#include "ioas.h"

#define EDU_BDF_LEN	16
#define EDU_LIST_MAX	4

/**
 * struct edu - One device
 * @bdf: PCI address
 * @fd: VFIO device; -1 if closed
 * @dev_id: Its object id in the iommufd
 * @bar: Its registers
 * @bar_size: Bytes of @bar
 * @ioas: The IOAS that it is attached to, or NULL
 */
struct edu {
	char bdf[EDU_BDF_LEN];
	int fd;
	__u32 dev_id;
	void *bar;
	size_t bar_size;
	struct ioas *ioas;
};

/**
 * struct edu_list - The devices of this machine, in the order of their addresses
 * @nr: How many
 * @bdf: PCI addresses
 */
struct edu_list {
	int nr;
	char bdf[EDU_LIST_MAX][EDU_BDF_LEN];
};

void edu_list(struct edu_list *list);

/* Bind the device to vfio-pci and to an iommufd. */
int edu_open(struct edu *edu, const char *bdf, int iommufd);
void edu_close(struct edu *edu);

/* @pt_id: an IOAS or a HWPT of @ioas. */
int edu_attach(struct edu *edu, struct ioas *ioas, __u32 pt_id);
int edu_detach(struct edu *edu);

/*
 * dma_read: the device reads the page at @iova; @buf gets what it received, or
 * anything that is not the page if the IOMMU blocked it. dma_write: the device
 * writes @buf to the page at @iova. 0: the device has done its part.
 */
int dma_read(struct edu *edu, __u64 iova, void *buf);
int dma_write(struct edu *edu, __u64 iova, const void *buf);

/*
 * The device reads the page at @iova, and receives gmem_pattern() of @gpa and
 * @seed. False if the IOMMU blocked it, and if the page has other contents.
 */
bool dma_read_matches(struct edu *edu, __u64 iova, __u64 gpa, __u32 seed);

/*
 * The device tries to read the page at @iova, and the kernel logs a DMAR fault of
 * this device at exactly this address. The log is rate limited
 * (drivers/iommu/intel/dmar.c): this repeats the access until the line comes, for
 * longer than one interval of the limit.
 */
bool dma_read_faults(struct edu *edu, __u64 iova);

#endif /* SELFTESTS_GMEM_IOMMU_DMA_H */
