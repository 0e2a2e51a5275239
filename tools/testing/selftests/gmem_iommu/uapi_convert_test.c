// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_GMEM_CONVERT and KVM_SET_MEMORY_ATTRIBUTES2: each malformed request gets the
 * documented errno, a defined error_offset, and changes nothing (C3, U7).
 */
#include <errno.h>
#include <sys/ioctl.h>

#include "lib/refusal_harness.h"

/* KVM_GMEM_CONVERT */
FIXTURE(convert)
{
	struct refusal b;
};

FIXTURE_VARIANT(convert)
{
	int err;
	struct poke poke[MAX_POKES];
};

#define CONVERT_SIZE	sizeof(struct kvm_gmem_convert)

FIXTURE_VARIANT_ADD(convert, exact) CASE(0);
FIXTURE_VARIANT_ADD(convert, U2_long_zero) CASE(0, POKE32(convert.size, CONVERT_SIZE + 8));
FIXTURE_VARIANT_ADD(convert, U2_page_zero) CASE(0, POKE32(convert.size, GMEM_PAGE_SIZE));
FIXTURE_VARIANT_ADD(convert, U2_long_tail)
	CASE(E2BIG, POKE32(convert.size, CONVERT_SIZE + 8), POKE_TAIL(kvm_gmem_convert));
FIXTURE_VARIANT_ADD(convert, U2_beyond_page) CASE(E2BIG, POKE32(convert.size, GMEM_PAGE_SIZE + 8));
FIXTURE_VARIANT_ADD(convert, U2_size_high) CASE(E2BIG, POKE32(convert.size, ~0U));
FIXTURE_VARIANT_ADD(convert, U2_short) CASE(EINVAL, POKE32(convert.size, CONVERT_SIZE - 8));
FIXTURE_VARIANT_ADD(convert, U2_no_size) CASE(EINVAL, POKE32(convert.size, 0));
FIXTURE_VARIANT_ADD(convert, flags) CASE(EINVAL, POKE32(convert.flags, 1));
FIXTURE_VARIANT_ADD(convert, flags_high) CASE(EINVAL, POKE32(convert.flags, 1U << 31));
FIXTURE_VARIANT_ADD(convert, U2_reserved) CASE(EINVAL, POKE32(convert.reserved, 1));
FIXTURE_VARIANT_ADD(convert, no_ranges) CASE(EINVAL, POKE32(convert.nr_ranges, 0));
FIXTURE_VARIANT_ADD(convert, many_ranges) CASE(EINVAL, POKE32(convert.nr_ranges, 1025));
FIXTURE_VARIANT_ADD(convert, huge_count) CASE(EINVAL, POKE32(convert.nr_ranges, ~0U));
FIXTURE_VARIANT_ADD(convert, ranges_null) CASE(EFAULT, POKE64(convert.ranges, 0));
FIXTURE_VARIANT_ADD(convert, ranges_kernel) CASE(EFAULT, POKE64(convert.ranges, KERNEL_ADDRESS));
FIXTURE_VARIANT_ADD(convert, ranges_unreadable)
	CASE(EFAULT, POKE_PTR(convert.ranges, PTR_UNREADABLE));
FIXTURE_VARIANT_ADD(convert, ranges_split) CASE(EFAULT, POKE_PTR(convert.ranges, PTR_SPLIT));
FIXTURE_VARIANT_ADD(convert, ranges_readonly) CASE(EINVAL, POKE_PTR(convert.ranges, PTR_READONLY));

FIXTURE_SETUP(convert)
{
	refusal_setup(_metadata, &self->b, false);
}

FIXTURE_TEARDOWN(convert)
{
}

