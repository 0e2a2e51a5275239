// SPDX-License-Identifier: GPL-2.0
/*
 * M4, M5, N3, M7, U5: large leaves of the IOMMU under real DMA. A page in the middle of a
 * leaf of 2 MiB or 1 GiB turns private and shared again, and again, while a device reads
 * and writes the 511 pages around it without a pause. They must not notice: every byte
 * arrives, and the IOMMU reports no fault. What the page table looks like is what the
 * IOMMU's debugfs says.
 *
 * GMEM_IOMMU_LONG=1 in the environment asks for 100,000 cuts.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "copier.h"
#include "lib/block.h"
#include "lib/dma.h"
#include "lib/env.h"
#include "lib/fault.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/hugepool.h"
#include "lib/ioas.h"
#include "lib/kmsg.h"
#include "lib/mirror.h"
#include "lib/tracing.h"
#include "lib/walker.h"

#define NR_FLIPS	50
#define NR_FLIPS_LONG	100000
#define MIN_ROUNDS	4	/* of the device through all pages meanwhile */
#define LOOK_EVERY	200	/* at the page table */
#define NR_FAULTS	2	/* how often it is private, with two accesses or more */

#define MAX_NTH		200	/* allocations of a conversion of one page */

#define NR_RANGES	1024	/* of one request, KVM_GMEM_CONVERT_MAX_RANGES */

#define FILE_SIZE	(2 * NR_RANGES * GMEM_PAGE_SIZE)
#define BLOCK_AT	300	/* page of the file */

/* Any multiple of 1 GiB */
#define STORM_IOVA	0x140000000ULL
#define OTHER_IOVA	0x1c0000000ULL

/* Memory of the test that the device copies from and to, a chunk for each page. */
#define OUT_IOVA	0x60000000ULL
#define IN_IOVA		0x61000000ULL
#define CHUNK		COPIER_MAX_SIZE
#define BUFFER_SIZE	(BLOCK_PAGES * CHUNK)
#define CHUNKS_PER_PAGE	(GMEM_PAGE_SIZE / CHUNK)

/**
 * struct stand - What the tests here stand on
 * @vm: Its file is shared, has memory, and a block for a 2 MiB leaf
 * @ioas: Has the file and the buffers
 * @edu: A device for single transfers
 * @block: First page of the block
 * @leaf_pages: Pages of the leaf that the block is in when all is shared
 * @iova: Of the file: that of the block is a multiple of 2 MiB
 * @binding: Of the whole file, leaves of any size
 * @leaves: Leaves of @leaf_pages in the binding when all of it is shared
 */
struct stand {
	struct gmem_vm vm;
	struct ioas ioas;
	struct edu edu;
	size_t block;
	size_t leaf_pages;
	__u64 iova;
	int binding;
	long leaves;
};

static __u64 file_iova(const struct stand *s, size_t page)
{
	return s->iova + page * GMEM_PAGE_SIZE;
}

static size_t file_pages(const struct stand *s)
{
	return s->vm.size / GMEM_PAGE_SIZE;
}

/* Leaves of any size. */
static int stand_bind(const struct stand *s, __u64 iova)
{
	return mirror_bind_leaves(s->vm.gmem_fd, &s->ioas, 0, s->vm.size, iova, 0);
}

static int stand_convert(struct stand *s, size_t page, size_t npages,
			 bool private)
{
	return gmem_convert(s->vm.gmem_fd, page * GMEM_PAGE_SIZE,
			    npages * GMEM_PAGE_SIZE,
			    private ? KVM_GMEM_TARGET_PRIVATE :
				      KVM_GMEM_TARGET_SHARED,
			    &s->vm.error_offset);
}

/* Returns what is missing, as text for SKIP, or NULL. */
static const char *stand_missing(void)
{
	const char *why = env_missing(1);

	if (why)
		return why;
	return copier_bdf() ? NULL : "no VFIO_SELFTESTS_BDF (qemu -device igb)";
}

