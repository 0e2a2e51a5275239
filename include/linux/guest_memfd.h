/* SPDX-License-Identifier: GPL-2.0-only */
/**
 * DOC: guest_memfd listeners
 *
 * How other parts of the kernel follow the shareability
 * of a convertible guest_memfd.
 *
 * A listener covers a range of page indexes of one guest_memfd inode. Whenever
 * pages of that range are about to change, the listener is called in phases, all
 * under the inode's invalidate lock. Memory failure and populate hold it shared,
 * so a listener needs a lock of its own against those two; all others hold it
 * exclusively:
 *
 *  1. @prepare: may sleep, allocate and refuse. Everything that the change needs
 *     is made here.
 *  2. then either @abort, when anything at all refused the change: nothing has
 *     changed and nothing will,
 *  3. or, past the point of no return, @invalidate before the new state is stored
 *     and @populate after it. Both return nothing, because nothing there may
 *     fail; nothing there may allocate.
 *
 * The first ranges of a change that get @invalidate are those that stop being
 * usable by devices; when it returns no device may reach them: IOTLBs included.
 * @populate is told of the ranges that devices may reach now.
 *
 * GMEM_MEMORY_FAILURE, GMEM_MEMSLOT_DELETE and GMEM_RELEASE have already happened
 * when they are reported, see gmem_event_has_happened(): @prepare, whose answer is
 * not asked for, @invalidate and @populate follow one another at once.
 * GMEM_POPULATE and GMEM_MEMSLOT_CREATE take nothing away: they come without
 * @invalidate.
 *
 * Pages whose memslot was deleted are guest memory no more. They keep their state
 * and their memory, but gmem_next_pfn_run() does not find them until they are in
 * a memslot again. A file that has not been given to its guest yet is found.
 *
 * Most listeners follow the shared pages. One with @any_state follows memory: it is
 * told of memory that appears in private pages, too, and in a conversion it finds by
 * GMEM_MEMORY_NEW what has appeared.
 *
 * A listener holds no folio reference: a conversion refuses elevated reference
 * counts, so a listener that held one would refuse its own conversions. The PFNs
 * are stable under the invalidate lock, and until @invalidate returns.
 */
#ifndef __LINUX_GUEST_MEMFD_H
#define __LINUX_GUEST_MEMFD_H

#include <linux/list.h>
#include <linux/types.h>

struct file;
struct gmem_listener;
struct inode;
struct kvm;
struct lockdep_map;

/**
 * enum gmem_reason - Why pages change
 * @GMEM_CONVERT: Conversion between shared and private
 * @GMEM_TRUNCATE: The memory of the pages is freed; their state stays
 * @GMEM_MEMORY_FAILURE: The hardware reported the pages as broken
 * @GMEM_POPULATE: Memory appears in shared pages that had none
 * @GMEM_MEMSLOT_CREATE: Shared pages become guest memory again
 * @GMEM_MEMSLOT_DELETE: The pages are guest memory no more
 * @GMEM_RELEASE: The last file of the inode was closed. The listener has been
 *	unregistered when this returns and hears nothing more.
 */
enum gmem_reason {
	GMEM_CONVERT,
	GMEM_TRUNCATE,
	GMEM_MEMORY_FAILURE,
	GMEM_POPULATE,
	GMEM_MEMSLOT_CREATE,
	GMEM_MEMSLOT_DELETE,
	GMEM_RELEASE,
};

/**
 * struct gmem_run - A range of pages that change alike
 * @start: First page index
 * @last: Last page index, inclusive
 * @shared: Shared after the change. False also for shared pages that lose their
 *	memory. In GMEM_POPULATE and GMEM_MEMSLOT_CREATE a run that is not shared is
 *	private memory that appears, for listeners with @any_state only; the others
 *	pass it over.
 */
struct gmem_run {
	pgoff_t start;
	pgoff_t last;
	bool shared;
};

/**
 * enum gmem_memory - Which memory gmem_next_pfn_run() finds
 * @GMEM_MEMORY_READY: What can be used now
 * @GMEM_MEMORY_PENDING: That, and memory whose contents are not initialized: what is
 *	about to appear in the @prepare of GMEM_POPULATE
 * @GMEM_MEMORY_RETURNING: What can be used now, and memory that is not guest memory any
 *	more: what is about to appear in the @prepare of GMEM_MEMSLOT_CREATE
 * @GMEM_MEMORY_NEW: What the GMEM_CONVERT in progress gave to its pages, for them to
 *	become shared
 */
