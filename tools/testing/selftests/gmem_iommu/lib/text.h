/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Files of the kernel that are text: of procfs, sysfs, debugfs and cgroups.
 */
#ifndef SELFTESTS_GMEM_IOMMU_TEXT_H
#define SELFTESTS_GMEM_IOMMU_TEXT_H

/* Replace all of it, as the shell's ">" does. Returns 0 or -errno. */
int text_write(const char *path, const char *text);

/* The number that a file has; or -errno. */
long long text_get(const char *path);

/* The number behind @key in a file of lines "key number"; or -errno, -ENOENT if none. */
long long text_get_key(const char *path, const char *key);

#endif /* SELFTESTS_GMEM_IOMMU_TEXT_H */
