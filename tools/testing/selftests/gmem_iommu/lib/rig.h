/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A file that is bound twice in an IOAS with a mock domain, and all that can be
 * observed of it: what a call that is refused has to leave alone.
 *
 * A look at the contents may repair what is missing, as it gives memory to pages and
 * maps them. So there are two kinds: rig_look() changes nothing, and comes first;
 * rig_read_state() touches every page that is watched.
 *
 * Functions that return text return "", or what is wrong in a buffer that is valid
 * until the next call.
 */
#ifndef SELFTESTS_GMEM_IOMMU_RIG_H
#define SELFTESTS_GMEM_IOMMU_RIG_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

#include "fault.h"
#include "gmem_vm.h"
#include "hugepool.h"
#include "ioas.h"
#include "kvm_stats.h"
#include "mirror.h"
#include "mock.h"
#include "state.h"

#define RIG_BINDINGS	2
#define RIG_WATCHED	96
#define RIG_RUNS	160
#define RIG_HUGE_PAGES	4

/**
 * struct rig_config - What is created
 * @size: Bytes of the file
 * @huge_size: Bytes of its huge pages, or 0
 * @block: Without huge pages, the first 2 MiB of it have one leaf nevertheless
 * @no_guest: The guest maps nothing
 * @nr_bindings: How often it is bound: not, as a whole, and also its second half
 * @domain: Whether the bindings are mapped in a domain
 * @max_leaf_size: Of the bindings; 0: no limit
 */
struct rig_config {
	size_t size;
	size_t huge_size;
	bool block;
	bool no_guest;
	int nr_bindings;
	bool domain;
	__u64 max_leaf_size;
};

/**
 * struct rig_view - What can be observed without changing it
 * @blocks: Memory of the file, by fstat(2)
 * @pool: The pool of the huge pages
 * @memmap: Pages of struct pages, of which a huge page may have saved some
 * @folios: What each huge page, or the first blocks of it, consists of
 * @pfns: Mappings of the host
 * @guest_pages: Of huge pages: those that the guest has mapped, in whatever sizes
 * @counters: Of others: KVM's counters of the VM
 * @generation: Of the runs
 * @stats: The bindings' counters
 * @nr_runs: The bindings' number of runs
 * @runs: And what they are
 */
struct rig_view {
	long long blocks;
	struct hugepool pool;
	long long memmap;
	struct folio_map folios[RIG_HUGE_PAGES];
	__u64 pfns[RIG_WATCHED];
	long long guest_pages;
	struct kvm_counters counters;
	__u64 generation;
	struct gmem_iommu_stats stats[RIG_BINDINGS];
	int nr_runs[RIG_BINDINGS];
	struct gmem_iommu_run runs[RIG_BINDINGS][RIG_RUNS];
};

/**
 * struct rig - One file with all that is about it
 * @config: What it is
 * @vm: The VM; the file is shared at first
 * @ioas: Where it is bound
 * @mock: The device; it does not exist without CONFIG_IOMMUFD_TEST
 * @bindings: -1 where there is none
 * @fault: Into this thread
 * @nr_watched: Pages that are observed
 * @watched: Which they are, in ascending order
 * @base_pfns: First page of each huge page, or 0 while nobody could know
 */
struct rig {
	struct rig_config config;
	struct gmem_vm vm;
	struct ioas ioas;
	struct mock mock;
	int bindings[RIG_BINDINGS];
	struct fault fault;
	size_t nr_watched;
	size_t watched[RIG_WATCHED];
	__u64 base_pfns[RIG_HUGE_PAGES];
};

/* What a test needs and the kernel lacks, as text for SKIP, or NULL. */
const char *rig_missing(const struct rig_config *config);

/*
 * The VM alone, all of the file shared. Returns 0 or -errno; rig_destroy() in both
 * cases.
 */
int rig_create(struct rig *rig, const struct rig_config *config);
void rig_watch(struct rig *rig, size_t first, size_t npages);

/* The IOAS, the mock device and the bindings. -ENODEV: no CONFIG_IOMMUFD_TEST. */
int rig_bind(struct rig *rig);

/* One of the bindings, after somebody closed it. */
int rig_bind_nth(struct rig *rig, int i);
int rig_destroy(struct rig *rig);

static inline size_t rig_npages(const struct rig *rig)
{
	return rig->config.size / GMEM_PAGE_SIZE;
}

/* Whether IOMMU leaves are cut and merged. */
static inline bool rig_has_large_leaves(const struct rig *rig)
{
	return rig->config.domain &&
	       rig->config.max_leaf_size != GMEM_PAGE_SIZE;
}

/* Where binding @i is in the file and in the IOAS; @i may be one more. */
__u64 rig_offset(const struct rig *rig, int i);
__u64 rig_iova(int i);

const char *rig_look(struct rig *rig, struct rig_view *view);

/*
 * Nothing has changed since @before but what counts attempts. With @may_keep, one huge
 * page may have come into the file that nobody sees yet.
 */
const char *rig_view_changed(struct rig *rig, const struct rig_view *before,
			     bool may_keep);

/*
 * State and contents of the watched pages, and that the bindings and the domain agree
 * with them.
 */
const char *rig_read_state(struct rig *rig, struct gmem_state *state);

/* Map a page in the guest, as KVM_PRE_FAULT_MEMORY does. Returns 0 or -errno. */
int rig_prefault(struct rig *rig, size_t page);

/* Map all watched pages that have memory in the guest. */
void rig_map_in_guest(struct rig *rig);

#endif /* SELFTESTS_GMEM_IOMMU_RIG_H */
