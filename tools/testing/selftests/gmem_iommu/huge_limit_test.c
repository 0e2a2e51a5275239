// SPDX-License-Identifier: GPL-2.0
/*
 * Files of huge pages that get no more of them: a cgroup is at its limit, or memory
 * failure took a page that was reserved. Who asks for memory is refused with ENOSPC
 * and at the exact page, nothing has changed, and less than that works. What cgroups
 * are charged is exact after every step.
 *
 * Requirements: H6, H10, C1, C2, C4, C11, M2, M11.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/cgroup.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/hugepool.h"
#include "lib/ioas.h"
#include "lib/mirror.h"
#include "lib/state.h"
#include "lib/text.h"

#define SEED		0x5eed0008
#define IOVA		0x100000000ULL
#define PAGE		5UL	/* of a huge page */

/**
 * struct stand - A file of huge pages that is bound
 * @vm: All of its file is private at first, and has no memory
 * @ioas: Where it is bound; without a device
 * @binding: Of all of the file
 * @before: The pool without the file
 */
struct stand {
	struct gmem_vm vm;
	struct ioas ioas;
	int binding;
	struct hugepool before;
};

static int stand_create(struct stand *s, size_t page_size, long nr)
{
	__u64 flags = GMEM_VM_PRIVATE | GUEST_MEMFD_FLAG_HUGETLB |
		      (page_size == SIZE_1G ? GUEST_MEMFD_HUGE_1GB :
					      GUEST_MEMFD_HUGE_2MB);
	int ret;

	s->binding = -1;
	s->ioas.iommufd = -1;
	ret = hugepool_read(page_size, &s->before);
	if (ret)
		return ret;
	ret = gmem_vm_create(&s->vm, nr * page_size, flags);
	ret = ret ?: ioas_open(&s->ioas);
	if (ret)
		return ret;
	s->binding = mirror_bind(s->vm.gmem_fd, &s->ioas, 0, s->vm.size, IOVA);
	return s->binding < 0 ? s->binding : 0;
}

static void stand_destroy(struct stand *s)
{
	if (s->binding >= 0)
		close(s->binding);
	s->binding = -1;
	ioas_close(&s->ioas);
	gmem_vm_destroy(&s->vm);
}

/* H6: huge pages of the file that are in use, and those that are reserved. */
static void expect_pool(struct __test_metadata *_metadata, const struct stand *s,
			size_t page_size, long used, long reserved)
{
	struct hugepool now;

	ASSERT_EQ(0, hugepool_read(page_size, &now));
	EXPECT_EQ(s->before.nr, now.nr);
	EXPECT_EQ(s->before.surplus, now.surplus);
	EXPECT_EQ(s->before.free - used, now.free);
	EXPECT_EQ(s->before.resv + reserved, now.resv);
	if (s->vm.gmem_fd >= 0)
		EXPECT_EQ(used * (long long)page_size, gmem_get_memory(s->vm.gmem_fd));
}

/* -- hugetlb cgroups ------------------------------------------------------- */

FIXTURE(cgroup)
{
	struct stand s;
	char limit[32];
};

FIXTURE_VARIANT(cgroup)
{
	size_t page_size;
	long nr;
	const char *name;
	const char *limit;
};

FIXTURE_VARIANT_ADD(cgroup, 2M) { SIZE_2M, 4, "2MB", "max" };
FIXTURE_VARIANT_ADD(cgroup, 2M_rsvd) { SIZE_2M, 4, "2MB", "rsvd.max" };
FIXTURE_VARIANT_ADD(cgroup, 1G) { SIZE_1G, 2, "1GB", "max" };

FIXTURE_SETUP(cgroup)
{
	const char *missing = mirror_missing();
	struct hugepool pool;

	self->s.binding = -1;
	if (missing)
		SKIP(return, "%s", missing);
	if (hugepool_read(variant->page_size, &pool) || pool.free < variant->nr)
		SKIP(return, "not enough huge pages");
	snprintf(self->limit, sizeof(self->limit), "hugetlb.%s.%s",
		 variant->name, variant->limit);
	if (cgroup_enter("hugetlb") || cgroup_set(self->limit, "max"))
		SKIP(return, "no hugetlb cgroups (CONFIG_CGROUP_HUGETLB)");
	ASSERT_EQ(0, stand_create(&self->s, variant->page_size, variant->nr));
}

