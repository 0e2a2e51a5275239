/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel's own count of its pages.
 */
#ifndef SELFTESTS_GMEM_IOMMU_VMSTAT_H
#define SELFTESTS_GMEM_IOMMU_VMSTAT_H

/*
 * A counter of /proc/vmstat, with what is on its way from the CPUs; needs root. -errno
 * on error, -ENOENT if there is no such counter.
 */
long long vmstat_get(const char *name);

/* Pages that struct pages are in, those of the boot included; or -errno. */
long long vmstat_get_memmap(void);

#endif /* SELFTESTS_GMEM_IOMMU_VMSTAT_H */
