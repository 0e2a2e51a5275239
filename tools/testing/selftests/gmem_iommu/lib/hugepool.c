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
#include "text.h"

#define POOL_DIR	"/sys/kernel/mm/hugepages/hugepages-%lukB/%s"
#define NODE_FREE	"/sys/devices/system/node/node%d/hugepages/hugepages-%lukB/free_hugepages"
#define OPTIMIZE_SYSCTL	"/proc/sys/vm/hugetlb_optimize_vmemmap"
#define PAGES_2M	(SIZE_2M / GMEM_PAGE_SIZE)

static void pool_path(char *path, size_t size, size_t page_size,
		      const char *name)
{
	snprintf(path, size, POOL_DIR, page_size / 1024, name);
}

static int pool_counter(size_t page_size, const char *name, long *value)
{
	char path[128];

	pool_path(path, sizeof(path), page_size, name);
	*value = text_get(path);
	return *value < 0 ? *value : 0;
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

	snprintf(path, sizeof(path), NODE_FREE, node, page_size / 1024);
	return text_get(path);
}

int hugepool_resize(size_t page_size, long nr)
{
	char path[128], text[32];
	struct hugepool pool;
	int ret;

	pool_path(path, sizeof(path), page_size, "nr_hugepages");
	snprintf(text, sizeof(text), "%ld", nr);
	ret = text_write(path, text);
	ret = ret ?: hugepool_read(page_size, &pool);
	if (!ret && pool.nr != nr)
		return -ENOMEM;
	return ret;
}

int hugepool_is_optimized(void)
{
	return text_get(OPTIMIZE_SYSCTL);
}

static int set_optimize(bool optimize)
{
	return text_write(OPTIMIZE_SYSCTL, optimize ? "1" : "0");
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