static long long charged(const char *name, const char *counter)
{
	char file[48];

	snprintf(file, sizeof(file), "hugetlb.%s.%s", name, counter);
	return cgroup_get(file);
}

/* H6: what the pool and the cgroup say of @nr pages in use. */
#define EXPECT_USED(_nr) do {						\
	const long used = (_nr);					\
	const long long bytes = used * (long long)variant->page_size;	\
									\
	EXPECT_EQ(bytes, charged(variant->name, "current"));		\
	EXPECT_EQ(bytes, charged(variant->name, "rsvd.current"));	\
	expect_pool(_metadata, &self->s, variant->page_size, used,	\
		    variant->nr - used);				\
} while (0)

FIXTURE_TEARDOWN(cgroup)
{
	stand_destroy(&self->s);
	EXPECT_EQ(0, charged(variant->name, "current"));
	EXPECT_EQ(0, charged(variant->name, "rsvd.current"));
	expect_pool(_metadata, &self->s, variant->page_size, 0, 0);
	cgroup_leave();
}

TEST_F(cgroup, H6_charges_are_exact)
{
	const size_t huge = variant->page_size / GMEM_PAGE_SIZE;
	struct gmem_vm *vm = &self->s.vm;
	long i;

	EXPECT_USED(0);
	for (i = 0; i < variant->nr; i++) {
		ASSERT_EQ(0, gmem_vm_fill(vm, i * variant->page_size,
					  GMEM_PAGE_SIZE, SEED));
		EXPECT_USED(i + 1);
	}

	ASSERT_EQ(0, gmem_vm_convert(vm, PAGE, 1, SHARED));
	ASSERT_EQ(0, gmem_vm_convert(vm, huge + PAGE, 1, SHARED));
	EXPECT_USED(variant->nr);
	ASSERT_EQ(0, gmem_vm_convert(vm, PAGE, 1, PRIVATE));
	EXPECT_USED(variant->nr);

	/* One that is whole, and one that is in pieces. */
	ASSERT_EQ(0, gmem_punch_hole(vm->gmem_fd, 0, variant->page_size));
	EXPECT_USED(variant->nr - 1);
	ASSERT_EQ(0, gmem_punch_hole(vm->gmem_fd, variant->page_size,
				     variant->page_size));
	EXPECT_USED(variant->nr - 2);
	ASSERT_EQ(0, gmem_allocate(vm->gmem_fd, variant->page_size,
				   variant->page_size));
	EXPECT_USED(variant->nr - 1);
	/* The teardown closes a file of both kinds. */
}

static int set_limit(const char *limit, size_t page_size, long nr)
{
	char bytes[32];

	snprintf(bytes, sizeof(bytes), "%ld", nr * (long)page_size);
	return cgroup_set(limit, bytes);
}

/* Each way to memory, at the limit. */
TEST_F(cgroup, H6_C2_faults_beyond_the_limit)
{
	const size_t huge = variant->page_size / GMEM_PAGE_SIZE;
	struct gmem_vm *vm = &self->s.vm;
	char byte = 1;

	/* So that a shared page has no memory: what is bound has it at once. */
	close(self->s.binding);
	self->s.binding = -1;
	ASSERT_EQ(0, gmem_vm_fill(vm, 0, PAGES(16), SEED));
	ASSERT_EQ(0, gmem_vm_convert(vm, huge + PAGE, 1, SHARED));
	ASSERT_EQ(0, set_limit(self->limit, variant->page_size, 1));
	EXPECT_USED(1);

	/* Shared and private, by the host and by the guest. */
	EXPECT_EQ(-EFAULT, host_write(vm->mem + PAGES(huge + PAGE), &byte, 1));
	EXPECT_EQ(-ENOSPC, gmem_vm_fill(vm, PAGES(huge + PAGE), PAGES(1), SEED));
	EXPECT_EQ(-ENOSPC, gmem_vm_fill(vm, PAGES(huge), PAGES(1), SEED));
	EXPECT_EQ(-ENOSPC, gmem_allocate(vm->gmem_fd, variant->page_size,
					 variant->page_size));
	EXPECT_USED(1);

	/* What is there goes on. */
	EXPECT_EQ(0, gmem_vm_convert(vm, PAGE, 1, SHARED));
	EXPECT_EQ(0, gmem_vm_convert(vm, PAGE, 1, PRIVATE));
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, PAGES(16), SEED));
	EXPECT_USED(1);

	ASSERT_EQ(0, set_limit(self->limit, variant->page_size, 2));
	EXPECT_EQ(0, host_write(vm->mem + PAGES(huge + PAGE), &byte, 1));
	EXPECT_EQ(0, gmem_vm_fill(vm, PAGES(huge), PAGES(1), SEED));
	EXPECT_USED(2);
}

