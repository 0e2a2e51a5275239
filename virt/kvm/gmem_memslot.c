// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memslots over a convertible guest_memfd, as far as listeners are concerned.
 *
 * A file can be bound to devices before the guest gets it. But when a memslot is
 * deleted, its pages are guest memory no more: they are "gone" until a memslot
 * covers them again, and devices do not reach them meanwhile.
 *
 * Deletion cannot fail. So the entry of a memslot in the tree has the bounds of
 * the memslot from its creation on, and deletion merely exchanges it, for which a
 * maple tree needs no memory. Both happen under the invalidate lock, exclusive.
 */
#include <linux/slab.h>

#include "gmem_internal.h"

enum {
	GMEM_SLOT_PRESENT,
	GMEM_SLOT_GONE,
};

static void *gmem_slot_entry(int value)
{
	return xa_mk_value(value);
}

/* Once per allocation of the inode. */
void gmem_memslots_init_once(struct gmem_inode *gi)
{
	mt_init_flags(&gi->memslots, MT_FLAGS_LOCK_EXTERN | MT_FLAGS_USE_RCU);
	mt_set_external_lock(&gi->memslots,
			     &gi->vfs_inode.i_data.invalidate_lock);
}

void gmem_memslots_destroy(struct gmem_inode *gi)
{
	if (mtree_empty(&gi->memslots))
		return;

	filemap_invalidate_lock(&gi->vfs_inode.i_data);
	__mt_destroy(&gi->memslots);
	filemap_invalidate_unlock(&gi->vfs_inode.i_data);
}

/*
 * Find the first run of pages of [start, last] that are gone. Its pages can have
 * belonged to several memslots. The invalidate lock is held in any mode.
 */
bool gmem_next_gone(struct inode *inode, pgoff_t start, pgoff_t last,
		    pgoff_t *gone_start, pgoff_t *gone_last)
{
	MA_STATE(mas, &GMEM_I(inode)->memslots, start, start);
	bool found = false;
	void *entry;

	lockdep_assert_held(&inode->i_mapping->invalidate_lock);

	mas_for_each(&mas, entry, last) {
		if (found && mas.index != *gone_last + 1)
			break;
		if (entry != gmem_slot_entry(GMEM_SLOT_GONE)) {
			if (found)
				break;
			continue;
		}
		if (!found)
			*gone_start = max(mas.index, start);
		*gone_last = min(mas.last, last);
		found = true;
	}
	return found;
}

/*
 * The pages that are gone and that listeners want back: their number, and the runs
 * themselves if @runs.
 */
static unsigned long gmem_gone_runs(struct inode *inode, pgoff_t start,
				    pgoff_t last, struct gmem_run *runs)
{
	pgoff_t gone_start, gone_last;
	unsigned long nr = 0;
	struct gmem_run run;

	while (start <= last &&
	       gmem_next_gone(inode, start, last, &gone_start, &gone_last)) {
		start = gone_last + 1;
		while (gmem_next_run(inode, gone_start, gone_last, &run)) {
			gone_start = run.last + 1;
			if (!run.shared &&
			    !gmem_is_private_listened_to(inode, run.start,
							 run.last))
				continue;
			if (runs)
				runs[nr] = run;
			nr++;
			cond_resched();
		}
	}
	return nr;
}

/* Give memory to the pages that come back and that a listener covers. */
static int gmem_populate_gone(struct inode *inode, const struct gmem_event *event)
{
	struct gmem_listener *listener;
	unsigned long i;
	int ret;

	for (i = 0; i < event->nr_runs; i++) {
		list_for_each_entry(listener, &GMEM_I(inode)->listeners, node) {
			pgoff_t start = event->runs[i].start;
			pgoff_t last = event->runs[i].last;

			if (READ_ONCE(listener->idle) ||
			    !gmem_listener_clip(listener, &start, &last))
				continue;
			ret = gmem_populate_unbroken(inode, start, last);
			if (ret)
				return ret;
		}
	}
	return 0;
}

/* Bring pages back; nothing has changed when it fails. */
static int gmem_memslot_return(struct inode *inode, struct ma_state *mas,
			       pgoff_t start, pgoff_t last)
{
	struct gmem_event event = {
		.inode = inode,
		.reason = GMEM_MEMSLOT_CREATE,
		.nr_runs = gmem_gone_runs(inode, start, last, NULL),
	};
	void *present = gmem_slot_entry(GMEM_SLOT_PRESENT);
	struct gmem_run *runs;
	int ret;

	if (!event.nr_runs) {
		mas_store_prealloc(mas, present);
		return 0;
	}

	runs = gmem_alloc_runs(event.nr_runs);
	if (!runs)
		return -ENOMEM;
	gmem_gone_runs(inode, start, last, runs);
	event.runs = runs;

	ret = gmem_populate_gone(inode, &event);
	if (!ret)
		ret = gmem_event_prepare(&event);
	if (!ret) {
		mas_store_prealloc(mas, present);
		gmem_event_populate(&event);
	}
	gmem_populate_done(inode, start, last, !ret);
	kvfree(runs);
	return ret;
}

/*
 * A memslot is about to cover [start, last]. Called under the invalidate lock,
 * exclusive; on failure nothing has changed.
 */
int gmem_memslot_created(struct inode *inode, pgoff_t start, pgoff_t last)
{
	MA_STATE(mas, &GMEM_I(inode)->memslots, start, last);
	int ret;

	lockdep_assert_held_write(&inode->i_mapping->invalidate_lock);

	if (!kvm_gmem_is_convertible(inode))
		return 0;

	ret = mas_preallocate(&mas, gmem_slot_entry(GMEM_SLOT_PRESENT),
			      GFP_KERNEL_ACCOUNT);
	if (ret)
		return ret;

	ret = gmem_memslot_return(inode, &mas, start, last);
	if (ret)
		mas_destroy(&mas);
	return ret;
}

/*
 * The memslot that covered [start, last] is deleted, guests do not reach it any
 * more. Called under the invalidate lock, exclusive.
 */
void gmem_memslot_deleted(struct inode *inode, pgoff_t start, pgoff_t last)
{
	MA_STATE(mas, &GMEM_I(inode)->memslots, start, last);
	struct gmem_run run = { .start = start, .last = last };
	struct gmem_event event = {
		.inode = inode,
		.reason = GMEM_MEMSLOT_DELETE,
		.runs = &run,
		.nr_runs = 1,
	};

	lockdep_assert_held_write(&inode->i_mapping->invalidate_lock);

	if (!kvm_gmem_is_convertible(inode))
		return;

	mas_store(&mas, gmem_slot_entry(GMEM_SLOT_GONE));
	gmem_event_report(&event);
}
