// SPDX-License-Identifier: GPL-2.0
/*
 * Files whose memory comes in huge pages of the hugetlb pool: what they take from the
 * pool and give back, which folios they consist of after each conversion, and that
 * the guest's data stays.
 *
 * Oracles that share no code with guest_memfd: the counters of the pool in sysfs, and
 * /proc/kpageflags.
 *
 * Requirements: H1 to H9, H11, C1, C4, C11, M5.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/hugepool.h"
#include "lib/kvm_stats.h"

#define SEED		0x5eed0005
#define NR_THREADS	16

#define HUGE_2M		(GUEST_MEMFD_FLAG_HUGETLB | GUEST_MEMFD_HUGE_2MB)
#define HUGE_1G		(GUEST_MEMFD_FLAG_HUGETLB | GUEST_MEMFD_HUGE_1GB)

#define ASSERT_POOL(_free, _resv) do {					\
	struct hugepool now;						\
									\
	ASSERT_EQ(0, hugepool_read(variant->page_size, &now));		\
	ASSERT_EQ(self->before.nr, now.nr);				\
	ASSERT_EQ(self->before.surplus, now.surplus);			\
	ASSERT_EQ(self->before.free - (_free), now.free);		\
	ASSERT_EQ(self->before.resv + (_resv), now.resv);		\
} while (0)

FIXTURE(huge)
{
	struct gmem_vm vm;
	struct hugepool before;
	size_t size;
};

FIXTURE_VARIANT(huge)
{
	size_t page_size;
	long nr;
	__u64 flags;
};

FIXTURE_VARIANT_ADD(huge, 2M)
{
	.page_size = SIZE_2M,
	.nr = 4,
	.flags = HUGE_2M,
};

FIXTURE_VARIANT_ADD(huge, 1G)
{
	.page_size = SIZE_1G,
	.nr = 1,
	.flags = HUGE_1G,
};

FIXTURE_SETUP(huge)
{
	const char *missing = gmem_vm_missing();

	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, hugepool_read(variant->page_size, &self->before));
	if (self->before.free < variant->nr) {
		if (hugepool_resize(variant->page_size,
				    self->before.nr + variant->nr))
			SKIP(return, "not enough huge pages");
		ASSERT_EQ(0, hugepool_read(variant->page_size, &self->before));
	}

	self->size = variant->nr * variant->page_size;
	ASSERT_EQ(0, gmem_vm_create(&self->vm, self->size,
				    GMEM_VM_PRIVATE | variant->flags));
	ASSERT_POOL(0, variant->nr);
}

FIXTURE_TEARDOWN(huge)
{
	gmem_vm_destroy(&self->vm);
	ASSERT_POOL(0, 0);
}

/* The PFN of the first page of the file, from one of its pages that is shared. */
static __u64 base_pfn(struct __test_metadata *_metadata, struct gmem_vm *vm,
		      size_t page)
{
	__u64 pfn;
	char byte;

	ASSERT_EQ(0, host_read(&byte, vm->mem + PAGES(page), 1));
	ASSERT_EQ(0, host_pfns(vm->mem + PAGES(page), &pfn, 1));
	ASSERT_NE(0, pfn);
	return pfn - page;
}

/* A huge page is one folio; @split: all blocks but one are large, and that is not. */
static void expect_folios(struct __test_metadata *_metadata, __u64 pfn,
			  size_t page_size, bool split)
{
	struct folio_map map;

	ASSERT_EQ(0, folio_map_read(pfn, page_size, &map));
	EXPECT_EQ(split ? 0 : 1, map.huge);
	EXPECT_EQ(split ? page_size / SIZE_2M - 1 : 0, map.large);
	EXPECT_EQ(split ? SIZE_2M / GMEM_PAGE_SIZE : 0, map.small);
	EXPECT_EQ(0, map.other);
}

