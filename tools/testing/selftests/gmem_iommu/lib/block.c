// SPDX-License-Identifier: GPL-2.0
/*
 * Memory of a guest_memfd that one 2 MiB leaf of an IOMMU can map.
 *
 * The file has folios of one page, and the kernel hands them out in whatever order
 * it has them. But the page that was freed last on a CPU is the first that is
 * allocated there. So another file, the pool, gets a lot of memory, in which are all
 * pages of some block, in any order; then page after page of the block is freed
 * there and allocated here. If some other page came in between, that one is put aside.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "block.h"
#include "host.h"

#define TRIES		4
#define SMALLEST_POOL	(8UL << 20)
#define LARGEST_POOL	(512UL << 20)
#define ASIDE_PAGES	16

struct pool_page {
	__u64 pfn;
	size_t page;
};

/**
 * struct pool - Another file of the VM
 * @fd: The file
 * @mem: Its host mapping
 * @npages: Its size, without ASIDE_PAGES more at the end
 * @pages: Its pages by PFN
 */
struct pool {
	int fd;
	__u8 *mem;
	size_t npages;
	struct pool_page *pages;
};

static int touch(__u8 *mem, size_t npages)
{
	return madvise(mem, npages * GMEM_PAGE_SIZE, MADV_POPULATE_WRITE) ?
	       -ENOMEM : 0;
}

static int compare_pfns(const void *a, const void *b)
{
	const struct pool_page *x = a, *y = b;

	return x->pfn < y->pfn ? -1 : x->pfn > y->pfn;
}

static int pool_read_pfns(struct pool *pool)
{
	__u64 *pfns = calloc(pool->npages, sizeof(*pfns));
	int ret = -ENOMEM;
	size_t i;

	if (pfns && pool->pages)
		ret = host_pfns(pool->mem, pfns, pool->npages);
	for (i = 0; !ret && i < pool->npages; i++)
		pool->pages[i] = (struct pool_page){ pfns[i], i };
	free(pfns);
	if (!ret)
		qsort(pool->pages, pool->npages, sizeof(*pool->pages),
		      compare_pfns);
	return ret;
}

static int clear_aside(const struct pool *pool)
{
	return gmem_punch_hole(pool->fd, pool->npages * GMEM_PAGE_SIZE,
			       ASIDE_PAGES * GMEM_PAGE_SIZE);
}

static void pool_destroy(struct pool *pool)
{
	if (pool->mem != MAP_FAILED)
		munmap(pool->mem, (pool->npages + ASIDE_PAGES) * GMEM_PAGE_SIZE);
	close(pool->fd);
	free(pool->pages);
}

static int pool_create(struct pool *pool, int vm_fd, size_t size)
{
	const size_t all = size + ASIDE_PAGES * GMEM_PAGE_SIZE;
	int ret;

	pool->fd = gmem_create_fd(vm_fd, all, GMEM_VM_SHARED);
	if (pool->fd < 0)
		return pool->fd;
	pool->npages = size / GMEM_PAGE_SIZE;
	pool->pages = calloc(pool->npages, sizeof(*pool->pages));
	pool->mem = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_SHARED,
			 pool->fd, 0);

	ret = pool->mem == MAP_FAILED ? -errno : 0;
	/* Page tables would have a page of every block, so they come later. */
	if (!ret)
		ret = gmem_allocate(pool->fd, 0, all);
	if (!ret)
		ret = touch(pool->mem, pool->npages + ASIDE_PAGES);
	if (!ret)
		ret = clear_aside(pool);
	if (!ret)
		ret = pool_read_pfns(pool);
	if (ret)
		pool_destroy(pool);
	return ret;
}

/* The next block of the pool at or after pool->pages[@i], or NULL. */
static const struct pool_page *pool_next_block(const struct pool *pool, size_t i)
{
	const struct pool_page *p;

	for (; i + BLOCK_PAGES <= pool->npages; i++) {
		p = &pool->pages[i];
		if (p[0].pfn && !(p[0].pfn % BLOCK_PAGES) &&
		    p[BLOCK_PAGES - 1].pfn == p[0].pfn + BLOCK_PAGES - 1)
			return p;
	}
	return NULL;
}

/* Whether the file got what the pool gave. */
static int check_block(const struct gmem_vm *vm, size_t page)
{
	__u8 *mem = vm->mem + page * GMEM_PAGE_SIZE;
	__u64 pfns[BLOCK_PAGES];
	size_t i;
	int ret;

	ret = touch(mem, BLOCK_PAGES);
	if (!ret)
		ret = host_pfns(mem, pfns, BLOCK_PAGES);
	for (i = 0; !ret && i < BLOCK_PAGES; i++)
		if (pfns[i] % BLOCK_PAGES != i || pfns[i] != pfns[0] + i)
			ret = -EAGAIN;
	return ret;
}

