// SPDX-License-Identifier: GPL-2.0
/*
 * Fault injection into the calling thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fault.h"
#include "kselftest.h"
#include "text.h"

#define DEBUGFS		"/sys/kernel/debug/"

const char *fault_setup(void)
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

	/* Only with CONFIG_IOMMUFD_TEST: fault points that are not allocations. */
	text_write(DEBUGFS "fail_iommufd/verbose", "0");

	for (i = 0; i < ARRAY_SIZE(settings); i++) {
		if (text_write(settings[i][0], settings[i][1]))
			return "no failslab or fail_page_alloc in debugfs";
	}
	return NULL;
}

int fault_open(struct fault *fault)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%ld/fail-nth",
		 syscall(SYS_gettid));
	fault->fd = open(path, O_RDWR | O_CLOEXEC);
	return fault->fd < 0 ? -errno : 0;
}

void fault_close(struct fault *fault)
{
	if (fault->fd >= 0)
		close(fault->fd);
	fault->fd = -1;
}

bool fault_arm(struct fault *fault, unsigned int nth)
{
	char buf[16];
	int len = snprintf(buf, sizeof(buf), "%u", nth);

	return pwrite(fault->fd, buf, len, 0) == len;
}

bool fault_disarm(struct fault *fault)
{
	char buf[16] = {};
	ssize_t len;

	len = pread(fault->fd, buf, sizeof(buf) - 1, 0);
	/* What is left may hit the disarming itself: then it hit nothing else. */
	if (!fault_arm(fault, 0))
		fault_arm(fault, 0);
	return len > 0 && !strcmp(buf, "0\n");
}
