// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ext pages of iommufd: what a device wrote is reported, also of pages that were
 * taken back since.
 */
#include "iommufd_ext_fixture.h"
#include "iommufd_ext_race.h"

/* One bit for each page of the area */
#define DIRTY_LONGS	(NPAGES / BITS_PER_LONG)

static unsigned int count_dirty(unsigned long *bitmap)
{
	unsigned int count = 0;
	__u64 page;

	for (page = 0; page != NPAGES; page++)
		count += test_bit(page, bitmap);
	return count;
}

/* The device writes to a page that is mapped */
static int write_page(int fd, __u32 hwpt_id, __u64 iova, __u64 page)
{
	unsigned long bitmap[DIRTY_LONGS] = {};

	set_bit(page, bitmap);
	return _test_cmd_mock_domain_set_dirty(fd, hwpt_id, LENGTH, iova,
					       EXT_PAGE_SIZE, (__u64 *)bitmap,
					       NULL);
}

#define write_pages(hwpt_id, iova, ...)                                      \
	({                                                                   \
		static const __u64 _pages[] = { __VA_ARGS__ };               \
		unsigned int _i;                                             \
									     \
		for (_i = 0; _i != ARRAY_SIZE(_pages); _i++)                 \
			ASSERT_EQ(0, write_page(self->fd, hwpt_id, iova,     \
						_pages[_i]));                \
	})

#define read_dirty(hwpt_id, iova, bitmap, flags)                             \
	({                                                                   \
		void *_bits = (bitmap);                                      \
									     \
		memset(_bits, 0, DIRTY_LONGS * sizeof(long));                \
		test_cmd_get_dirty_bitmap(self->fd, hwpt_id, LENGTH, iova,   \
					  EXT_PAGE_SIZE, _bits, flags);      \
	})

/*
 * All of these pages are dirty. No others are if no leaf is larger than a page,
 * otherwise they share the fate of the leaf that they were in.
 */
#define check_dirty(bitmap, ...)                                             \
	({                                                                   \
		static const __u64 _pages[] = { __VA_ARGS__ };               \
		unsigned long *_bits = (bitmap);                             \
		unsigned int _i;                                             \
									     \
		for (_i = 0; _i != ARRAY_SIZE(_pages); _i++)                 \
			ASSERT_EQ(true, test_bit(_pages[_i], _bits));        \
		if (!can_be_large(variant->max_leaf_lg2, variant->pfn_xor))  \
			ASSERT_EQ(ARRAY_SIZE(_pages), count_dirty(_bits));   \
	})

#define NO_CLEAR IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR

#define alloc_dirty_hwpt(hwpt_id)                                        \
	({                                                               \
		__u32 *_hwpt_id = (hwpt_id);                             \
									 \
		test_cmd_hwpt_alloc(self->idev_id, self->ioas_id,        \
				    IOMMU_HWPT_ALLOC_DIRTY_TRACKING,     \
				    _hwpt_id);                           \
		test_cmd_set_dirty_tracking(*_hwpt_id, true);            \
	})

/* What was written before a page goes is reported once, however it goes */
TEST_F(ext, dirty_unmap_M12)
{
	struct iommu_test_ext_range revoke = { .index = 900, .nr = 1 };
	unsigned long bitmap[DIRTY_LONGS];
	uint32_t hwpt_id;

	alloc_dirty_hwpt(&hwpt_id);
	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, NULL);
	read_dirty(hwpt_id, IOVA, bitmap, 0);
	ASSERT_EQ(0, count_dirty(bitmap));

	write_pages(hwpt_id, IOVA, 3, 99, 100, 600, 900, NPAGES - 1);
	set_pages(3, 1, false);
	set_pages(100, 10, false);
	ASSERT_EQ(0, ext_change(&self->ext, &revoke, 1, EXT_REVOKE, NULL));
	set_pages(NPAGES - 1, 1, false);

	read_dirty(hwpt_id, IOVA, bitmap, NO_CLEAR);
	check_dirty(bitmap, 3, 99, 100, 600, 900, NPAGES - 1);
	read_dirty(hwpt_id, IOVA, bitmap, 0);
	check_dirty(bitmap, 3, 99, 100, 600, 900, NPAGES - 1);
	read_dirty(hwpt_id, IOVA, bitmap, 0);
	ASSERT_EQ(0, count_dirty(bitmap));

	/* Pages that nobody wrote to are not */
	set_pages(200, 10, false);
	read_dirty(hwpt_id, IOVA, bitmap, 0);
	ASSERT_EQ(0, count_dirty(bitmap));
}

