// SPDX-License-Identifier: GPL-2.0
/*
 * A file that is bound twice in an IOAS with a mock domain, and all that can be
 * observed of it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "block.h"
#include "host.h"
#include "rig.h"
#include "vmstat.h"
#include "walker.h"

#define SMALL_FILE	64UL	/* pages: all of them are watched */
#define MAX_LOOK	(2 * SIZE_2M)	/* of a huge page; it takes time */

const char *rig_missing(const struct rig_config *config)
{
	const char *missing;
	struct hugepool pool;

	missing = config->nr_bindings ? mirror_missing() : gmem_vm_missing();
	if (missing)
		return missing;
	if (config->huge_size &&
	    (hugepool_read(config->huge_size, &pool) ||
	     pool.free - pool.resv < (long)(config->size / config->huge_size)))
		return "not enough huge pages";
	return fault_setup();
}

__u64 rig_offset(const struct rig *rig, int i)
{
	return i == 1 ? rig->config.size / 2 : 0;
}

/* The first one has room for 1 GiB, which is what the mock domain ends with. */
__u64 rig_iova(int i)
{
	static const __u64 iovas[] = { 0x40000000, 0x10000000, 0x30000000 };

	return iovas[i];
}

void rig_watch(struct rig *rig, size_t first, size_t npages)
{
	for (; npages && rig->nr_watched < RIG_WATCHED; first++, npages--)
		rig->watched[rig->nr_watched++] = first;
}

static __u64 file_flags(const struct rig_config *config)
{
	__u64 flags = GMEM_VM_SHARED;

	if (config->huge_size)
		flags |= GUEST_MEMFD_FLAG_HUGETLB |
			 (config->huge_size == SIZE_1G ? GUEST_MEMFD_HUGE_1GB :
							 GUEST_MEMFD_HUGE_2MB);
	return flags;
}

int rig_create(struct rig *rig, const struct rig_config *config)
{
	int ret, i;

	memset(rig, 0, sizeof(*rig));
	rig->config = *config;
	rig->ioas.iommufd = -1;
	for (i = 0; i < RIG_BINDINGS; i++)
		rig->bindings[i] = -1;
	ret = fault_open(&rig->fault);
	if (ret)
		return ret;
	if (rig_npages(rig) <= SMALL_FILE)
		rig_watch(rig, 0, rig_npages(rig));
	if (config->block)
		return block_create(&rig->vm, config->size, 0);
	return gmem_vm_create(&rig->vm, config->size, file_flags(config));
}

int rig_bind_nth(struct rig *rig, int i)
{
	const __u64 offset = rig_offset(rig, i);

	rig->bindings[i] = mirror_bind_leaves(rig->vm.gmem_fd, &rig->ioas, offset,
					      rig->config.size - offset, rig_iova(i),
					      rig->config.max_leaf_size);
	return rig->bindings[i] < 0 ? rig->bindings[i] : 0;
}

int rig_bind(struct rig *rig)
{
	int ret, i;

	if (!rig->config.nr_bindings)
		return 0;

	/* Without its scratch page: pinning that one is not what is tested. */
	ret = ioas_open(&rig->ioas);
	ret = ret ?: ioas_unmap(&rig->ioas, IOAS_SCRATCH_IOVA, GMEM_PAGE_SIZE);
	if (ret)
		return ret;
	ret = mock_create(&rig->mock, rig->ioas.iommufd);
	if (rig->config.domain) {
		if (ret)
			return -ENODEV;
		ret = mock_attach(&rig->mock, &rig->ioas);
		if (ret)
			return ret;
	}
	for (i = 0; i < rig->config.nr_bindings; i++) {
		ret = rig_bind_nth(rig, i);
		if (ret)
			return ret;
	}
	return 0;
}

int rig_destroy(struct rig *rig)
{
	int ret, i;

	for (i = 0; i < RIG_BINDINGS; i++) {
		if (rig->bindings[i] >= 0)
			close(rig->bindings[i]);
	}
	ret = mock_destroy(&rig->mock);
	ioas_close(&rig->ioas);
	gmem_vm_destroy(&rig->vm);
	fault_close(&rig->fault);
	return ret;
}

