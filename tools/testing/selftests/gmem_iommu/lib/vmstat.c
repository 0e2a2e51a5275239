// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's own count of its pages.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmstat.h"

/* Each CPU keeps some for itself until it is asked. */
static int refresh(void)
{
	int fd, ret;

	fd = open("/proc/sys/vm/stat_refresh", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = write(fd, "1", 1) == 1 ? 0 : -errno;
	close(fd);
	return ret;
}

static long long read_counter(const char *name)
{
	long long value, found = -ENOENT;
	char line[128], key[64];
	FILE *file;

	file = fopen("/proc/vmstat", "r");
	if (!file)
		return -errno;
	while (found < 0 && fgets(line, sizeof(line), file))
		if (sscanf(line, "%63s %lld", key, &value) == 2 &&
		    !strcmp(key, name))
			found = value;
	fclose(file);
	return found;
}

long long vmstat_get(const char *name)
{
	int ret = refresh();

	return ret ? ret : read_counter(name);
}

/* These are counted at once. */
long long vmstat_get_memmap(void)
{
	long long boot = read_counter("nr_memmap_boot_pages");

	return boot < 0 ? boot : boot + read_counter("nr_memmap_pages");
}