/* The page that comes back is a clean one, the write is not forgotten */
TEST_F(ext, dirty_remap_M12)
{
	unsigned long bitmap[DIRTY_LONGS];
	uint32_t hwpt_id;

	alloc_dirty_hwpt(&hwpt_id);
	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, NULL);
	write_pages(hwpt_id, IOVA, 20, 21, NPAGES / 2);
	set_pages(20, 1, false);
	set_pages(20, 1, true);
	set_pages(0, NPAGES, false);
	read_dirty(hwpt_id, IOVA, bitmap, NO_CLEAR);
	check_dirty(bitmap, 20, 21, NPAGES / 2);
	set_pages(0, NPAGES, true);

	/* And is there in addition to what is written now */
	write_pages(hwpt_id, IOVA, 22);
	read_dirty(hwpt_id, IOVA, bitmap, 0);
	check_dirty(bitmap, 20, 21, 22, NPAGES / 2);
	read_dirty(hwpt_id, IOVA, bitmap, 0);
	ASSERT_EQ(0, count_dirty(bitmap));
}

/* A reader of a part takes the part */
TEST_F(ext, dirty_part_M12)
{
	const __u64 first = 50, nr = 64;
	unsigned long bitmap[DIRTY_LONGS] = {};
	uint32_t hwpt_id;

	alloc_dirty_hwpt(&hwpt_id);
	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, NULL);
	write_pages(hwpt_id, IOVA, 49, 50, 113, 114);
	set_pages(40, 100, false);

	test_cmd_get_dirty_bitmap(self->fd, hwpt_id, nr * EXT_PAGE_SIZE,
				  IOVA + first * EXT_PAGE_SIZE, EXT_PAGE_SIZE,
				  (__u64 *)bitmap, 0);
	check_dirty(bitmap, 0, nr - 1);
	read_dirty(hwpt_id, IOVA, bitmap, 0);
	check_dirty(bitmap, 49, 114);
	ASSERT_EQ(false, test_bit(first, bitmap));
	ASSERT_EQ(false, test_bit(first + nr - 1, bitmap));
}

/* Pages of 2K, which the mock IOMMU has, and pages of 2M */
TEST_F(ext, dirty_page_size_M12)
{
	unsigned long bitmap[NPAGES * 2 / BITS_PER_LONG] = {};
	uint32_t hwpt_id;

	alloc_dirty_hwpt(&hwpt_id);
	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, NULL);
	write_pages(hwpt_id, IOVA, 5);
	set_pages(5, 1, false);

	/* Only one half of the page, which therefore stays dirty */
	test_cmd_get_dirty_bitmap(self->fd, hwpt_id, MOCK_PAGE_SIZE,
				  IOVA + 5 * EXT_PAGE_SIZE, MOCK_PAGE_SIZE,
				  (__u64 *)bitmap, 0);
	ASSERT_EQ(1, bitmap[0]);
	memset(bitmap, 0, sizeof(bitmap));
	test_cmd_get_dirty_bitmap(self->fd, hwpt_id, LENGTH, IOVA,
				  MOCK_PAGE_SIZE, (__u64 *)bitmap, NO_CLEAR);
	ASSERT_EQ(true, test_bit(10, bitmap));
	ASSERT_EQ(true, test_bit(11, bitmap));
	bitmap[0] = 0;
	test_cmd_get_dirty_bitmap(self->fd, hwpt_id, LENGTH, IOVA, 1UL << 21,
				  (__u64 *)bitmap, 0);
	ASSERT_EQ(1, bitmap[0] & 1);
	read_dirty(hwpt_id, IOVA, bitmap, 0);
	ASSERT_EQ(0, count_dirty(bitmap));
}

