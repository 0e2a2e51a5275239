// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "inject.h"
#include "kselftest.h"

#define DEBUGFS		"/sys/kernel/debug/"

static int write_file(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t len = strlen(value);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, value, len) != len)
		ret = -EIO;
	close(fd);
	return ret;
}

/*
 * Also those that can wait, and single pages. Without min-order the page tables
 * and the memory itself would not be a part of the test.
 */
static const char *inject_setup(void)
{
	static const char * const settings[][2] = {
		{ DEBUGFS "failslab/verbose", "0" },
		{ DEBUGFS "failslab/ignore-gfp-wait", "N" },
		{ DEBUGFS "fail_page_alloc/verbose", "0" },
		{ DEBUGFS "fail_page_alloc/ignore-gfp-wait", "N" },
		{ DEBUGFS "fail_page_alloc/ignore-gfp-highmem", "N" },
		{ DEBUGFS "fail_page_alloc/min-order", "0" },
	};
	size_t i;

	/* Only with CONFIG_IOMMUFD_TEST: its fault points are no allocations. */
	write_file(DEBUGFS "fail_iommufd/verbose", "0");

	for (i = 0; i < ARRAY_SIZE(settings); i++) {
		if (write_file(settings[i][0], settings[i][1]))
			return "no failslab or fail_page_alloc in debugfs";
	}
	return NULL;
}

const char *inject_open(int *fd)
{
	const char *missing = inject_setup();
	char path[64];

	if (missing)
		return missing;
	snprintf(path, sizeof(path), "/proc/self/task/%ld/fail-nth",
		 syscall(SYS_gettid));
	*fd = open(path, O_RDWR | O_CLOEXEC);
	return *fd < 0 ? "no fail-nth" : NULL;
}

bool inject_arm(int fd, unsigned int nth)
{
	char buf[16];
	int len = snprintf(buf, sizeof(buf), "%u", nth);

	return pwrite(fd, buf, len, 0) == len;
}

bool inject_disarm(int fd)
{
	char buf[16] = {};
	ssize_t len;

	len = pread(fd, buf, sizeof(buf) - 1, 0);
	/* What is left may hit the disarming itself: then it hit nothing else. */
	if (!inject_arm(fd, 0))
		inject_arm(fd, 0);
	return len > 0 && !strcmp(buf, "0\n");
}