/* The binding says that exactly @nr pages from @first on are shared. */
static void expect_shared(struct __test_metadata *_metadata, struct stand *s,
			  size_t first, size_t nr)
{
	struct gmem_iommu_run runs[8];
	int i, n, found = 0;

	n = mirror_read_runs(s->binding, 0, runs, ARRAY_SIZE(runs));
	ASSERT_LE(1, n);
	for (i = 0; i < n; i++) {
		if (!(runs[i].flags & GMEM_IOMMU_RUN_SHARED))
			continue;
		found++;
		EXPECT_EQ(PAGES(first), runs[i].offset);
		EXPECT_EQ(PAGES(nr), runs[i].length);
		EXPECT_EQ(GMEM_IOMMU_RUN_SHARED | GMEM_IOMMU_RUN_MAPPED,
			  runs[i].flags);
	}
	EXPECT_EQ(!!nr, found);
}

/* The first huge page of a request comes into being, the next one is refused. */
TEST_F(cgroup, C1_C2_C4_H6_M11_conversion_beyond_the_limit)
{
	const size_t huge = variant->page_size / GMEM_PAGE_SIZE;
	struct stand *s = &self->s;
	const struct kvm_gmem_range ranges[] = {
		{ .offset = PAGES(huge + 9), .size = PAGES(4), .target = SHARED },
		{ .offset = PAGES(PAGE), .size = PAGES(2), .target = SHARED },
		{ .offset = PAGES(100), .size = PAGES(1), .target = PRIVATE },
	};
	__u64 generation, offset;

	ASSERT_EQ(0, set_limit(self->limit, variant->page_size, 1));
	generation = mirror_generation(s->binding);
	EXPECT_EQ(-ENOSPC, gmem_convert_vec(s->vm.gmem_fd, ranges,
					    ARRAY_SIZE(ranges), &offset));
	EXPECT_EQ(PAGES(huge + 9), offset);
	EXPECT_EQ(generation, mirror_generation(s->binding));
	EXPECT_USED(0);
	expect_shared(_metadata, s, 0, 0);
	EXPECT_TRUE(host_faults(s->vm.mem + PAGES(PAGE)));

	/* The same ioctl with less, and the other ioctl with one too many. */
	EXPECT_EQ(0, gmem_convert_vec(s->vm.gmem_fd, ranges + 1,
				      ARRAY_SIZE(ranges) - 1, &offset));
	EXPECT_EQ(0, offset);
	EXPECT_USED(1);
	expect_shared(_metadata, s, PAGE, 2);
	EXPECT_EQ(-ENOSPC, gmem_set_attributes2(s->vm.gmem_fd,
						PAGES(huge + 9), PAGES(4), 0,
						&offset));
	EXPECT_EQ(PAGES(huge + 9), offset);
	EXPECT_USED(1);
	expect_shared(_metadata, s, PAGE, 2);
}

/* -- memory cgroups -------------------------------------------------------- */

FIXTURE(memcg)
{
	struct stand s;
};