/* Each domain and each area has its own, and takes it along when it goes */
TEST_F(ext, dirty_areas_M12)
{
	struct iommu_ioas_copy copy = ext_copy(self->ioas_id, IOVA, IOVA2);
	uint32_t hwpt_id, hwpt2_id;
	unsigned long bitmap[DIRTY_LONGS];

	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, NULL);
	ASSERT_EQ(0, ioctl(self->fd, IOMMU_IOAS_COPY, &copy));
	/* The third domain of the IOAS has no dirty tracking */
	alloc_dirty_hwpt(&hwpt_id);
	alloc_dirty_hwpt(&hwpt2_id);

	write_pages(hwpt_id, IOVA, 7);
	write_pages(hwpt2_id, IOVA2, 9);
	set_pages(0, NPAGES, false);
	read_dirty(hwpt_id, IOVA, bitmap, 0);
	check_dirty(bitmap, 7);
	read_dirty(hwpt_id, IOVA2, bitmap, 0);
	ASSERT_EQ(0, count_dirty(bitmap));
	read_dirty(hwpt2_id, IOVA, bitmap, 0);
	ASSERT_EQ(0, count_dirty(bitmap));
	read_dirty(hwpt2_id, IOVA2, bitmap, NO_CLEAR);
	check_dirty(bitmap, 9);

	/* Tracking begins with nothing */
	test_cmd_set_dirty_tracking(hwpt2_id, false);
	test_cmd_set_dirty_tracking(hwpt2_id, true);
	read_dirty(hwpt2_id, IOVA2, bitmap, 0);
	ASSERT_EQ(0, count_dirty(bitmap));

	/* And so does another area */
	set_pages(0, NPAGES, true);
	write_pages(hwpt2_id, IOVA2, 9);
	set_pages(9, 1, false);
	test_ioctl_ioas_unmap(IOVA2, LENGTH);
	ASSERT_EQ(0, ioctl(self->fd, IOMMU_IOAS_COPY, &copy));
	read_dirty(hwpt2_id, IOVA2, bitmap, 0);
	ASSERT_EQ(0, count_dirty(bitmap));
}

/*
 * The user pages of a bitmap are pinned in windows. With a bit for 16 bytes, and not at the
 * start of a page, the first window ends within the page in front of WINDOW.
 */
#define UNIT		16UL
#define WINDOW		(256UL << 20)
#define LARGE		(2 * WINDOW)
#define LARGE_PAGES	(LARGE / EXT_PAGE_SIZE)
#define UNITS_OF_PAGE	(EXT_PAGE_SIZE / UNIT)
#define LEAVES_2M	((long)(LARGE >> LEAF_2M))

FIXTURE(large)
{
	int fd;
	uint32_t ioas_id;
	uint32_t stdev_id;
	uint32_t hwpt_id;
	uint32_t idev_id;
	struct ext ext;
	uint32_t dirty_id;
	void *mem;
	size_t mem_size;
	unsigned long *bitmap;
};

