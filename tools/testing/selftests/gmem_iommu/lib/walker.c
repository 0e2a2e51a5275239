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

/* Parse one line into a leaf of @npages pages; false if it is not one. */
static bool parse_leaf(const char *line, __u64 *iova_pfn, __u64 *entry,
		       __u64 *npages)
{
	unsigned long long pfn, columns[5];
	int nr;

	nr = sscanf(line, "0x%llx | 0x%llx 0x%llx 0x%llx 0x%llx 0x%llx", &pfn,
		    &columns[0], &columns[1], &columns[2], &columns[3],
		    &columns[4]) - 1;
	if (nr < 3)
		return false;

	*iova_pfn = pfn;
	*entry = columns[nr - 1];
	*npages = 1ULL << (9 * (5 - nr));
	return true;
}

/*
 * Fill @entries, one per page, with the address and permissions that each page
 * of the range translates to; 0 if it does not.
 */
static int walk(const char *bdf, __u64 iova, __u64 *entries, size_t npages)
{
	const __u64 first = iova >> GMEM_PAGE_SHIFT;
	__u64 iova_pfn, entry, leaf_pages, i, pfn;
	bool header = false;
	char line[256];
	int ret = 0;
	FILE *file;

	debugfs_path(bdf, line, sizeof(line));
	file = fopen(line, "r");
	if (!file)
		return -errno;

	memset(entries, 0, npages * sizeof(*entries));
	while (!ret && fgets(line, sizeof(line), file)) {
		if (strstr(line, "IOVA_PFN"))
			header = true;
		if (!parse_leaf(line, &iova_pfn, &entry, &leaf_pages))
			continue;
		for (i = 0; i < leaf_pages; i++) {
			pfn = iova_pfn + i;
			if (pfn < first || pfn - first >= npages)
				continue;
			if (entries[pfn - first])
				ret = -EUCLEAN;	/* listed twice */
			entries[pfn - first] = entry + (i << GMEM_PAGE_SHIFT);
		}
	}
	fclose(file);

	/* No page table at all is not the same as an empty one. */
	return header || ret ? ret : -ENODEV;
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