/* What a correct request must have done: the whole of it, and nothing else. */
static void expect_converted(struct __test_metadata *_metadata,
			     struct refusal *b,
			     const struct kvm_gmem_range *range)
{
	struct gmem_state now;
	size_t i;

	ASSERT_STREQ("", gmem_state_read(&now, b->witness, b->mem, NR_PAGES));
	for (i = 0; i < NR_PAGES; i++) {
		__u8 want = b->before.page[i];

		if (i < 4)
			want = PAGE_PRIVATE;
		else if (PAGES(i) - range->offset < range->size)
			want = range->target == KVM_GMEM_TARGET_SHARED ?
			       PAGE_SHARED : PAGE_PRIVATE;
		EXPECT_EQ(want, now.page[i]) TH_LOG("page %zu", i);
	}
}

TEST_F(convert, C3_C4_U7_answers)
{
	struct refusal *b = &self->b;
	struct kvm_gmem_range *ranges;
	union request req;

	make_convert(b, &req);
	ranges = (struct kvm_gmem_range *)(unsigned long)req.convert.ranges;
	spoil(_metadata, b, &req, variant->poke);
	refusal_remember(_metadata, b);
	EXPECT_EQ(-variant->err, xioctl(b->gmem_fd, KVM_GMEM_CONVERT, &req));

	/* C4: defined whenever the kernel could know that there is the field. */
	if (req.convert.size >= CONVERT_SIZE && req.convert.size <= GMEM_PAGE_SIZE)
		EXPECT_EQ(0, req.convert.error_offset);

	if (variant->err)
		refusal_expect_same(_metadata, b);
	else
		expect_converted(_metadata, b, &ranges[1]);
}

/* One range of the two of a request. */
FIXTURE(range)
{
	struct refusal b;
};

FIXTURE_VARIANT(range)
{
	int err;
	struct poke poke[MAX_POKES];
};

FIXTURE_VARIANT_ADD(range, target_none) CASE(EINVAL, POKE32(range.target, 0));
FIXTURE_VARIANT_ADD(range, target_unknown) CASE(EINVAL, POKE32(range.target, 3));
FIXTURE_VARIANT_ADD(range, target_high) CASE(EINVAL, POKE32(range.target, ~0U));
FIXTURE_VARIANT_ADD(range, U2_reserved) CASE(EINVAL, POKE32(range.reserved, 1));
FIXTURE_VARIANT_ADD(range, size_zero) CASE(EINVAL, POKE64(range.size, 0));
FIXTURE_VARIANT_ADD(range, size_one) CASE(EINVAL, POKE64(range.size, 1));
FIXTURE_VARIANT_ADD(range, size_unaligned)
	CASE(EINVAL, POKE64(range.size, PAGES(1) + 512));
FIXTURE_VARIANT_ADD(range, offset_unaligned)
	CASE(EINVAL, POKE64(range.offset, PAGES(8) + 1));
FIXTURE_VARIANT_ADD(range, offset_at_end)
	CASE(EINVAL, POKE64(range.offset, FILE_SIZE));
FIXTURE_VARIANT_ADD(range, crosses_end) CASE(EINVAL, POKE64(range.offset, PAGES(13)));
FIXTURE_VARIANT_ADD(range, to_end) CASE(0, POKE64(range.size, PAGES(8)));
FIXTURE_VARIANT_ADD(range, size_huge) CASE(EINVAL, POKE64(range.size, 1ULL << 62));
FIXTURE_VARIANT_ADD(range, size_negative) CASE(EINVAL, POKE64(range.size, -PAGES(1)));
FIXTURE_VARIANT_ADD(range, offset_negative)
	CASE(EINVAL, POKE64(range.offset, -PAGES(4)));
FIXTURE_VARIANT_ADD(range, wraps)
	CASE(EINVAL, POKE64(range.offset, -PAGES(1)), POKE64(range.size, PAGES(2)));
FIXTURE_VARIANT_ADD(range, wraps_to_zero)
	CASE(EINVAL, POKE64(range.offset, -PAGES(1)), POKE64(range.size, PAGES(1)));
/* C10: overlapping ranges must agree. */
FIXTURE_VARIANT_ADD(range, C10_conflict_same)
	CASE(EINVAL, POKE64(range.offset, 0), POKE32(range.target, KVM_GMEM_TARGET_SHARED));