FIXTURE_SETUP(large)
{
	self->fd = open("/dev/iommu", O_RDWR);
	ASSERT_NE(-1, self->fd);
	test_ioctl_ioas_alloc(&self->ioas_id);
	test_cmd_mock_domain(self->ioas_id, &self->stdev_id, &self->hwpt_id,
			     &self->idev_id);
	ASSERT_EQ(0, ext_create(self->fd, &self->ext, LARGE_PAGES, 0));
	set_pages(0, LARGE_PAGES, true);
	alloc_dirty_hwpt(&self->dirty_id);
	ASSERT_EQ(0, ext_map(&self->ext, self->ioas_id, LEAF_2M, IOVA, NULL));

	self->mem_size = LARGE / UNIT / 8 + EXT_PAGE_SIZE;
	self->mem = mmap(NULL, self->mem_size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	self->bitmap = self->mem + 16;
}

FIXTURE_TEARDOWN(large)
{
	munmap(self->mem, self->mem_size);
	ext_destroy(&self->ext);
	ASSERT_EQ(0, close(self->fd));
}

static int read_units(int fd, __u32 hwpt_id, unsigned long *bitmap)
{
	return _test_cmd_get_dirty_bitmap(fd, hwpt_id, LARGE, IOVA, UNIT,
					  (__u64 *)bitmap, 0);
}

/* Writes to the page that is in two windows */
static int write_at_window(struct racer *racer)
{
	__u64 bitmap = 1;

	return _test_cmd_mock_domain_set_dirty(racer->fd, racer->hwpts[0],
					       EXT_PAGE_SIZE,
					       IOVA + WINDOW - EXT_PAGE_SIZE,
					       EXT_PAGE_SIZE, &bitmap, NULL);
}

/* Whoever finds its leaf dirty reports all of it, on both sides of the window */
TEST_F(large, dirty_window_M12)
{
	const unsigned long first = (WINDOW - (2UL << 20)) / UNIT;
	const unsigned long nr = (2UL << 20) / UNIT;
	struct racer racer = { .fn = write_at_window, .fd = self->fd };
	unsigned int i, seen = 0;
	unsigned long unit;

	racer.hwpts[0] = self->dirty_id;
	race_start(&racer);
	for (i = 0; i != 40; i++) {
		memset(self->bitmap + first / BITS_PER_LONG, 0, nr / 8);
		ASSERT_EQ(0, read_units(self->fd, self->dirty_id, self->bitmap));
		seen += test_bit(first + nr - 1, self->bitmap);
		for (unit = first; unit != first + nr; unit += UNITS_OF_PAGE / 2) {
			ASSERT_EQ(test_bit(first + nr - 1, self->bitmap),
				  test_bit(unit, self->bitmap));
		}
	}
	race_stop(&racer);
	ASSERT_LT(0, seen);
}

/* Nothing is lost to a bitmap that is not there */
TEST_F(large, dirty_without_bitmap_M12_U7)
{
	const unsigned long last = (LARGE - EXT_PAGE_SIZE) / UNIT;
	const size_t missing = 32 * EXT_PAGE_SIZE;	/* the bits of 16M */
	void *end = self->mem + self->mem_size - missing;
	__u64 bitmap = 1;

	ASSERT_EQ(0, _test_cmd_mock_domain_set_dirty(self->fd, self->dirty_id,
						     EXT_PAGE_SIZE,
						     IOVA + LARGE - EXT_PAGE_SIZE,
						     EXT_PAGE_SIZE, &bitmap, NULL));
	ASSERT_EQ(0, munmap(end, missing));
	EXPECT_ERRNO(EFAULT, read_units(self->fd, self->dirty_id, self->bitmap));
	ASSERT_EQ(end, mmap(end, missing, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	ASSERT_EQ(0, read_units(self->fd, self->dirty_id, self->bitmap));
	ASSERT_EQ(true, test_bit(last, self->bitmap));
}

/* A hole that opens and closes, and the leaves afterwards */
#define reopen(hwpt_id)                                                      \
	({                                                                   \
		ASSERT_EQ(0, ext_set(&self->ext, 7, 1, false));              \
		ASSERT_EQ(0, ext_set(&self->ext, 7, 1, true));               \
		ext_check(&self->ext, hwpt_id, IOVA, LEAF_2M);               \
	})

/* Leaves are not merged in a domain that tracks, and only there */
TEST_F(large, dirty_merge_M5_M12)
{
	/* One of 2M has become two of a table's item, which is 1M here */
	const long merged = LEAVES_2M + 1;

	ASSERT_EQ(LEAVES_2M, ext_check(&self->ext, self->hwpt_id, IOVA, LEAF_2M));
	ASSERT_EQ(merged, reopen(self->hwpt_id));
	ASSERT_LT(merged, ext_check(&self->ext, self->dirty_id, IOVA, LEAF_2M));

	test_cmd_set_dirty_tracking(self->dirty_id, false);
	ASSERT_EQ(merged, reopen(self->dirty_id));
}

/* Reads what is dirty and clears it, and keeps the sum */
static unsigned long race_dirty[DIRTY_LONGS];

static int collect(struct racer *racer)
{
	unsigned long bitmap[DIRTY_LONGS] = {};
	unsigned int i;

	if (_test_cmd_get_dirty_bitmap(racer->fd, racer->hwpts[0], LENGTH, IOVA,
				       EXT_PAGE_SIZE, (__u64 *)bitmap, 0))
		return errno;
	for (i = 0; i != ARRAY_SIZE(bitmap); i++)
		race_dirty[i] |= bitmap[i];
	return 0;
}

/* No write is lost between a reader and a change, and none is made up */
TEST_F(ext, dirty_race_M12)
{
	struct racer racer = { .fn = collect, .fd = self->fd };
	unsigned int i;

	alloc_dirty_hwpt(&racer.hwpts[0]);
	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, NULL);
	memset(race_dirty, 0, sizeof(race_dirty));
	race_start(&racer);
	for (i = 0; i != NPAGES; i += 8) {
		ASSERT_EQ(0, write_page(self->fd, racer.hwpts[0], IOVA, i));
		set_pages(i, 1, false);
		if (i % 16)
			set_pages(i, 1, true);
	}
	race_stop(&racer);
	ASSERT_EQ(0, collect(&racer));

	for (i = 0; i != NPAGES; i += 8)
		ASSERT_EQ(true, test_bit(i, race_dirty));
	if (!can_be_large(variant->max_leaf_lg2, variant->pfn_xor))
		ASSERT_EQ(NPAGES / 8, count_dirty(race_dirty));
}

TEST_HARNESS_MAIN
