// SPDX-License-Identifier: GPL-2.0
/*
 * The hugetlb pool, and the folios behind physical pages.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/kernel-page-flags.h>

#include "gmem_vm.h"
#include "hugepool.h"

#define POOL_DIR	"/sys/kernel/mm/hugepages/hugepages-%lukB/%s"
#define NODE_FREE	"/sys/devices/system/node/node%d/hugepages/hugepages-%lukB/free_hugepages"
#define OPTIMIZE_SYSCTL	"/proc/sys/vm/hugetlb_optimize_vmemmap"
#define PAGES_2M	(SIZE_2M / GMEM_PAGE_SIZE)

static int pool_open(size_t page_size, const char *name, int flags)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), POOL_DIR, page_size / 1024, name);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* The number in a file, which it closes. */
static int read_number(int fd, long *value)
{
	char text[32] = "";
	ssize_t n;

	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return -EIO;
	*value = atol(text);
	return 0;
}

static int pool_counter(size_t page_size, const char *name, long *value)
{
	int fd = pool_open(page_size, name, O_RDONLY);

	return fd < 0 ? fd : read_number(fd, value);
}

int hugepool_read(size_t page_size, struct hugepool *pool)
{
	int ret;

	ret = pool_counter(page_size, "nr_hugepages", &pool->nr);
	ret = ret ?: pool_counter(page_size, "free_hugepages", &pool->free);
	ret = ret ?: pool_counter(page_size, "resv_hugepages", &pool->resv);
	return ret ?: pool_counter(page_size, "surplus_hugepages",
				   &pool->surplus);
}

long hugepool_node_free(size_t page_size, int node)
{
	char path[128];
	long value = 0;
	int fd, ret;

	snprintf(path, sizeof(path), NODE_FREE, node, page_size / 1024);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = read_number(fd, &value);
	return ret ?: value;
}

int hugepool_resize(size_t page_size, long nr)
{
	struct hugepool pool;
	char text[32];
	int fd, ret;

	fd = pool_open(page_size, "nr_hugepages", O_WRONLY);
	if (fd < 0)
		return fd;
	snprintf(text, sizeof(text), "%ld", nr);
	ret = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);

	ret = ret ?: hugepool_read(page_size, &pool);
	if (!ret && pool.nr != nr)
		return -ENOMEM;
	return ret;
}

int hugepool_is_optimized(void)
{
	char digit = 0;
	int fd, ret;

	fd = open(OPTIMIZE_SYSCTL, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = read(fd, &digit, 1) == 1 ? digit == '1' : -EIO;
	close(fd);
	return ret;
}

static int set_optimize(bool optimize)
{
	int fd, ret;

	fd = open(OPTIMIZE_SYSCTL, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = write(fd, optimize ? "1" : "0", 1) == 1 ? 0 : -errno;
	close(fd);
	return ret;
}

int hugepool_optimize(size_t page_size, bool optimize)
{
	struct hugepool pool;
	int ret;

	ret = set_optimize(optimize);
	ret = ret ?: hugepool_read(page_size, &pool);
	ret = ret ?: hugepool_resize(page_size, 0);
	return ret ?: hugepool_resize(page_size, pool.nr);
}

static bool has(__u64 flags, int bit)
{
	return flags & (1ULL << bit);
}

/* How many tails follow the head at flags[0]. */
static size_t count_tails(const __u64 *flags, size_t nr)
{
	size_t i;

	for (i = 1; i < nr && has(flags[i], KPF_COMPOUND_TAIL); i++)
		;
	return i - 1;
}

static void map_folios(const __u64 *flags, size_t nr, struct folio_map *map)
{
	size_t i, folio;

	memset(map, 0, sizeof(*map));
	for (i = 0; i < nr; i += folio) {
		folio = 1;
		if (has(flags[i], KPF_COMPOUND_HEAD))
			folio += count_tails(&flags[i], nr - i);

		if (has(flags[i], KPF_HUGE))
			map->huge++;
		else if (has(flags[i], KPF_COMPOUND_TAIL))
			map->other++;
		else if (folio == PAGES_2M)
			map->large++;
		else if (folio == 1)
			map->small++;
		else
			map->other += folio;
	}
}

int folio_map_read(__u64 pfn, size_t size, struct folio_map *map)
{
	size_t nr = size / GMEM_PAGE_SIZE, bytes = nr * sizeof(__u64);
	__u64 *flags;
	size_t done = 0;
	ssize_t n;
	int fd;

	fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	flags = malloc(bytes);
	if (!flags) {
		close(fd);
		return -ENOMEM;
	}

	while (done < bytes) {
		n = pread(fd, (char *)flags + done, bytes - done,
			  pfn * sizeof(__u64) + done);
		if (n <= 0)
			break;
		done += n;
	}
	close(fd);
	if (done == bytes)
		map_folios(flags, nr, map);
	free(flags);
	return done == bytes ? 0 : -EIO;
}