enum gmem_memory {
	GMEM_MEMORY_READY,
	GMEM_MEMORY_PENDING,
	GMEM_MEMORY_RETURNING,
	GMEM_MEMORY_NEW,
};

/**
 * struct gmem_event - A change of a guest_memfd
 * @inode: The guest_memfd
 * @reason: Why
 * @runs: The runs that change, ascending and not overlapping. They are not
 *	clipped to the range of the listener.
 * @nr_runs: Number of @runs
 * @error_index: A @prepare that refuses stores the first page index it refuses
 * @joined: Empty at first, and not used by guest_memfd: for listeners that work
 *	together on an event, from the @prepare of each to its @abort or @populate
 */
struct gmem_event {
	struct inode *inode;
	enum gmem_reason reason;
	const struct gmem_run *runs;
	unsigned long nr_runs;
	pgoff_t error_index;
	struct list_head joined;
};

/* Whether nobody can refuse it any more. */
static inline bool gmem_event_has_happened(const struct gmem_event *event)
{
	return event->reason == GMEM_MEMORY_FAILURE ||
	       event->reason == GMEM_MEMSLOT_DELETE ||
	       event->reason == GMEM_RELEASE;
}

/**
 * struct gmem_listener_ops - Phases of a change, see the top of this file
 * @prepare: Make everything that the change needs, or refuse it with an errno
 * @abort: Undo @prepare. Called in reverse order of registration.
 * @invalidate: Make pages unreachable whose run is not @shared
 * @populate: Make pages reachable whose run is @shared
 */
struct gmem_listener_ops {
	int (*prepare)(struct gmem_listener *listener, struct gmem_event *event);
	void (*abort)(struct gmem_listener *listener,
		      const struct gmem_event *event);
	void (*invalidate)(struct gmem_listener *listener,
			   const struct gmem_event *event);
	void (*populate)(struct gmem_listener *listener,
			 const struct gmem_event *event);
};

/**
 * struct gmem_listener - Registration of a listener
 * @ops: Phases
 * @start: First page index of interest
 * @last: Last page index of interest, inclusive
 * @any_state: Set by the owner before the registration: concerned with the memory of
 *	all pages, not with the state
 * @idle: Set by the owner at any time, for good: no memory is allocated on
 *	behalf of this listener any more. It still hears of changes.
 * @inode: Set by gmem_listener_register(); NULL after GMEM_RELEASE
 * @node: Private
 */
struct gmem_listener {
	const struct gmem_listener_ops *ops;
	pgoff_t start;
	pgoff_t last;
	bool any_state;
	bool idle;
	struct inode *inode;
	struct list_head node;
};

struct inode *gmem_inode_get(struct file *file);
void gmem_inode_put(struct inode *inode);
int gmem_listener_register(struct inode *inode, struct gmem_listener *listener);
int gmem_listener_populate(struct inode *inode, struct gmem_listener *listener);
void gmem_listener_unregister(struct inode *inode,
			      struct gmem_listener *listener);

void gmem_lock_shared(struct inode *inode);
void gmem_unlock_shared(struct inode *inode);
struct lockdep_map *gmem_lock_dep_map(struct inode *inode);

/* Whether a change of [start, last] concerns the listener, and which part. */
static inline bool gmem_listener_clip(const struct gmem_listener *listener,
				      pgoff_t *start, pgoff_t *last)
{
	if (*start > listener->last || *last < listener->start)
		return false;
	*start = *start > listener->start ? *start : listener->start;
	*last = *last < listener->last ? *last : listener->last;
	return true;
}

bool gmem_next_run(struct inode *inode, pgoff_t start, pgoff_t last,
		   struct gmem_run *run);
bool gmem_next_pfn_run(struct inode *inode, pgoff_t start, pgoff_t last,
		       enum gmem_memory which, pgoff_t *index,
		       unsigned long *pfn, unsigned long *nr_pages);
u64 gmem_generation(struct inode *inode);

bool gmem_protects_private(struct inode *inode);

/* What the architecture says of a type of VM; false if it says nothing. */
bool kvm_arch_gmem_protects_private(struct kvm *kvm);

#endif /* __LINUX_GUEST_MEMFD_H */
