// SPDX-License-Identifier: GPL-2.0
/*
 * Huge pages that are split and merged while sixteen threads of the host and the guest
 * access them, pins come and go, and one of them is punched out and comes again.
 * Contents are never lost, nobody sees what was in the pool before, and in the end
 * all huge pages are whole again and go back. But for those of which a page breaks.
 *
 * Requirements: H3, H4, H6, H8, H9, H10, C4, C6, C11.
 */
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
#include "lib/text.h"
#include "lib/vmstat.h"

#define SEED		0x5eed000a
#define AREA		512UL	/* pages of each converter, from the first on */
#define NR_CONVERTERS	2
#define NR_FAULTERS	16
#define NR_PINNERS	2
#define SECONDS		4
#define NR_FAILURES	24

static bool stop;

/* What the areas have in common. */
struct race {
	struct gmem_vm *vm;
	size_t file_pages;
	size_t huge_pages;	/* pages of a huge page */
	size_t churn;		/* first page of one that loses its memory, or 0 */
	bool pins;
	__u8 shared[NR_CONVERTERS][AREA];
};

/* What each thread gets, and how often it did its work. */
struct actor {
	pthread_t thread;
	struct race *race;
	unsigned int state;
	int nr;
	unsigned long done;
	unsigned long refused;
	int ret;
};

static bool go_on(const struct actor *a)
{
	return !a->ret && !__atomic_load_n(&stop, __ATOMIC_RELAXED);
}

static size_t random_page(struct actor *a, size_t nr)
{
	return rand_r(&a->state) % nr;
}

static bool is_zero(const __u8 *page)
{
	return !page[0] && !memcmp(page, page + 1, GMEM_PAGE_SIZE - 1);
}

/* C4: only a pin refuses, and a page of the request is named. */
static int may_refuse(struct actor *a, int ret, __u64 offset, size_t first,
		      size_t nr)
{
	if (ret != -EAGAIN || !a->race->pins)
		return ret;
	a->refused++;
	return offset - PAGES(first) < PAGES(nr) ? 0 : -EPROTO;
}

/* Converts in its own area, so that the model is exact. */
static void *convert_area(void *arg)
{
	struct actor *a = arg;
	const size_t base = a->nr * AREA;
	size_t first, nr;
	__u64 offset;
	bool to;
	int ret;

	while (go_on(a)) {
		first = random_page(a, AREA);
		nr = 1 + random_page(a, random_page(a, 4) ? 4 : AREA - first);
		if (nr > AREA - first)
			nr = AREA - first;
		to = random_page(a, 2);
		ret = gmem_convert(a->race->vm->gmem_fd, PAGES(base + first),
				   PAGES(nr), to ? SHARED : PRIVATE, &offset);
		if (!ret)
			memset(a->race->shared[a->nr] + first, to, nr);
		a->ret = may_refuse(a, ret, offset, base + first, nr);
		a->done++;
	}
	return NULL;
}

/* A page has the pattern, or nothing where memory comes and goes. */
static bool is_expected(const struct race *race, const __u8 *buf, size_t page)
{
	if (race->churn && page >= race->churn)
		return is_zero(buf);
	return gmem_pattern_matches(buf, PAGES(page), SEED);
}

/* Where something is going on: the areas of the converters, and the churn. */
static size_t pick_page(struct actor *a)
{
	return random_page(a, (NR_CONVERTERS + !!a->race->churn) * AREA);
}

static void *fault(void *arg)
{
	struct actor *a = arg;
	__u8 buf[GMEM_PAGE_SIZE];
	size_t page;

	while (go_on(a)) {
		page = pick_page(a);
		if (!host_read(buf, a->race->vm->mem + PAGES(page), sizeof(buf)) &&
		    !is_expected(a->race, buf, page))
			a->ret = -EILSEQ;
		a->done++;
	}
	return NULL;
}

/* The guest writes as well, what is there already. */
static void *run_guest(void *arg)
{
	struct actor *a = arg;
	struct gmem_vm *vm = a->race->vm;
	size_t page;

	while (go_on(a)) {
		page = random_page(a, AREA);
		a->ret = gmem_vm_verify(vm, PAGES(page), GMEM_PAGE_SIZE, SEED);
		if (!a->ret)
			a->ret = gmem_vm_fill(vm, PAGES(page), GMEM_PAGE_SIZE, SEED);
		a->done++;
	}
	return NULL;
}

/* A private page cannot be pinned. */
static void *pin(void *arg)
{
	struct actor *a = arg;
	int fd;

	while (go_on(a)) {
		fd = host_pin(a->race->vm->mem + PAGES(pick_page(a)), GMEM_PAGE_SIZE);
		if (fd >= 0) {
			usleep(random_page(a, 2000));
			close(fd);
			a->done++;
		}
	}
	return NULL;
}

