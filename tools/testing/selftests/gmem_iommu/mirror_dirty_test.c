// SPDX-License-Identifier: GPL-2.0
/*
 * What devices wrote before a conversion, or a hole, took a page from them is reported
 * afterwards, to whoever tracks dirty pages: iommufd's mock device says what is written,
 * IOMMU_HWPT_GET_DIRTY_BITMAP what is known of it.
 *
 * Requirements: M12, C12.
 */
#include <errno.h>
#include <unistd.h>

#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/hugepool.h"
#include "lib/ioas.h"
#include "lib/mirror.h"
#include "lib/mock.h"

#define IOVA		0x40000000ULL
#define NPAGES		512UL

FIXTURE(dirty)
{
	struct gmem_vm vm;
	struct ioas ioas;
	struct mock mock;
	struct hugepool before;
	int binding;
	__u64 bitmap[NPAGES / 64];
};

FIXTURE_VARIANT(dirty)
{
	bool huge;	/* one leaf of 2 MiB at first, or leaves of 4 KiB */
};

FIXTURE_VARIANT_ADD(dirty, 4K) { false };
FIXTURE_VARIANT_ADD(dirty, 2M) { true };

FIXTURE_SETUP(dirty)
{
	const __u64 huge = GUEST_MEMFD_FLAG_HUGETLB | GUEST_MEMFD_HUGE_2MB;
	const char *missing = mirror_missing();
	struct gmem_vm *vm = &self->vm;

	self->binding = -1;
	self->ioas.iommufd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	if (variant->huge) {
		if (hugepool_read(SIZE_2M, &self->before) ||
		    hugepool_resize(SIZE_2M, self->before.nr + 1))
			SKIP(return, "no huge page");
	}
	ASSERT_EQ(0, gmem_vm_create(vm, NPAGES * GMEM_PAGE_SIZE, GMEM_VM_SHARED |
				    (variant->huge ? huge : 0)));
	ASSERT_EQ(0, ioas_open(&self->ioas));
	if (mock_create(&self->mock, self->ioas.iommufd))
		SKIP(return, "no mock device, CONFIG_IOMMUFD_TEST");
	ASSERT_EQ(0, mock_attach_tracking(&self->mock, &self->ioas));
	self->binding = mirror_bind_leaves(vm->gmem_fd, &self->ioas, 0, vm->size, IOVA,
					   variant->huge ? 0 : GMEM_PAGE_SIZE);
	ASSERT_LE(0, self->binding);
}

FIXTURE_TEARDOWN(dirty)
{
	if (self->binding >= 0)
		close(self->binding);
	ioas_close(&self->ioas);
	gmem_vm_destroy(&self->vm);
	if (variant->huge)
		EXPECT_EQ(0, hugepool_resize(SIZE_2M, self->before.nr));
}

static __u64 iova(size_t page)
{
	return IOVA + page * GMEM_PAGE_SIZE;
}

static bool is_dirty(const __u64 *bitmap, size_t page)
{
	return bitmap[page / 64] >> page % 64 & 1;
}

static size_t count_dirty(const __u64 *bitmap)
{
	size_t page, nr = 0;

	for (page = 0; page < NPAGES; page++)
		nr += is_dirty(bitmap, page);
	return nr;
}

#define read_dirty() \
	ASSERT_EQ(0, mock_read_dirty(&self->mock, IOVA, NPAGES, self->bitmap))

/* C12: a page that was written before it became private, and one before it was punched. */
TEST_F(dirty, M12_C12_what_is_unmapped_is_reported)
{
	struct gmem_vm *vm = &self->vm;

	read_dirty();
	ASSERT_EQ(0, count_dirty(self->bitmap));

	ASSERT_EQ(0, mock_write_page(&self->mock, iova(3)));
	ASSERT_EQ(0, mock_write_page(&self->mock, iova(200)));
	ASSERT_EQ(0, gmem_vm_convert(vm, 2, 4, PRIVATE));
	ASSERT_FALSE(mock_translates(&self->mock, iova(3), vm->mem, 1));
	if (!variant->huge) {
		ASSERT_EQ(0, mock_write_page(&self->mock, iova(100)));
		ASSERT_EQ(0, gmem_punch_hole(vm->gmem_fd, 100 * GMEM_PAGE_SIZE,
					     GMEM_PAGE_SIZE));
	}
	read_dirty();
	EXPECT_TRUE(is_dirty(self->bitmap, 3));
	EXPECT_TRUE(is_dirty(self->bitmap, 200));
	EXPECT_TRUE(is_dirty(self->bitmap, 100));
	/* One leaf, one bit. */
	EXPECT_EQ(variant->huge ? NPAGES : 3, count_dirty(self->bitmap));

	/* Once. */
	read_dirty();
	EXPECT_EQ(0, count_dirty(self->bitmap));
}

/* A page that comes back is clean, and neighbours that were cut from it stay exact. */
TEST_F(dirty, M12_what_is_mapped_again_is_clean)
{
	struct gmem_vm *vm = &self->vm;

	ASSERT_EQ(0, gmem_vm_convert(vm, 64, 1, PRIVATE));
	read_dirty();
	ASSERT_EQ(0, mock_write_page(&self->mock, iova(63)));
	ASSERT_EQ(0, gmem_vm_convert(vm, 63, 1, PRIVATE));
	ASSERT_EQ(0, gmem_vm_convert(vm, 63, 1, SHARED));
	ASSERT_EQ(0, mock_write_page(&self->mock, iova(65)));
	read_dirty();
	EXPECT_TRUE(is_dirty(self->bitmap, 63));
	EXPECT_TRUE(is_dirty(self->bitmap, 65));
	EXPECT_EQ(2, count_dirty(self->bitmap));
	read_dirty();
	EXPECT_EQ(0, count_dirty(self->bitmap));

	/* No leaf is merged, which would have to count as dirty. */
	ASSERT_EQ(0, gmem_vm_convert(vm, 64, 1, SHARED));
	read_dirty();
	EXPECT_EQ(0, count_dirty(self->bitmap));
	ASSERT_EQ(0, mock_write_page(&self->mock, iova(64)));
	read_dirty();
	EXPECT_TRUE(is_dirty(self->bitmap, 64));
	EXPECT_EQ(1, count_dirty(self->bitmap));
}

/* A request that is refused forgets nothing: the last page of it is pinned. */
TEST_F(dirty, M12_C1_refused_requests_forget_nothing)
{
	struct gmem_vm *vm = &self->vm;
	__u64 offset;
	int pin;

	pin = host_pin(vm->mem + 20 * GMEM_PAGE_SIZE, GMEM_PAGE_SIZE);
	if (pin < 0)
		SKIP(return, "no CONFIG_GUP_TEST");
	ASSERT_EQ(0, mock_write_page(&self->mock, iova(10)));
	ASSERT_EQ(-EAGAIN, gmem_convert(vm->gmem_fd, 10 * GMEM_PAGE_SIZE,
					11 * GMEM_PAGE_SIZE, PRIVATE, &offset));
	ASSERT_EQ(20 * GMEM_PAGE_SIZE, offset);
	close(pin);
	read_dirty();
	EXPECT_TRUE(is_dirty(self->bitmap, 10));
	EXPECT_EQ(variant->huge ? NPAGES : 1, count_dirty(self->bitmap));
}

TEST_HARNESS_MAIN
