// SPDX-License-Identifier: GPL-2.0
/*
 * Files of the kernel that are text.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "text.h"

int text_write(const char *path, const char *text)
{
	const ssize_t len = strlen(text);
	int fd, ret = 0;
	ssize_t n;

	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = write(fd, text, len);
	if (n != len)
		ret = n < 0 ? -errno : -EIO;
	close(fd);
	return ret;
}

long long text_get(const char *path)
{
	char text[32] = "";
	ssize_t n;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	return n > 0 ? atoll(text) : -EIO;
}

long long text_get_key(const char *path, const char *key)
{
	long long value, found = -ENOENT;
	char line[128], name[64];
	FILE *file;

	file = fopen(path, "r");
	if (!file)
		return -errno;
	while (found < 0 && fgets(line, sizeof(line), file))
		if (sscanf(line, "%63s %lld", name, &value) == 2 &&
		    !strcmp(name, key))
			found = value;
	fclose(file);
	return found;
}
