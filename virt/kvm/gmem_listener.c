// SPDX-License-Identifier: GPL-2.0-only
/*
 * Listeners of guest_memfd: the API of <linux/guest_memfd.h>, and the delivery
 * of events to them.
 *
 * Everything here runs under the inode's invalidate lock. Listeners come and go
 * under the lock held exclusively, so during an event the list stands still, and
 * after an unregistration returns no callback runs and none will.
 */
#include <linux/export.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "gmem_internal.h"

/**
 * gmem_inode_get - Get the inode behind a convertible guest_memfd
 * @file: Any file
 *
 * The inode and not the file is what a listener keeps: a file reference would
 * pin the VM. The memory of the file lives as long as its inode, and so long the
 * module of the vendor cannot be unloaded.
 *
 * Context: Process context.
 * Return: The inode with a reference that gmem_inode_put() drops, or
 *	ERR_PTR(-EINVAL) when @file is no guest_memfd or not convertible.
 */
struct inode *gmem_inode_get(struct file *file)
{
	struct inode *inode = file_inode(file);

	if (!kvm_gmem_is_file(file) || !kvm_gmem_is_convertible(inode))
		return ERR_PTR(-EINVAL);

	/* The file has a reference to either, so this cannot fail. */
	__module_get(kvm_gmem_owner());
	ihold(inode);
	return inode;
}
EXPORT_SYMBOL_NS_GPL(gmem_inode_get, "GUEST_MEMFD");

/**
 * gmem_inode_put - Undo gmem_inode_get()
 * @inode: The inode
 *
 * Context: Process context, may sleep.
 */
void gmem_inode_put(struct inode *inode)
{
	iput(inode);
	module_put(kvm_gmem_owner());
}
EXPORT_SYMBOL_NS_GPL(gmem_inode_put, "GUEST_MEMFD");

/**
 * gmem_listener_register - Start to listen
 * @inode: Inode from gmem_inode_get(); the caller keeps its reference until the
 *	listener is unregistered
 * @listener: Listener with @ops, @start and @last set
 *
 * When this returns 0, every change from now on is reported. Changes that came
 * before are not: read the state afterwards.
 *
 * Context: Process context; takes the invalidate lock.
 * Return: 0; -EINVAL when the range is empty or beyond the file; -ENODEV when the
 *	last file is closed.
 */
