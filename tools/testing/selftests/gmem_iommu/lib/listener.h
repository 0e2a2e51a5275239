/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Listeners of a guest_memfd, by the module gmem_listener_test, and what they
 * heard as text.
 *
 * Functions return 0 or a negative errno unless they say otherwise.
 */
#ifndef SELFTESTS_GMEM_IOMMU_LISTENER_H
#define SELFTESTS_GMEM_IOMMU_LISTENER_H

#include <stddef.h>

#include <linux/types.h>

#include "env.h"
#include "virt/kvm/gmem_listener_test.h"

/* Bits of refuse_reasons: enum gmem_reason */
#define ON_CONVERT		0x01
#define ON_TRUNCATE		0x02
#define ON_MEMORY_FAILURE	0x04
#define ON_POPULATE		0x08
#define ON_MEMSLOT_CREATE	0x10
#define ON_MEMSLOT_DELETE	0x20
#define ON_RELEASE		0x40

/* Bits of hold_phases: enum gmem_listener_test_phase */
#define HOLD_PREPARE		0x1
#define HOLD_INVALIDATE		0x4
#define HOLD_POPULATE		0x8

/* Load the module if need be; why tests with listeners cannot run, or NULL. */
const char *listener_missing(void);

int listener_load(void);
int listener_unload(void);

/* A listener of @npages pages, or -errno; close() ends it. */
int listener_open(int gmem_fd, size_t first, size_t npages);

/*
 * Two listeners of the whole file, with the binding registered between them: the
 * first sees a change before the mirror, the second after it. listener_close_both()
 * lets go what they hold.
 */
const char *listener_env_missing(void);
int listener_open_both(struct env *env, int l[2]);
void listener_close_both(const int l[2]);

/* Refuse with @err (positive; 0: never again) changes of @page for @reasons. */
int listener_refuse(int listener, int err, __u32 reasons, size_t page);
int listener_hold(int listener, __u32 phases);
int listener_let_go(int listener);
int listener_sleep(int listener, unsigned int ms);
int listener_set_idle(int listener);

/* Conversions find a transient reference to the memory of their first page. */
int listener_touch(int listener, unsigned int us);

/* gmem_listener_populate() */
int listener_fill(int listener);

/* Take up to @max records out of the log. Returns how many, or -errno. */
int listener_read(int listener, struct gmem_listener_test_record *records,
		  size_t max);

/* Forget what the log has. */
void listener_forget(int listener);

/*
 * Wait for the next call. It is in the log before it is held; a listener that
 * holds nothing may be further on. -ETIMEDOUT: none came.
 */
int listener_wait(int listener, struct gmem_listener_test_record *record);

/*
 * Take the log of a listener as text, one line per call. The run of each is "+"
 * or "-", for pages that devices may reach afterwards or not, its pages, and in
 * parentheses what the file said of the first of them then:
 *
 *	prepare convert -8-15 (shared, memory) +20-20 (private, none)
 *
 * The buffer is valid until the thread's next call.
 */
const char *listener_log(int listener);

/*
 * Take the logs of listeners as one text in the order of the calls, the listeners
 * numbered from 1: "1:prepare 2:refuse 1:abort ".
 */
const char *listener_order(const int *listeners, int nr);

#endif /* SELFTESTS_GMEM_IOMMU_LISTENER_H */
