/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Allocations that fail on demand: the n-th from now on of the calling thread, by
 * CONFIG_FAULT_INJECTION.
 */
#ifndef SELFTESTS_GMEM_IOMMU_INJECT_H
#define SELFTESTS_GMEM_IOMMU_INJECT_H

#include <stdbool.h>

/*
 * Let every allocation fail that may fail at all, and get a file descriptor for
 * the calling thread. Returns NULL, or what is missing, as text for SKIP.
 */
const char *inject_open(int *fd);

/* Arm: the @nth allocation from now on fails. */
bool inject_arm(int fd, unsigned int nth);

/* Disarm, and tell if an allocation has failed. */
bool inject_disarm(int fd);

#endif /* SELFTESTS_GMEM_IOMMU_INJECT_H */