TEST_F(huge, H1_bad_flags)
{
	static const __u64 bad[] = {
		/* A page size alone, and none. */
		GMEM_VM_PRIVATE | GUEST_MEMFD_HUGE_2MB,
		GMEM_VM_PRIVATE | GUEST_MEMFD_FLAG_HUGETLB,
		/* A file that cannot be split. */
		GUEST_MEMFD_FLAG_MMAP | HUGE_2M,
		/* Sizes that no pool has. */
		GMEM_VM_PRIVATE | GUEST_MEMFD_FLAG_HUGETLB |
			(12ULL << GUEST_MEMFD_HUGE_SHIFT),
		GMEM_VM_PRIVATE | GUEST_MEMFD_FLAG_HUGETLB |
			(22ULL << GUEST_MEMFD_HUGE_SHIFT),
		GMEM_VM_PRIVATE | GUEST_MEMFD_FLAG_HUGETLB |
			(63ULL << GUEST_MEMFD_HUGE_SHIFT),
	};
	__u64 flags = GMEM_VM_PRIVATE | variant->flags;
	int vm_fd = self->vm.vm_fd;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		EXPECT_EQ(-EINVAL, gmem_create_fd(vm_fd, self->size, bad[i]));
	EXPECT_EQ(-EINVAL, gmem_create_fd(vm_fd, GMEM_PAGE_SIZE, flags));
	EXPECT_EQ(-EINVAL, gmem_create_fd(vm_fd, self->size + GMEM_PAGE_SIZE,
					  flags));
	EXPECT_EQ(-EINVAL, gmem_create_fd(vm_fd, 0, flags));

	/* More than the pool has left, of which the fixture's file reserved some. */
	EXPECT_EQ(-ENOMEM, gmem_create_fd(vm_fd, (self->before.free - variant->nr + 1) *
					  variant->page_size, flags));
	ASSERT_POOL(0, variant->nr);
}

TEST_F(huge, H6_counters)
{
	struct gmem_vm *vm = &self->vm;
	long i;

	EXPECT_EQ(0, gmem_get_memory(vm->gmem_fd));
	for (i = 0; i < variant->nr; i++) {
		ASSERT_EQ(0, gmem_vm_fill(vm, i * variant->page_size,
					  GMEM_PAGE_SIZE, SEED));
		ASSERT_POOL(i + 1, variant->nr - i - 1);
		EXPECT_EQ((i + 1) * (long long)variant->page_size,
			  gmem_get_memory(vm->gmem_fd));
	}

	/* Split and merged, it is the same huge page. */
	ASSERT_EQ(0, gmem_vm_convert(vm, 7, 1, SHARED));
	ASSERT_POOL(variant->nr, 0);
	ASSERT_EQ(0, gmem_vm_convert(vm, 7, 1, PRIVATE));
	ASSERT_POOL(variant->nr, 0);
	EXPECT_EQ((long long)self->size, gmem_get_memory(vm->gmem_fd));

	/* What is punched out goes back to the file's reservation. */
	ASSERT_EQ(0, gmem_punch_hole(vm->gmem_fd, 0, variant->page_size));
	ASSERT_POOL(variant->nr - 1, 1);
	ASSERT_EQ(0, gmem_vm_convert(vm, 7, 1, SHARED));
	ASSERT_EQ(0, gmem_allocate(vm->gmem_fd, 0, variant->page_size));
	ASSERT_POOL(variant->nr, 0);

	/* The teardown closes a file that is split. */
}

