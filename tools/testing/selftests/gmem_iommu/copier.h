/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A device that copies memory by DMA, thousands of times a second: QEMU's "igb"
 * with the driver of the VFIO selftests, which is a library of its own. Whatever
 * goes wrong there ends the program.
 */
#ifndef SELFTESTS_GMEM_IOMMU_COPIER_H
#define SELFTESTS_GMEM_IOMMU_COPIER_H

#include <linux/types.h>

#include "lib/ioas.h"

/* Bytes of one copy, at most. */
#define COPIER_MAX_SIZE	1024U

/* Bytes at the start of a copy that are the device's: see copier_mark(). */
#define COPIER_MARK	16

/* Copies that can be on their way at the same time. */
#define COPIER_MAX_NR	2048

/* Where the device's own memory is in the IOAS. */
#define COPIER_IOVA	0x68000000ULL

struct copier;

/* PCI address of the device, from the environment, or NULL. */
const char *copier_bdf(void);

/* NULL if there is no memory. */
struct copier *copier_open(const char *bdf, const struct ioas *ioas);
void copier_close(struct copier *copier);

/*
 * To the device it is a frame of Ethernet that it sends to itself, and some frames
 * it would drop. Make a copy start with the header of a harmless one.
 */
void copier_mark(void *src);

/* Copies are done in order. copier_wait() returns 0 when all of them are done. */
void copier_copy(struct copier *copier, __u64 src, __u64 dst, __u32 size);
int copier_wait(struct copier *copier);

#endif /* SELFTESTS_GMEM_IOMMU_COPIER_H */