FIXTURE_SETUP(memcg)
{
	const char *missing = mirror_missing();

	self->s.binding = -1;
	if (missing)
		SKIP(return, "%s", missing);
	if (cgroup_account_hugetlb(1) || cgroup_enter("memory"))
		SKIP(return, "no memory_hugetlb_accounting");
	ASSERT_EQ(0, stand_create(&self->s, SIZE_2M, 4));
}

/* Of statistics a part is on its way for some seconds. */
static void expect_stat(struct __test_metadata *_metadata, long long bytes)
{
	long long now = -1;
	int i;

	for (i = 0; i < 100 && now != bytes; i++) {
		now = cgroup_get_key("memory.stat", "hugetlb");
		if (now != bytes)
			usleep(100000);
	}
	EXPECT_EQ(bytes, now);
}

FIXTURE_TEARDOWN(memcg)
{
	stand_destroy(&self->s);
	expect_stat(_metadata, 0);
	expect_pool(_metadata, &self->s, SIZE_2M, 0, 0);
	cgroup_leave();
	cgroup_account_hugetlb(0);
}

TEST_F(memcg, H6_U6_huge_pages_are_charged)
{
	struct gmem_vm *vm = &self->s.vm;
	long long before = cgroup_get("memory.current");

	expect_stat(_metadata, 0);
	ASSERT_EQ(0, gmem_vm_fill(vm, 0, SIZE_2M, SEED));
	ASSERT_EQ(0, gmem_vm_fill(vm, SIZE_2M, PAGES(1), SEED));
	expect_stat(_metadata, 2 * SIZE_2M);
	EXPECT_LE(before + 2 * (long long)SIZE_2M, cgroup_get("memory.current"));

	/* The charge goes through pieces, and back with them. */
	ASSERT_EQ(0, gmem_vm_convert(vm, PAGE, 1, SHARED));
	ASSERT_EQ(0, gmem_vm_convert(vm, 512 + PAGE, 1, SHARED));
	expect_stat(_metadata, 2 * SIZE_2M);
	ASSERT_EQ(0, gmem_punch_hole(vm->gmem_fd, SIZE_2M, SIZE_2M));
	expect_stat(_metadata, SIZE_2M);
	ASSERT_EQ(0, gmem_vm_convert(vm, PAGE, 1, PRIVATE));
	expect_stat(_metadata, SIZE_2M);
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, SIZE_2M, SEED));
}

TEST_F(memcg, C1_C2_C4_H6_beyond_the_limit)
{
	struct stand *s = &self->s;
	char bytes[32];
	__u64 offset;

	ASSERT_EQ(0, gmem_vm_fill(&s->vm, 0, PAGES(16), SEED));
	snprintf(bytes, sizeof(bytes), "%lld",
		 cgroup_get("memory.current") + (long long)SIZE_2M / 2);
	ASSERT_EQ(0, cgroup_set("memory.max", bytes));

	EXPECT_EQ(-ENOSPC, gmem_allocate(s->vm.gmem_fd, SIZE_2M, SIZE_2M));
	EXPECT_EQ(-ENOSPC, gmem_convert(s->vm.gmem_fd, PAGES(500), PAGES(100),
					SHARED, &offset));
	EXPECT_EQ(SIZE_2M, offset);
	expect_shared(_metadata, s, 0, 0);
	expect_pool(_metadata, s, SIZE_2M, 1, 3);
	ASSERT_EQ(0, cgroup_set("memory.max", "max"));
	EXPECT_EQ(0, gmem_vm_convert(&s->vm, 500, 100, SHARED));
	expect_shared(_metadata, s, 500, 100);
	expect_pool(_metadata, s, SIZE_2M, 2, 2);
	EXPECT_EQ(0, gmem_vm_verify(&s->vm, 0, PAGES(16), SEED));
}

/* -- pages that are lost --------------------------------------------------- */

#define NR_LOST_POOL	3

/* A file that has reserved all that is in the pool. */
FIXTURE(lost)
{
	struct stand s;
	struct hugepool pool;
	__u64 broken;
};