TEST_F(huge, H2_H3_C11_split_and_merge)
{
	struct gmem_vm *vm = &self->vm;
	__u8 page[GMEM_PAGE_SIZE];
	size_t i;
	__u64 pfn;

	ASSERT_EQ(0, gmem_vm_fill(vm, 0, SIZE_2M, SEED));
	ASSERT_EQ(0, gmem_vm_fill(vm, self->size - SIZE_2M, SIZE_2M, SEED));

	ASSERT_EQ(0, gmem_vm_convert(vm, 5, 1, SHARED));
	pfn = base_pfn(_metadata, vm, 5);
	expect_folios(_metadata, pfn, variant->page_size, true);

	ASSERT_EQ(0, host_read(page, vm->mem + PAGES(5), sizeof(page)));
	EXPECT_TRUE(gmem_pattern_matches(page, PAGES(5), SEED));
	EXPECT_TRUE(host_faults(vm->mem + PAGES(4)));
	EXPECT_TRUE(host_faults(vm->mem + PAGES(6)));
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, SIZE_2M, SEED));
	EXPECT_EQ(0, gmem_vm_verify(vm, self->size - SIZE_2M, SIZE_2M, SEED));

	/* More of the same block, and back but for the last. */
	ASSERT_EQ(0, gmem_vm_convert(vm, 0, 512, SHARED));
	EXPECT_EQ(pfn, base_pfn(_metadata, vm, 511));
	for (i = 0; i < 511; i++)
		ASSERT_EQ(0, gmem_vm_convert(vm, i, 1, PRIVATE));
	expect_folios(_metadata, pfn, variant->page_size, true);

	ASSERT_EQ(0, gmem_vm_convert(vm, 511, 1, PRIVATE));
	expect_folios(_metadata, pfn, variant->page_size, false);
	EXPECT_TRUE(host_faults(vm->mem + PAGES(511)));
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, SIZE_2M, SEED));
	EXPECT_EQ(0, gmem_vm_verify(vm, self->size - SIZE_2M, SIZE_2M, SEED));
}

/* Shared from the start, as all of it, and as a part of it before the first access. */
TEST_F(huge, C14_H2_allocated_in_pieces)
{
	struct gmem_vm *vm = &self->vm;
	__u8 page[GMEM_PAGE_SIZE];
	__u64 pfn;

	ASSERT_EQ(0, gmem_vm_convert(vm, 17, 3, SHARED));
	pfn = base_pfn(_metadata, vm, 18);
	expect_folios(_metadata, pfn, variant->page_size, true);
	ASSERT_EQ(0, host_read(page, vm->mem + PAGES(18), sizeof(page)));
	EXPECT_EQ(0, page[0]);
	EXPECT_FALSE(memcmp(page, page + 1, sizeof(page) - 1));

	gmem_vm_destroy(vm);
	ASSERT_POOL(0, 0);
	ASSERT_EQ(0, gmem_vm_create(vm, self->size,
				    GMEM_VM_SHARED | variant->flags));
	ASSERT_EQ(0, gmem_vm_fill(vm, 0, SIZE_2M, SEED));
	ASSERT_EQ(0, gmem_vm_verify(vm, 0, SIZE_2M, SEED));
	ASSERT_EQ(0, host_read(page, vm->mem + PAGES(9), sizeof(page)));
	EXPECT_TRUE(gmem_pattern_matches(page, PAGES(9), SEED));
	ASSERT_POOL(1, variant->nr - 1);
}

TEST_F(huge, H11_C8_large_mappings)
{
	struct gmem_vm *vm = &self->vm;
	const char *name = variant->page_size == SIZE_1G ? "pages_1g" : "pages_2m";

	ASSERT_EQ(0, gmem_vm_fill(vm, 0, SIZE_2M, SEED));
	EXPECT_LE(1, kvm_stat(vm->vm_fd, name));

	/* The neighbours stay mapped, without a fault. */
	ASSERT_EQ(0, gmem_vm_convert(vm, 3, 1, SHARED));
	EXPECT_EQ(0, kvm_stat(vm->vm_fd, name));
	EXPECT_LE(511, kvm_stat(vm->vm_fd, "pages_4k"));
	if (variant->page_size == SIZE_1G)
		EXPECT_LE(511, kvm_stat(vm->vm_fd, "pages_2m"));
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, SIZE_2M, SEED));

	ASSERT_EQ(0, gmem_vm_convert(vm, 3, 1, PRIVATE));
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, SIZE_2M, SEED));
	EXPECT_LE(1, kvm_stat(vm->vm_fd, name));
}