static int stand_create_block(struct stand *s)
{
	s->block = BLOCK_AT;
	s->leaf_pages = BLOCK_PAGES;
	return block_create(&s->vm, FILE_SIZE, BLOCK_AT);
}

static int stand_create_huge(struct stand *s, size_t huge_size)
{
	const bool gigantic = huge_size == SIZE_1G;

	s->block = BLOCK_PAGES;
	s->leaf_pages = huge_size / GMEM_PAGE_SIZE;
	return gmem_vm_create(&s->vm, gigantic ? huge_size : FILE_SIZE,
			      GMEM_VM_SHARED | GUEST_MEMFD_FLAG_HUGETLB |
			      (gigantic ? GUEST_MEMFD_HUGE_1GB :
					  GUEST_MEMFD_HUGE_2MB));
}

static int stand_attach(struct stand *s, const char *bdf)
{
	int ret;

	ret = ioas_open(&s->ioas);
	if (!ret)
		ret = edu_open(&s->edu, bdf, s->ioas.iommufd);
	if (!ret)
		ret = edu_attach(&s->edu, &s->ioas, s->ioas.id);
	return ret;
}

/* Bind the file so that IOVA and physical address are congruent in the block. */
static int stand_bind_file(struct stand *s)
{
	s->iova = STORM_IOVA - s->block % BLOCK_PAGES * GMEM_PAGE_SIZE;
	s->binding = stand_bind(s, s->iova);
	if (s->binding < 0)
		return s->binding;
	s->leaves = walker_count_leaves(s->edu.bdf, s->iova, file_pages(s),
					s->leaf_pages);
	return s->leaves < 0 ? s->leaves : 0;
}

static void stand_destroy(struct stand *s)
{
	if (s->binding >= 0)
		close(s->binding);
	edu_close(&s->edu);
	ioas_close(&s->ioas);
	gmem_vm_destroy(&s->vm);
}

/* Leaves of @leaf_pages pages in the block. */
static long block_leaves(const struct stand *s, size_t leaf_pages)
{
	return walker_count_leaves(s->edu.bdf, file_iova(s, s->block),
				   BLOCK_PAGES, leaf_pages);
}

/*
 * M5: one leaf, or a leaf for each page but @nr_private. Then the rest of what was a
 * larger leaf is as large as it can be.
 */
static void expect_block(struct __test_metadata *_metadata, const struct stand *s,
			 long nr_private)
{
	EXPECT_EQ(!nr_private, block_leaves(s, s->leaf_pages));
	EXPECT_EQ(nr_private ? (long)BLOCK_PAGES - nr_private : 0,
		  block_leaves(s, 1));
	if (s->leaf_pages > BLOCK_PAGES)
		EXPECT_EQ(nr_private ? (long)(s->leaf_pages / BLOCK_PAGES) - 1 : 0,
			  walker_count_leaves(s->edu.bdf, s->iova, file_pages(s),
					      BLOCK_PAGES));
}

/*
 * Fault interrupts of all IOMMUs: the kernel's log is rate limited, this is not.
 * Several faults can share one, but there is none without one.
 */
static long read_fault_irqs(void)
{
	char line[1024], *at;
	long sum = 0;
	FILE *file;

	file = fopen("/proc/interrupts", "r");
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		if (!strstr(line, " dmar"))
			continue;
		at = strchr(line, ':');
		while (at && *++at == ' ') {
			while (*at == ' ')
				at++;
			if (*at < '0' || *at > '9')
				break;
			sum += strtol(at, &at, 10);
			at--;
		}
	}
	fclose(file);
	return sum;
}

/* The interrupt is later than the DMA, by a moment. */
static bool wait_for_fault(long before)
{
	int i;

	for (i = 0; i < 1000 && read_fault_irqs() <= before; i++)
		usleep(1000);
	return read_fault_irqs() > before;
}

/**
 * struct storm - A device that copies to and from all pages of the block but one
 * @stand: Has the block
 * @copier: The device
 * @victim: The page that it leaves alone, counted from the start of the block
 * @out: Where it copies from, a chunk for each page
 * @in: Where it copies to
 * @pause_us: Time between rounds; leaves processors to others
 * @thread: Drives it
 * @stop: End it
 * @rounds: How many times all pages were written and read
 * @wrong: Chunks that did not arrive
 * @first_wrong: Page of the first of them
 * @ret: What went wrong otherwise
 */