FIXTURE_SETUP(lost)
{
	const char *missing = mirror_missing();

	self->s.binding = -1;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, hugepool_read(SIZE_2M, &self->pool));
	if (self->pool.free != self->pool.nr || self->pool.resv)
		SKIP(return, "huge pages are in use");
	ASSERT_EQ(0, hugepool_resize(SIZE_2M, NR_LOST_POOL));
	ASSERT_EQ(0, stand_create(&self->s, SIZE_2M, NR_LOST_POOL));
}

FIXTURE_TEARDOWN(lost)
{
	char text[32];

	stand_destroy(&self->s);
	/* With the broken page in it the pool would not be what it was. */
	EXPECT_EQ(0, hugepool_resize(SIZE_2M, 0));
	snprintf(text, sizeof(text), "%llu", (unsigned long long)self->broken);
	if (self->broken &&
	    text_write("/sys/kernel/debug/hwpoison/unpoison-pfn", text))
		TH_LOG("page %s stays broken", text);
	EXPECT_EQ(0, hugepool_resize(SIZE_2M, self->pool.nr));
}

static __u64 shared_pfn(struct __test_metadata *_metadata, struct gmem_vm *vm,
			size_t page)
{
	__u64 pfn;

	ASSERT_FALSE(host_faults(vm->mem + PAGES(page)));
	ASSERT_EQ(0, host_pfns(vm->mem + PAGES(page), &pfn, 1));
	return pfn;
}

/* All huge pages but one have memory; a request that needs that one is refused. */
static void expect_one_missing(struct __test_metadata *_metadata, struct stand *s)
{
	const struct kvm_gmem_range ranges[] = {
		{ .offset = PAGES(PAGE), .size = PAGES(1), .target = SHARED },
		{ .offset = PAGES(512), .size = PAGES(1), .target = SHARED },
		{ .offset = PAGES(1024 + 3), .size = PAGES(9), .target = SHARED },
	};
	__u64 generation = mirror_generation(s->binding), offset;
	struct hugepool before, now;

	ASSERT_EQ(0, hugepool_read(SIZE_2M, &before));
	EXPECT_EQ(-ENOSPC, gmem_convert_vec(s->vm.gmem_fd, ranges,
					    ARRAY_SIZE(ranges), &offset));
	EXPECT_EQ(PAGES(1024 + 3), offset);
	EXPECT_EQ(generation, mirror_generation(s->binding));
	expect_shared(_metadata, s, 0, 0);
	EXPECT_EQ(2 * (long long)SIZE_2M, gmem_get_memory(s->vm.gmem_fd));
	ASSERT_EQ(0, hugepool_read(SIZE_2M, &now));
	EXPECT_EQ(0, memcmp(&before, &now, sizeof(now)));

	EXPECT_EQ(0, gmem_convert_vec(s->vm.gmem_fd, ranges, 1, &offset));
	EXPECT_EQ(0, offset);
	expect_shared(_metadata, s, PAGE, 1);
	EXPECT_EQ(0, gmem_vm_verify(&s->vm, 0, 2 * SIZE_2M, SEED));
}

/* A page that is free, but reserved, breaks: it stays where it is, and is no use. */
TEST_F(lost, C1_C4_H6_H10_reserved_page)
{
	struct stand *s = &self->s;

	ASSERT_EQ(0, gmem_vm_convert(&s->vm, 1024, 1, SHARED));
	self->broken = shared_pfn(_metadata, &s->vm, 1024) + 7;
	ASSERT_EQ(0, gmem_vm_convert(&s->vm, 1024, 1, PRIVATE));
	ASSERT_EQ(0, gmem_punch_hole(s->vm.gmem_fd, 2 * SIZE_2M, SIZE_2M));
	ASSERT_EQ(0, host_break_pfn(self->broken));
	ASSERT_EQ(0, gmem_vm_fill(&s->vm, 0, 2 * SIZE_2M, SEED));
	expect_one_missing(_metadata, s);
}

