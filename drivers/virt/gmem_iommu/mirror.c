// SPDX-License-Identifier: GPL-2.0-only
/*
 * The mirror: keeps the IOMMU mappings of a binding equal to the shared pages of
 * its range that have memory, or with GMEM_IOMMU_POLICY_ALL to all that have.
 *
 * There are two ways in. As a listener of guest_memfd it follows changes: prepare
 * takes the ext mutex and makes the page tables, invalidate and populate update
 * the leaves, and the mutex is held until the change is over, so that no domain
 * comes or goes in the middle of it. As a provider of iommufd it answers, for a
 * domain that is attached, which pages are mapped now.
 *
 * Both ask guest_memfd, which is the only place that knows the set; all that is
 * kept here are counters.
 */
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/iommu.h>
#include <linux/ktime.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "gmem_iommu.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

static DEFINE_IDA(gmem_binding_ids);

static struct gmem_binding *to_binding(struct gmem_listener *listener)
{
	return container_of(listener, struct gmem_binding, listener);
}

/*
 * The next PFNs of the pages from *@index to @last, which count in the file, as a
 * run of the ext object; *@index advances to the page after the run.
 */
static bool gmem_mirror_next_pfns(struct gmem_binding *b, pgoff_t *index,
				  pgoff_t last, enum gmem_memory which,
				  struct iommufd_ext_run *run)
{
	pgoff_t first;

	if (*index > last ||
	    !gmem_next_pfn_run(b->inode, *index, last, which, &first,
			       &run->pfn, &run->nr))
		return false;
	run->index = first - b->listener.start;
	*index = first + run->nr;
	return true;
}

/* Whether memory appears in the run that is to be mapped. */
static bool gmem_mirror_maps(const struct gmem_binding *b,
			     const struct gmem_event *event,
			     const struct gmem_run *run)
{
	switch (event->reason) {
	case GMEM_POPULATE:
	case GMEM_MEMSLOT_CREATE:
		return run->shared || gmem_binding_maps_all(b);
	default:
		return run->shared;
	}
}

/* Whether the run is to be unmapped. */
static bool gmem_mirror_unmaps(const struct gmem_binding *b,
			       const struct gmem_event *event,
			       const struct gmem_run *run)
{
	switch (event->reason) {
	case GMEM_POPULATE:
	case GMEM_MEMSLOT_CREATE:
		return false;
	case GMEM_CONVERT:
		return !run->shared && !gmem_binding_maps_all(b);
	default:
		return !run->shared;
	}
}

/* What to map of a run. What was mapped as private memory is there already. */
static enum gmem_memory gmem_mirror_which(const struct gmem_binding *b,
					  const struct gmem_event *event)
{
	return event->reason == GMEM_CONVERT && gmem_binding_maps_all(b) ?
		       GMEM_MEMORY_NEW : GMEM_MEMORY_READY;
}

/* Make the page tables for one run that is to be mapped. */
static int gmem_mirror_prepare_map(struct gmem_binding *b, pgoff_t start,
				   pgoff_t last, struct gmem_event *event)
{
	enum gmem_memory which = gmem_mirror_which(b, event);
	struct iommufd_ext_run run;
	pgoff_t index = start;
	int ret;

	if (event->reason == GMEM_POPULATE)
		which = GMEM_MEMORY_PENDING;
	else if (event->reason == GMEM_MEMSLOT_CREATE)
		which = GMEM_MEMORY_RETURNING;

	while (gmem_mirror_next_pfns(b, &index, last, which, &run)) {
		/* A fault that gives memory goes on after signals of other kinds. */
		if (event->reason == GMEM_CONVERT ? signal_pending(current) :
						    fatal_signal_pending(current))
			return -EINTR;
		ret = iommufd_ext_prepare_map(b->ext, &run);
		if (ret) {
			event->error_index = b->listener.start + run.index;
			return ret;
		}
	}
	return 0;
}

static int gmem_mirror_prepare_run(struct gmem_binding *b,
				   const struct gmem_run *run,
				   struct gmem_event *event)
{
	pgoff_t start = run->start, last = run->last;

	if (!gmem_listener_clip(&b->listener, &start, &last))
		return 0;
	if (gmem_mirror_maps(b, event, run))
		return gmem_mirror_prepare_map(b, start, last, event);
	if (!gmem_mirror_unmaps(b, event, run))
		return 0;

	/* If there is no memory to cut then more is unmapped. */
	if (gmem_event_has_happened(event))
		return 0;
	event->error_index = start;
	return iommufd_ext_prepare_unmap(b->ext, start - b->listener.start,
					 last - start + 1);
}

/* The binding whose transaction all bindings of an event share. */
static struct gmem_binding *gmem_mirror_leader(const struct gmem_event *event)
{
	return list_first_entry(&event->joined, struct gmem_binding, joined);
}

