// SPDX-License-Identifier: GPL-2.0-only
/*
 * Listeners of guest_memfd that user space makes: to see which calls they get,
 * in which order and what is true during each, and to refuse changes.
 *
 * For kernels that run tests only. All that connects this module with kvm is
 * <linux/guest_memfd.h>.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/guest_memfd.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "gmem_listener_test.h"

/* Calls that a log holds; the ones after it are counted only. */
#define NR_RECORDS	512

/**
 * struct gmem_listener_test - One open file
 * @listener: Registered while @inode is set
 * @inode: The guest_memfd, or NULL
 * @mutex: Serializes ioctls
 * @lock: Protects what follows, which callbacks use
 * @behave: What callbacks do
 * @first: Oldest record
 * @nr: Number of records
 * @lost: Calls since the last record that did not fit
 * @records: Ring. It is there before the first call: callbacks allocate nothing.
 * @let_go: Ends the wait of a callback
 * @touch: Drops the reference to @folio after @touch_us; conversions start it
 * @folio: What the last conversion found a reference to
 * @touch_us: See struct gmem_listener_test_behave
 */
struct gmem_listener_test {
	struct gmem_listener listener;
	struct inode *inode;
	struct mutex mutex;	/* ioctls */
	spinlock_t lock;	/* what follows */
	struct gmem_listener_test_behave behave;
	unsigned int first;
	unsigned int nr;
	unsigned int lost;
	struct gmem_listener_test_record *records;
	struct completion let_go;
	struct work_struct touch;
	struct folio *folio;
	u32 touch_us;
};

static atomic64_t gmem_listener_test_seq;

static struct gmem_listener_test *to_test(struct gmem_listener *listener)
{
	return container_of(listener, struct gmem_listener_test, listener);
}

static bool gmem_listener_test_has_memory(struct inode *inode, pgoff_t index,
					  enum gmem_memory which)
{
	unsigned long pfn, nr_pages;
	pgoff_t found;

	return gmem_next_pfn_run(inode, index, index, which, &found, &pfn,
				 &nr_pages);
}

/* Look at the first page of a run that the listener covers. */
static void gmem_listener_test_sample(struct gmem_listener *listener,
				      struct inode *inode,
				      const struct gmem_run *run,
				      struct gmem_listener_test_run *sample)
{
	pgoff_t start = run->start, last = run->last;
	struct gmem_run state;

	*sample = (struct gmem_listener_test_run) {
		.start = run->start,
		.last = run->last,
		.shared = run->shared,
		.is_shared = ~0U,
	};
	if (!gmem_listener_clip(listener, &start, &last) ||
	    !gmem_next_run(inode, start, start, &state))
		return;

	sample->is_shared = state.shared;
	if (gmem_listener_test_has_memory(inode, start, GMEM_MEMORY_READY))
		sample->memory |= GMEM_LISTENER_TEST_MEMORY;
	if (gmem_listener_test_has_memory(inode, start, GMEM_MEMORY_PENDING) ||
	    gmem_listener_test_has_memory(inode, start, GMEM_MEMORY_RETURNING))
		sample->memory |= GMEM_LISTENER_TEST_PENDING;
}

/* Memory failure and populate hold the invalidate lock shared: hence @lock. */
static void gmem_listener_test_push(struct gmem_listener_test *t,
				    struct gmem_listener_test_record *record)
{
	guard(spinlock)(&t->lock);
	if (t->nr == NR_RECORDS) {
		t->lost++;
		return;
	}
	record->lost = t->lost;
	t->lost = 0;
	t->records[(t->first + t->nr++) % NR_RECORDS] = *record;
}

static bool gmem_listener_test_pop(struct gmem_listener_test *t,
				   struct gmem_listener_test_record *record)
{
	guard(spinlock)(&t->lock);
	if (!t->nr)
		return false;
	*record = t->records[t->first];
	t->first = (t->first + 1) % NR_RECORDS;
	t->nr--;
	return true;
}

static struct gmem_listener_test_behave
gmem_listener_test_get_behave(struct gmem_listener_test *t)
{
	guard(spinlock)(&t->lock);
	return t->behave;
}