FIXTURE_VARIANT_ADD(range, C10_conflict_tail)
	CASE(EINVAL, POKE64(range.offset, PAGES(3)),
	     POKE32(range.target, KVM_GMEM_TARGET_SHARED));
FIXTURE_VARIANT_ADD(range, C10_conflict_inside)
	CASE(EINVAL, POKE64(range.offset, PAGES(1)), POKE64(range.size, PAGES(1)),
	     POKE32(range.target, KVM_GMEM_TARGET_SHARED));
FIXTURE_VARIANT_ADD(range, C10_conflict_around)
	CASE(EINVAL, POKE64(range.offset, 0), POKE64(range.size, FILE_SIZE),
	     POKE32(range.target, KVM_GMEM_TARGET_SHARED));
FIXTURE_VARIANT_ADD(range, C10_overlap_agrees) CASE(0, POKE64(range.offset, PAGES(2)));
FIXTURE_VARIANT_ADD(range, C10_touches)
	CASE(0, POKE64(range.offset, PAGES(4)), POKE32(range.target, KVM_GMEM_TARGET_SHARED));

FIXTURE_SETUP(range)
{
	refusal_setup(_metadata, &self->b, false);
}

FIXTURE_TEARDOWN(range)
{
}

/* C1: whether the good range is before or behind the bad one. */
TEST_F(range, C1_C3_U7_answers)
{
	struct kvm_gmem_range *ranges, odd;
	struct refusal *b = &self->b;
	union request req;
	int i;

	make_convert(b, &req);
	ranges = (struct kvm_gmem_range *)(unsigned long)req.convert.ranges;
	spoil(_metadata, b, &ranges[1], variant->poke);
	odd = ranges[1];
	refusal_remember(_metadata, b);

	for (i = 0; i < 2; i++) {
		req.convert.error_offset = POISON;
		EXPECT_EQ(-variant->err, xioctl(b->gmem_fd, KVM_GMEM_CONVERT, &req));
		EXPECT_EQ(0, req.convert.error_offset);
		if (variant->err)
			refusal_expect_same(_metadata, b);
		else
			expect_converted(_metadata, b, &odd);

		ranges[1] = ranges[0];
		ranges[0] = odd;
	}
}

/* KVM_SET_MEMORY_ATTRIBUTES2 */
FIXTURE(attributes)
{
	struct refusal b;
};

FIXTURE_VARIANT(attributes)
{
	int err;
	struct poke poke[MAX_POKES];
};

#define ATTRIBUTE	KVM_MEMORY_ATTRIBUTE_PRIVATE

FIXTURE_VARIANT_ADD(attributes, exact) CASE(0);
FIXTURE_VARIANT_ADD(attributes, read) CASE(EINVAL, POKE64(attributes.attributes, 1));
FIXTURE_VARIANT_ADD(attributes, execute) CASE(EINVAL, POKE64(attributes.attributes, 4));
FIXTURE_VARIANT_ADD(attributes, private_and_more)
	CASE(EINVAL, POKE64(attributes.attributes, ATTRIBUTE | 1));
FIXTURE_VARIANT_ADD(attributes, next) CASE(EINVAL, POKE64(attributes.attributes, ATTRIBUTE << 1));
FIXTURE_VARIANT_ADD(attributes, high) CASE(EINVAL, POKE64(attributes.attributes, 1ULL << 63));
FIXTURE_VARIANT_ADD(attributes, flags) CASE(EINVAL, POKE64(attributes.flags, 1));
FIXTURE_VARIANT_ADD(attributes, U2_reserved_first) CASE(EINVAL, POKE64(attributes.reserved[0], 1));
FIXTURE_VARIANT_ADD(attributes, U2_reserved_last) CASE(EINVAL, POKE64(attributes.reserved[10], 1));
FIXTURE_VARIANT_ADD(attributes, size_zero) CASE(EINVAL, POKE64(attributes.size, 0));
FIXTURE_VARIANT_ADD(attributes, size_one) CASE(EINVAL, POKE64(attributes.size, 1));
FIXTURE_VARIANT_ADD(attributes, size_unaligned)
	CASE(EINVAL, POKE64(attributes.size, PAGES(1) + 512));