static void gmem_mirror_join(struct gmem_binding *b, struct gmem_event *event)
{
	if (list_empty(&event->joined))
		iommufd_ext_txn_init(&b->txn);
	list_add_tail(&b->joined, &event->joined);
}

/* What the page tables went through since the last call. */
static struct iommufd_ext_stats gmem_mirror_new_stats(struct gmem_binding *b)
{
	struct iommufd_ext_stats now, before = b->traced;

	iommufd_ext_get_stats(b->ext, &now);
	b->traced = now;
	now.cuts -= before.cuts;
	now.merges -= before.merges;
	now.failures -= before.failures;
	return now;
}

static void gmem_mirror_trace_cut(struct gmem_binding *b,
				  const struct gmem_event *event, int ret,
				  u64 began)
{
	u64 cuts = gmem_mirror_new_stats(b).cuts;

	if (cuts || ret)
		trace_gmem_iommu_cut(b, event, cuts, ret, ktime_get_ns() - began);
}

/*
 * Leave an event that is given up. What was cut in vain has to be flushed: the
 * first to leave does it for all, while all of them are still locked.
 */
static void gmem_mirror_leave(struct gmem_binding *b,
			      const struct gmem_event *event)
{
	iommufd_ext_sync(&gmem_mirror_leader(event)->txn);
	list_del(&b->joined);
	iommufd_ext_unlock(b->ext);
}

/*
 * The lock comes first: events that hold the invalidate lock shared meet here.
 * The transaction is that of the leader, who has been locked before.
 */
static int gmem_mirror_prepare(struct gmem_listener *listener,
			       struct gmem_event *event)
{
	struct gmem_binding *b = to_binding(listener);
	u64 began = ktime_get_ns();
	struct gmem_binding *leader;
	unsigned long i;
	int ret = 0;

	leader = list_empty(&event->joined) ? b : gmem_mirror_leader(event);
	iommufd_ext_lock(b->ext, gmem_lock_dep_map(b->inode));
	gmem_mirror_join(b, event);
	iommufd_ext_join(b->ext, &leader->txn);

	for (i = 0; !ret && i < event->nr_runs; i++) {
		ret = gmem_mirror_prepare_run(b, &event->runs[i], event);
		cond_resched();
	}
	gmem_mirror_trace_cut(b, event, ret, began);
	if (ret) {
		b->refusals += ret != -EINTR;
		gmem_mirror_leave(b, event);
	}
	return ret;
}

static void gmem_mirror_abort(struct gmem_listener *listener,
			      const struct gmem_event *event)
{
	struct gmem_binding *b = to_binding(listener);

	/* Cut leaves and empty tables translate as before; they may stay. */
	b->aborts++;
	gmem_mirror_leave(b, event);
}

/* Unmap what is not to be reached any more. */
static u64 gmem_mirror_unmap_runs(struct gmem_binding *b,
				  const struct gmem_event *event)
{
	bool unprepared = gmem_event_has_happened(event);
	unsigned long i;
	u64 nr = 0;

	for (i = 0; i < event->nr_runs; i++) {
		pgoff_t start = event->runs[i].start;
		pgoff_t last = event->runs[i].last;

		if (!gmem_mirror_unmaps(b, event, &event->runs[i]) ||
		    !gmem_listener_clip(&b->listener, &start, &last))
			continue;
		if (unprepared)
			iommufd_ext_revoke_range(b->ext,
						 start - b->listener.start,
						 last - start + 1);
		else
			iommufd_ext_unmap_range(b->ext,
						start - b->listener.start,
						last - start + 1);
		nr += last - start + 1;
	}
	return nr;
}

static void gmem_mirror_account(struct gmem_binding *b, u64 began)
{
	u64 ns = ktime_get_ns() - began;

	b->total_ns += ns;
	b->max_ns = max(b->max_ns, ns);
}

/* The leader works for all bindings, so that each domain is synced once. */
static void gmem_mirror_unmap_all(struct gmem_binding *leader,
				  const struct gmem_event *event)
{
	u64 began = ktime_get_ns();
	struct gmem_binding *b;

	list_for_each_entry(b, &event->joined, joined)
		b->nr_pages = gmem_mirror_unmap_runs(b, event);
	iommufd_ext_sync(&leader->txn);

	list_for_each_entry(b, &event->joined, joined) {
		if (!b->nr_pages)
			continue;
		gmem_mirror_account(b, began);
		if (gmem_event_has_happened(event))
			gmem_mirror_trace_cut(b, event, 0, began);
		trace_gmem_iommu_unmap(b, event, b->nr_pages, 0,
				       ktime_get_ns() - began);
	}
}

