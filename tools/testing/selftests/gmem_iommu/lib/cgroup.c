// SPDX-License-Identifier: GPL-2.0
/*
 * A cgroup (v2) of the test's own.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cgroup.h"
#include "text.h"

#define CGROUPS		"/sys/fs/cgroup"
#define CGROUP		CGROUPS "/gmem_iommu_test"

static int join(const char *procs)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", getpid());
	return text_write(procs, pid);
}

int cgroup_enter(const char *controller)
{
	char text[32];
	int ret;

	snprintf(text, sizeof(text), "+%s", controller);
	ret = text_write(CGROUPS "/cgroup.subtree_control", text);
	if (ret)
		return ret;
	if (mkdir(CGROUP, 0755) && errno != EEXIST)
		return -errno;
	return join(CGROUP "/cgroup.procs");
}

void cgroup_leave(void)
{
	join(CGROUPS "/cgroup.procs");
	rmdir(CGROUP);
}

static void cgroup_path(char *path, size_t size, const char *file)
{
	snprintf(path, size, CGROUP "/%s", file);
}

int cgroup_set(const char *file, const char *value)
{
	char path[128];

	cgroup_path(path, sizeof(path), file);
	return text_write(path, value);
}

long long cgroup_get(const char *file)
{
	char path[128];

	cgroup_path(path, sizeof(path), file);
	return text_get(path);
}

long long cgroup_get_key(const char *file, const char *key)
{
	char path[128];

	cgroup_path(path, sizeof(path), file);
	return text_get_key(path, key);
}

int cgroup_account_hugetlb(int on)
{
	return mount("cgroup2", CGROUPS, NULL, MS_REMOUNT,
		     on ? "memory_hugetlb_accounting" : NULL) ? -errno : 0;
}