FIXTURE_VARIANT_ADD(attributes, size_huge) CASE(EINVAL, POKE64(attributes.size, 1ULL << 62));
FIXTURE_VARIANT_ADD(attributes, size_negative) CASE(EINVAL, POKE64(attributes.size, -PAGES(1)));
FIXTURE_VARIANT_ADD(attributes, offset_unaligned) CASE(EINVAL, POKE64(attributes.offset, 1));
FIXTURE_VARIANT_ADD(attributes, offset_at_end) CASE(EINVAL, POKE64(attributes.offset, FILE_SIZE));
FIXTURE_VARIANT_ADD(attributes, crosses_end) CASE(EINVAL, POKE64(attributes.offset, PAGES(13)));
FIXTURE_VARIANT_ADD(attributes, wraps) CASE(EINVAL, POKE64(attributes.offset, -PAGES(1)));

FIXTURE_SETUP(attributes)
{
	refusal_setup(_metadata, &self->b, false);
}

FIXTURE_TEARDOWN(attributes)
{
}

TEST_F(attributes, C3_C15_U7_answers)
{
	const struct kvm_gmem_range nothing = { .offset = FILE_SIZE };
	struct refusal *b = &self->b;
	union request req;

	make_attributes(b, &req);
	spoil(_metadata, b, &req, variant->poke);
	refusal_remember(_metadata, b);
	EXPECT_EQ(-variant->err, xioctl(b->gmem_fd, KVM_SET_MEMORY_ATTRIBUTES2, &req));
	EXPECT_EQ(0, req.attributes.error_offset);
	if (variant->err)
		refusal_expect_same(_metadata, b);
	else
		expect_converted(_metadata, b, &nothing);
}

/* Conversion ioctls on what is not a convertible guest_memfd. */
FIXTURE(not_convertible)
{
	struct refusal b;
};

FIXTURE_VARIANT(not_convertible)
{
	enum kind kind;
	int err;
};

FIXTURE_VARIANT_ADD(not_convertible, gmem_plain) { FD_GMEM_PLAIN, ENOTTY };
FIXTURE_VARIANT_ADD(not_convertible, vm) { FD_VM, ENOTTY };
FIXTURE_VARIANT_ADD(not_convertible, memfd) { FD_MEMFD, ENOTTY };
FIXTURE_VARIANT_ADD(not_convertible, pipe) { FD_PIPE, ENOTTY };
FIXTURE_VARIANT_ADD(not_convertible, iommufd) { FD_IOMMU, ENOTTY };
FIXTURE_VARIANT_ADD(not_convertible, device) { FD_DEVICE, ENOTTY };
FIXTURE_VARIANT_ADD(not_convertible, binding) { FD_BINDING, ENOTTY };
FIXTURE_VARIANT_ADD(not_convertible, closed) { FD_CLOSED, EBADF };

FIXTURE_SETUP(not_convertible)
{
	refusal_setup(_metadata, &self->b, true);
}

FIXTURE_TEARDOWN(not_convertible)
{
}

TEST_F(not_convertible, C3_U7_refused)
{
	struct refusal *b = &self->b;
	union request req;
	int fd;

	fd = make_fd(b, variant->kind);
	ASSERT_LE(0, fd);
	refusal_remember(_metadata, b);
	make_convert(b, &req);
	EXPECT_EQ(-variant->err, xioctl(fd, KVM_GMEM_CONVERT, &req));
	make_attributes(b, &req);
	EXPECT_EQ(-variant->err, xioctl(fd, KVM_SET_MEMORY_ATTRIBUTES2, &req));
	refusal_expect_same(_metadata, b);
}

TEST_HARNESS_MAIN