struct storm {
	struct stand *stand;
	struct copier *copier;
	size_t victim;
	__u8 *out;
	__u8 *in;
	unsigned int pause_us;
	pthread_t thread;
	bool stop;
	unsigned long rounds;
	unsigned long wrong;
	size_t first_wrong;
	int ret;
};

static_assert(2 * BLOCK_PAGES <= COPIER_MAX_NR, "a round is too much at once");

static int storm_open(struct storm *storm, struct stand *s, size_t victim)
{
	int ret;

	memset(storm, 0, sizeof(*storm));
	storm->stand = s;
	storm->victim = victim;
	storm->out = mmap(NULL, 2 * BUFFER_SIZE, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (storm->out == MAP_FAILED)
		return -errno;
	storm->in = storm->out + BUFFER_SIZE;

	ret = ioas_map(&s->ioas, OUT_IOVA, storm->out, BUFFER_SIZE);
	if (!ret)
		ret = ioas_map(&s->ioas, IN_IOVA, storm->in, BUFFER_SIZE);
	if (ret)
		return ret;
	storm->copier = copier_open(copier_bdf(), &s->ioas);
	return storm->copier ? 0 : -ENOMEM;
}

static void storm_close(struct storm *storm)
{
	copier_close(storm->copier);
	ioas_unmap(&storm->stand->ioas, OUT_IOVA, BUFFER_SIZE);
	ioas_unmap(&storm->stand->ioas, IN_IOVA, BUFFER_SIZE);
	munmap(storm->out, 2 * BUFFER_SIZE);
}

/* No two rounds and no two pages have the same contents. */
static void fill_chunk(__u8 *chunk, size_t page, unsigned long round)
{
	__u64 *words = (__u64 *)chunk;
	size_t i;

	copier_mark(chunk);
	for (i = COPIER_MARK / sizeof(*words); i < CHUNK / sizeof(*words); i++)
		words[i] = (round << 20 | page << 8 | i) * 0x9e3779b97f4a7c15ULL;
}

static void check_chunk(struct storm *storm, size_t page, size_t at)
{
	const __u8 *want = storm->out + page * CHUNK;
	const __u8 *host = storm->stand->vm.mem +
			   (storm->stand->block + page) * GMEM_PAGE_SIZE + at;

	if (!memcmp(want, storm->in + page * CHUNK, CHUNK) &&
	    !memcmp(want, host, CHUNK))
		return;
	if (!storm->wrong++)
		storm->first_wrong = page;
}

/* The device writes a chunk into each page, and reads it back. */
static int storm_round(struct storm *storm)
{
	size_t at = storm->rounds % CHUNKS_PER_PAGE * CHUNK, page;
	const __u64 block = file_iova(storm->stand, storm->stand->block);
	int ret;

	for (page = 0; page < BLOCK_PAGES; page++)
		fill_chunk(storm->out + page * CHUNK, page, storm->rounds);
	memset(storm->in, 0, BUFFER_SIZE);

	for (page = 0; page < BLOCK_PAGES; page++) {
		__u64 iova = block + page * GMEM_PAGE_SIZE + at;

		if (page == storm->victim)
			continue;
		copier_copy(storm->copier, OUT_IOVA + page * CHUNK, iova, CHUNK);
		copier_copy(storm->copier, iova, IN_IOVA + page * CHUNK, CHUNK);
	}
	ret = copier_wait(storm->copier);

	for (page = 0; page < BLOCK_PAGES; page++)
		if (page != storm->victim)
			check_chunk(storm, page, at);
	return ret;
}

static void *run_storm(void *arg)
{
	struct storm *storm = arg;

	do {
		__atomic_store_n(&storm->ret, storm_round(storm), __ATOMIC_RELAXED);
		__atomic_store_n(&storm->rounds, storm->rounds + 1, __ATOMIC_RELEASE);
		if (storm->pause_us)
			usleep(storm->pause_us);
	} while (!storm->ret &&
		 !__atomic_load_n(&storm->stop, __ATOMIC_RELAXED));
	return NULL;
}

/* A storm that went wrong has ended. */
static bool storm_has_rounds(const struct storm *storm, unsigned long rounds)
{
	return __atomic_load_n(&storm->rounds, __ATOMIC_ACQUIRE) >= rounds ||
	       __atomic_load_n(&storm->ret, __ATOMIC_RELAXED);
}

static void storm_begin(struct __test_metadata *_metadata, struct storm *storm,
			unsigned int pause_us)
{
	storm->stop = false;
	storm->wrong = 0;
	storm->pause_us = pause_us;
	ASSERT_EQ(0, pthread_create(&storm->thread, NULL, run_storm, storm));
}

static void storm_end(struct __test_metadata *_metadata, struct storm *storm)
{
	__atomic_store_n(&storm->stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(storm->thread, NULL));
}

static void expect_calm(struct __test_metadata *_metadata,
			const struct storm *storm)
{
	EXPECT_EQ(0, storm->ret);
	EXPECT_EQ(0, storm->wrong) {
		TH_LOG("first of them in page %zu, the other page is %zu",
		       storm->first_wrong, storm->victim);
	}
	TH_LOG("%lu rounds so far, %lu DMA", storm->rounds,
	       storm->rounds * (BLOCK_PAGES - 1) * 2);
}

FIXTURE(storm)
{
	struct stand s;
	struct storm storm;
};

FIXTURE_VARIANT(storm)
{
	size_t victim;
	size_t huge_size;
};

FIXTURE_VARIANT_ADD(storm, page_in_the_middle)
{
	.victim = 200,
};

FIXTURE_VARIANT_ADD(storm, first_page_of_a_huge_page)
{
	.victim = 0,
	.huge_size = SIZE_2M,
};

FIXTURE_VARIANT_ADD(storm, last_page_of_a_block_of_a_gigantic_page)
{
	.victim = 511,
	.huge_size = SIZE_1G,
};

FIXTURE_SETUP(storm)
{
	const char *why = stand_missing();
	struct edu_list list;

	self->s.binding = -1;
	if (why)
		SKIP(return, "%s", why);
	edu_list(&list);
	if (variant->huge_size) {
		int ret = stand_create_huge(&self->s, variant->huge_size);

		if (ret == -ENOMEM)
			SKIP(return, "not enough huge pages");
		ASSERT_EQ(0, ret);
	} else {
		ASSERT_EQ(0, stand_create_block(&self->s));
	}
	ASSERT_EQ(0, stand_attach(&self->s, list.bdf[0]));
	ASSERT_EQ(0, stand_bind_file(&self->s));
	ASSERT_EQ(0, storm_open(&self->storm, &self->s, variant->victim));
}

FIXTURE_TEARDOWN(storm)
{
	storm_close(&self->storm);
	stand_destroy(&self->s);
}

/* The victim, @nr times or more. Returns how often. */
static int flip_page(struct __test_metadata *_metadata,
		     const struct storm *storm, int nr)
{
	struct stand *s = storm->stand;
	const size_t page = s->block + storm->victim;
	unsigned long rounds = 0;
	int i;

	for (i = 0; i < nr || !storm_has_rounds(storm, rounds); i++) {
		const bool look = i % LOOK_EVERY == 0 || i == nr - 1;

		ASSERT_EQ(0, stand_convert(s, page, 1, true)) {
			TH_LOG("round %d", i);
		}
		if (look)
			expect_block(_metadata, s, 1);
		ASSERT_EQ(0, stand_convert(s, page, 1, false)) {
			TH_LOG("round %d", i);
		}
		if (look)
			expect_block(_metadata, s, 0);
		/* Looking takes longer than many flips. */
		if (!i)
			rounds = __atomic_load_n(&storm->rounds, __ATOMIC_ACQUIRE) +
				 MIN_ROUNDS;
	}
	return i;
}

/* M4, M5: 511 neighbours under DMA, and not one of them notices. */
static void check_neighbours(struct __test_metadata *_metadata, struct storm *storm)
{
	int nr = getenv("GMEM_IOMMU_LONG") ? NR_FLIPS_LONG : NR_FLIPS;
	struct stand *s = storm->stand;
	const size_t victim = s->block + storm->victim;
	const int levels = s->leaf_pages > BLOCK_PAGES ? 2 : 1;
	struct gmem_iommu_stats before, after;
	__u8 page[GMEM_PAGE_SIZE];
	long faults;

	memset(page, 0x5a, sizeof(page));
	ASSERT_EQ(0, host_write(s->vm.mem + victim * GMEM_PAGE_SIZE, page,
				sizeof(page)));
	expect_block(_metadata, s, 0);
	ASSERT_EQ(0, mirror_get_stats(s->binding, &before));
	faults = read_fault_irqs();
	ASSERT_LE(0, faults);

	storm_begin(_metadata, storm, 0);
	nr = flip_page(_metadata, storm, nr);
	storm_end(_metadata, storm);

	expect_calm(_metadata, storm);
	EXPECT_EQ(faults, read_fault_irqs());
	expect_block(_metadata, s, 0);
	EXPECT_EQ(s->leaves, walker_count_leaves(s->edu.bdf, s->iova,
						 file_pages(s), s->leaf_pages));
	EXPECT_EQ(0, memcmp(page, s->vm.mem + victim * GMEM_PAGE_SIZE,
			    sizeof(page)));

	/* Each flip cuts and merges each level once, whatever it was near to. */
	ASSERT_EQ(0, mirror_get_stats(s->binding, &after));
	EXPECT_EQ(before.cuts + nr * levels, after.cuts);
	EXPECT_EQ(before.merges + nr * levels, after.merges);
	EXPECT_EQ(before.unmapped_pages + nr, after.unmapped_pages);
	EXPECT_EQ(before.mapped_pages + nr, after.mapped_pages);
	EXPECT_EQ(0, after.failures);
}

/* M4, N3: the page itself: each DMA faults at its address, nothing arrives. */
static void check_victim(struct __test_metadata *_metadata, struct storm *storm)
{
	struct stand *s = storm->stand;
	const size_t page = s->block + storm->victim;
	__u8 secret[GMEM_PAGE_SIZE], buf[GMEM_PAGE_SIZE];
	long faults;
	int i, log;

	log = kmsg_open();
	ASSERT_LE(0, log);
	memset(secret, 0x77, sizeof(secret));
	ASSERT_EQ(0, host_write(s->vm.mem + page * GMEM_PAGE_SIZE, secret,
				sizeof(secret)));
	/* Here it is in the background of transfers that take 0.1 s. */
	storm_begin(_metadata, storm, 200 * 1000);
	for (i = 0; i < NR_FAULTS; i++) {
		ASSERT_EQ(0, dma_read(&s->edu, file_iova(s, page), buf));
		EXPECT_EQ(0, memcmp(buf, secret, sizeof(buf)));

		ASSERT_EQ(0, stand_convert(s, page, 1, true));
		faults = read_fault_irqs();
		ASSERT_EQ(0, dma_read(&s->edu, file_iova(s, page), buf));
		EXPECT_NE(0, memcmp(buf, secret, sizeof(buf)));
		EXPECT_TRUE(wait_for_fault(faults));
		faults = read_fault_irqs();
		memset(buf, 0, sizeof(buf));
		ASSERT_EQ(0, dma_write(&s->edu, file_iova(s, page), buf));
		EXPECT_TRUE(wait_for_fault(faults));
		/* The log says where, when its rate limit lets it. */
		if (!i)
			EXPECT_TRUE(dma_read_faults(&s->edu, file_iova(s, page)));
		ASSERT_EQ(0, stand_convert(s, page, 1, false));
	}
	storm_end(_metadata, storm);

	expect_calm(_metadata, storm);
	expect_block(_metadata, s, 0);
	EXPECT_EQ(0, memcmp(s->vm.mem + page * GMEM_PAGE_SIZE, secret,
			    sizeof(secret)));
	/* Of the device of the storm the log has no fault. */
	snprintf((char *)buf, sizeof(buf), "Request device [%.13s]", copier_bdf());
	EXPECT_FALSE(kmsg_wait(log, (char *)buf, 0));
	close(log);
}

/* One test, as to prepare it takes as long. */
TEST_F_TIMEOUT(storm, M4_M5_N3_only_the_page_of_a_cut_notices, 7200)
{
	check_neighbours(_metadata, &self->storm);
	check_victim(_metadata, &self->storm);
}

/*
 * M7: IOTLB flushes, as the VT-d driver submits them.
 */
struct flush_rig {
	struct stand s;
	struct tracing tracing;
	struct kvm_gmem_range ranges[NR_RANGES];
};

FIXTURE(flush)
{
	struct flush_rig rig;
};

FIXTURE_SETUP(flush)
{
	const char *why = env_missing(1);
	struct edu_list list;

	self->rig.s.binding = -1;
	if (!why && tracing_open(&self->rig.tracing, "gmem_flush_test"))
		why = "no tracefs";
	if (!why && tracing_enable(&self->rig.tracing, "intel_iommu/qi_submit"))
		why = "no tracepoints of VT-d";
	if (why)
		SKIP(return, "%s", why);

	edu_list(&list);
	ASSERT_EQ(0, stand_create_huge(&self->rig.s, SIZE_2M));
	ASSERT_EQ(0, stand_attach(&self->rig.s, list.bdf[0]));
	ASSERT_EQ(0, stand_bind_file(&self->rig.s));
}

FIXTURE_TEARDOWN(flush)
{
	stand_destroy(&self->rig.s);
	tracing_close(&self->rig.tracing);
}

/* Flushes since the last call. */
static long count_flushes(const struct tracing *tracing)
{
	long nr = tracing_count(tracing, "qi_submit: iotlb_inv ");

	tracing_clear(tracing);
	return nr;
}

/* Every second page of the file in one request. */
static int convert_comb(struct stand *s, struct kvm_gmem_range *ranges,
			bool private)
{
	size_t i;

	for (i = 0; i < NR_RANGES; i++)
		ranges[i] = (struct kvm_gmem_range) {
			.offset = 2 * i * GMEM_PAGE_SIZE,
			.size = GMEM_PAGE_SIZE,
			.target = private ? KVM_GMEM_TARGET_PRIVATE :
					    KVM_GMEM_TARGET_SHARED,
		};
	return gmem_convert_vec(s->vm.gmem_fd, ranges, NR_RANGES,
				&s->vm.error_offset);
}

/* One flush of each of @nr_domains when pages go, at most one when they come. */
static void check_flushes(struct __test_metadata *_metadata,
			  struct flush_rig *rig, long nr_domains)
{
	const struct tracing *tracing = &rig->tracing;
	struct stand *s = &rig->s;

	count_flushes(tracing);
	ASSERT_EQ(0, convert_comb(s, rig->ranges, true));
	EXPECT_EQ(nr_domains, count_flushes(tracing));
	ASSERT_EQ(0, convert_comb(s, rig->ranges, false));
	EXPECT_GE(nr_domains, count_flushes(tracing));

	/* All of a block, and one page of it */
	ASSERT_EQ(0, stand_convert(s, s->block, BLOCK_PAGES, true));
	EXPECT_EQ(nr_domains, count_flushes(tracing));
	ASSERT_EQ(0, stand_convert(s, s->block, BLOCK_PAGES, false));
	EXPECT_GE(nr_domains, count_flushes(tracing));
	ASSERT_EQ(0, stand_convert(s, s->block + 7, 1, true));
	EXPECT_EQ(nr_domains, count_flushes(tracing));
	ASSERT_EQ(0, stand_convert(s, s->block + 7, 1, false));
	EXPECT_GE(nr_domains, count_flushes(tracing));

	/* C7 */
	ASSERT_EQ(0, stand_convert(s, s->block, BLOCK_PAGES, false));
	EXPECT_EQ(0, count_flushes(tracing));
	expect_block(_metadata, s, 0);
}

TEST_F(flush, M7_C7_one_for_1024_ranges)
{
	struct gmem_iommu_stats before, after;
	struct stand *s = &self->rig.s;

	ASSERT_EQ(0, mirror_get_stats(s->binding, &before));
	check_flushes(_metadata, &self->rig, 1);
	/* Three requests each way */
	ASSERT_EQ(0, mirror_get_stats(s->binding, &after));
	EXPECT_LE(before.syncs + 3, after.syncs);
	EXPECT_GE(before.syncs + 6, after.syncs);
	EXPECT_EQ(after.cuts - before.cuts, after.merges - before.merges);
}

/* Two bindings in one IOAS are in the same domain. */
TEST_F(flush, M7_one_for_two_bindings)
{
	struct stand *s = &self->rig.s;
	int second;

	second = stand_bind(s, OTHER_IOVA);
	ASSERT_LE(0, second);
	check_flushes(_metadata, &self->rig, 1);
	close(second);
}

TEST_F(flush, M7_one_for_each_domain)
{
	struct stand *s = &self->rig.s;
	struct edu_list list;
	struct edu second;
	__u32 hwpt;

	edu_list(&list);
	if (list.nr < 2)
		SKIP(return, "only one edu device");
	ASSERT_EQ(0, edu_open(&second, list.bdf[1], s->ioas.iommufd));
	ASSERT_EQ(0, ioas_hwpt_alloc(&s->ioas, second.dev_id, 0, &hwpt));
	ASSERT_EQ(0, edu_attach(&second, &s->ioas, hwpt));
	check_flushes(_metadata, &self->rig, 2);
	edu_close(&second);
}

/*
 * A request that is refused has cut leaves in vain: in all bindings, or in those
 * that were asked before the one that refuses. They are one flush together.
 */
#define NR_MORE		2

static void bind_more(struct __test_metadata *_metadata, const struct stand *s,
		      int *more)
{
	int i;

	for (i = 0; i < NR_MORE; i++) {
		/* The block is at a multiple of 2 MiB there, too. */
		more[i] = stand_bind(s, s->iova + (i + 1) * 2 * FILE_SIZE);
		ASSERT_LE(0, more[i]);
	}
}

static void unbind_more(const int *more)
{
	int i;

	for (i = 0; i < NR_MORE; i++)
		close(more[i]);
}

TEST_F(flush, M7_N2_one_for_a_request_that_is_refused)
{
	struct flush_rig *rig = &self->rig;
	struct stand *s = &rig->s;
	int more[NR_MORE], pin;

	bind_more(_metadata, s, more);
	pin = host_pin(s->vm.mem + (s->block + 7) * GMEM_PAGE_SIZE,
		       GMEM_PAGE_SIZE);
	if (pin == -ENOENT)
		SKIP(return, "no CONFIG_GUP_TEST");
	ASSERT_LE(0, pin);

	count_flushes(&rig->tracing);
	EXPECT_EQ(-EAGAIN, stand_convert(s, s->block + 7, 1, true));
	EXPECT_EQ(1, count_flushes(&rig->tracing));
	/* They are cut by now. */
	EXPECT_EQ(-EAGAIN, stand_convert(s, s->block + 7, 1, true));
	EXPECT_EQ(0, count_flushes(&rig->tracing));

	close(pin);
	unbind_more(more);
}

/* Make the conversion's @nth allocation fail. Returns its flushes, -1 at success. */
static long flushes_of_failure(struct __test_metadata *_metadata,
			       struct flush_rig *rig, struct fault *fault,
			       unsigned int nth)
{
	struct stand *s = &rig->s;
	long flushes;
	int ret;

	count_flushes(&rig->tracing);
	EXPECT_TRUE(fault_arm(fault, nth));
	ret = stand_convert(s, s->block + 7, 1, true);
	fault_disarm(fault);
	flushes = count_flushes(&rig->tracing);
	EXPECT_GE(1, flushes) {
		TH_LOG("allocation %u", nth);
	}

	/* Whole again for the next one: leaves that were cut are merged by it. */
	if (ret)
		EXPECT_EQ(0, stand_convert(s, s->block + 7, 1, true));
	EXPECT_EQ(0, stand_convert(s, s->block + 7, 1, false));
	expect_block(_metadata, s, 0);
	return ret ? flushes : -1;
}

TEST_F_TIMEOUT(flush, M7_N2_one_for_each_allocation_that_fails, 300)
{
	struct flush_rig *rig = &self->rig;
	int more[NR_MORE];
	struct fault fault;
	const char *missing;
	unsigned int nth;
	long flushes, sum = 0;

	missing = fault_setup();
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, fault_open(&fault));
	bind_more(_metadata, &rig->s, more);
	for (nth = 1; nth < MAX_NTH; nth++) {
		flushes = flushes_of_failure(_metadata, rig, &fault, nth);
		if (flushes < 0)
			break;
		sum += flushes;
	}
	/* Those of the first and of the second binding are before the last one's. */
	EXPECT_LT(NR_MORE, nth);
	EXPECT_LE(NR_MORE, sum);
	unbind_more(more);
	fault_close(&fault);
}