/* What the next one gets from the pool is full of data of this file. */
static int dirty_pool(const struct race *race)
{
	const size_t size = PAGES(race->huge_pages);
	__u8 *mem;
	int fd;

	fd = gmem_create_fd(race->vm->vm_fd, size,
			    GMEM_VM_SHARED | GUEST_MEMFD_FLAG_HUGETLB |
			    GUEST_MEMFD_HUGE_2MB);
	if (fd < 0)
		return fd;
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mem != MAP_FAILED) {
		memset(mem, 0xee, size);
		munmap(mem, size);
	}
	close(fd);
	return mem == MAP_FAILED ? -errno : 0;
}

static int convert_churn(struct actor *a, size_t first, size_t nr, __u32 target)
{
	__u64 offset = 0;
	int ret;

	first += a->race->churn;
	ret = gmem_convert(a->race->vm->gmem_fd, PAGES(first), PAGES(nr), target,
			   &offset);
	return may_refuse(a, ret, offset, first, nr);
}

/*
 * The last huge page loses its memory, gets some again by the faults of others, is made
 * whole when only a part of it was touched, and comes in pieces again.
 */
static void *churn(void *arg)
{
	struct actor *a = arg;
	const struct race *race = a->race;
	size_t first, nr;
	int ret;

	while (go_on(a)) {
		ret = gmem_punch_hole(race->vm->gmem_fd, PAGES(race->churn),
				      PAGES(race->huge_pages));
		a->ret = may_refuse(a, ret, PAGES(race->churn), race->churn, 1);
		a->ret = a->ret ?: dirty_pool(race);
		first = random_page(a, AREA);
		nr = 1 + random_page(a, AREA - first);
		a->ret = a->ret ?: convert_churn(a, first, nr, SHARED);
		usleep(random_page(a, 5000));
		a->ret = a->ret ?: convert_churn(a, 0, AREA, PRIVATE);
		a->ret = a->ret ?: convert_churn(a, 0, AREA, SHARED);
		usleep(random_page(a, 5000));
		a->ret = a->ret ?: convert_churn(a, 0, AREA - 1, PRIVATE);
		a->done++;
	}
	return NULL;
}

FIXTURE(race)
{
	struct gmem_vm vm;
	struct race race;
	struct hugepool before;
	long long hugetlb;
};

FIXTURE_VARIANT(race)
{
	size_t page_size;
	long nr;
};

FIXTURE_VARIANT_ADD(race, 2M) { SIZE_2M, 3 };
FIXTURE_VARIANT_ADD(race, 1G) { SIZE_1G, 1 };

FIXTURE_SETUP(race)
{
	const char *missing = gmem_vm_missing();
	struct gmem_vm *vm = &self->vm;

	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, hugepool_read(variant->page_size, &self->before));
	if (self->before.free < variant->nr)
		SKIP(return, "not enough huge pages");
	self->hugetlb = vmstat_get("nr_hugetlb");

	ASSERT_EQ(0, gmem_vm_create(vm, variant->nr * variant->page_size,
				    GMEM_VM_PRIVATE | GUEST_MEMFD_FLAG_HUGETLB |
				    (variant->page_size == SIZE_1G ?
				     GUEST_MEMFD_HUGE_1GB :
				     GUEST_MEMFD_HUGE_2MB)));
	self->race = (struct race) {
		.vm = vm,
		.file_pages = vm->size / GMEM_PAGE_SIZE,
		.huge_pages = variant->page_size / GMEM_PAGE_SIZE,
		.churn = variant->nr > 2 ? NR_CONVERTERS * AREA : 0,
	};
	/* Data of an earlier user, in all that the pool has. */
	ASSERT_EQ(0, gmem_vm_fill(vm, 0, variant->nr * SIZE_2M, ~SEED));
	ASSERT_EQ(0, gmem_punch_hole(vm->gmem_fd, 0, vm->size));
	ASSERT_EQ(0, gmem_vm_fill(vm, 0, NR_CONVERTERS * PAGES(AREA), SEED));
}

FIXTURE_TEARDOWN(race)
{
	struct hugepool now;

	gmem_vm_destroy(&self->vm);
	EXPECT_EQ(0, hugepool_read(variant->page_size, &now));
	EXPECT_EQ(0, memcmp(&self->before, &now, sizeof(now)));
	EXPECT_EQ(self->hugetlb, vmstat_get("nr_hugetlb"));
}