TEST_F(huge, H8_punch)
{
	struct gmem_vm *vm = &self->vm;
	int pin;

	ASSERT_EQ(0, gmem_vm_fill(vm, 0, SIZE_2M, SEED));
	EXPECT_EQ(-EINVAL, gmem_punch_hole(vm->gmem_fd, 0, GMEM_PAGE_SIZE));
	EXPECT_EQ(-EINVAL, gmem_punch_hole(vm->gmem_fd, GMEM_PAGE_SIZE,
					   variant->page_size));
	EXPECT_EQ(-EINVAL, gmem_allocate(vm->gmem_fd, 0, GMEM_PAGE_SIZE));

	ASSERT_EQ(0, gmem_vm_convert(vm, 9, 1, SHARED));
	pin = host_pin(vm->mem + PAGES(9), GMEM_PAGE_SIZE);
	ASSERT_LE(0, pin);
	EXPECT_EQ(-EAGAIN, gmem_punch_hole(vm->gmem_fd, 0, variant->page_size));
	ASSERT_POOL(1, variant->nr - 1);
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, SIZE_2M, SEED));

	close(pin);
	EXPECT_EQ(0, gmem_punch_hole(vm->gmem_fd, 0, variant->page_size));
	ASSERT_POOL(0, variant->nr);
	/* Its state stays, its contents do not. */
	EXPECT_EQ(-EILSEQ, gmem_vm_verify(vm, PAGES(9), GMEM_PAGE_SIZE, SEED));
	EXPECT_FALSE(host_faults(vm->mem + PAGES(9)));
}

TEST_F(huge, C4_H4_pin_refuses)
{
	size_t last = self->size / GMEM_PAGE_SIZE - 512 + 77;
	struct gmem_vm *vm = &self->vm;
	struct kvm_gmem_range ranges[] = {
		{ .offset = 0, .size = PAGES(16), .target = PRIVATE },
		{ .offset = PAGES(100), .size = PAGES(16), .target = SHARED },
		{ .offset = PAGES(last - 3), .size = PAGES(8), .target = PRIVATE },
	};
	struct folio_map map, map_now;
	__u64 offset, pfn;
	int pin;

	ASSERT_EQ(0, gmem_vm_fill(vm, 0, SIZE_2M, SEED));
	ASSERT_EQ(0, gmem_vm_convert(vm, 0, 16, SHARED));
	ASSERT_EQ(0, gmem_vm_convert(vm, last - 3, 8, SHARED));
	pfn = base_pfn(_metadata, vm, 0);
	ASSERT_EQ(0, folio_map_read(pfn, variant->page_size, &map));

	pin = host_pin(vm->mem + PAGES(last), GMEM_PAGE_SIZE);
	ASSERT_LE(0, pin);
	EXPECT_EQ(-EAGAIN, gmem_convert_vec(vm->gmem_fd, ranges, 3, &offset));
	EXPECT_EQ(PAGES(last), offset);
	ASSERT_EQ(0, folio_map_read(pfn, variant->page_size, &map_now));
	EXPECT_FALSE(memcmp(&map, &map_now, sizeof(map)));
	EXPECT_FALSE(host_faults(vm->mem));
	EXPECT_TRUE(host_faults(vm->mem + PAGES(100)));
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, SIZE_2M, SEED));

	close(pin);
	EXPECT_EQ(0, gmem_convert_vec(vm->gmem_fd, ranges, 3, &offset));
	EXPECT_EQ(0, offset);
	EXPECT_TRUE(host_faults(vm->mem));
	EXPECT_FALSE(host_faults(vm->mem + PAGES(100)));
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, SIZE_2M, SEED));
}

