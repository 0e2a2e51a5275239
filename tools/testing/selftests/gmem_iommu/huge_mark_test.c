// SPDX-License-Identifier: GPL-2.0
/*
 * A request gives memory to a huge page that is whole at that time, for one page of
 * it to become shared. What it leaves behind is the memory, and nothing else: to later
 * requests the pieces that it left are not new. One that is refused takes neither
 * memory nor contents away from them, and a binding that comes maps those that are
 * shared and none of their neighbours.
 *
 * The memory is new, or was there and not initialized.
 *
 * Requirements: C1, C2, C4, C11, H6, M1, M2, U4.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/dma.h"
#include "lib/env.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/hugepool.h"
#include "lib/ioas.h"
#include "lib/mirror.h"
#include "lib/walker.h"

#define SEED		0x5eed000c
#define IOVA		0x100000000ULL
#define OTHER_IOVA	0x200000000ULL
#define PAGE		5UL	/* the one that is shared */
#define NEIGHBOUR	7UL

/* A file of one huge page, bound; a page of it is shared, and the guest wrote to it. */
FIXTURE(mark)
{
	struct gmem_vm vm;
	struct ioas ioas;	/* of the binding */
	struct ioas other;
	struct edu edu;
	int binding;
	int second;
	size_t npages;
	__u8 *model;		/* enum page_state of every page */
	struct hugepool before;
};

FIXTURE_VARIANT(mark)
{
	size_t page_size;
	bool allocated;		/* before the first conversion */
};

FIXTURE_VARIANT_ADD(mark, 2M) { SIZE_2M, false };
FIXTURE_VARIANT_ADD(mark, 2M_allocated) { SIZE_2M, true };
FIXTURE_VARIANT_ADD(mark, 1G) { SIZE_1G, false };
FIXTURE_VARIANT_ADD(mark, 1G_allocated) { SIZE_1G, true };

/* The first and the last 2 MiB: with PAGE in pieces, and of 1 GiB one that is whole. */
static int fill(struct gmem_vm *vm)
{
	return gmem_vm_fill(vm, 0, SIZE_2M, SEED) ?:
	       gmem_vm_fill(vm, vm->size - SIZE_2M, SIZE_2M, SEED);
}

static int verify(struct gmem_vm *vm)
{
	return gmem_vm_verify(vm, 0, SIZE_2M, SEED) ?:
	       gmem_vm_verify(vm, vm->size - SIZE_2M, SIZE_2M, SEED);
}

FIXTURE_SETUP(mark)
{
	const char *missing = mirror_missing();
	struct gmem_vm *vm = &self->vm;

	self->binding = -1;
	self->second = -1;
	self->other.iommufd = -1;
	self->edu.fd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	if (hugepool_read(variant->page_size, &self->before) ||
	    self->before.free <= self->before.resv)
		SKIP(return, "not enough huge pages");

	ASSERT_EQ(0, gmem_vm_create(vm, variant->page_size,
				    GMEM_VM_PRIVATE | GUEST_MEMFD_FLAG_HUGETLB |
				    (variant->page_size == SIZE_1G ?
				     GUEST_MEMFD_HUGE_1GB :
				     GUEST_MEMFD_HUGE_2MB)));
	self->npages = vm->size / GMEM_PAGE_SIZE;
	self->model = malloc(self->npages);
	ASSERT_NE(NULL, self->model);
	memset(self->model, PAGE_PRIVATE, self->npages);
	ASSERT_EQ(0, ioas_open(&self->ioas));
	self->binding = mirror_bind(vm->gmem_fd, &self->ioas, 0, vm->size, IOVA);
	ASSERT_LE(0, self->binding);

	if (variant->allocated)
		ASSERT_EQ(0, gmem_allocate(vm->gmem_fd, 0, vm->size));
	ASSERT_EQ(0, gmem_vm_convert(vm, PAGE, 1, SHARED));
	self->model[PAGE] = PAGE_SHARED;
	ASSERT_EQ(0, fill(vm));
}

FIXTURE_TEARDOWN(mark)
{
	struct hugepool now;

	if (self->second >= 0)
		close(self->second);
	close(self->binding);
	edu_close(&self->edu);
	ioas_close(&self->other);
	ioas_close(&self->ioas);
	gmem_vm_destroy(&self->vm);
	free(self->model);
	EXPECT_EQ(0, hugepool_read(variant->page_size, &now));
	EXPECT_EQ(0, memcmp(&self->before, &now, sizeof(now)));
}

/* H6: the file has its huge page. */
static void expect_in_use(struct __test_metadata *_metadata,
			  const struct gmem_vm *vm, const struct hugepool *before)
{
	struct hugepool now;

	ASSERT_EQ(0, hugepool_read(vm->size, &now));
	EXPECT_EQ(before->nr, now.nr);
	EXPECT_EQ(before->surplus, now.surplus);
	EXPECT_EQ(before->free - 1, now.free);
	EXPECT_EQ(before->resv, now.resv);
	EXPECT_EQ((long long)vm->size, gmem_get_memory(vm->gmem_fd));
}