static void start(struct __test_metadata *_metadata, struct race *race,
		  struct actor *a, int nr, void *(*work)(void *))
{
	int i;

	for (i = 0; i < nr; i++) {
		a[i] = (struct actor) { .race = race, .nr = i, .state = 1 + i };
		ASSERT_EQ(0, pthread_create(&a[i].thread, NULL, work, &a[i]));
	}
}

static void finish(struct __test_metadata *_metadata, struct actor *a, int nr,
		   const char *name)
{
	unsigned long done = 0, refused = 0;
	int i;

	for (i = 0; i < nr; i++) {
		ASSERT_EQ(0, pthread_join(a[i].thread, NULL));
		EXPECT_EQ(0, a[i].ret)
			TH_LOG("%s %d after %lu rounds", name, i, a[i].done);
		done += a[i].done;
		refused += a[i].refused;
	}
	EXPECT_LT(0, done);
	TH_LOG("%s: %lu rounds, %lu refused", name, done, refused);
}

static bool has_done(const struct actor *a, int nr)
{
	unsigned long done = 0;
	int i;

	for (i = 0; i < nr; i++)
		done += __atomic_load_n(&a[i].done, __ATOMIC_RELAXED);
	return done;
}

static void run_race(struct __test_metadata *_metadata, struct race *race)
{
	struct actor converters[NR_CONVERTERS], faulters[NR_FAULTERS];
	struct actor pinners[NR_PINNERS], guest, churner;
	const int nr_pinners = race->pins ? NR_PINNERS : 0;
	const int nr_churners = race->churn ? 1 : 0;
	int i;

	start(_metadata, race, faulters, NR_FAULTERS, fault);
	start(_metadata, race, &guest, 1, run_guest);
	start(_metadata, race, pinners, nr_pinners, pin);
	start(_metadata, race, converters, NR_CONVERTERS, convert_area);
	start(_metadata, race, &churner, nr_churners, churn);
	sleep(SECONDS);
	/* On a slow machine it can take longer until a page is shared and gets pinned. */
	for (i = 0; i < 600 && nr_pinners && !has_done(pinners, nr_pinners); i++)
		usleep(100000);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	finish(_metadata, converters, NR_CONVERTERS, "conversions");
	finish(_metadata, faulters, NR_FAULTERS, "host faults");
	finish(_metadata, &guest, 1, "guest");
	if (nr_pinners)
		finish(_metadata, pinners, nr_pinners, "pins");
	if (nr_churners)
		finish(_metadata, &churner, nr_churners, "churn");
}

/* The state is the model's, contents are there, and all of it can be whole. */
static void check_end(struct __test_metadata *_metadata, struct race *race)
{
	struct gmem_vm *vm = race->vm;
	struct folio_map map;
	__u64 pfn;
	size_t i;

	for (i = 0; i < AREA; i++)
		ASSERT_EQ(!race->shared[0][i], host_faults(vm->mem + PAGES(i)));
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, NR_CONVERTERS * PAGES(AREA), SEED));

	ASSERT_EQ(0, gmem_convert(vm->gmem_fd, 0, PAGES(race->file_pages), SHARED,
				  NULL));
	ASSERT_FALSE(host_faults(vm->mem));
	ASSERT_EQ(0, host_pfns(vm->mem, &pfn, 1));
	ASSERT_EQ(0, gmem_convert(vm->gmem_fd, 0, PAGES(race->file_pages), PRIVATE,
				  NULL));
	ASSERT_EQ(0, folio_map_read(pfn, PAGES(race->huge_pages), &map));
	EXPECT_EQ(1, map.huge);
	EXPECT_EQ(0, map.large + map.small + map.other);
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, NR_CONVERTERS * PAGES(AREA), SEED));
}

TEST_F(race, C6_C11_H3_H6_H9_faults_never_refuse)
{
	run_race(_metadata, &self->race);
	check_end(_metadata, &self->race);
}

TEST_F(race, C4_C11_H3_H4_H6_H8_pins_come_and_go)
{
	self->race.pins = true;
	run_race(_metadata, &self->race);
	check_end(_metadata, &self->race);
}

/* -- a page that breaks ---------------------------------------------------- */

/* Splits the huge page and merges it, as long as that goes. */
static void *split_and_merge(void *arg)
{
	struct actor *a = arg;
	__u64 offset = 0;
	int ret;

	while (go_on(a)) {
		ret = gmem_convert(a->race->vm->gmem_fd, 0, PAGES(1),
				   a->done % 2 ? PRIVATE : SHARED, &offset);
		/* Who marks the page may hold it for a moment. */
		if (ret == -EAGAIN && !offset)
			continue;
		a->ret = ret;
		a->done++;
	}
	return NULL;
}

