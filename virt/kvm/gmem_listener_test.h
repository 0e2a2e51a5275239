/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * /dev/gmem_listener_test, for kernels that run tests only: each open file is one
 * listener of a guest_memfd. Not a stable interface.
 *
 * read() returns the calls that the listener got since the last read(), oldest
 * first, in whole struct gmem_listener_test_record; 0 when there are none.
 */
#ifndef __KVM_GMEM_LISTENER_TEST_H
#define __KVM_GMEM_LISTENER_TEST_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Callbacks; bits of @hold_phases. */
enum gmem_listener_test_phase {
	GMEM_LISTENER_TEST_PREPARE,
	GMEM_LISTENER_TEST_ABORT,
	GMEM_LISTENER_TEST_INVALIDATE,
	GMEM_LISTENER_TEST_POPULATE,
};

/**
 * struct gmem_listener_test_register - Start to listen, until the file is closed
 * @gmem_fd: The guest_memfd
 * @reserved: 0
 * @offset: First byte of interest, page aligned
 * @length: Bytes, page aligned
 */
struct gmem_listener_test_register {
	__s32 gmem_fd;
	__u32 reserved;
	__aligned_u64 offset;
	__aligned_u64 length;
};

/**
 * struct gmem_listener_test_behave - What the callbacks do besides keeping a log
 * @refuse_errno: What prepare refuses with, positive; 0: nothing is refused
 * @refuse_reasons: Bit mask of enum gmem_reason that are refused
 * @refuse_offset: Byte that is refused; events without it are not
 * @sleep_ms: How long each prepare takes
 * @hold_phases: Callbacks that wait, after they have been logged, for
 *	GMEM_LISTENER_TEST_LET_GO, but not longer than GMEM_LISTENER_TEST_HOLD_MS
 * @idle: The listener asks for no memory any more; cannot be undone
 * @touch_us: For how many microseconds each conversion finds a reference to the memory
 *	of its first page, as of somebody who passes by
 */
struct gmem_listener_test_behave {
	__u32 refuse_errno;
	__u32 refuse_reasons;
	__aligned_u64 refuse_offset;
	__u32 sleep_ms;
	__u32 hold_phases;
	__u32 idle;
	__u32 touch_us;
};

#define GMEM_LISTENER_TEST_HOLD_MS	60000
#define GMEM_LISTENER_TEST_MAX_RUNS	8

/* What gmem_next_pfn_run() finds at a page; without and with @pending. */
#define GMEM_LISTENER_TEST_MEMORY	0x1
#define GMEM_LISTENER_TEST_PENDING	0x2

/**
 * struct gmem_listener_test_run - One run of an event
 * @start: First page
 * @last: Last page
 * @shared: As the event says
 * @is_shared: What the file says of the first page of the run that the listener
 *	covers, at the time of the call; ~0: it covers none
 * @memory: GMEM_LISTENER_TEST_MEMORY, GMEM_LISTENER_TEST_PENDING of that page
 * @reserved: 0
 */
struct gmem_listener_test_run {
	__aligned_u64 start;
	__aligned_u64 last;
	__u32 shared;
	__u32 is_shared;
	__u32 memory;
	__u32 reserved;
};

/**
 * struct gmem_listener_test_record - One call
 * @seq: Number of this call among those of all listeners
 * @phase: enum gmem_listener_test_phase
 * @reason: enum gmem_reason
 * @nr_runs: Runs of the event, also those that do not fit into @runs
 * @result: What prepare returned
 * @lost: Calls before this one that did not fit into the log
 * @runs: The first runs
 */
struct gmem_listener_test_record {
	__aligned_u64 seq;
	__u32 phase;
	__u32 reason;
	__aligned_u64 nr_runs;
	__s32 result;
	__u32 lost;
	struct gmem_listener_test_run runs[GMEM_LISTENER_TEST_MAX_RUNS];
};

#define GMEM_LISTENER_TEST_REGISTER	_IOW(0xAF, 0x70, struct gmem_listener_test_register)
#define GMEM_LISTENER_TEST_BEHAVE	_IOW(0xAF, 0x71, struct gmem_listener_test_behave)
/* gmem_listener_populate() */
#define GMEM_LISTENER_TEST_FILL		_IO(0xAF, 0x72)
/* End the wait of the callback that waits, or else of the next one. */
#define GMEM_LISTENER_TEST_LET_GO	_IO(0xAF, 0x73)

#endif /* __KVM_GMEM_LISTENER_TEST_H */
