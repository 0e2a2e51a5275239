// SPDX-License-Identifier: GPL-2.0
/*
 * KVM's own counters, of a VM or of a vCPU, by the binary statistics interface.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kvm_stats.h"

static long long find_stat(int fd, const struct kvm_stats_header *header,
			   struct kvm_stats_desc *desc, size_t size,
			   const char *name)
{
	off_t pos = header->desc_offset;
	__u64 value;
	__u32 i;

	for (i = 0; i < header->num_desc; i++, pos += size) {
		if (pread(fd, desc, size, pos) != (ssize_t)size)
			return -EIO;
		if (strncmp(desc->name, name, header->name_size))
			continue;
		if (pread(fd, &value, sizeof(value),
			  header->data_offset + desc->offset) != sizeof(value))
			return -EIO;
		return value;
	}
	return -ENOENT;
}

long long kvm_stat(int fd, const char *name)
{
	struct kvm_stats_header header;
	struct kvm_stats_desc *desc;
	long long ret = -EIO;
	int stats_fd;
	size_t size;

	stats_fd = ioctl(fd, KVM_GET_STATS_FD, NULL);
	if (stats_fd < 0)
		return -errno;

	if (pread(stats_fd, &header, sizeof(header), 0) == sizeof(header)) {
		size = sizeof(*desc) + header.name_size;
		desc = malloc(size);
		if (desc)
			ret = find_stat(stats_fd, &header, desc, size, name);
		free(desc);
	}
	close(stats_fd);
	return ret;
}
