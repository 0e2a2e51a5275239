/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The host's view of guest memory: accesses that may raise SIGBUS, long-term
 * pins, broken memory, and the physical page behind an address.
 */
#ifndef SELFTESTS_GMEM_IOMMU_HOST_H
#define SELFTESTS_GMEM_IOMMU_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <linux/types.h>

/*
 * Access memory that may raise SIGBUS; -EFAULT if it does. Thread safe. They
 * install a handler of SIGBUS that dies of any that is not theirs.
 */
int host_read(void *dst, const void *src, size_t size);
int host_write(void *dst, const void *src, size_t size);
bool host_faults(const void *addr);	/* reading one byte raises SIGBUS */

/*
 * The kernel reads in place of this process, so nothing raises a signal: bytes
 * up to the first page that faults, or -errno.
 */
ssize_t host_read_up_to_fault(void *dst, const void *src, size_t size);

/*
 * Pin pages with FOLL_LONGTERM | FOLL_WRITE, as VFIO does, through CONFIG_GUP_TEST.
 * Returns a file descriptor that holds the pin until it is closed, or -errno;
 * -ENOENT if the kernel lacks CONFIG_GUP_TEST.
 */
int host_pin(void *addr, size_t size);

/*
 * Take an ordinary reference (FOLL_GET) to a page, as a direct write does, by
 * vmsplice(2). Returns a file descriptor that holds it until it is closed, or
 * -errno.
 */
int host_hold(void *addr);

/*
 * Physical pages of @npages pages of the host, from /proc/self/pagemap; needs
 * root. 0 for a page that is not present; touch it before.
 */
int host_pfns(const void *addr, __u64 *pfns, size_t npages);

/*
 * Have the hardware report the page at @addr as broken. -EINVAL if the kernel
 * lacks CONFIG_MEMORY_FAILURE.
 */
int host_break(void *addr);

/*
 * The same for any page, by CONFIG_HWPOISON_INJECT. Who has it mapped is killed.
 * -ENOENT if the kernel lacks it.
 */
int host_break_pfn(__u64 pfn);

#endif /* SELFTESTS_GMEM_IOMMU_HOST_H */