static void *host_address(const struct rig *rig, size_t page)
{
	return rig->vm.mem + page * GMEM_PAGE_SIZE;
}

/* -- what can be observed without changing it ------------------------------ */

/* By any page of it that the host has mapped. */
static void look_for_huge_pages(struct rig *rig, const __u64 *pfns)
{
	const size_t npages = rig->config.huge_size / GMEM_PAGE_SIZE;
	size_t i, page;

	for (i = 0; npages && i < rig->nr_watched; i++) {
		page = rig->watched[i];
		if (pfns[i])
			rig->base_pfns[page / npages] = pfns[i] - page % npages;
	}
}

static int look_at_folios(struct rig *rig, struct rig_view *view)
{
	const size_t size = rig->config.huge_size;
	size_t i;
	int ret;

	if (!size)
		return 0;
	ret = hugepool_read(size, &view->pool);
	view->memmap = vmstat_get_memmap();
	for (i = 0; !ret && i < rig->config.size / size; i++)
		if (rig->base_pfns[i])
			ret = folio_map_read(rig->base_pfns[i],
					     size < MAX_LOOK ? size : MAX_LOOK,
					     &view->folios[i]);
	return ret;
}

/* How many of the watched pages from the @i-th on are one range. */
static size_t watched_range(const struct rig *rig, size_t i)
{
	return gmem_pages_in_a_row(&rig->watched[i], rig->nr_watched - i);
}

static int look_at_host(struct rig *rig, struct rig_view *view)
{
	struct stat st;
	size_t i, n;
	int ret;

	if (fstat(rig->vm.gmem_fd, &st))
		return -errno;
	view->blocks = st.st_blocks;
	for (i = 0; i < rig->nr_watched; i += n) {
		n = watched_range(rig, i);
		ret = host_pfns(host_address(rig, rig->watched[i]),
				&view->pfns[i], n);
		if (ret)
			return ret;
	}
	look_for_huge_pages(rig, view->pfns);
	return look_at_folios(rig, view);
}

static int look_at_guest(struct rig *rig, struct rig_view *view)
{
	int vm_fd = rig->vm.vm_fd;

	if (!rig->config.huge_size)
		return kvm_counters_read(vm_fd, &view->counters);
	view->guest_pages = kvm_stat(vm_fd, "pages_4k") +
			    kvm_stat(vm_fd, "pages_2m") * (SIZE_2M >> 12) +
			    kvm_stat(vm_fd, "pages_1g") * (SIZE_1G >> 12);
	return 0;
}

static int look_at_binding(struct rig *rig, struct rig_view *view, int i)
{
	view->nr_runs[i] = mirror_read_runs(rig->bindings[i], rig_offset(rig, i),
					    view->runs[i], RIG_RUNS);
	if (view->nr_runs[i] < 0)
		return view->nr_runs[i];
	return mirror_get_stats(rig->bindings[i], &view->stats[i]);
}

const char *rig_look(struct rig *rig, struct rig_view *view)
{
	int i;

	memset(view, 0, sizeof(*view));
	if (look_at_host(rig, view) || look_at_guest(rig, view))
		return "the file cannot be looked at";
	view->generation = mirror_generation(rig->bindings[0]);
	for (i = 0; i < RIG_BINDINGS; i++)
		if (rig->bindings[i] >= 0 && look_at_binding(rig, view, i))
			return "a binding cannot be looked at";
	return "";
}

/* Attempts count, and leaves that were cut for one that was refused stay so. */
static bool stats_changed(const struct rig *rig,
			  const struct gmem_iommu_stats *before,
			  struct gmem_iommu_stats now)
{
	now.aborts = before->aborts;
	now.refusals = before->refusals;
	if (rig_has_large_leaves(rig)) {
		now.cuts = before->cuts;
		now.syncs = before->syncs;
	}
	return memcmp(&now, before, sizeof(now));
}