/* One page refuses. The others have had memory before, and keep it. */
TEST_F(mark, C1_C2_C4_C11_H6_refused)
{
	const size_t last = self->npages - 1;
	const struct kvm_gmem_range ranges[] = {
		{ .offset = PAGES(PAGE), .size = PAGES(1), .target = PRIVATE },
		{ .offset = PAGES(NEIGHBOUR), .size = PAGES(1), .target = SHARED },
		{ .offset = PAGES(last), .size = PAGES(1), .target = SHARED },
	};
	struct gmem_vm *vm = &self->vm;
	__u64 offset;
	int pin;

	pin = host_pin(vm->mem + PAGES(PAGE), GMEM_PAGE_SIZE);
	if (pin == -ENOENT)
		SKIP(return, "no CONFIG_GUP_TEST");
	ASSERT_LE(0, pin);
	EXPECT_EQ(-EAGAIN, gmem_convert_vec(vm->gmem_fd, ranges,
					    ARRAY_SIZE(ranges), &offset));
	EXPECT_EQ(PAGES(PAGE), offset);
	expect_in_use(_metadata, vm, &self->before);
	EXPECT_STREQ("", mirror_check_runs(self->binding, 0, self->model,
					   self->npages));
	EXPECT_TRUE(host_faults(vm->mem + PAGES(NEIGHBOUR)));
	EXPECT_TRUE(host_faults(vm->mem + PAGES(last)));

	/* Without the mappings that it had, the guest finds the same. */
	ASSERT_EQ(0, gmem_vm_delete_slot(vm));
	ASSERT_EQ(0, gmem_vm_create_slot(vm));
	EXPECT_EQ(0, verify(vm));

	close(pin);
	EXPECT_EQ(0, gmem_convert_vec(vm->gmem_fd, ranges, ARRAY_SIZE(ranges),
				      &offset));
	EXPECT_EQ(0, offset);
	self->model[PAGE] = PAGE_PRIVATE;
	self->model[NEIGHBOUR] = PAGE_SHARED;
	self->model[last] = PAGE_SHARED;
	expect_in_use(_metadata, vm, &self->before);
	EXPECT_STREQ("", mirror_check_runs(self->binding, 0, self->model,
					   self->npages));
	EXPECT_EQ(0, verify(vm));
}

/* The device reaches by the binding what is shared, and the binding says so. */
#define EXPECT_MIRRORED(_binding, _iova) do {				\
	EXPECT_STREQ("", walker_check(self->edu.bdf, _iova, self->model, \
				      self->npages, self->vm.mem));	\
	EXPECT_STREQ("", mirror_check_runs(_binding, 0, self->model,	\
					   self->npages));		\
} while (0)

/* Another page becomes shared in place of the first. */
static int convert_both(struct gmem_vm *vm, __u8 *model)
{
	const struct kvm_gmem_range ranges[] = {
		{ .offset = PAGES(PAGE), .size = PAGES(1), .target = PRIVATE },
		{ .offset = PAGES(NEIGHBOUR), .size = PAGES(1), .target = SHARED },
	};

	model[PAGE] = PAGE_PRIVATE;
	model[NEIGHBOUR] = PAGE_SHARED;
	return gmem_convert_vec(vm->gmem_fd, ranges, ARRAY_SIZE(ranges),
				&vm->error_offset);
}

static int attach(struct edu *edu, struct ioas *ioas)
{
	struct edu_list list;

	edu_list(&list);
	return edu_open(edu, list.bdf[0], ioas->iommufd) ?:
	       edu_attach(edu, ioas, ioas->id);
}

/* Memory for a binding is reported to all others, too. */
TEST_F(mark, M1_M2_U4_bound_again)
{
	const char *missing = env_missing(1);
	struct gmem_vm *vm = &self->vm;

	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, attach(&self->edu, &self->ioas));
	EXPECT_MIRRORED(self->binding, IOVA);
	self->second = mirror_bind(vm->gmem_fd, &self->ioas, 0, vm->size,
				   OTHER_IOVA);
	ASSERT_LE(0, self->second);
	EXPECT_MIRRORED(self->binding, IOVA);
	EXPECT_MIRRORED(self->second, OTHER_IOVA);

	ASSERT_EQ(0, convert_both(vm, self->model));
	EXPECT_MIRRORED(self->binding, IOVA);
	EXPECT_MIRRORED(self->second, OTHER_IOVA);
	EXPECT_EQ(0, verify(vm));
}

TEST_F(mark, M1_M2_U4_bound_in_another_ioas)
{
	const char *missing = env_missing(1);
	struct gmem_vm *vm = &self->vm;

	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, ioas_open(&self->other));
	ASSERT_EQ(0, attach(&self->edu, &self->other));
	self->second = mirror_bind(vm->gmem_fd, &self->other, 0, vm->size,
				   OTHER_IOVA);
	ASSERT_LE(0, self->second);
	EXPECT_MIRRORED(self->second, OTHER_IOVA);

	ASSERT_EQ(0, convert_both(vm, self->model));
	EXPECT_MIRRORED(self->second, OTHER_IOVA);
	EXPECT_EQ(0, verify(vm));
}

TEST_HARNESS_MAIN