TEST_F(huge, H7_pinned_at_close)
{
	struct gmem_vm *vm = &self->vm;
	int pin;

	ASSERT_EQ(0, gmem_vm_fill(vm, 0, SIZE_2M, SEED));
	ASSERT_EQ(0, gmem_vm_convert(vm, 20, 40, SHARED));
	pin = host_pin(vm->mem + PAGES(30), 3 * GMEM_PAGE_SIZE);
	ASSERT_LE(0, pin);

	gmem_vm_destroy(vm);
	ASSERT_POOL(1, 0);
	close(pin);
	/* It comes home from where the last reference was dropped, or soon after. */
	for (int i = 0; i < 100; i++) {
		struct hugepool now;

		ASSERT_EQ(0, hugepool_read(variant->page_size, &now));
		if (now.free == self->before.free)
			break;
		usleep(10000);
	}
	ASSERT_POOL(0, 0);

	/* And can be used again. */
	ASSERT_EQ(0, gmem_vm_create(vm, self->size,
				    GMEM_VM_PRIVATE | variant->flags));
	EXPECT_EQ(-EILSEQ, gmem_vm_verify(vm, 0, GMEM_PAGE_SIZE, SEED));
}

struct toucher {
	pthread_t thread;
	pthread_barrier_t *barrier;
	__u8 *mem;
	int ret;
};

static void *touch(void *arg)
{
	struct toucher *t = arg;
	char byte = 1;

	pthread_barrier_wait(t->barrier);
	t->ret = host_write(t->mem, &byte, 1);
	return NULL;
}

TEST_F(huge, H9_sixteen_threads)
{
	struct toucher touchers[NR_THREADS];
	pthread_barrier_t barrier;
	int i;

	ASSERT_EQ(0, gmem_vm_convert(&self->vm, 0, 512, SHARED));
	pthread_barrier_init(&barrier, NULL, NR_THREADS);
	for (i = 0; i < NR_THREADS; i++) {
		touchers[i].barrier = &barrier;
		touchers[i].mem = self->vm.mem + PAGES(i * 31);
		ASSERT_EQ(0, pthread_create(&touchers[i].thread, NULL, touch,
					    &touchers[i]));
	}
	for (i = 0; i < NR_THREADS; i++) {
		pthread_join(touchers[i].thread, NULL);
		EXPECT_EQ(0, touchers[i].ret);
	}
	pthread_barrier_destroy(&barrier);
	ASSERT_POOL(1, variant->nr - 1);
}

/* Random ranges against a model, in two blocks; contents are never lost. */
TEST_F(huge, C1_C11_random)
{
	const size_t nr = 1024, offset = self->size / GMEM_PAGE_SIZE - nr;
	struct gmem_vm *vm = &self->vm;
	bool shared[1024] = {};
	int round;
	size_t i;

	srand(SEED);
	ASSERT_EQ(0, gmem_vm_fill(vm, PAGES(offset), PAGES(nr), SEED));
	for (round = 0; round < 100; round++) {
		size_t start = rand() % nr;
		size_t n = 1 + rand() % (rand() % 4 ? 8 : nr - start);
		bool to = rand() % 2;

		if (start + n > nr)
			n = nr - start;
		ASSERT_EQ(0, gmem_vm_convert(vm, offset + start, n, to ? SHARED : PRIVATE));
		memset(shared + start, to, n);
		for (i = 0; i < nr; i += 1 + rand() % 64)
			ASSERT_EQ(!shared[i],
				  host_faults(vm->mem + PAGES(offset + i)));
		if (round % 10 == 0)
			ASSERT_EQ(0, gmem_vm_verify(vm, PAGES(offset), PAGES(nr),
						    SEED));
	}
	EXPECT_EQ(0, gmem_vm_verify(vm, PAGES(offset), PAGES(nr), SEED));
	ASSERT_EQ(0, gmem_vm_convert(vm, offset, nr, PRIVATE));
	EXPECT_EQ(0, gmem_vm_verify(vm, PAGES(offset), PAGES(nr), SEED));
}

/*
 * A page breaks in a block of 1 GiB that is one folio. If the vmemmap is optimized, its
 * struct page was one with those of every 64th page; it is not after that.
 */