static const char *binding_changed(const struct rig *rig,
				   const struct rig_view *before,
				   const struct rig_view *now, int i)
{
	if (rig->bindings[i] < 0)
		return "";
	if (stats_changed(rig, &before->stats[i], now->stats[i]))
		return "counters of a binding changed";
	if (before->nr_runs[i] != now->nr_runs[i] ||
	    memcmp(before->runs[i], now->runs[i],
		   now->nr_runs[i] * sizeof(now->runs[i][0])))
		return "runs of a binding changed";
	return "";
}

/* KVM may have split a mapping of a huge page, which translates as before. */
static const char *guest_changed(const struct rig *rig,
				 const struct rig_view *before,
				 const struct rig_view *now)
{
	if (!rig->config.huge_size)
		return kvm_counters_changed(rig->vm.vm_fd, &before->counters);
	return before->guest_pages == now->guest_pages ? "" :
	       "mappings of the guest changed";
}

/* H6: what the file has is what the pool and the reservation have not. */
static const char *memory_changed(const struct rig *rig,
				  const struct rig_view *before,
				  const struct rig_view *now, bool may_keep)
{
	struct hugepool pool = now->pool;
	long kept = before->pool.free - pool.free;

	if (kept && (!may_keep || kept != 1))
		return "the pool of huge pages changed";
	pool.free += kept;
	pool.resv += kept;
	if (memcmp(&before->pool, &pool, sizeof(pool)))
		return "the pool of huge pages is not what the file has";
	if (before->blocks + kept * (long long)rig->config.huge_size / 512 !=
	    now->blocks)
		return "st_blocks changed";
	/* H5: what came into the file in pieces has all of its struct pages. */
	if (!kept && before->memmap != now->memmap)
		return "the number of struct pages changed";
	if (!kept && memcmp(before->folios, now->folios, sizeof(now->folios)))
		return "folios changed";
	return "";
}

const char *rig_view_changed(struct rig *rig, const struct rig_view *before,
			     bool may_keep)
{
	static struct rig_view now;
	const char *why = rig_look(rig, &now);
	int i;

	if (!*why)
		why = memory_changed(rig, before, &now, may_keep);
	if (*why)
		return why;
	if (memcmp(before->pfns, now.pfns, sizeof(now.pfns)))
		return "mappings of the host changed";
	if (before->generation != now.generation)
		return "the generation changed";
	why = guest_changed(rig, before, &now);
	for (i = 0; !*why && i < RIG_BINDINGS; i++)
		why = binding_changed(rig, before, &now, i);
	return why;
}

/* -- what has to be touched ------------------------------------------------ */

/* How many of the @nr watched pages from the @k-th on are in state @page. */
static size_t same_state(const struct gmem_state *state, size_t k, size_t nr,
			 __u8 page)
{
	size_t n = 0;

	while (n < nr && state->page[k + n] == page)
		n++;
	return n;
}

/* M2: each shared page is where it should be in the domain. */
static const char *check_binding(const struct rig *rig,
				 const struct gmem_state *state, int i)
{
	static char why[96];
	size_t k, n;
	__u64 at;

	for (k = 0; k < rig->nr_watched; k += n ?: 1) {
		at = rig->watched[k] * GMEM_PAGE_SIZE;
		n = at < rig_offset(rig, i) ? 0 :
		    same_state(state, k, watched_range(rig, k), PAGE_SHARED);
		if (!n || mock_translates(&rig->mock,
					  rig_iova(i) + at - rig_offset(rig, i),
					  rig->vm.mem + at, n))
			continue;
		snprintf(why, sizeof(why), "binding %d, %zu pages from page %zu", i, n,
			 rig->watched[k]);
		return why;
	}
	return "";
}

static const char *check_domain(const struct rig *rig,
				const struct gmem_state *state)
{
	const char *why = "";
	int i;

	for (i = 0; rig->mock.hwpt_id && !*why && i < RIG_BINDINGS; i++)
		if (rig->bindings[i] >= 0)
			why = check_binding(rig, state, i);
	return why;
}

