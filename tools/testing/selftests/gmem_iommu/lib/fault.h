/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Fault injection into the calling thread: the n-th of its allocations from now on
 * fails, by /proc/self/task/<tid>/fail-nth.
 */
#ifndef SELFTESTS_GMEM_IOMMU_FAULT_H
#define SELFTESTS_GMEM_IOMMU_FAULT_H

#include <stdbool.h>

/**
 * struct fault - Injection into one thread
 * @fd: Its fail-nth file
 */
struct fault {
	int fd;
};

/*
 * Let every allocation be one that may fail: also those that can wait, and single
 * pages. Without min-order page tables and memory itself would be left out. Returns
 * what is missing, as text for SKIP, or NULL.
 */
const char *fault_setup(void);

/* Of the calling thread. Returns 0 or -errno. */
int fault_open(struct fault *fault);
void fault_close(struct fault *fault);

/* The @nth allocation from now on fails, counted from 1. */
bool fault_arm(struct fault *fault, unsigned int nth);

/* Returns whether one has failed. */
bool fault_disarm(struct fault *fault);

#endif /* SELFTESTS_GMEM_IOMMU_FAULT_H */