/* A page of the file breaks and is punched out, and the pool has no other. */
TEST_F(lost, C1_C4_H6_H10_page_of_the_file)
{
	struct stand *s = &self->s;
	struct hugepool now;

	ASSERT_EQ(0, gmem_vm_fill(&s->vm, 0, 2 * SIZE_2M, SEED));
	ASSERT_EQ(0, gmem_vm_convert(&s->vm, 1024, 1, SHARED));
	self->broken = shared_pfn(_metadata, &s->vm, 1024);
	ASSERT_EQ(0, host_break(s->vm.mem + PAGES(1024)));
	ASSERT_EQ(0, gmem_punch_hole(s->vm.gmem_fd, 2 * SIZE_2M, SIZE_2M));
	ASSERT_EQ(0, gmem_vm_convert(&s->vm, 1024, 1, PRIVATE));
	ASSERT_EQ(0, hugepool_read(SIZE_2M, &now));
	EXPECT_EQ(NR_LOST_POOL - 1, now.nr);
	EXPECT_EQ(0, now.resv);
	expect_one_missing(_metadata, s);
}

/* A page of a huge page that is whole breaks: that one is not shared, others are. */
TEST_F(lost, M2_H10_page_of_a_whole_one)
{
	struct stand *s = &self->s;
	struct gmem_vm *vm = &s->vm;
	struct folio_map map;
	__u64 offset, pfn;

	ASSERT_EQ(0, gmem_vm_fill(vm, 0, SIZE_2M, SEED));
	ASSERT_EQ(0, gmem_vm_convert(vm, 0, 1, SHARED));
	pfn = shared_pfn(_metadata, vm, 0);
	self->broken = pfn + 7;
	ASSERT_EQ(0, gmem_vm_convert(vm, 0, 1, PRIVATE));
	ASSERT_EQ(0, folio_map_read(pfn, SIZE_2M, &map));
	ASSERT_EQ(1, map.huge);
	ASSERT_EQ(0, host_break_pfn(self->broken));

	EXPECT_EQ(-EHWPOISON, gmem_convert(vm->gmem_fd, PAGES(5), PAGES(9), SHARED,
					   &offset));
	EXPECT_EQ(PAGES(7), offset);
	expect_shared(_metadata, s, 0, 0);
	EXPECT_EQ(0, gmem_convert(vm->gmem_fd, PAGES(100), PAGES(9), SHARED, &offset));
	EXPECT_EQ(0, offset);
	expect_shared(_metadata, s, 100, 9);
	EXPECT_EQ(0, gmem_vm_verify(vm, PAGES(8), PAGES(504), SEED));
}

/* The same before anybody has used the huge page: the good pages read as zero. */
TEST_F(lost, C11_H10_page_of_a_new_one)
{
	struct stand *s = &self->s;
	struct gmem_vm *vm = &s->vm;
	char zero[GMEM_PAGE_SIZE] = {}, page[GMEM_PAGE_SIZE];
	__u64 offset, pfn;

	ASSERT_EQ(0, gmem_vm_fill(vm, 0, SIZE_2M, SEED));
	ASSERT_EQ(0, gmem_vm_convert(vm, 0, 1, SHARED));
	pfn = shared_pfn(_metadata, vm, 0);
	ASSERT_EQ(0, gmem_vm_convert(vm, 0, 1, PRIVATE));
	ASSERT_EQ(0, gmem_punch_hole(vm->gmem_fd, 0, SIZE_2M));
	ASSERT_EQ(0, gmem_allocate(vm->gmem_fd, 0, SIZE_2M));

	/* The pool gives out first what came last. */
	self->broken = pfn + 7;
	ASSERT_EQ(0, host_break_pfn(self->broken));
	EXPECT_EQ(-EHWPOISON, gmem_convert(vm->gmem_fd, PAGES(7), PAGES(1), SHARED,
					   &offset));
	EXPECT_EQ(PAGES(7), offset);
	EXPECT_EQ(0, gmem_convert(vm->gmem_fd, PAGES(100), PAGES(1), SHARED, &offset));
	EXPECT_EQ(0, offset);
	ASSERT_EQ(pfn + 100, shared_pfn(_metadata, vm, 100));
	ASSERT_EQ(0, host_read(page, vm->mem + PAGES(100), sizeof(page)));
	EXPECT_EQ(0, memcmp(page, zero, sizeof(page)));
	expect_shared(_metadata, s, 100, 1);
}

TEST_HARNESS_MAIN