static __u32 flags_at(const struct gmem_iommu_run *runs, int nr, __u64 at)
{
	int i;

	for (i = 0; i < nr; i++)
		if (at - runs[i].offset < runs[i].length)
			return runs[i].flags;
	return ~0;
}

/* The runs of a binding say of each page what the host does. */
static const char *check_runs(const struct rig *rig,
			      const struct gmem_state *state, int i)
{
	static struct gmem_iommu_run runs[RIG_RUNS];
	static char why[64];
	__u32 want, flags;
	size_t k;
	int nr;

	nr = mirror_read_runs(rig->bindings[i], rig_offset(rig, i), runs, RIG_RUNS);
	if (nr < 0)
		return "runs cannot be read";
	for (k = 0; k < rig->nr_watched; k++) {
		if (rig->watched[k] * GMEM_PAGE_SIZE < rig_offset(rig, i))
			continue;
		want = state->page[k] == PAGE_SHARED ?
		       GMEM_IOMMU_RUN_SHARED | GMEM_IOMMU_RUN_MAPPED : 0;
		flags = flags_at(runs, nr, rig->watched[k] * GMEM_PAGE_SIZE);
		if (flags == want)
			continue;
		snprintf(why, sizeof(why), "binding %d, page %zu: flags %#x", i,
			 rig->watched[k], flags);
		return why;
	}
	return "";
}

/* Of a small file the model of its runs is complete. */
static const char *check_all_runs(const struct rig *rig,
				  const struct gmem_state *state, int i)
{
	size_t first = rig_offset(rig, i) / GMEM_PAGE_SIZE;

	if (rig->nr_watched < rig_npages(rig))
		return check_runs(rig, state, i);
	return mirror_check_runs(rig->bindings[i], rig_offset(rig, i),
				 state->page + first, rig_npages(rig) - first);
}

const char *rig_read_state(struct rig *rig, struct gmem_state *state)
{
	const char *why;
	int i;

	why = gmem_state_read_some(state, rig->vm.mem, rig->watched,
				   rig->nr_watched);
	for (i = 0; !*why && i < RIG_BINDINGS; i++)
		if (rig->bindings[i] >= 0)
			why = check_all_runs(rig, state, i);
	return *why ? why : check_domain(rig, state);
}

int rig_prefault(struct rig *rig, size_t page)
{
	struct kvm_pre_fault_memory args = {
		.gpa = page * GMEM_PAGE_SIZE,
		.size = GMEM_PAGE_SIZE,
	};

	return ioctl(rig->vm.vcpu_fd, KVM_PRE_FAULT_MEMORY, &args) ? -errno : 0;
}

/* The ioctl ends at a page that it cannot map, and says how far it came. */
static void map_range_in_guest(struct rig *rig, size_t page, size_t npages)
{
	struct kvm_pre_fault_memory args = {
		.gpa = page * GMEM_PAGE_SIZE,
		.size = npages * GMEM_PAGE_SIZE,
	};

	while (args.size) {
		if (!ioctl(rig->vm.vcpu_fd, KVM_PRE_FAULT_MEMORY, &args))
			continue;
		args.gpa += GMEM_PAGE_SIZE;
		args.size -= GMEM_PAGE_SIZE;
	}
}

void rig_map_in_guest(struct rig *rig)
{
	unsigned char in_core[RIG_WATCHED];
	size_t i, n, k, end;

	for (i = 0; !rig->config.no_guest && i < rig->nr_watched; i += n) {
		n = watched_range(rig, i);
		if (mincore(host_address(rig, rig->watched[i]), n * GMEM_PAGE_SIZE,
			    in_core))
			continue;
		for (k = 0; k < n; k = end + 1) {
			for (end = k; end < n && (in_core[end] & 1); end++)
				;
			map_range_in_guest(rig, rig->watched[i] + k, end - k);
		}
	}
}
