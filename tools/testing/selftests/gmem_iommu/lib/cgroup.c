// SPDX-License-Identifier: GPL-2.0
/*
 * A cgroup (v2) of the test's own.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cgroup.h"

#define CGROUPS		"/sys/fs/cgroup"
#define CGROUP		CGROUPS "/gmem_iommu_test"

static int write_text(const char *path, const char *text)
{
	int fd, ret = 0;

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

static int join(const char *procs)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", getpid());
	return write_text(procs, pid);
}

int cgroup_enter(const char *controller)
{
	char text[32];
	int ret;

	snprintf(text, sizeof(text), "+%s", controller);
	ret = write_text(CGROUPS "/cgroup.subtree_control", text);
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
	return write_text(path, value);
}

long long cgroup_get(const char *file)
{
	char path[128], text[32] = "";
	ssize_t n;
	int fd;

	cgroup_path(path, sizeof(path), file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	return n > 0 ? atoll(text) : -EIO;
}

long long cgroup_get_key(const char *file, const char *key)
{
	char path[128], line[128], name[64];
	long long value, found = -ENOENT;
	FILE *stream;

	cgroup_path(path, sizeof(path), file);
	stream = fopen(path, "r");
	if (!stream)
		return -errno;
	while (found < 0 && fgets(line, sizeof(line), stream))
		if (sscanf(line, "%63s %lld", name, &value) == 2 &&
		    !strcmp(name, key))
			found = value;
	fclose(stream);
	return found;
}

int cgroup_account_hugetlb(int on)
{
	return mount("cgroup2", CGROUPS, NULL, MS_REMOUNT,
		     on ? "memory_hugetlb_accounting" : NULL) ? -errno : 0;
}