int gmem_listener_register(struct inode *inode, struct gmem_listener *listener)
{
	struct gmem_inode *gi = GMEM_I(inode);
	int ret = 0;

	if (listener->start > listener->last ||
	    listener->last >= gi->state.nr_pages)
		return -EINVAL;

	filemap_invalidate_lock(inode->i_mapping);
	if (list_empty(&gi->gmem_file_list)) {
		ret = -ENODEV;
	} else {
		listener->inode = inode;
		list_add_tail(&listener->node, &gi->listeners);
	}
	filemap_invalidate_unlock(inode->i_mapping);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(gmem_listener_register, "GUEST_MEMFD");

/**
 * gmem_listener_populate - Give memory to the shared pages of a listener
 * @inode: Inode that the listener is registered with
 * @listener: Registered listener
 *
 * The memory is zeroed, and reported with GMEM_POPULATE to every listener that
 * covers it. When this returns 0, every shared page of the range has memory, or
 * has lost it to a punched hole in the meantime. From then on pages that become
 * shared have memory, too.
 *
 * Context: Process context; takes the invalidate lock.
 * Return: 0, or with nothing changed -EINTR; -ENOMEM; -ENOSPC when the hugetlb pool
 *	has no page; -EHWPOISON when a shared page is broken; or what a listener
 *	refused with.
 */
int gmem_listener_populate(struct inode *inode, struct gmem_listener *listener)
{
	int ret;

	ret = down_write_killable(&inode->i_mapping->invalidate_lock);
	if (ret)
		return ret;
	ret = gmem_populate_shared(inode, listener->start, listener->last);
	filemap_invalidate_unlock(inode->i_mapping);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(gmem_listener_populate, "GUEST_MEMFD");

/**
 * gmem_listener_unregister - Stop to listen
 * @inode: Inode that the listener was registered with
 * @listener: Registered listener; one that heard GMEM_RELEASE is accepted too
 *
 * When this returns no callback of the listener runs or will run.
 *
 * Context: Process context; takes the invalidate lock, so not from a callback.
 */
void gmem_listener_unregister(struct inode *inode,
			      struct gmem_listener *listener)
{
	filemap_invalidate_lock(inode->i_mapping);
	if (listener->inode) {
		list_del(&listener->node);
		listener->inode = NULL;
	}
	filemap_invalidate_unlock(inode->i_mapping);
}
EXPORT_SYMBOL_NS_GPL(gmem_listener_unregister, "GUEST_MEMFD");

/**
 * gmem_lock_shared - Keep the state and the memory of a file as they are
 * @inode: Inode from gmem_inode_get()
 *
 * Context: Process context. Taken before the lock of any folio and before the
 *	locks that listeners take in their callbacks; after mmap_lock.
 */
void gmem_lock_shared(struct inode *inode)
{
	filemap_invalidate_lock_shared(inode->i_mapping);
}
EXPORT_SYMBOL_NS_GPL(gmem_lock_shared, "GUEST_MEMFD");

/**
 * gmem_unlock_shared - Undo gmem_lock_shared()
 * @inode: The same inode
 */
void gmem_unlock_shared(struct inode *inode)
{
	filemap_invalidate_unlock_shared(inode->i_mapping);
}
EXPORT_SYMBOL_NS_GPL(gmem_unlock_shared, "GUEST_MEMFD");

/**
 * gmem_lock_dep_map - Name the lock that serializes callbacks, for lockdep
 * @inode: Inode from gmem_inode_get()
 *
 * Callbacks of many listeners of one inode may hold one lock each at the same
 * time; this is the nest_lock that makes that safe.
 *
 * Return: The lockdep map of the invalidate lock, NULL without lockdep.
 */
struct lockdep_map *gmem_lock_dep_map(struct inode *inode)
{
#ifdef CONFIG_DEBUG_LOCK_ALLOC
	return &inode->i_mapping->invalidate_lock.dep_map;
#else
	return NULL;
#endif
}
EXPORT_SYMBOL_NS_GPL(gmem_lock_dep_map, "GUEST_MEMFD");

/**
 * gmem_next_run - Find the run that contains a page
 * @inode: Inode from gmem_inode_get()
 * @start: First page of the run
 * @last: The run is clipped to end here, inclusive
 * @run: Out: from @start to the last page of equal state
 *
 * Context: The invalidate lock is held in any mode: by gmem_lock_shared() or by
 *	the caller of a callback.
 * Return: False when @start is beyond @last or the file.
 */
bool gmem_next_run(struct inode *inode, pgoff_t start, pgoff_t last,
		   struct gmem_run *run)
{
	return gmem_state_next_run(&GMEM_I(inode)->state, start, last, run);
}
EXPORT_SYMBOL_NS_GPL(gmem_next_run, "GUEST_MEMFD");

static bool gmem_folio_is_wanted(struct inode *inode, const struct folio *folio,
				 enum gmem_memory which)
{
	/* Large ones are private. Pages of them become shared only if they are not broken. */
	if (!folio_test_large(folio) && folio_test_hwpoison(folio))
		return false;

	switch (which) {
	case GMEM_MEMORY_PENDING:
		return true;
	case GMEM_MEMORY_NEW:
		return gmem_is_new(inode, folio->index);
	default:
		return folio_test_uptodate(folio);
	}
}

static bool gmem_next_folio_run(struct inode *inode, pgoff_t start,
				pgoff_t last, enum gmem_memory which,
				pgoff_t *index, unsigned long *pfn,
				unsigned long *nr_pages)
{
	XA_STATE(xas, &inode->i_mapping->i_pages, start);
	struct folio *folio;

	*nr_pages = 0;
	rcu_read_lock();
	xas_for_each(&xas, folio, last) {
		unsigned long first_pfn;
		pgoff_t first, end;

		if (xas_retry(&xas, folio))
			continue;
		/* Some are about to appear, see gmem_huge.c. */
		if (xa_is_value(folio) ||
		    !gmem_folio_is_wanted(inode, folio, which)) {
			if (*nr_pages)
				break;
			if (!xa_is_value(folio))
				gmem_xas_resched(&xas, folio);
			continue;
		}

		first = max(folio->index, start);
		end = min(folio_next_index(folio) - 1, last);
		first_pfn = folio_pfn(folio) + first - folio->index;
		if (!*nr_pages) {
			*index = first;
			*pfn = first_pfn;
		} else if (first != *index + *nr_pages ||
			   first_pfn != *pfn + *nr_pages) {
			break;
		}
		*nr_pages += end - first + 1;
		gmem_xas_resched(&xas, folio);
	}
	rcu_read_unlock();
	return *nr_pages;
}

/**
 * gmem_next_pfn_run - Find guest memory, whatever its state
 * @inode: Inode from gmem_inode_get()
 * @start: First page to look at
 * @last: Last page to look at, inclusive
 * @which: Which memory
 * @index: Out: first page that has memory
 * @pfn: Out: its PFN
 * @nr_pages: Out: how many pages from there on are physically contiguous
 *
 * Pages that the hardware reported as broken do not count, unless they are in a large
 * folio, of which all is private. Takes no reference: the PFNs are good as long as the
 * lock is held.
 *
 * Context: As for gmem_next_run().
 * Return: False when there is none.
 */
bool gmem_next_pfn_run(struct inode *inode, pgoff_t start, pgoff_t last,
		       enum gmem_memory which, pgoff_t *index,
		       unsigned long *pfn, unsigned long *nr_pages)
{
	pgoff_t end, gone_start, gone_last;

	lockdep_assert_held(&inode->i_mapping->invalidate_lock);

	for (; start <= last; start = end + 1) {
		end = last;
		if (which != GMEM_MEMORY_RETURNING &&
		    gmem_next_gone(inode, start, last, &gone_start, &gone_last)) {
			if (gone_start == start) {
				end = gone_last;
				continue;
			}
			end = gone_start - 1;
		}
		if (gmem_next_folio_run(inode, start, end, which, index, pfn,
					nr_pages))
			return true;
	}
	return false;
}
EXPORT_SYMBOL_NS_GPL(gmem_next_pfn_run, "GUEST_MEMFD");

/**
 * gmem_generation - Number that changes whenever runs or memory change
 * @inode: Inode from gmem_inode_get()
 *
 * Context: As for gmem_next_run().
 * Return: The generation.
 */
u64 gmem_generation(struct inode *inode)
{
	return atomic64_read(&GMEM_I(inode)->generation);
}
EXPORT_SYMBOL_NS_GPL(gmem_generation, "GUEST_MEMFD");

/* Whether any listener covers any page of [start, last]. */
bool gmem_is_listened_to(struct inode *inode, pgoff_t start, pgoff_t last)
{
	struct gmem_listener *listener;

	lockdep_assert_held(&inode->i_mapping->invalidate_lock);

	list_for_each_entry(listener, &GMEM_I(inode)->listeners, node)
		if (gmem_listener_clip(listener, &start, &last))
			return true;
	return false;
}

/* Whether any listener wants to know of private memory in [start, last]. */
bool gmem_is_private_listened_to(struct inode *inode, pgoff_t start, pgoff_t last)
{
	struct gmem_listener *listener;

	lockdep_assert_held(&inode->i_mapping->invalidate_lock);

	list_for_each_entry(listener, &GMEM_I(inode)->listeners, node)
		if (listener->any_state &&
		    gmem_listener_clip(listener, &start, &last))
			return true;
	return false;
}

/* Memory for the runs of an event, freed by kvfree(). */
struct gmem_run *gmem_alloc_runs(unsigned long nr)
{
	return kvmalloc_array(nr, sizeof(struct gmem_run),
			      GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
}

/* Private memory that appears is nothing to those who follow the shared pages. */
static bool gmem_run_concerns(const struct gmem_listener *listener,
			      const struct gmem_event *event,
			      const struct gmem_run *run)
{
	if (run->start > listener->last || run->last < listener->start)
		return false;
	return run->shared || listener->any_state ||
	       (event->reason != GMEM_POPULATE &&
		event->reason != GMEM_MEMSLOT_CREATE);
}

static bool gmem_listener_concerned(const struct gmem_listener *listener,
				    const struct gmem_event *event)
{
	unsigned long i;

	for (i = 0; i < event->nr_runs; i++)
		if (gmem_run_concerns(listener, event, &event->runs[i]))
			return true;
	return false;
}

/*
 * Let every listener that is concerned prepare for the event. On failure those
 * that had prepared are aborted, event->error_index says which page was refused,
 * and nothing has changed. What has happened already cannot fail.
 */
int gmem_event_prepare(struct gmem_event *event)
{
	struct list_head *head = &GMEM_I(event->inode)->listeners;
	struct gmem_listener *listener;
	int ret;

	lockdep_assert_held(&event->inode->i_mapping->invalidate_lock);

	INIT_LIST_HEAD(&event->joined);
	list_for_each_entry(listener, head, node) {
		if (!gmem_listener_concerned(listener, event))
			continue;
		event->error_index = event->runs[0].start;
		ret = listener->ops->prepare(listener, event);
		if (ret && !gmem_event_has_happened(event))
			goto err_abort;
	}
	return 0;

err_abort:
	list_for_each_entry_continue_reverse(listener, head, node)
		if (gmem_listener_concerned(listener, event))
			listener->ops->abort(listener, event);
	return ret;
}

/* Give up an event that was prepared. */
void gmem_event_abort(const struct gmem_event *event)
{
	struct list_head *head = &GMEM_I(event->inode)->listeners;
	struct gmem_listener *listener;

	list_for_each_entry_reverse(listener, head, node)
		if (gmem_listener_concerned(listener, event))
			listener->ops->abort(listener, event);
}

/* First half of the commit: no device reaches what is not to be shared. */
void gmem_event_invalidate(const struct gmem_event *event)
{
	struct list_head *head = &GMEM_I(event->inode)->listeners;
	struct gmem_listener *listener;

	atomic64_inc(&GMEM_I(event->inode)->generation);
	list_for_each_entry(listener, head, node)
		if (gmem_listener_concerned(listener, event))
			listener->ops->invalidate(listener, event);
}

/* Second half of the commit, which ends the event. */
void gmem_event_populate(const struct gmem_event *event)
{
	struct list_head *head = &GMEM_I(event->inode)->listeners;
	struct gmem_listener *listener;

	atomic64_inc(&GMEM_I(event->inode)->generation);
	list_for_each_entry(listener, head, node)
		if (gmem_listener_concerned(listener, event))
			listener->ops->populate(listener, event);
}

/* Report what has happened already. The listeners learn of it in all phases. */
void gmem_event_report(struct gmem_event *event)
{
	VM_WARN_ON_ONCE(!gmem_event_has_happened(event));
	gmem_event_prepare(event);
	gmem_event_invalidate(event);
	gmem_event_populate(event);
}

/* The last file is gone: tell the listeners, which then are none. */
void gmem_release_listeners(struct gmem_event *event)
{
	struct gmem_inode *gi = GMEM_I(event->inode);
	struct gmem_listener *listener, *next;

	lockdep_assert_held_write(&event->inode->i_mapping->invalidate_lock);

	gmem_event_report(event);
	list_for_each_entry_safe(listener, next, &gi->listeners, node) {
		list_del(&listener->node);
		listener->inode = NULL;
	}
}