FIXTURE(failure)
{
	struct gmem_vm vm;
	struct hugepool before;
	__u64 broken[NR_FAILURES];
};

FIXTURE_SETUP(failure)
{
	const char *missing = gmem_vm_missing();

	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, hugepool_read(SIZE_2M, &self->before));
	if (self->before.free < NR_FAILURES)
		SKIP(return, "not enough huge pages");
}

FIXTURE_TEARDOWN(failure)
{
	char text[32];
	int i;

	gmem_vm_destroy(&self->vm);
	for (i = 0; i < NR_FAILURES && self->broken[i]; i++) {
		snprintf(text, sizeof(text), "%llu", (unsigned long long)self->broken[i]);
		if (text_write("/sys/kernel/debug/hwpoison/unpoison-pfn", text))
			TH_LOG("page %s stays broken", text);
	}
	EXPECT_EQ(0, hugepool_resize(SIZE_2M, self->before.nr));
}

/* Exactly that page is lost, whatever the huge page was when it broke. */
static void check_failure(struct __test_metadata *_metadata, struct gmem_vm *vm,
			  size_t broken, __u64 base_pfn)
{
	struct folio_map map;
	__u64 offset;
	size_t page;

	ASSERT_EQ(0, gmem_vm_convert(vm, 0, 1, SHARED));
	for (page = broken % 64; page < 512; page += 64) {
		EXPECT_EQ(page == broken ? -EHWPOISON : 0,
			  gmem_convert(vm->gmem_fd, PAGES(page), PAGES(1), SHARED,
				       &offset)) {
			TH_LOG("page %zu, %zu is broken", page, broken);
		}
		EXPECT_EQ(page == broken ? PAGES(broken) : 0, offset);
	}
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, PAGES(broken), SEED));
	EXPECT_EQ(0, gmem_vm_verify(vm, PAGES(broken + 1), PAGES(511 - broken), SEED));

	/* What has a broken page is never whole again. */
	ASSERT_EQ(0, gmem_vm_convert(vm, 0, broken, PRIVATE));
	ASSERT_EQ(0, gmem_vm_convert(vm, broken + 1, 511 - broken, PRIVATE));
	ASSERT_EQ(0, folio_map_read(base_pfn, SIZE_2M, &map));
	EXPECT_EQ(0, map.huge + map.large);
	EXPECT_EQ(512, map.small);
}

/* H3, H5, H10: in any moment of a split or a merge. */
TEST_F(failure, H3_H5_H10_splits_and_merges)
{
	struct race race = { .vm = &self->vm };
	struct hugepool pool = self->before, now;
	struct gmem_vm *vm = &self->vm;
	struct actor converter;
	size_t broken;
	__u64 pfn;
	int i;

	srand(SEED);
	for (i = 0; i < NR_FAILURES; i++) {
		ASSERT_EQ(0, gmem_vm_create(vm, SIZE_2M, GMEM_VM_PRIVATE |
					    GUEST_MEMFD_FLAG_HUGETLB |
					    GUEST_MEMFD_HUGE_2MB));
		ASSERT_EQ(0, gmem_vm_fill(vm, 0, SIZE_2M, SEED));
		ASSERT_EQ(0, gmem_vm_convert(vm, 0, 1, SHARED));
		ASSERT_FALSE(host_faults(vm->mem));
		ASSERT_EQ(0, host_pfns(vm->mem, &pfn, 1));
		ASSERT_EQ(0, gmem_vm_convert(vm, 0, 1, PRIVATE));

		__atomic_store_n(&stop, false, __ATOMIC_RELAXED);
		start(_metadata, &race, &converter, 1, split_and_merge);
		while (!__atomic_load_n(&converter.done, __ATOMIC_RELAXED) &&
		       !__atomic_load_n(&converter.ret, __ATOMIC_RELAXED))
			usleep(100);
		usleep(rand() % 20000);
		broken = 1 + rand() % 510;
		self->broken[i] = pfn + broken;
		ASSERT_EQ(0, host_break_pfn(pfn + broken));
		usleep(rand() % 5000);
		__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
		finish(_metadata, &converter, 1, "conversions");
		check_failure(_metadata, vm, broken, pfn);

		gmem_vm_destroy(vm);
		ASSERT_EQ(0, hugepool_read(SIZE_2M, &now));
		EXPECT_EQ(pool.nr - 1, now.nr);
		EXPECT_EQ(pool.free - 1, now.free);
		pool = now;
	}
}

TEST_HARNESS_MAIN