static void gmem_mirror_invalidate(struct gmem_listener *listener,
				   const struct gmem_event *event)
{
	struct gmem_binding *b = to_binding(listener);

	if (b == gmem_mirror_leader(event))
		gmem_mirror_unmap_all(b, event);
	if (event->reason == GMEM_RELEASE)
		gmem_binding_set_dead(b);
}

static u64 gmem_mirror_map_runs(struct gmem_binding *b,
				const struct gmem_event *event)
{
	enum gmem_memory which = gmem_mirror_which(b, event);
	struct iommufd_ext_run run;
	unsigned long i;
	u64 nr = 0;

	for (i = 0; i < event->nr_runs; i++) {
		pgoff_t start = event->runs[i].start;
		pgoff_t last = event->runs[i].last;

		if (!gmem_mirror_maps(b, event, &event->runs[i]) ||
		    !gmem_listener_clip(&b->listener, &start, &last))
			continue;
		while (gmem_mirror_next_pfns(b, &start, last, which, &run)) {
			iommufd_ext_map_run(b->ext, &run);
			nr += run.nr;
		}
	}
	return nr;
}

/* A domain that refuses what it has promised is broken, and the page is not there. */
static void gmem_mirror_trace_map(struct gmem_binding *b,
				  const struct gmem_event *event, u64 began)
{
	struct iommufd_ext_stats new = gmem_mirror_new_stats(b);
	u64 ns = ktime_get_ns() - began;

	if (new.merges)
		trace_gmem_iommu_merge(b, event, new.merges, 0, ns);
	trace_gmem_iommu_map(b, event, b->nr_pages, new.failures ? -EIO : 0, ns);
}

static void gmem_mirror_map_all(struct gmem_binding *leader,
				const struct gmem_event *event)
{
	u64 began = ktime_get_ns();
	struct gmem_binding *b;

	list_for_each_entry(b, &event->joined, joined)
		b->nr_pages = gmem_mirror_map_runs(b, event);
	iommufd_ext_sync(&leader->txn);

	list_for_each_entry(b, &event->joined, joined) {
		if (!b->nr_pages)
			continue;
		gmem_mirror_account(b, began);
		gmem_mirror_trace_map(b, event, began);
	}
}

/*
 * The leader, who is called first, does this for all, too. It is the last to unlock: as
 * soon as it does, its transaction can be that of another event.
 */
static void gmem_mirror_populate(struct gmem_listener *listener,
				 const struct gmem_event *event)
{
	struct gmem_binding *leader = to_binding(listener);
	struct gmem_binding *b, *prev;

	if (list_empty(&event->joined))
		return;

	gmem_mirror_map_all(leader, event);
	list_for_each_entry_safe_reverse(b, prev, &event->joined, joined) {
		if (event->reason == GMEM_CONVERT)
			b->conversions++;
		list_del(&b->joined);
		iommufd_ext_unlock(b->ext);
	}
}

static const struct gmem_listener_ops gmem_mirror_listener_ops = {
	.prepare = gmem_mirror_prepare,
	.abort = gmem_mirror_abort,
	.invalidate = gmem_mirror_invalidate,
	.populate = gmem_mirror_populate,
};

static void gmem_mirror_begin(void *priv)
{
	struct gmem_binding *b = priv;

	gmem_lock_shared(b->inode);
}

static void gmem_mirror_end(void *priv)
{
	struct gmem_binding *b = priv;

	gmem_unlock_shared(b->inode);
}

/* What a domain that is attached now has to map. */
static bool gmem_mirror_next_run(void *priv, unsigned long index,
				 unsigned long last,
				 struct iommufd_ext_run *run)
{
	struct gmem_binding *b = priv;
	pgoff_t start = b->listener.start + index;
	pgoff_t end = b->listener.start + last;
	struct gmem_run state;

	/* A released guest_memfd maps nothing. */
	if (READ_ONCE(b->dead))
		return false;

	if (gmem_binding_maps_all(b))
		return gmem_mirror_next_pfns(b, &start, end, GMEM_MEMORY_READY,
					     run);

	while (gmem_next_run(b->inode, start, end, &state)) {
		if (state.shared &&
		    gmem_mirror_next_pfns(b, &start, state.last,
					  GMEM_MEMORY_READY, run))
			return true;
		start = state.last + 1;
		cond_resched();
	}
	return false;
}

static void gmem_mirror_unmapped(void *priv)
{
	struct gmem_binding *b = priv;

	WRITE_ONCE(b->listener.idle, true);
	gmem_binding_set_dead(b);
}

static const struct iommufd_ext_ops gmem_mirror_ext_ops = {
	.begin = gmem_mirror_begin,
	.end = gmem_mirror_end,
	.next_run = gmem_mirror_next_run,
	.unmapped = gmem_mirror_unmapped,
};