static void gmem_listener_test_called(struct gmem_listener *listener,
				      const struct gmem_event *event,
				      enum gmem_listener_test_phase phase,
				      int result)
{
	struct gmem_listener_test *t = to_test(listener);
	struct gmem_listener_test_record record = {
		.seq = atomic64_inc_return(&gmem_listener_test_seq),
		.phase = phase,
		.reason = event->reason,
		.nr_runs = event->nr_runs,
		.result = result,
	};
	unsigned long i;

	for (i = 0; i < min(event->nr_runs, GMEM_LISTENER_TEST_MAX_RUNS); i++)
		gmem_listener_test_sample(listener, event->inode,
					  &event->runs[i], &record.runs[i]);
	gmem_listener_test_push(t, &record);

	if (gmem_listener_test_get_behave(t).hold_phases & BIT(phase))
		wait_for_completion_timeout(&t->let_go,
					    msecs_to_jiffies(GMEM_LISTENER_TEST_HOLD_MS));
}

/* Whether this prepare is to be refused. */
static int gmem_listener_test_refuse(const struct gmem_listener_test_behave *behave,
				     struct gmem_event *event)
{
	pgoff_t index = behave->refuse_offset >> PAGE_SHIFT;
	unsigned long i;

	if (!behave->refuse_errno ||
	    !(behave->refuse_reasons & BIT(event->reason)))
		return 0;

	for (i = 0; i < event->nr_runs; i++) {
		if (index < event->runs[i].start || index > event->runs[i].last)
			continue;
		event->error_index = index;
		return -(int)behave->refuse_errno;
	}
	return 0;
}

static void gmem_listener_test_end_touch(struct work_struct *work)
{
	struct gmem_listener_test *t = container_of(work, struct gmem_listener_test,
						    touch);

	usleep_range(t->touch_us, 2 * t->touch_us);
	folio_put(t->folio);
}

/* Conversions hold the invalidate lock exclusively, so this is done by one at a time. */
static void gmem_listener_test_touch(struct gmem_listener_test *t,
				     const struct gmem_event *event, u32 us)
{
	struct folio *folio;

	flush_work(&t->touch);
	folio = filemap_get_folio(event->inode->i_mapping, event->runs[0].start);
	if (IS_ERR(folio))
		return;
	t->folio = folio;
	t->touch_us = us;
	schedule_work(&t->touch);
}

static int gmem_listener_test_prepare(struct gmem_listener *listener,
				      struct gmem_event *event)
{
	struct gmem_listener_test *t = to_test(listener);
	struct gmem_listener_test_behave behave;
	int ret;

	behave = gmem_listener_test_get_behave(t);
	if (behave.sleep_ms)
		msleep(behave.sleep_ms);
	if (behave.touch_us && event->reason == GMEM_CONVERT)
		gmem_listener_test_touch(t, event, behave.touch_us);
	ret = gmem_listener_test_refuse(&behave, event);
	gmem_listener_test_called(listener, event, GMEM_LISTENER_TEST_PREPARE,
				  ret);
	return ret;
}

static void gmem_listener_test_abort(struct gmem_listener *listener,
				     const struct gmem_event *event)
{
	gmem_listener_test_called(listener, event, GMEM_LISTENER_TEST_ABORT, 0);
}

static void gmem_listener_test_invalidate(struct gmem_listener *listener,
					  const struct gmem_event *event)
{
	gmem_listener_test_called(listener, event,
				  GMEM_LISTENER_TEST_INVALIDATE, 0);
}

static void gmem_listener_test_populate(struct gmem_listener *listener,
					const struct gmem_event *event)
{
	gmem_listener_test_called(listener, event, GMEM_LISTENER_TEST_POPULATE,
				  0);
}

static const struct gmem_listener_ops gmem_listener_test_ops = {
	.prepare = gmem_listener_test_prepare,
	.abort = gmem_listener_test_abort,
	.invalidate = gmem_listener_test_invalidate,
	.populate = gmem_listener_test_populate,
};

static int gmem_listener_test_open(struct inode *inode, struct file *file)
{
	struct gmem_listener_test *t;

	t = kzalloc_obj(*t);
	if (!t)
		return -ENOMEM;
	t->records = kvzalloc_objs(*t->records, NR_RECORDS);
	if (!t->records) {
		kfree(t);
		return -ENOMEM;
	}

	t->listener.ops = &gmem_listener_test_ops;
	mutex_init(&t->mutex);
	spin_lock_init(&t->lock);
	init_completion(&t->let_go);
	INIT_WORK(&t->touch, gmem_listener_test_end_touch);
	file->private_data = t;
	return stream_open(inode, file);
}

