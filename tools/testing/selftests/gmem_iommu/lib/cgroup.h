/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A cgroup (v2) of the test's own: what it is charged, and limits to it. Needs root.
 *
 * Functions return 0 or a negative errno unless they say otherwise.
 */
#ifndef SELFTESTS_GMEM_IOMMU_CGROUP_H
#define SELFTESTS_GMEM_IOMMU_CGROUP_H

/*
 * Move this process to a new cgroup that has @controller, "memory" or "hugetlb" for
 * example. It has only one.
 */
int cgroup_enter(const char *controller);

/* Back to the root. What is still charged goes there, too. */
void cgroup_leave(void);

/* Write to a file of the cgroup. */
int cgroup_set(const char *file, const char *value);

/* The number that a file has; or -errno. */
long long cgroup_get(const char *file);

/* The number behind @key in a file of several, memory.stat for example; or -errno. */
long long cgroup_get_key(const char *file, const char *key);

/* Let memory cgroups count huge pages, or not. */
int cgroup_account_hugetlb(int on);

#endif /* SELFTESTS_GMEM_IOMMU_CGROUP_H */
