// SPDX-License-Identifier: GPL-2.0
/*
 * KVM's own counters, of a VM or of a vCPU, by the binary statistics interface.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kvm_stats.h"

/**
 * struct stats - An open statistics file
 * @fd: The file
 * @header: Its header
 * @desc: Room for one descriptor
 * @desc_size: Bytes of a descriptor in the file
 */
struct stats {
	int fd;
	struct kvm_stats_header header;
	struct kvm_stats_desc *desc;
	size_t desc_size;
};

static int stats_open(struct stats *stats, int fd)
{
	const ssize_t size = sizeof(stats->header);

	stats->fd = ioctl(fd, KVM_GET_STATS_FD, NULL);
	if (stats->fd < 0)
		return -errno;

	if (pread(stats->fd, &stats->header, size, 0) == size) {
		stats->desc_size = sizeof(*stats->desc) + stats->header.name_size;
		stats->desc = malloc(stats->desc_size);
		if (stats->desc)
			return 0;
	}
	close(stats->fd);
	return -EIO;
}

static void stats_close(struct stats *stats)
{
	free(stats->desc);
	close(stats->fd);
}

static bool stats_read_desc(struct stats *stats, __u32 i)
{
	return pread(stats->fd, stats->desc, stats->desc_size,
		     stats->header.desc_offset + i * stats->desc_size) ==
	       (ssize_t)stats->desc_size;
}

static bool stats_read_values(struct stats *stats, __u32 offset,
			      __u64 *values, __u32 nr)
{
	return pread(stats->fd, values, nr * sizeof(*values),
		     stats->header.data_offset + offset) ==
	       (ssize_t)(nr * sizeof(*values));
}

static long long find_stat(struct stats *stats, const char *name)
{
	__u64 value;
	__u32 i;

	for (i = 0; i < stats->header.num_desc; i++) {
		if (!stats_read_desc(stats, i))
			return -EIO;
		if (strncmp(stats->desc->name, name, stats->header.name_size))
			continue;
		if (!stats_read_values(stats, stats->desc->offset, &value, 1))
			return -EIO;
		return value;
	}
	return -ENOENT;
}

long long kvm_stat(int fd, const char *name)
{
	struct stats stats;
	long long ret;

	ret = stats_open(&stats, fd);
	if (ret)
		return ret;
	ret = find_stat(&stats, name);
	stats_close(&stats);
	return ret;
}

/* How many values there are: the last descriptor has the last of them. */
static __u32 count_values(struct stats *stats)
{
	if (!stats->header.num_desc ||
	    !stats_read_desc(stats, stats->header.num_desc - 1))
		return 0;
	return stats->desc->offset / sizeof(__u64) + stats->desc->size;
}

static int read_counters(struct stats *stats, struct kvm_counters *counters)
{
	counters->nr = count_values(stats);
	if (!counters->nr)
		return -EIO;
	if (counters->nr > KVM_COUNTERS_MAX)
		return -E2BIG;
	return stats_read_values(stats, 0, counters->values, counters->nr) ?
	       0 : -EIO;
}

int kvm_counters_read(int fd, struct kvm_counters *counters)
{
	struct stats stats;
	int ret;

	ret = stats_open(&stats, fd);
	if (ret)
		return ret;
	ret = read_counters(&stats, counters);
	stats_close(&stats);
	return ret;
}

static const char *describe(struct stats *stats, __u32 value, __u64 before,
			    __u64 after)
{
	static __thread char buf[128];
	__u32 i, first;

	for (i = 0; i < stats->header.num_desc; i++) {
		if (!stats_read_desc(stats, i))
			break;
		first = stats->desc->offset / sizeof(__u64);
		if (value < first || value >= first + stats->desc->size)
			continue;
		snprintf(buf, sizeof(buf), "%.48s: %llu is %llu",
			 stats->desc->name, before, after);
		return buf;
	}
	return "a counter without a name";
}

const char *kvm_counters_changed(int fd, const struct kvm_counters *before)
{
	struct kvm_counters after;
	const char *why = "";
	struct stats stats;
	__u32 i;

	if (stats_open(&stats, fd))
		return "no statistics";
	if (read_counters(&stats, &after) || after.nr != before->nr)
		why = "statistics cannot be read";
	for (i = 0; !*why && i < before->nr; i++)
		if (after.values[i] != before->values[i])
			why = describe(&stats, i, before->values[i],
				       after.values[i]);
	stats_close(&stats);
	return why;
}
