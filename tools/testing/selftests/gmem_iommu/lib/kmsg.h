/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the kernel logs from now on.
 */
#ifndef SELFTESTS_GMEM_IOMMU_KMSG_H
#define SELFTESTS_GMEM_IOMMU_KMSG_H

#include <stdbool.h>

/* A file descriptor at the end of the kernel's log, or -errno. */
int kmsg_open(void);

/* Read on until a line contains @text; false if none comes in @timeout_ms. */
bool kmsg_wait(int fd, const char *text, int timeout_ms);

#endif /* SELFTESTS_GMEM_IOMMU_KMSG_H */
