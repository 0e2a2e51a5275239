// SPDX-License-Identifier: GPL-2.0
/*
 * What user space can observe of a convertible guest_memfd.
 */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "gmem_vm.h"
#include "host.h"
#include "mirror.h"
#include "state.h"
#include "walker.h"

#define READ_AT_ONCE	64	/* pages */

/* FNV-1a by words, never 0. */
static __u64 hash_page(const __u64 *words)
{
	__u64 hash = 0xcbf29ce484222325ULL;
	size_t i;

	for (i = 0; i < GMEM_PAGE_SIZE / sizeof(*words); i++)
		hash = (hash ^ words[i]) * 0x100000001b3ULL;
	return hash | 1;
}

__u64 mirror_generation(int binding)
{
	struct gmem_iommu_run run;
	struct gmem_iommu_query_runs query = {
		.size = sizeof(query),
		.nr_runs = 1,
		.runs = (unsigned long)&run,
	};

	return ioctl(binding, GMEM_IOMMU_QUERY_RUNS, &query) ? 0 :
	       query.generation;
}

/* The pages @first to @first + @npages - 1 of @state, which are at @mem. */
static const char *read_pages(struct gmem_state *state, size_t first,
			      const __u8 *mem, size_t npages)
{
	static __thread __u64 buf[READ_AT_ONCE][GMEM_PAGE_SIZE / sizeof(__u64)];
	const size_t end = first + npages;
	ssize_t size, i;

	while (first < end) {
		npages = end - first < READ_AT_ONCE ? end - first : READ_AT_ONCE;
		size = host_read_up_to_fault(buf, mem, npages * GMEM_PAGE_SIZE);
		if (size < 0)
			return "the host cannot read at all";
		for (i = 0; i < size / (ssize_t)GMEM_PAGE_SIZE; i++) {
			state->page[first] = PAGE_SHARED;
			state->hash[first++] = hash_page(buf[i]);
		}
		if (!i)
			state->page[first++] = PAGE_PRIVATE;
		mem += (i ?: 1) * GMEM_PAGE_SIZE;
	}
	return "";
}

size_t gmem_pages_in_a_row(const size_t *pages, size_t npages)
{
	size_t n = 1;

	while (n < npages && pages[n] == pages[0] + n)
		n++;
	return n;
}

const char *gmem_state_read_some(struct gmem_state *state, const __u8 *mem,
				 const size_t *pages, size_t npages)
{
	const char *why = "";
	size_t i, n;

	memset(state, 0, sizeof(*state));
	if (npages > GMEM_STATE_MAX_PAGES)
		return "too many pages for struct gmem_state";
	state->npages = npages;
	for (i = 0; i < npages && !*why; i += n) {
		n = gmem_pages_in_a_row(&pages[i], npages - i);
		why = read_pages(state, i, mem + pages[i] * GMEM_PAGE_SIZE, n);
	}
	return why;
}

const char *gmem_state_read(struct gmem_state *state, int binding,
			    const __u8 *mem, size_t npages)
{
	const char *why;

	memset(state, 0, sizeof(*state));
	if (npages > GMEM_STATE_MAX_PAGES)
		return "the file is too big for struct gmem_state";
	state->npages = npages;
	why = read_pages(state, 0, mem, npages);
	if (*why || binding < 0)
		return why;
	state->generation = mirror_generation(binding);
	return mirror_check_runs(binding, 0, state->page, npages);
}

long gmem_state_diff(const struct gmem_state *a, const struct gmem_state *b)
{
	size_t i;

	if (a->npages != b->npages)
		return 0;

	for (i = 0; i < a->npages; i++) {
		if (a->page[i] != b->page[i] || a->hash[i] != b->hash[i])
			return i;
	}
	return -1;
}

/* mincore(2) looks into the page cache where no page is mapped. */
long gmem_nr_resident(__u8 *mem, size_t npages)
{
	unsigned char in_core[GMEM_STATE_MAX_PAGES];
	long nr = 0;
	size_t i;

	if (npages > GMEM_STATE_MAX_PAGES)
		return -E2BIG;
	if (mincore(mem, npages * GMEM_PAGE_SIZE, in_core))
		return -errno;
	for (i = 0; i < npages; i++)
		nr += in_core[i] & 1;
	return nr;
}

int count_open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int nr = 0;

	if (!dir)
		return -errno;
	while (readdir(dir))
		nr++;
	closedir(dir);

	/* Without ".", ".." and the one of opendir(). */
	return nr - 3;
}
