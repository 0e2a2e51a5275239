// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/gmem_iommu for tests: bind, and compare what a binding says of itself with
 * the model of the test.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gmem_vm.h"
#include "mirror.h"
#include "walker.h"
#include "xioctl.h"

#define GMEM_IOMMU_NODE	"/dev/gmem_iommu"
#define END_CURSOR	(~0ULL)
#define RUNS_PER_QUERY	7

const char *mirror_missing(void)
{
	if (access(GMEM_IOMMU_NODE, R_OK | W_OK))
		return "no " GMEM_IOMMU_NODE;
	if (access("/dev/iommu", R_OK | W_OK))
		return "no /dev/iommu";
	return gmem_vm_missing();
}

int mirror_bind_args(struct gmem_iommu_bind *args)
{
	int fd, ret;

	args->size = sizeof(*args);
	fd = open(GMEM_IOMMU_NODE, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = xioctl(fd, GMEM_IOMMU_BIND, args);
	close(fd);

	return ret < 0 ? ret : args->out_fd;
}

int mirror_bind_leaves(int gmem_fd, const struct ioas *ioas, __u64 offset,
		       __u64 length, __u64 iova, __u64 max_leaf_size)
{
	struct gmem_iommu_bind args = {
		.flags = GMEM_IOMMU_BIND_READ | GMEM_IOMMU_BIND_WRITE |
			 GMEM_IOMMU_BIND_FIXED_IOVA,
		.gmem_fd = gmem_fd,
		.iommufd = ioas->iommufd,
		.ioas_id = ioas->id,
		.offset = offset,
		.length = length,
		.iova = iova,
		.max_leaf_size = max_leaf_size,
	};

	return mirror_bind_args(&args);
}

int mirror_bind(int gmem_fd, const struct ioas *ioas, __u64 offset,
		__u64 length, __u64 iova)
{
	return mirror_bind_leaves(gmem_fd, ioas, offset, length, iova,
				  GMEM_PAGE_SIZE);
}

int mirror_read_runs(int binding, __u64 offset, struct gmem_iommu_run *runs,
		     __u32 max)
{
	struct gmem_iommu_query_runs query = {
		.size = sizeof(query),
		.nr_runs = max,
		.cursor = offset,
		.runs = (unsigned long)runs,
	};
	int ret;

	ret = xioctl(binding, GMEM_IOMMU_QUERY_RUNS, &query);
	if (ret)
		return ret;
	return query.cursor == END_CURSOR ? (int)query.nr_runs : -E2BIG;
}

int mirror_get_stats(int binding, struct gmem_iommu_stats *stats)
{
	memset(stats, 0, sizeof(*stats));
	stats->size = sizeof(*stats);
	return xioctl(binding, GMEM_IOMMU_GET_STATS, stats);
}

int mirror_poll_dead(int binding)
{
	struct pollfd pfd = { .fd = binding, .events = POLLIN };
	int ret;

	ret = poll(&pfd, 1, 0);
	if (ret < 0)
		return -errno;
	return (pfd.revents & (POLLHUP | POLLERR)) == (POLLHUP | POLLERR);
}

static __u32 run_flags(__u8 state)
{
	switch (state) {
	case PAGE_SHARED:
		return GMEM_IOMMU_RUN_SHARED | GMEM_IOMMU_RUN_MAPPED;
	case PAGE_HOLE:
		return GMEM_IOMMU_RUN_SHARED;
	default:
		return 0;
	}
}

/* The run of the model that starts at page @i. */
static struct gmem_iommu_run model_run(__u64 offset, const __u8 *model,
				       size_t npages, size_t i)
{
	struct gmem_iommu_run run = {
		.offset = offset + i * GMEM_PAGE_SIZE,
		.flags = run_flags(model[i]),
		.leaf_size = model[i] == PAGE_SHARED ? GMEM_PAGE_SIZE : 0,
	};
	size_t end = i;

	while (end < npages && model[end] == model[i])
		end++;
	run.length = (end - i) * GMEM_PAGE_SIZE;
	return run;
}

const char *mirror_check_runs(int binding, __u64 offset, const __u8 *model,
			      size_t npages)
{
	static __thread char why[256];
	struct gmem_iommu_run runs[RUNS_PER_QUERY];
	struct gmem_iommu_query_runs query = {
		.size = sizeof(query),
		.cursor = offset,
	};
	struct gmem_iommu_run want;
	size_t page = 0;
	__u32 i;
	int ret;

	while (query.cursor != END_CURSOR) {
		query.nr_runs = RUNS_PER_QUERY;
		query.runs = (unsigned long)runs;
		memset(runs, 0xff, sizeof(runs));

		ret = xioctl(binding, GMEM_IOMMU_QUERY_RUNS, &query);
		if (ret) {
			snprintf(why, sizeof(why), "QUERY_RUNS at %#llx: %s",
				 (unsigned long long)query.cursor, strerror(-ret));
			return why;
		}
		if (!query.nr_runs || query.nr_runs > RUNS_PER_QUERY) {
			snprintf(why, sizeof(why), "QUERY_RUNS returned %u runs",
				 query.nr_runs);
			return why;
		}

		for (i = 0; i < query.nr_runs; i++) {
			if (page >= npages)
				return "QUERY_RUNS goes on beyond the binding";
			want = model_run(offset, model, npages, page);
			if (memcmp(&runs[i], &want, sizeof(want))) {
				snprintf(why, sizeof(why),
					 "run {%#llx, %#llx, %#x, %u}, want {%#llx, %#llx, %#x, %u}",
					 runs[i].offset, runs[i].length,
					 runs[i].flags, runs[i].leaf_size,
					 want.offset, want.length, want.flags,
					 want.leaf_size);
				return why;
			}
			page += want.length / GMEM_PAGE_SIZE;
		}
	}
	return page == npages ? "" : "QUERY_RUNS ended before the binding";
}