static int free_page(int fd, size_t page)
{
	return gmem_punch_hole(fd, page * GMEM_PAGE_SIZE, GMEM_PAGE_SIZE);
}

/* 1 if it is page @pfn, 0 if it is another one. */
static int alloc_page(int fd, __u8 *mem, size_t page, __u64 pfn)
{
	__u64 got = 0;
	int ret;

	ret = gmem_allocate(fd, page * GMEM_PAGE_SIZE, GMEM_PAGE_SIZE);
	ret = ret ?: touch(mem + page * GMEM_PAGE_SIZE, 1);
	ret = ret ?: host_pfns(mem + page * GMEM_PAGE_SIZE, &got, 1);
	return ret ?: got == pfn;
}

/*
 * Page @page of the file is a wrong one. Put pages aside until page @pfn is one of
 * them; then it changes places with that of the file.
 */
static int exchange_page(const struct gmem_vm *vm, size_t page,
			 const struct pool *pool, __u64 pfn)
{
	const size_t end = pool->npages + ASIDE_PAGES - 1;
	size_t aside;
	int ret = 0;

	for (aside = pool->npages; !ret && aside < end; aside++)
		ret = alloc_page(pool->fd, pool->mem, aside, pfn);
	if (ret <= 0)
		return ret ?: -EAGAIN;
	ret = free_page(vm->gmem_fd, page);
	ret = ret ?: alloc_page(pool->fd, pool->mem, aside, pfn);
	ret = ret ?: free_page(pool->fd, aside - 1);
	ret = ret ?: alloc_page(vm->gmem_fd, vm->mem, page, pfn);
	return ret < 0 ? ret : ret ? 0 : -EAGAIN;
}

static int move_page(const struct gmem_vm *vm, size_t page,
		     const struct pool *pool, const struct pool_page *from)
{
	int ret, cleared;

	ret = free_page(pool->fd, from->page);
	ret = ret ?: alloc_page(vm->gmem_fd, vm->mem, page, from->pfn);
	if (ret)
		return ret < 0 ? ret : 0;
	/* When already the first one does not come, the block is none of this CPU's. */
	if (!(from->pfn % BLOCK_PAGES))
		return -EAGAIN;
	ret = exchange_page(vm, page, pool, from->pfn);
	cleared = clear_aside(pool);
	return ret ?: cleared;
}

static int move_block(const struct gmem_vm *vm, size_t page,
		      const struct pool *pool, const struct pool_page *from)
{
	size_t i;
	int ret;

	ret = gmem_punch_hole(vm->gmem_fd, page * GMEM_PAGE_SIZE, BLOCK_SIZE);
	for (i = 0; !ret && i < BLOCK_PAGES; i++)
		ret = move_page(vm, page + i, pool, &from[i]);
	return ret ?: check_block(vm, page);
}

static int find_block(const struct gmem_vm *vm, size_t page,
		      const struct pool *pool)
{
	const struct pool_page *from;
	size_t i;
	int ret;

	for (i = 0; (from = pool_next_block(pool, i));
	     i = from - pool->pages + BLOCK_PAGES) {
		ret = move_block(vm, page, pool, from);
		if (ret != -EAGAIN)
			return ret;
	}
	return -ENOSPC;
}

/* Nobody else shall allocate or free a page there meanwhile. */
static int find_block_on_this_cpu(const struct gmem_vm *vm, size_t page,
				  const struct pool *pool)
{
	const struct sched_param first = { .sched_priority = 1 }, normal = {};
	cpu_set_t before, one;
	int ret;

	if (sched_getaffinity(0, sizeof(before), &before))
		return -errno;
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		return -errno;
	sched_setscheduler(0, SCHED_FIFO, &first);
	ret = find_block(vm, page, pool);
	sched_setscheduler(0, SCHED_OTHER, &normal);
	sched_setaffinity(0, sizeof(before), &before);
	return ret;
}

static int make_block(const struct gmem_vm *vm, size_t page)
{
	struct pool pool;
	int ret = -ENOSPC;
	size_t size;

	for (size = SMALLEST_POOL; ret == -ENOSPC && size <= LARGEST_POOL;
	     size *= 4) {
		ret = pool_create(&pool, vm->vm_fd, size);
		if (ret)
			return ret;
		ret = find_block_on_this_cpu(vm, page, &pool);
		pool_destroy(&pool);
	}
	return ret;
}

int block_create(struct gmem_vm *vm, size_t size, size_t page)
{
	int ret, i;

	ret = gmem_vm_create(vm, size, GMEM_VM_SHARED);
	if (ret)
		return ret;
	ret = touch(vm->mem, size / GMEM_PAGE_SIZE);
	if (!ret)
		ret = make_block(vm, page);
	for (i = 1; ret == -ENOSPC && i < TRIES; i++)
		ret = make_block(vm, page);
	if (ret)
		gmem_vm_destroy(vm);
	return ret;
}
