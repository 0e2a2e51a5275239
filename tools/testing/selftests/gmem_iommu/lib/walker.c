// SPDX-License-Identifier: GPL-2.0
/*
 * The oracle: what a device can reach, read from the page table that the IOMMU
 * itself walks, by the Intel driver's debugfs.
 *
 * Its lines are
 *
 *	IOVA_PFN	 |	PML5E	PML4E	PDPE	PDE	PTE
 *
 * one per leaf; the last column is the leaf, and the columns that are missing
 * tell its size.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gmem_vm.h"
#include "host.h"
#include "walker.h"

#define ENTRY_RW	0x3ULL
#define ENTRY_ADDRESS	0x000ffffffffff000ULL

static void debugfs_path(const char *bdf, char *path, size_t size)
{
	snprintf(path, size,
		 "/sys/kernel/debug/iommu/intel/%s/domain_translation_struct",
		 bdf);
}

bool walker_available(const char *bdf)
{
	char path[128];

	debugfs_path(bdf, path, sizeof(path));
	return !access(path, R_OK);
}

/**
 * struct leaf - A line of debugfs
 * @iova_pfn: First page of IOVA
 * @npages: Pages that it maps
 * @entry: The entry of the page table
 */
struct leaf {
	__u64 iova_pfn;
	__u64 npages;
	__u64 entry;
};

/* Parse one line; false if it is not a leaf. */
static bool parse_leaf(const char *line, struct leaf *leaf)
{
	unsigned long long pfn, columns[5];
	int nr;

	nr = sscanf(line, "0x%llx | 0x%llx 0x%llx 0x%llx 0x%llx 0x%llx", &pfn,
		    &columns[0], &columns[1], &columns[2], &columns[3],
		    &columns[4]) - 1;
	if (nr < 3)
		return false;

	leaf->iova_pfn = pfn;
	leaf->npages = 1ULL << (9 * (5 - nr));
	leaf->entry = columns[nr - 1];
	return true;
}

typedef int (*leaf_fn)(const struct leaf *leaf, void *arg);

/* Call @fn for all leaves of a device until it returns an error. */
static int walk_leaves(const char *bdf, leaf_fn fn, void *arg)
{
	bool header = false;
	struct leaf leaf;
	char line[256];
	int ret = 0;
	FILE *file;

	debugfs_path(bdf, line, sizeof(line));
	file = fopen(line, "r");
	if (!file)
		return -errno;

	while (!ret && fgets(line, sizeof(line), file)) {
		if (strstr(line, "IOVA_PFN"))
			header = true;
		if (parse_leaf(line, &leaf))
			ret = fn(&leaf, arg);
	}
	fclose(file);

	/* No page table at all is not the same as an empty one. */
	return header || ret ? ret : -ENODEV;
}

struct range {
	__u64 first;
	size_t npages;
	__u64 *entries;
};

static int store_entries(const struct leaf *leaf, void *arg)
{
	struct range *range = arg;
	__u64 i, page;

	for (i = 0; i < leaf->npages; i++) {
		if (leaf->iova_pfn + i < range->first)
			continue;
		page = leaf->iova_pfn + i - range->first;
		if (page >= range->npages)
			break;
		if (range->entries[page])
			return -EUCLEAN;	/* listed twice */
		range->entries[page] = leaf->entry + (i << GMEM_PAGE_SHIFT);
	}
	return 0;
}

/*
 * Fill @entries, one per page, with the address and permissions that each page
 * of the range translates to; 0 if it does not.
 */
static int walk(const char *bdf, __u64 iova, __u64 *entries, size_t npages)
{
	struct range range = {
		.first = iova >> GMEM_PAGE_SHIFT,
		.npages = npages,
		.entries = entries,
	};

	memset(entries, 0, npages * sizeof(*entries));
	return walk_leaves(bdf, store_entries, &range);
}