static void break_in_block(struct __test_metadata *_metadata, struct gmem_vm *vm,
			   __u64 base_pfn)
{
	const size_t block = 3 * 512, broken = block + 2 * 64 + 7;
	size_t page;

	ASSERT_EQ(0, gmem_vm_fill(vm, PAGES(block), SIZE_2M, SEED));
	ASSERT_EQ(0, host_break_pfn(base_pfn + broken));
	for (page = block + 7; page < block + 512; page += 64) {
		EXPECT_EQ(page == broken ? -EHWPOISON : 0,
			  gmem_vm_convert(vm, page, 1, SHARED)) {
			TH_LOG("page %zu of the block", page - block);
		}
		EXPECT_EQ(page == broken, host_faults(vm->mem + PAGES(page)));
		EXPECT_EQ(page == broken,
			  gmem_vm_verify(vm, PAGES(page), PAGES(1), SEED) != 0);
	}
}

/*
 * One page of 4 KiB breaks: a shared one, and a private one of a block that is large.
 * The others go on. Comes last, as it costs the pool a huge page.
 */
TEST_F(huge, H10_memory_failure)
{
	struct gmem_vm *vm = &self->vm;
	size_t far = self->size / GMEM_PAGE_SIZE - 512;
	struct folio_map map;
	__u64 offset, pfn;

	ASSERT_EQ(0, gmem_vm_fill(vm, 0, SIZE_2M, SEED));
	ASSERT_EQ(0, gmem_vm_convert(vm, 40, 4, SHARED));
	pfn = base_pfn(_metadata, vm, 40);
	ASSERT_EQ(0, host_break(vm->mem + PAGES(41)));
	EXPECT_TRUE(host_faults(vm->mem + PAGES(41)));
	EXPECT_FALSE(host_faults(vm->mem + PAGES(42)));
	EXPECT_EQ(-EHWPOISON, gmem_convert(vm->gmem_fd, PAGES(40), PAGES(4),
					   PRIVATE, &offset));
	EXPECT_EQ(PAGES(41), offset);
	EXPECT_FALSE(host_faults(vm->mem + PAGES(40)));

	/* Its neighbours become private, but not a part of something larger. */
	EXPECT_EQ(0, gmem_vm_convert(vm, 40, 1, PRIVATE));
	EXPECT_EQ(0, gmem_vm_convert(vm, 42, 2, PRIVATE));
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, PAGES(41), SEED));
	EXPECT_EQ(0, gmem_vm_verify(vm, PAGES(42), PAGES(470), SEED));
	expect_folios(_metadata, pfn, variant->page_size, true);

	if (variant->page_size > SIZE_2M)
		break_in_block(_metadata, vm, pfn);

	/* Another block, where the file has one: its large folio breaks. */
	ASSERT_EQ(0, gmem_vm_convert(vm, far, 1, SHARED));
	pfn = base_pfn(_metadata, vm, far) + far;
	ASSERT_EQ(0, gmem_vm_convert(vm, far, 1, PRIVATE));
	ASSERT_EQ(0, host_break_pfn(pfn + 7));
	EXPECT_EQ(-EHWPOISON, gmem_convert(vm->gmem_fd, PAGES(far + 5), PAGES(9),
					   SHARED, &offset));
	EXPECT_EQ(PAGES(far + 7), offset);
	EXPECT_EQ(0, gmem_vm_convert(vm, far + 8, 1, SHARED));
	EXPECT_FALSE(host_faults(vm->mem + PAGES(far + 8)));
	ASSERT_EQ(0, gmem_vm_convert(vm, far + 8, 1, PRIVATE));
	ASSERT_EQ(0, folio_map_read(pfn, SIZE_2M, &map));
	EXPECT_EQ(512, map.small);

	/* A huge page with a broken one does not go back to the pool. */
	gmem_vm_destroy(vm);
	self->before.nr -= variant->nr > 1 ? 2 : 1;
	self->before.free -= variant->nr > 1 ? 2 : 1;
}

TEST_HARNESS_MAIN