static struct gmem_binding *gmem_binding_alloc(struct inode *inode,
					       struct iommufd_ctx *ictx,
					       const struct gmem_iommu_bind *args)
{
	struct gmem_binding *b;
	int ret;

	b = kzalloc_obj(*b, GFP_KERNEL_ACCOUNT);
	if (!b)
		return ERR_PTR(-ENOMEM);

	b->id = ida_alloc(&gmem_binding_ids, GFP_KERNEL_ACCOUNT);
	if (b->id < 0) {
		ret = b->id;
		goto err_free;
	}

	b->listener.ops = &gmem_mirror_listener_ops;
	b->listener.start = args->offset >> PAGE_SHIFT;
	b->listener.last = b->listener.start + (args->length >> PAGE_SHIFT) - 1;
	b->prot = (args->flags & GMEM_IOMMU_BIND_READ ? IOMMU_READ : 0) |
		  (args->flags & GMEM_IOMMU_BIND_WRITE ? IOMMU_WRITE : 0);
	b->iova = args->iova;
	b->policy = args->policy;
	b->listener.any_state = gmem_binding_maps_all(b);
	b->max_leaf_size = args->max_leaf_size;
	init_waitqueue_head(&b->wait);

	b->ext = iommufd_ext_alloc(&gmem_mirror_ext_ops, b,
				   gmem_binding_nr_pages(b),
				   b->prot & IOMMU_WRITE,
				   gmem_binding_max_leaf(b));
	if (IS_ERR(b->ext)) {
		ret = PTR_ERR(b->ext);
		goto err_free_id;
	}

	b->inode = inode;
	iommufd_ctx_get(ictx);
	b->ictx = ictx;
	return b;

err_free_id:
	ida_free(&gmem_binding_ids, b->id);
err_free:
	kfree(b);
	return ERR_PTR(ret);
}

static void gmem_binding_free(struct gmem_binding *b)
{
	iommufd_ext_put(b->ext);
	iommufd_ctx_put(b->ictx);
	gmem_inode_put(b->inode);
	ida_free(&gmem_binding_ids, b->id);
	kfree(b);
}

/**
 * gmem_mirror_bind - Mirror a range of a guest_memfd
 * @gmem: File of the guest_memfd
 * @ictx: iommufd context of the IOAS
 * @args: Checked arguments of GMEM_IOMMU_BIND
 *
 * The listener comes first: a change between the first two steps finds an ext
 * object without domains, and the fill of the domains then reads the new state.
 * Memory comes last, when nothing else here can refuse the request: what this
 * function refuses leaves no memory behind.
 *
 * Context: Process context.
 * Return: The binding, or ERR_PTR() with nothing left behind: see struct
 *	gmem_iommu_bind.
 */
struct gmem_binding *gmem_mirror_bind(struct file *gmem,
				      struct iommufd_ctx *ictx,
				      const struct gmem_iommu_bind *args)
{
	bool fixed = args->flags & GMEM_IOMMU_BIND_FIXED_IOVA;
	struct gmem_binding *b;
	struct inode *inode;
	int ret;

	inode = gmem_inode_get(gmem);
	if (IS_ERR(inode))
		return ERR_CAST(inode);

	if (args->policy == GMEM_IOMMU_POLICY_ALL &&
	    !gmem_protects_private(inode)) {
		gmem_inode_put(inode);
		return ERR_PTR(-EOPNOTSUPP);
	}

	b = gmem_binding_alloc(inode, ictx, args);
	if (IS_ERR(b)) {
		gmem_inode_put(inode);
		return b;
	}

	ret = gmem_listener_register(inode, &b->listener);
	if (ret)
		goto err_free;

	ret = iommufd_ext_map(b->ext, ictx, args->ioas_id, &b->iova, fixed,
			      b->prot);
	if (ret)
		goto err_unregister;

	ret = gmem_listener_populate(inode, &b->listener);
	if (ret)
		goto err_unmap;

	gmem_debugfs_add(b);
	trace_gmem_iommu_bind(b);
	return b;

err_unmap:
	iommufd_ext_unmap(b->ext);
err_unregister:
	gmem_listener_unregister(inode, &b->listener);
err_free:
	gmem_binding_free(b);
	return ERR_PTR(ret);
}

/**
 * gmem_mirror_unbind - Unmap the range everywhere and forget the binding
 * @b: Binding, freed
 *
 * The mappings go before the listener: until then changes are followed.
 *
 * Context: Process context.
 */
void gmem_mirror_unbind(struct gmem_binding *b)
{
	trace_gmem_iommu_unbind(b);
	gmem_debugfs_remove(b);
	iommufd_ext_unmap(b->ext);
	gmem_listener_unregister(b->inode, &b->listener);
	gmem_binding_free(b);
}