/* What has happened already is one flush for all bindings, too. */
TEST_F(flush, M7_C12_one_for_what_nobody_can_refuse)
{
	struct flush_rig *rig = &self->rig;
	struct stand *s = &rig->s;
	int more[NR_MORE], ret;

	bind_more(_metadata, s, more);
	count_flushes(&rig->tracing);
	ret = host_break(s->vm.mem + (s->block + 7) * GMEM_PAGE_SIZE);
	if (ret == -EINVAL)
		SKIP(return, "no CONFIG_MEMORY_FAILURE");
	ASSERT_EQ(0, ret);
	EXPECT_EQ(1, count_flushes(&rig->tracing));
	expect_block(_metadata, s, 1);

	ASSERT_EQ(0, gmem_vm_delete_slot(&s->vm));
	EXPECT_EQ(1, count_flushes(&rig->tracing));
	EXPECT_EQ(0, walker_count(s->edu.bdf, s->iova, file_pages(s)));

	ASSERT_EQ(0, gmem_vm_create_slot(&s->vm));
	expect_block(_metadata, s, 1);
	count_flushes(&rig->tracing);
	gmem_vm_close_gmem(&s->vm);
	EXPECT_EQ(1, count_flushes(&rig->tracing));
	EXPECT_EQ(0, walker_count(s->edu.bdf, s->iova, file_pages(s)));
	unbind_more(more);
}