static int gmem_listener_test_release(struct inode *inode, struct file *file)
{
	struct gmem_listener_test *t = file->private_data;

	if (t->inode) {
		gmem_listener_unregister(t->inode, &t->listener);
		flush_work(&t->touch);
		gmem_inode_put(t->inode);
	}
	kvfree(t->records);
	kfree(t);
	return 0;
}

static ssize_t gmem_listener_test_read(struct file *file, char __user *buf,
				       size_t size, loff_t *pos)
{
	struct gmem_listener_test *t = file->private_data;
	struct gmem_listener_test_record record;
	size_t done = 0;

	if (size < sizeof(record))
		return -EINVAL;

	while (size - done >= sizeof(record) &&
	       gmem_listener_test_pop(t, &record)) {
		if (copy_to_user(buf + done, &record, sizeof(record)))
			return -EFAULT;
		done += sizeof(record);
	}
	return done;
}

static int gmem_listener_test_register(struct gmem_listener_test *t,
				       const struct gmem_listener_test_register *args)
{
	struct inode *inode;
	int ret;

	if (t->inode)
		return -EBUSY;
	if (args->reserved || !args->length || !PAGE_ALIGNED(args->offset) ||
	    !PAGE_ALIGNED(args->length))
		return -EINVAL;

	CLASS(fd, f)(args->gmem_fd);
	if (fd_empty(f))
		return -EBADF;
	inode = gmem_inode_get(fd_file(f));
	if (IS_ERR(inode))
		return PTR_ERR(inode);

	t->listener.start = args->offset >> PAGE_SHIFT;
	t->listener.last = t->listener.start + (args->length >> PAGE_SHIFT) - 1;
	ret = gmem_listener_register(inode, &t->listener);
	if (ret) {
		gmem_inode_put(inode);
		return ret;
	}
	t->inode = inode;
	return 0;
}

static int gmem_listener_test_set_behave(struct gmem_listener_test *t,
					 const struct gmem_listener_test_behave *args)
{
	if (args->refuse_errno > MAX_ERRNO)
		return -EINVAL;

	scoped_guard(spinlock, &t->lock)
		t->behave = *args;
	if (args->idle)
		WRITE_ONCE(t->listener.idle, true);
	return 0;
}

static long gmem_listener_test_ioctl(struct file *file, unsigned int cmd,
				     unsigned long arg)
{
	struct gmem_listener_test *t = file->private_data;
	void __user *uarg = (void __user *)arg;
	union {
		struct gmem_listener_test_register reg;
		struct gmem_listener_test_behave behave;
	} args;

	/* Not under the mutex: a task that waits in a callback may hold it. */
	if (cmd == GMEM_LISTENER_TEST_LET_GO) {
		complete(&t->let_go);
		return 0;
	}

	guard(mutex)(&t->mutex);
	switch (cmd) {
	case GMEM_LISTENER_TEST_REGISTER:
		if (copy_from_user(&args.reg, uarg, sizeof(args.reg)))
			return -EFAULT;
		return gmem_listener_test_register(t, &args.reg);
	case GMEM_LISTENER_TEST_BEHAVE:
		if (copy_from_user(&args.behave, uarg, sizeof(args.behave)))
			return -EFAULT;
		return gmem_listener_test_set_behave(t, &args.behave);
	case GMEM_LISTENER_TEST_FILL:
		if (!t->inode)
			return -EINVAL;
		return gmem_listener_populate(t->inode, &t->listener);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations gmem_listener_test_fops = {
	.owner = THIS_MODULE,
	.open = gmem_listener_test_open,
	.release = gmem_listener_test_release,
	.read = gmem_listener_test_read,
	.unlocked_ioctl = gmem_listener_test_ioctl,
};

static struct miscdevice gmem_listener_test_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "gmem_listener_test",
	.fops = &gmem_listener_test_fops,
};
module_misc_device(gmem_listener_test_misc);

MODULE_IMPORT_NS("GUEST_MEMFD");
MODULE_DESCRIPTION("Listeners of guest_memfd for tests");
MODULE_LICENSE("GPL");