/* @host_pfn: the physical page that the host sees, or NULL. */
static const char *check_page(__u64 iova, __u64 entry, __u8 state,
			      const __u64 *host_pfn)
{
	static __thread char why[192];
	unsigned long long pfn = (entry & ENTRY_ADDRESS) >> GMEM_PAGE_SHIFT;

	if (state != PAGE_SHARED) {
		if (!entry)
			return "";
		snprintf(why, sizeof(why), "iova %#llx: %s page translates to pfn %#llx",
			 iova, state == PAGE_HOLE ? "punched" : "private", pfn);
		return why;
	}
	if (!entry) {
		snprintf(why, sizeof(why), "iova %#llx: shared page does not translate",
			 iova);
		return why;
	}
	if ((entry & ENTRY_RW) != ENTRY_RW) {
		snprintf(why, sizeof(why), "iova %#llx: entry %#llx lacks a permission",
			 iova, entry);
		return why;
	}
	if (!host_pfn || *host_pfn == pfn)
		return "";
	snprintf(why, sizeof(why), "iova %#llx: pfn %#llx, but the host has pfn %#llx",
		 iova, pfn, *host_pfn);
	return why;
}

/* Physical pages that the host sees behind the shared pages. */
static int read_host_pfns(const void *mem, const __u8 *model, __u64 *pfns,
			  size_t npages)
{
	size_t i;

	for (i = 0; i < npages; i++)
		if (model[i] == PAGE_SHARED &&
		    host_faults(mem + i * GMEM_PAGE_SIZE))
			return -EFAULT;
	return host_pfns(mem, pfns, npages);
}

static const char *check_range(const char *bdf, __u64 iova, const __u8 *model,
			       size_t npages, const void *mem, __u64 *entries,
			       __u64 *pfns)
{
	static __thread char failed[96];
	const char *why = "";
	size_t i;
	int ret;

	ret = walk(bdf, iova, entries, npages);
	if (ret) {
		snprintf(failed, sizeof(failed), "%s: cannot walk its page table: %s",
			 bdf, strerror(-ret));
		return failed;
	}
	ret = mem ? read_host_pfns(mem, model, pfns, npages) : 0;
	if (ret) {
		snprintf(failed, sizeof(failed), "cannot read the host's pages: %s",
			 strerror(-ret));
		return failed;
	}

	for (i = 0; !*why && i < npages; i++)
		why = check_page(iova + i * GMEM_PAGE_SIZE, entries[i], model[i],
				 mem ? &pfns[i] : NULL);
	return why;
}

const char *walker_check(const char *bdf, __u64 iova, const __u8 *model,
			 size_t npages, const void *mem)
{
	const char *why = "no memory";
	__u64 *entries, *pfns;

	entries = calloc(npages, sizeof(*entries));
	pfns = calloc(npages, sizeof(*pfns));
	if (entries && pfns)
		why = check_range(bdf, iova, model, npages, mem, entries, pfns);
	free(pfns);
	free(entries);
	return why;
}

long walker_count(const char *bdf, __u64 iova, size_t npages)
{
	__u64 *entries;
	long count = 0;
	size_t i;
	int ret;

	entries = calloc(npages, sizeof(*entries));
	if (!entries)
		return -ENOMEM;

	ret = walk(bdf, iova, entries, npages);
	for (i = 0; i < npages; i++)
		count += !!entries[i];
	free(entries);
	return ret ? ret : count;
}

int walker_permissions(const char *bdf, __u64 iova)
{
	__u64 entry;
	int ret;

	ret = walk(bdf, iova, &entry, 1);
	return ret ? ret : (int)(entry & ENTRY_RW);
}

struct leaf_count {
	__u64 first;
	__u64 last;
	const size_t *sizes;
	long *counts;
	int nr_sizes;
};

static int count_leaf(const struct leaf *leaf, void *arg)
{
	struct leaf_count *count = arg;
	int i;

	if (leaf->iova_pfn > count->last ||
	    leaf->iova_pfn + leaf->npages - 1 < count->first)
		return 0;
	for (i = 0; i < count->nr_sizes; i++)
		count->counts[i] += leaf->npages == count->sizes[i];
	return 0;
}

int walker_count_sizes(const char *bdf, __u64 iova, size_t npages,
		       const size_t *sizes, long *counts, int nr_sizes)
{
	struct leaf_count count = {
		.first = iova >> GMEM_PAGE_SHIFT,
		.last = (iova >> GMEM_PAGE_SHIFT) + npages - 1,
		.sizes = sizes,
		.counts = counts,
		.nr_sizes = nr_sizes,
	};

	memset(counts, 0, nr_sizes * sizeof(*counts));
	return walk_leaves(bdf, count_leaf, &count);
}

long walker_count_leaves(const char *bdf, __u64 iova, size_t npages,
			 size_t leaf_pages)
{
	long count;
	int ret;

	ret = walker_count_sizes(bdf, iova, npages, &leaf_pages, &count, 1);
	return ret ? ret : count;
}