/* U5: the tracepoints count what was cut and merged. */
TEST_F(flush, U5_cut_and_merge_are_traced)
{
	const struct tracing *tracing = &self->rig.tracing;
	struct stand *s = &self->rig.s;

	ASSERT_EQ(0, tracing_enable(tracing, "gmem_iommu"));
	ASSERT_EQ(0, stand_convert(s, s->block + 9, 1, true));
	EXPECT_EQ(1, tracing_count(tracing, "gmem_iommu_cut: "));
	EXPECT_EQ(1, tracing_count(tracing, ": 1 leaves->tables, result 0 in "));
	EXPECT_EQ(0, tracing_count(tracing, "gmem_iommu_merge: "));
	ASSERT_EQ(0, stand_convert(s, s->block + 11, 1, true));
	EXPECT_EQ(1, tracing_count(tracing, "gmem_iommu_cut: "));

	ASSERT_EQ(0, stand_convert(s, s->block + 9, 1, false));
	EXPECT_EQ(0, tracing_count(tracing, "gmem_iommu_merge: "));
	ASSERT_EQ(0, stand_convert(s, s->block + 11, 1, false));
	EXPECT_EQ(1, tracing_count(tracing, "gmem_iommu_merge: "));
	EXPECT_EQ(1, tracing_count(tracing, ": 1 tables->leaves, result 0 in "));
}

TEST_HARNESS_MAIN
