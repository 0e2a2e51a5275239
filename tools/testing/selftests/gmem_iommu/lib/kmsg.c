// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel logs from now on.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "kmsg.h"

int kmsg_open(void)
{
	int fd, ret;

	fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (lseek(fd, 0, SEEK_END) < 0) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

bool kmsg_wait(int fd, const char *text, int timeout_ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	char record[8192];	/* one read is one record, this is the longest */
	ssize_t n;

	for (;;) {
		n = read(fd, record, sizeof(record) - 1);
		if (n > 0) {
			record[n] = '\0';
			if (strstr(record, text))
				return true;
			continue;
		}
		/* EPIPE: records were overwritten; the position moved on. */
		if (n < 0 && errno == EPIPE)
			continue;
		if (n == 0 || errno != EAGAIN)
			return false;
		if (poll(&pfd, 1, timeout_ms) <= 0)
			return false;
	}
}
